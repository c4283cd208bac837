"""A question that has been asked: wait for its answer, look at the best so far, or call it off."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from anytime.runtime.answer import Answer, Stopped, Tokens
from anytime.runtime.bank import Candidate
from anytime.runtime.job import Job, Machine

Fallback: TypeAlias = "str | Callable[[], str]"


class Pending(msgspec.Struct):
    """The caller's side of one request. Instants are nanoseconds of the machine's clock."""

    job: Job
    machine: Machine
    request_id: str
    bundle_id: str
    received_ns: int
    deadline_ns: int
    fallback: Fallback
    final: Answer | None = None  # once the caller has left

    def result(self) -> Answer:
        """Wait until the thought is complete or the deadline is there, and take the best answer.

        Raises:
            PromptError: the prompt does not fit the model.
        """
        try:
            self.machine.clock.wait_until(self.job.done, self.job.ready_ns)
        except BaseException:  # Ctrl-C in the middle of an answer: the engine must be free for the next one
            self.cancel()
            raise
        return self.leave()

    def leave(self) -> Answer:
        """The answer as things stand now; a step that is still running is told to end, and nobody waits for it."""
        if self.final is not None:
            return self.final
        job = self.job
        in_time = job.done.is_set()
        overrun = job.started and not in_time
        if not in_time:
            self.cancel()
        if job.failure is not None:
            raise job.failure
        self.final = self._answer(job.bank.best(), "deadline" if not in_time else job.stopped, overrun)
        return self.final

    def best(self) -> Answer:
        """The best answer so far, as it would be returned now. Costs the engine nothing."""
        return self._answer(self.job.bank.best(), self.job.stopped, overrun=False)

    def thought(self) -> str:
        """The (first) line of thought, as far as it has come."""
        return self.machine.codec.decode(list(self.job.thought))

    def cancel(self) -> None:
        """Stop thinking; ``result`` then returns the best answer so far."""
        job = self.job
        if job.done.is_set():
            return
        job.cancelled = True
        if job.started:
            self.machine.engine.terminate(job.generation)
        else:
            job.stopped = "cancelled"
            job.done.set()
            job.news.set()

    def wait_for_news(self) -> bool:
        """Wait until there is a better answer or none can come; False once no more can."""
        job = self.job
        woken = self.machine.clock.wait_until(job.news, job.ready_ns)
        job.news.clear()  # before looking at done: a job that ends from here on sets the event again
        return woken and not job.done.is_set()

    def _answer(self, best: Candidate | None, stopped: Stopped, overrun: bool) -> Answer:
        job = self.job
        reason = job.reason
        if best is None:
            text, why = fall_back(self.fallback)
            waited = "the request was still waiting for the engine" if stopped == "deadline" and not job.started else ""
            reason = "; ".join(part for part in (reason, job.bank.refusal(), waited, why) if part)
        else:
            text = best.text
        thought = best.thought[: best.thought_tokens] if best else []
        answer_tokens = best.answer_tokens if best else 0
        # Read last: the time of delivery, after everything that takes time.
        content = self.machine.codec.decode(thought)
        delivered_ns = self.machine.clock.now()
        return Answer(
            text=text,
            stopped=stopped,
            source=best.source if best else "fallback",
            effort=best.effort if best else "",
            confidence=best.confidence if best else 0.0,
            calibrated=self.machine.forecast is not None and best is not None,
            reason=reason,
            thought=content,
            tokens=Tokens(
                prompt=job.prompt_tokens,
                cached=job.cached_tokens,
                thought=len(thought),
                discarded=max(0, job.thought_tokens - len(thought)),
                probe=job.answer_tokens - answer_tokens,
                answer=answer_tokens,
            ),
            token_cap=job.token_cap,
            faults=job.faults,
            late=delivered_ns > self.deadline_ns,
            overrun=overrun,
            received_ns=self.received_ns,
            deadline_ns=self.deadline_ns,
            delivered_ns=delivered_ns,
            request_id=self.request_id,
            bundle_id=self.bundle_id,
        )


def fall_back(fallback: Fallback) -> tuple[str, str]:
    """The caller's own answer, and what went wrong with it if anything."""
    if isinstance(fallback, str):
        return fallback, ""
    try:
        return fallback(), ""
    except Exception as error:  # the caller's own code must not cost the caller its answer
        return "", f"fallback() raised {error!r}"
