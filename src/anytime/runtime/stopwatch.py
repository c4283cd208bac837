"""Timing an engine: runs, idle gaps before them, forks and steps of several rows, of tokens that mean nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from anytime.runtime.engine import Engine, Row, Seq
from anytime.scheduler.clock import Clock

Progress = Callable[[str, float], None]  # what is being measured, and how much of it is done, 0 to 1


class Stopwatch:
    """Times runs of the engine on tokens that mean nothing."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine, self.clock = engine, clock
        self._token = min(100, engine.spec.vocab_size - 1)
        self._base = engine.open()

    def _based(self, context: int) -> Seq:
        """The one sequence that all others are forked from, ``context`` tokens long."""
        self.engine.truncate(self._base, min(context, self._base.length))
        if context > self._base.length:
            self.engine.run([Row(self._base, [self._token] * (context - self._base.length))], 0)
        return self._base

    def _warm_up(self) -> None:
        """A step elsewhere, so that a run is timed as it comes in the loop: behind another."""
        seq = self.engine.open()
        self.engine.run([Row(seq, [self._token])], 0)
        self.engine.close(seq)

    def time_run(self, tokens: int, context: int) -> int:
        return self.time_runs([tokens], context)[0]

    def time_runs(self, sizes: Sequence[int], context: int, gap_ns: int = 0) -> list[int]:
        """Times of runs of these many tokens, one behind the other, the first behind ``context`` others.

        The engine idles for ``gap_ns`` before each; without a gap the first comes behind a step elsewhere.
        """
        (seq,) = self.engine.fork(self._based(context))
        if not gap_ns:
            self._warm_up()
        return self._time(seq, sizes, gap_ns)

    def time_cold(self, sizes: Sequence[int]) -> list[int]:
        """Times of runs, one behind the other, of a sequence of its own, with nothing before them."""
        return self._time(self.engine.open(), sizes, 0)

    def _time(self, seq: Seq, sizes: Sequence[int], gap_ns: int) -> list[int]:
        times, never = [], threading.Event()
        for tokens in sizes:
            if gap_ns:
                self.clock.wait_until(never, self.clock.now() + gap_ns)
            start = self.clock.now()
            self.engine.run([Row(seq, [self._token] * tokens)], 0)
            times.append(self.clock.now() - start)
        self.engine.close(seq)
        return times

    def time_branches(self, rows: int, context: int) -> tuple[int, int]:
        """The time of a fork, where there are ``rows - 1`` of them, and of one step of all rows."""
        base = self._based(context)
        start = self.clock.now()
        forks = self.engine.fork(base, rows - 1) if rows > 1 else []
        forked_ns = (self.clock.now() - start) // max(1, len(forks))
        seqs = [base, *forks]
        self.engine.run([Row(seq, [self._token]) for seq in seqs], 0)
        start = self.clock.now()
        self.engine.run([Row(seq, [self._token]) for seq in seqs], 0)
        step_ns = self.clock.now() - start
        for seq in forks:
            self.engine.close(seq)
        return forked_ns, step_ns
