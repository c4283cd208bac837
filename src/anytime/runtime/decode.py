"""The anytime loop: prefill with the instant answer, then thought with probes, then the close, one step at a time.

plan → step → commit. What to do next is decided by ``ext.latency.Latency.next_action`` from the time left alone; the
engine runs it; the tokens and any answer are committed. Probes and closes ride along with the token that was due
anyway: the engine runs ``[pending, close tag]`` in one go, the first logits continue the thought and the last ones
begin an answer, and the tag is forgotten again. Nothing here reads a clock other than the machine's.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field

from anytime.errors import PromptError, StepTerminated
from anytime.ext.latency import CLOSE, PROBE, Latency
from anytime.runtime.answer import Source, Stopped
from anytime.runtime.bank import AnswerBank, Candidate
from anytime.runtime.cursors import Compiled
from anytime.runtime.engine import Engine, FloatArray, Row, Seq
from anytime.runtime.prompt import Codec
from anytime.runtime.sampling import Sampler, Sampling, pick
from anytime.scheduler.admission import Refusal, Work, admit
from anytime.scheduler.clock import Clock
from anytime.scheduler.profile import LatencyProfile

PROBE_SHARE = 0.04  # of the thinking time may go into probes
LIKELY = 1.1  # times its median, a run fits more often than not
_LEAST_PROBE_SPACING = 8


@dataclass(frozen=True, slots=True)
class Machine:
    """What every request runs on: an engine, its tokens, its measured speeds and a clock."""

    engine: Engine
    codec: Codec
    profile: LatencyProfile
    latency: Latency
    clock: Clock


@dataclass(slots=True)
class Job:
    """One request on its way. The engine's thread writes the second part, the caller reads it."""

    generation: int
    prompt: str
    ready_ns: int  # the answer must be in the bank by now
    answer: Compiled
    sampling: Sampling
    bank: AnswerBank
    cancelled: bool = False

    done: threading.Event = field(default_factory=threading.Event)
    news: threading.Event = field(default_factory=threading.Event)
    started: bool = False
    prompt_tokens: int = 0
    thought: list[int] = field(default_factory=list)
    answer_tokens: int = 0  # of all answers
    token_cap: int = 0
    stopped: Stopped = "deadline"
    reason: str = ""
    failure: Exception | None = None


def decode(job: Job, machine: Machine) -> None:
    """Answer a job as well as its time allows; every outcome is left in the job and its bank.

    Raises:
        PromptError: the prompt cannot be encoded.
        EngineError: the engine failed.
    """
    prompt = machine.codec.encode(job.prompt)
    job.prompt_tokens = len(prompt)
    spec = machine.engine.spec
    work = Work(len(prompt), len(machine.codec.close_ids), job.answer.answer_steps, spec.max_context)
    if work.prompt_tokens + work.close_tokens + work.answer_steps > spec.max_context:
        raise PromptError(
            f"the prompt has {len(prompt)} tokens and the answer up to {work.answer_steps + 1}, "
            f"more than the model's context of {spec.max_context}: shorten one of them"
        )
    outcome = admit(work, job.ready_ns - machine.clock.now(), machine.profile)
    if isinstance(outcome, Refusal):
        job.stopped, job.reason = "rejected", outcome.reason
        return
    job.token_cap = outcome.token_cap
    seq = machine.engine.open()
    try:
        _Loop(job, machine, work, seq).run(prompt)
    except StepTerminated:
        job.stopped = "cancelled" if job.cancelled else "deadline"
    finally:
        machine.engine.close(seq)


class _Loop:
    """The loop over one sequence."""

    def __init__(self, job: Job, machine: Machine, work: Work, seq: Seq) -> None:
        self._job, self._machine, self._work, self._seq = job, machine, work, seq
        self._close = machine.codec.close_ids
        self._tag = machine.codec.close_tag_ids
        self._sampler = Sampler(job.sampling)
        self._spacing = self._probe_spacing()
        self._since_probe = 0

    def run(self, prompt: list[int]) -> None:
        logits = self._run([*prompt, *self._close], 1 + len(self._close))
        pending = self._sampler.next(logits[0])
        self._answer(logits[-1], "instant")
        self._forget(len(prompt))
        self._think(pending)

    def _think(self, pending: int) -> None:
        """Think, probe and close until the thought is complete or the time is up; ``pending`` was not run yet."""
        job = self._job
        while not job.cancelled:
            ends, full = self._ends_thought(pending), self._context_full()
            action = self._machine.latency.next_action(
                self._left_ns(),
                self._seq.length,
                len(self._close),
                job.answer.answer_steps,
                self._probe_due(pending),
                ends or full,
            )
            if action == CLOSE:
                self._spend_reserve(pending)
                return
            pending = self._probe(pending, "probe") if action == PROBE else self._step(pending)
        job.stopped = "cancelled"

    def _spend_reserve(self, pending: int) -> None:
        """Close the thought; what that leaves of the reserve buys more of it, each token with a close of its own.

        The reserve was an upper bound. Once an answer is in the bank, being likely to fit is enough for the next one:
        should it not, the caller leaves with the one before.
        """
        job = self._job
        while not job.cancelled:
            ends, full = self._ends_thought(pending), self._context_full()
            job.stopped = "complete" if ends else "early" if full else "deadline"
            job.reason = "the model's context is full" if full and not ends else ""
            if self._left_ns() < self._likely_close_ns():
                return
            if ends or full:
                self._finish(pending, ends)
                return
            pending = self._probe(pending, "thought")
        job.stopped = "cancelled"

    def _left_ns(self) -> int:
        return self._job.ready_ns - self._machine.clock.now()

    def _step(self, pending: int) -> int:
        logits = self._run([pending], 1)
        self._commit(pending)
        return self._sampler.next(logits[0])

    def _probe(self, pending: int, source: Source) -> int:
        """A step whose token brings the close tag along, and what the model would answer now."""
        keep = self._seq.length + 1
        logits = self._run([pending, *self._close], 1 + len(self._close))
        self._commit(pending)
        self._since_probe = 0
        self._answer(logits[-1], source)
        self._forget(keep)
        return self._sampler.next(logits[0])

    def _finish(self, pending: int, ends: bool) -> None:
        """Close the thought for good and answer."""
        if ends:
            self._forget(self._seq.length - self._strip_tag(pending))
            tokens = self._close
        else:
            self._commit(pending)
            tokens = [pending, *self._close]
        self._answer(self._run(tokens, 1)[-1], "thought")

    def _answer(self, logits: FloatArray, source: Source) -> None:
        """Write an answer behind the close tag, its first token from ``logits``, and offer it to the bank."""
        cursor, probabilities = self._job.answer.start(), []
        while True:
            token, probability = pick(logits, cursor.allowed())
            cursor.push(token)
            probabilities.append(probability)
            if cursor.done:
                break
            logits = self._run([token], 1)[0]
        self._job.answer_tokens += len(probabilities)
        if (text := cursor.text) is not None:
            confidence = cursor.confidence(probabilities)
            candidate = Candidate(text, confidence, source, len(self._job.thought), len(probabilities))
            if self._job.bank.offer(candidate):
                self._job.news.set()

    def _run(self, tokens: list[int], want: int) -> FloatArray:
        return self._machine.engine.run([Row(self._seq, tokens, want)], self._job.generation)[0]

    def _forget(self, length: int) -> None:
        self._machine.engine.truncate(self._seq, length)

    def _commit(self, token: int) -> None:
        self._job.thought.append(token)
        self._since_probe += 1

    def _ends_thought(self, pending: int) -> bool:
        if pending in self._machine.codec.stop_ids:
            return True
        n = len(self._tag)
        return pending == self._tag[-1] and (n == 1 or self._job.thought[1 - n :] == self._tag[:-1])

    def _strip_tag(self, pending: int) -> int:
        """Take the tag's own tokens out of the thought again; how many of them were run."""
        run = 0 if pending in self._machine.codec.stop_ids else len(self._tag) - 1
        del self._job.thought[len(self._job.thought) - run :]
        return run

    def _context_full(self) -> bool:
        needed = self._seq.length + 1 + len(self._close) + self._job.answer.answer_steps + 1
        return needed >= self._work.max_context

    def _probe_due(self, pending: int) -> bool:
        """At the end of a line of thought once the spacing is reached; anywhere at twice the spacing."""
        at_boundary = pending in self._machine.codec.boundary_ids
        return self._since_probe + 1 >= (self._spacing if at_boundary else 2 * self._spacing)

    def _probe_spacing(self) -> int:
        """Thought tokens between probes, so that probes cost at most ``PROBE_SHARE`` of the thinking."""
        latency, context = self._machine.latency, self._work.prompt_tokens
        step_ns = latency.run_ns(1, context)
        extra_ns = latency.run_ns(1 + len(self._close), context) - step_ns + self._job.answer.answer_steps * step_ns
        return max(_LEAST_PROBE_SPACING, math.ceil(extra_ns / (PROBE_SHARE * step_ns)))

    def _likely_close_ns(self) -> float:
        """What closing here likely takes; never more than what the reserve kept back for it."""
        latency, steps = self._machine.latency, self._job.answer.answer_steps
        upper_ns = latency.closing_ns(self._seq.length, len(self._close), steps)
        return min(LIKELY * self._predicted_close_ns(), upper_ns)

    def _predicted_close_ns(self) -> int:
        latency, context, n = self._machine.latency, self._seq.length, 1 + len(self._close)
        steps = self._job.answer.answer_steps
        return latency.run_ns(n, context) + sum(latency.run_ns(1, context + n + i) for i in range(steps))
