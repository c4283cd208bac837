"""From an input that was taken in to a decision: ask the reasoner, wait, and publish in time or not at all."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from anytime.errors import AnytimeError, InputError, UsageError
from anytime.node.counts import DECISIONS, PUBLISHED, Counts
from anytime.node.messages import Asked, Decision, Header, Output, Question, Trace, decision_of
from anytime.node.parameters import Parameters
from anytime.node.scene import scene_text
from anytime.node.stamps import Stamps
from anytime.runtime.answer import Answer
from anytime.runtime.answers.formats import AnswerFormat, Choices
from anytime.runtime.pending import Pending
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.clock import NS_PER_S, seconds_to_ns

Improvement = Callable[[Answer], None]


class Thinking(msgspec.Struct):
    """An input under way: what the model reads, the request, and the best answers as they were seen."""

    asked: Asked
    prompt: str
    pending: Pending
    started_ns: int
    answers: list[str] = []
    confidences: list[float] = []
    seen_s: list[float] = []

    def saw(self, best: Answer) -> None:
        """Take note of the best answer so far, if it is the model's and another than before."""
        if best.valid and (
            not self.answers or (best.text, best.confidence) != (self.answers[-1], self.confidences[-1])
        ):
            self.answers.append(best.text)
            self.confidences.append(best.confidence)
            self.seen_s.append((best.delivered_ns - self.asked.stamped_ns) / NS_PER_S)


class Answering:
    """Serves inputs, on whatever thread it is called."""

    def __init__(
        self,
        reasoner: Reasoner,
        parameters: Callable[[], Parameters],
        stamps: Stamps,
        counts: Counts,
        send: Callable[[Output], None],
        keep: Callable[[Output], None],
    ) -> None:
        """``send`` publishes and records, ``keep`` only records; ``parameters`` are those of now."""
        self._reasoner, self._parameters, self._stamps = reasoner, parameters, stamps
        self._counts, self._send, self._keep = counts, send, keep

    def serve(self, asked: Asked) -> None:
        """Answer an input and publish the decision; what goes wrong is counted."""
        try:
            thinking = self.begin(asked)
            self.conclude(thinking, self.wait(thinking, lambda best: None), as_topic=True)
        except InputError as error:
            self.refused(error)
        except Exception as error:  # a question may fail; the thread that serves the next one must not
            self._counts.add(DECISIONS)
            self._counts.add("error", str(error) if isinstance(error, AnytimeError) else repr(error))

    def refused(self, error: InputError) -> None:
        """Count an input that was found wanting only when it was its turn."""
        self._counts.add(error.trouble, str(error))

    def begin(self, asked: Asked) -> Thinking:
        """Hand an input to the reasoner.

        Raises:
            InputError: its time was up while it waited, or the reasoner finds it malformed.
            EngineError: the engine is gone.
        """
        parameters, now = self._parameters(), self._reasoner.clock.now()
        if now >= asked.deadline_ns:
            late_ms = (now - asked.deadline_ns) / 1e6
            raise InputError("stale", f"its deadline passed {late_ms:.1f} ms ago while it waited for the one before it")
        message, least = asked.message, asked.min_confidence
        try:
            prompt = message.text if isinstance(message, Question) else scene_text(message)
            pending = self._reasoner.submit(
                prompt,
                deadline=(asked.deadline_ns - seconds_to_ns(parameters.margin_s)) / NS_PER_S,
                answer=self._format(asked, parameters),
                fallback=parameters.fallback,
                min_confidence=parameters.min_confidence if least is None else least,
                policy=parameters.policy,
                request_id=message.request_id or None,
            )
        except UsageError as error:
            raise InputError("malformed", str(error)) from error
        return Thinking(asked, prompt, pending, now)

    def _format(self, asked: Asked, parameters: Parameters) -> AnswerFormat:
        if not isinstance(asked.message, Question):
            return parameters.scene_format()
        return Choices(*asked.message.choices) if asked.message.choices else parameters.format()

    def wait(self, thinking: Thinking, improved: Improvement) -> Answer:
        """The answer at the deadline or before; ``improved`` is shown the best so far each time there is a better.

        Raises:
            InputError: the reasoner finds it malformed.
        """
        pending = thinking.pending
        try:
            while pending.wait_for_news():
                best = pending.best()
                thinking.saw(best)
                improved(best)
            answer = pending.leave()
        except UsageError as error:  # as only an isolated process could see
            raise InputError("malformed", str(error)) from error
        except BaseException:  # of whoever is shown: nobody waits for this answer any more
            pending.cancel()
            raise
        thinking.saw(answer)
        return answer

    def best(self, thinking: Thinking, answer: Answer) -> Decision:
        """The best answer so far as a decision that is not one yet."""
        return decision_of(answer, thinking.asked, self._stamps.stamp(), self._reasoner.clock.now(), thinking=True)

    def conclude(self, thinking: Thinking, answer: Answer, as_topic: bool) -> Decision:
        """Make the decision, publish it if there is still time, and trace it."""
        now = self._reasoner.clock.now()
        decision = decision_of(answer, thinking.asked, self._stamps.stamp(), now)
        publish = as_topic and not decision.late
        if publish:
            self._send(decision)
            self._counts.add(PUBLISHED)
        self._counts.add(DECISIONS)
        self._counts.slack(thinking.asked.deadline_ns - now)
        if decision.late:
            self._counts.add("late", f"{-1e3 * decision.slack_s:.1f} ms behind the deadline")
        elif answer.stopped in ("rejected", "error"):
            self._counts.add(answer.stopped, answer.reason)
        trace = _trace(thinking, answer, decision, publish)
        if self._parameters().trace:
            self._send(trace)
        else:
            self._keep(trace)
        return decision


def _trace(thinking: Thinking, answer: Answer, decision: Decision, published: bool) -> Trace:
    tokens = answer.tokens
    return Trace(
        header=Header(decision.header.stamp, decision.header.frame_id),
        input_stamp=decision.input_stamp,
        request_id=decision.request_id,
        trace_id=decision.trace_id,
        bundle_id=decision.bundle_id,
        published=published,
        stopped=answer.stopped,
        source=answer.source,
        prompt=thinking.prompt,
        thought=answer.thought,
        effort=answer.effort,
        answers=thinking.answers,
        answers_confidence=thinking.confidences,
        answers_s=thinking.seen_s,
        tokens_prompt=tokens.prompt,
        tokens_cached=tokens.cached,
        tokens_thought=tokens.thought,
        tokens_discarded=tokens.discarded,
        tokens_probe=tokens.probe,
        tokens_answer=tokens.answer,
        tokens_planned=answer.token_cap,
        queued_s=(thinking.started_ns - thinking.asked.stamped_ns) / NS_PER_S,
        reasoner_s=(answer.delivered_ns - thinking.started_ns) / NS_PER_S,
    )
