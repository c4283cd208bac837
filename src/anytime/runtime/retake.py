"""A request thought about again by its tape: the model runs, and time is what was taken down."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from anytime.errors import EngineError, StepTerminated
from anytime.runtime.answer import Answer, Stopped
from anytime.runtime.answers.compiling import compile_format
from anytime.runtime.bank import AnswerBank, Candidate
from anytime.runtime.decode import decode
from anytime.runtime.engine import Burst, Engine, EngineSpec, FloatArray, Health, Row, Seq, Snapshot
from anytime.runtime.intake import too_late
from anytime.runtime.job import Job, Machine
from anytime.runtime.pending import Pending
from anytime.runtime.policies.policy import Policy
from anytime.runtime.sampling import Sampling
from anytime.runtime.tape import Action, Kind, Left, Outcome, Tape, kind_of
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
        self._clock = _TapeClock(tape, self._before_reading)
        self._engine = _TapeEngine(machine.engine, self._clock, tape, self._differs, self._out_of_actions)
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
            machine = msgspec.structs.replace(self._machine, clock=self._clock, engine=cast(Engine, self._engine))
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


class _TapeClock:
    """Says what was taken down; behind that, that the time is up."""

    def __init__(self, tape: Tape, before: Callable[[], None]) -> None:
        self._tape, self._before, self._now_ns = tape, before, tape.submitted_ns
        self.readings = 0

    def now(self) -> int:
        self._before()
        waits_ns = self._tape.waits_ns
        if self.readings < len(waits_ns):
            self._now_ns += waits_ns[self.readings]
        else:
            self._now_ns = max(self._now_ns, self._tape.ready_ns)
        self.readings += 1
        return self._now_ns

    def pass_by(self, took_ns: int) -> None:
        self._now_ns += took_ns

    def wait_until(self, event: threading.Event, instant_ns: int) -> bool:
        return event.is_set()


class _TapeEngine:
    """Runs what it is asked to and takes as long as the tape says; what was cut or failed then is again."""

    def __init__(
        self,
        engine: Engine,
        clock: _TapeClock,
        tape: Tape,
        differs: Callable[[str, object, object], None],
        out: Callable[[], None],
    ) -> None:
        self._engine, self._clock, self._tape, self._differs, self._out = engine, clock, tape, differs, out
        self._done = 0
        self._same = True  # so far

    @property
    def left(self) -> int:
        """Actions that have not come again."""
        return len(self._tape.actions) - self._done

    @property
    def spec(self) -> EngineSpec:
        return self._engine.spec

    @property
    def free_rows(self) -> int:
        return self._engine.free_rows

    def open(self) -> Seq:
        return self._engine.open()

    def fork(self, seq: Seq, n: int = 1) -> list[Seq]:
        return self._engine.fork(seq, n)

    def truncate(self, seq: Seq, length: int) -> None:
        self._engine.truncate(seq, length)

    def snapshot(self, seq: Seq) -> Snapshot:
        return self._engine.snapshot(seq)

    def restore(self, snapshot: Snapshot) -> Seq:
        return self._engine.restore(snapshot)

    def close(self, seq: Seq) -> None:
        self._engine.close(seq)

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        tokens, context = len(rows[0].tokens), rows[0].seq.length
        self._next(kind_of(tokens, context, len(self._tape.prompt)), tokens, context, len(rows))
        try:
            return self._engine.run(rows, generation)
        finally:
            self._passed()

    def extend(self, bursts: Sequence[Burst], count: int, generation: int) -> list[list[int]]:
        (burst,) = bursts
        action = self._next(Kind.THINK, None, burst.seq.length, 1)
        most = count if action is None or action.outcome == Outcome.DONE else min(count, action.tokens)
        try:
            (taken,) = self._engine.extend(bursts, most, generation)
        finally:
            self._passed()
        if action is not None and len(taken) != action.tokens:
            self._other(f"action {self._done} of the engine", f"{action.tokens} tokens", f"{len(taken)} tokens")
        return [taken]

    def _next(self, kind: Kind, tokens: int | None, context: int, width: int) -> Action | None:
        """The action that came then, with how it ended.

        Raises:
            StepTerminated, EngineError: as then.
        """
        if not self.left:
            self._other("actions of the engine", self._done, "more")
            return None
        action = self._tape.actions[self._done]
        then = (action.kind, action.tokens, action.context, action.width, action.reading)
        now = (kind, action.tokens if tokens is None else tokens, context, width, self._clock.readings)
        if then != now:
            self._other(f"action {self._done + 1} of the engine", _said(then), _said(now))
        midway = action.kind == kind == Kind.THINK and action.tokens > 0
        if action.outcome == Outcome.FAILED or (action.outcome == Outcome.CUT and not midway):
            self._passed()
            if action.outcome == Outcome.CUT:
                raise StepTerminated("it was cut then")
            raise EngineError(self._tape.failure)
        return action

    def _passed(self) -> None:
        if self.left:
            self._clock.pass_by(self._tape.actions[self._done].took_ns)
            self._done += 1
            if not self.left:
                self._out()

    def _other(self, what: str, then: object, now: object) -> None:
        if self._same:  # what follows from the first difference is not worth telling
            self._differs(what, then, now)
        self._same = False

    def span(self, seqs: Sequence[Seq]) -> int | None:
        return self._engine.span(seqs)

    def terminate(self, generation: int) -> None:
        self._engine.terminate(generation)

    def health(self) -> Health:
        return self._engine.health()


def _said(action: tuple[Kind, int, int, int, int]) -> str:
    kind, tokens, context, width, reading = action
    lines = "" if width == 1 else f" on each of {width} lines"
    return f"{kind.name.lower()} of {tokens} tokens{lines} behind {context}, after {reading} readings of the clock"
