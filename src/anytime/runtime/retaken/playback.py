"""A tape in the place of time: a clock that says what was taken down, and an engine that takes as long as it took."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from anytime.errors import EngineError, StepTerminated
from anytime.runtime.engine import Burst, Engine, FloatArray, Row
from anytime.runtime.tape import Action, Kind, Outcome, Tape, kind_of
from anytime.runtime.wrapped import Wrapped


class TapeClock:
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


class TapeEngine(Wrapped):
    """Runs what it is asked to and takes as long as the tape says; what was cut or failed then is again."""

    def __init__(
        self,
        engine: Engine,
        clock: TapeClock,
        tape: Tape,
        differs: Callable[[str, object, object], None],
        out: Callable[[], None],
    ) -> None:
        super().__init__(engine)
        self._clock, self._tape, self._differs, self._out = clock, tape, differs, out
        self._done = 0
        self._same = True  # so far

    @property
    def left(self) -> int:
        """Actions that have not come again."""
        return len(self._tape.actions) - self._done

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


def _said(action: tuple[Kind, int, int, int, int]) -> str:
    kind, tokens, context, width, reading = action
    lines = "" if width == 1 else f" on each of {width} lines"
    return f"{kind.name.lower()} of {tokens} tokens{lines} behind {context}, after {reading} readings of the clock"
