"""Putting requests on tape: the machine that a request runs on is wrapped, and nothing else knows of it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from anytime.errors import StepTerminated
from anytime.runtime.answer import Answer
from anytime.runtime.bank import Candidate
from anytime.runtime.decode import decode
from anytime.runtime.engine import Burst, Engine, FloatArray, Row
from anytime.runtime.job import Job, Machine, Steps
from anytime.runtime.policies.policy import Plan, Policy, Verdict, View
from anytime.runtime.tape import Action, Kind, Left, Outcome, Tape, Turn, kind_of
from anytime.runtime.wrapped import Wrapped
from anytime.scheduler.clock import Clock


class Tapes:
    """Makes tapes; ``watcher`` is shown each when its request has left the engine and its caller has left it.

    That may be on the engine's thread, so it must not wait.
    """

    def __init__(self, watcher: Callable[[Tape], None]) -> None:
        self._watcher = watcher
        self._positions = itertools.count(1)  # next() is atomic
        self._lock = threading.Lock()

    def come(self, job: Job, now: int, cached: int, current: Job | None) -> None:
        """A request comes, with so many tokens known of its prompt, in the turn of ``current``."""
        tape = job.tape
        if tape is not None:
            tape.position, tape.submitted_ns, tape.cached = next(self._positions), now, cached
            tape.during, _ = self.seen(current) if current is not None else (0, 0)

    def decode(self, job: Job, machine: Machine) -> Steps:
        """``decode``, on tape. Nothing is yielded of what comes next: a request on tape runs beside nobody."""
        tape = job.tape
        if tape is None:
            yield from decode(job, machine)
            return
        job.policy = _TapedPolicy(job.policy, tape)
        clock = _TapedClock(machine.clock, tape)
        engine = _TapedEngine(machine.engine, machine.clock, tape)
        steps = decode(job, msgspec.structs.replace(machine, clock=clock, engine=engine))
        try:
            while True:
                tape.turns.append(Turn(next(self._positions), job.until_ns))
                try:
                    next(steps)
                except StopIteration:
                    tape.over = True
                    return
                except Exception:
                    tape.over = True
                    raise
                yield None
        finally:
            steps.close()

    def seen(self, job: Job) -> tuple[int, int]:
        """How far a request has come: readings of the clock, and answers."""
        return len(job.tape.waits_ns) if job.tape is not None else 0, len(job.bank.found)

    def end(self, job: Job) -> None:
        """A request has ended, and its row of the engine is free."""
        tape = job.tape
        if tape is not None:
            tape.ended = next(self._positions)
            tape.called_off = job.called_off or ("" if tape.over else job.stopped)
            tape.reason = job.reason if tape.called_off else ""
            self._part(tape)

    def leave(self, job: Job, answer: Answer, seen: tuple[int, int], cut: bool) -> None:
        """The caller leaves with this answer, having ``seen`` things as they stood; ``cut``: before the end."""
        readings, found = seen
        tape, tokens = job.tape, answer.tokens
        if tape is not None:
            tape.left = Left(
                answer.stopped if cut else "",
                readings,
                found,
                tokens.thought + tokens.discarded,
                tokens.probe + tokens.answer,
                answer.delivered_ns,
            )
            self._part(tape)

    def _part(self, tape: Tape) -> None:
        with self._lock:
            tape.parted += 1
            both = tape.parted == 2
        if both:
            self._watcher(tape)


class _TapedClock:
    """Takes down what it says."""

    def __init__(self, clock: Clock, tape: Tape) -> None:
        self._clock, self._tape, self._last_ns = clock, tape, tape.submitted_ns
        self._actions = 0

    def now(self) -> int:
        now, tape = self._clock.now(), self._tape
        took_ns = sum(action.took_ns for action in tape.actions[self._actions :])
        tape.waits_ns.append(now - self._last_ns - took_ns)
        self._last_ns, self._actions = now, len(tape.actions)
        return now

    def wait_until(self, event: threading.Event, instant_ns: int) -> bool:
        return self._clock.wait_until(event, instant_ns)


class _TapedEngine(Wrapped):
    """Takes down what it runs."""

    def __init__(self, engine: Engine, clock: Clock, tape: Tape) -> None:
        super().__init__(engine)
        self._clock, self._tape = clock, tape

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        tokens, context = len(rows[0].tokens), rows[0].seq.length
        action = self._begun(kind_of(tokens, context, len(self._tape.prompt)), tokens, context, len(rows))
        try:
            return self._engine.run(rows, generation)
        except Exception as error:
            self._failed(action, error)
            raise
        finally:
            self._ended(action)

    def extend(self, bursts: Sequence[Burst], count: int, generation: int) -> list[list[int]]:
        (burst,) = bursts  # a request on tape runs beside nobody
        action = self._begun(Kind.THINK, 0, burst.seq.length, 1)
        try:
            (taken,) = self._engine.extend(bursts, count, generation)
            action.tokens = len(taken)
            if len(taken) < count and taken[-1] not in burst.ends:
                action.outcome = Outcome.CUT
            return [taken]
        except Exception as error:
            self._failed(action, error)
            raise
        finally:
            self._ended(action)

    def _begun(self, kind: Kind, tokens: int, context: int, width: int) -> Action:
        return Action(kind, tokens, context, width, self._clock.now(), Outcome.DONE, len(self._tape.waits_ns))

    def _ended(self, action: Action) -> None:
        action.took_ns = self._clock.now() - action.took_ns
        self._tape.actions.append(action)

    def _failed(self, action: Action, error: Exception) -> None:
        action.outcome = Outcome.CUT if isinstance(error, StepTerminated) else Outcome.FAILED
        if action.outcome == Outcome.FAILED:
            self._tape.failure = str(error)


class _TapedPolicy:
    """Takes down what it wants."""

    def __init__(self, policy: Policy, tape: Tape) -> None:
        self._policy, self._tape = policy, tape

    def begin(self, view: View) -> Plan | Literal["conclude"]:
        verdict = self._policy.begin(view)
        self._note(verdict)
        return verdict

    def judge(self, view: View) -> Verdict:
        verdict = self._policy.judge(view)
        self._note(verdict)
        return verdict

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        return self._policy.choose(found)

    def _note(self, verdict: Verdict) -> None:
        self._tape.plans.append(msgspec.json.encode(verdict).decode())
        self._tape.plans_at.append(len(self._tape.actions))
