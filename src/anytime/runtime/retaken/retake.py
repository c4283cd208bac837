"""A request thought about again by its tape: the model runs, and time is what was taken down."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import cast

import msgspec

from anytime.runtime.answer import Answer, Stopped
from anytime.runtime.answers.compiling import compile_format
from anytime.runtime.bank import AnswerBank, Candidate
from anytime.runtime.decode import decode
from anytime.runtime.intake import too_late
from anytime.runtime.job import Job, Machine
from anytime.runtime.pending import Pending
from anytime.runtime.policies.policy import Policy
from anytime.runtime.retaken.playback import TapeClock, TapeEngine
from anytime.runtime.sampling import Sampling
from anytime.runtime.tape import Left, Tape
from anytime.runtime.worker import Worker, take_step
from anytime.scheduler.admission import Refusal, admit


class Retake:
    """One request again. ``come``, ``turn`` and ``end`` are called in the order of the tapes' positions."""

    def __init__(
        self, tape: Tape, machine: Machine, policy: Policy, sampling: Sampling, prompt: Sequence[int], bundle_id: str
    ) -> None:
        """``machine`` is the one that all requests share; ``prompt`` what is thought about now."""
        self._tape, self._machine, self._bundle_id = tape, machine, bundle_id
        self.differences: list[tuple[str, object, object]] = []  # what, recorded, now
        self.answer: Answer | None = None
        self._clock = TapeClock(tape, self._before_reading)
        self._engine = TapeEngine(machine.engine, self._clock, tape, self._differs, self._out_of_actions)
        self._job = Job(
            generation=tape.position,
            request_id=tape.request_id,
            prompt=prompt,
            ready_ns=tape.ready_ns,
            answer=compile_format(tape.format, machine.codec),
            sampling=sampling,
            policy=policy,
            bank=AnswerBank(None, tape.min_confidence, policy.choose),
        )
        self._over = self._early = False
        self._coming: deque[Retake] = deque()

    def come(self) -> None:
        """The request comes: whether it fits alone is worked out anew, whether it does beside others is not."""
        job, machine, tape = self._job, self._machine, self._tape
        if list(job.prompt) != tape.prompt:
            self._differs("the prompt's tokens", tape.prompt, list(job.prompt))
        if tape.turns or tape.called_off != "rejected":
            return
        left_ns = tape.ready_ns - tape.submitted_ns
        work = machine.work(len(job.prompt), job.answer, tape.cached)
        if left_ns <= 0:
            job.reason, self._over = too_late(left_ns, machine.profile), True
        elif isinstance(refused := admit(work, left_ns, machine.profile), Refusal):
            machine.pace.doubt()
            job.reason, self._over = refused.reason, True

    @property
    def during(self) -> int:
        """See ``Tape``."""
        return self._tape.during

    def turn(self, until_ns: int, coming: Sequence[Retake] = ()) -> None:
        """The engine is its again; others are ``coming`` meanwhile, in this order."""
        self._coming = deque(coming)
        self._take_turn(until_ns)
        while self._coming:
            self._coming.popleft().come()

    def _take_turn(self, until_ns: int) -> None:
        job = self._job
        if not job.started:
            self._look()
            machine = msgspec.structs.replace(self._machine, clock=self._clock, engine=self._engine)
            job.started, job.steps = True, decode(job, machine)
        if self._over:
            if not self._early:
                self._differs("its end", "later", "already")
            self._early = True
            return
        job.until_ns = until_ns
        self._over = take_step(job)

    def end(self) -> None:
        """It leaves the engine."""
        job, tape = self._job, self._tape
        self._look()
        if job.steps is not None:
            job.steps.close()
        if tape.over and not self._over:
            self._differs("its end", "by itself", "not yet")
        if tape.called_off:
            job.stopped = cast(Stopped, tape.called_off)
            job.reason = tape.reason if tape.turns or not self._over else job.reason
        if self._engine.left:
            self._differs("actions of the engine", len(tape.actions), len(tape.actions) - self._engine.left)
        if self.answer is None:
            self.answer = self._answered(job.bank.best(), job.stopped)

    def _before_reading(self) -> None:
        while self._coming and self._coming[0].during <= self._clock.readings:
            self._coming.popleft().come()
        self._look()

    def _look(self) -> None:
        """Is this when its caller left? Looked at behind everything that happened between two readings."""
        left, job = self._tape.left, self._job
        if self.answer is not None or left is None or not left.cut or self._clock.readings < left.readings:
            return
        now = (len(job.bank.found), job.thought_tokens, job.answer_tokens)
        then = (left.found, left.thought_tokens, left.answer_tokens)
        for what, had, has in zip(("answers found", "thought tokens", "answer tokens"), then, now, strict=True):
            if has < had:
                self._differs(f"{what} when its caller left", had, has)
        self.answer = self._left(left, job.bank.found[: left.found])

    def _left(self, left: Left, found: Sequence[Candidate]) -> Answer:
        best = self._job.policy.choose(found) if found else None
        answer = self._answered(best, cast(Stopped, left.cut))
        tokens = msgspec.structs.replace(
            answer.tokens,
            discarded=max(0, left.thought_tokens - answer.tokens.thought),
            probe=left.answer_tokens - answer.tokens.answer,
        )
        return msgspec.structs.replace(answer, tokens=tokens)

    def _answered(self, best: Candidate | None, stopped: Stopped) -> Answer:
        tape, machine = self._tape, self._machine
        at_ns = tape.left.at_ns if tape.left is not None else tape.ready_ns
        past = cast(Worker, _Past(msgspec.structs.replace(machine, clock=_Stopped(at_ns))))
        deadline_ns = tape.ready_ns + machine.profile.delivery_ns
        pending = Pending(self._job, past, self._bundle_id, tape.submitted_ns, deadline_ns, tape.fallback)
        return pending.answer_with(best, stopped, overrun=False)

    def _out_of_actions(self) -> None:
        if self._tape.called_off and self._job.called_off is None:
            self._job.called_off = cast(Stopped, self._tape.called_off)

    def _differs(self, what: str, recorded: object, now: object) -> None:
        self.differences.append((what, recorded, now))


class _Stopped:
    """A clock that stands."""

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns

    def now(self) -> int:
        return self._now_ns

    def wait_until(self, event: threading.Event, instant_ns: int) -> bool:
        return event.is_set()


class _Past(msgspec.Struct):
    """In a worker's place: nothing runs."""

    machine: Machine
