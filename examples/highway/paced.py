"""An engine whose runs take another time than they do: the time that a latency profile lets one expect."""

from __future__ import annotations

import itertools
import random
import threading
from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

import msgspec

from anytime.errors import StepTerminated
from anytime.runtime.engine import Burst, Engine, FloatArray, Health, Row, Seq, Snapshot
from anytime.scheduler.clock import MONOTONIC, Clock
from anytime.scheduler.profile import Branch, Cell, LatencyProfile


class Times(Protocol):
    """What is to pass, ns, once something was computed in ``took_ns``."""

    def runs(self, rows: Sequence[tuple[int, int]], took_ns: int) -> int:
        """For a run of rows of (tokens, context before them)."""
        ...

    def steps(self, count: int, context: int, took_ns: int) -> list[int]:
        """For each of so many decode steps in a row."""
        ...

    def forks(self, count: int, context: int) -> int:
        """For so many copies of a sequence."""
        ...


class Drawn:
    """Predictions of a profile times residuals drawn from it, whatever the computation took.

    Steps in a row are given consecutive residuals of a measured pass, so that slow moments come in bursts as they did
    when they were measured.
    """

    def __init__(self, profile: LatencyProfile, residuals: Residuals, seed: int) -> None:
        self._profile, self._latency, self._residuals = profile, profile.latency(), residuals
        self._random = random.Random(seed)

    def runs(self, rows: Sequence[tuple[int, int]], took_ns: int) -> int:
        if len(rows) > 1 and all(tokens == 1 for tokens, _ in rows):
            predicted = self._profile.rows_ns(len(rows), max(context for _, context in rows))
            return round(predicted * self._step())
        return sum(self._run(tokens, context) for tokens, context in rows)

    def _run(self, tokens: int, context: int) -> int:
        if tokens == 1:
            return self.steps(1, context, 0)[0]
        sizes = self._residuals.runs
        nearest = min(sizes, key=lambda size: abs(size - tokens))
        return round(self._latency.run_ns(tokens, context) * self._random.choice(sizes[nearest]))

    def steps(self, count: int, context: int, took_ns: int) -> list[int]:
        measured = self._random.choice(self._residuals.steps)
        first = self._random.randrange(len(measured))
        ratios = [measured[(first + i) % len(measured)] for i in range(count)]
        return [round(self._latency.run_ns(1, context + i) * ratio) for i, ratio in enumerate(ratios)]

    def _step(self) -> float:
        return self._random.choice(self._random.choice(self._residuals.steps))

    def forks(self, count: int, context: int) -> int:
        return count * self._profile.fork_ns(context)


class Residuals(msgspec.Struct, frozen=True):
    """Measured over predicted times: of every pass of decode steps, and of runs by their number of tokens."""

    steps: list[list[float]]
    runs: dict[int, list[float]]


def residuals_of(profile: LatencyProfile) -> Residuals:
    """How far the measurements of a profile were from its predictions."""
    latency = profile.latency()
    runs: dict[int, list[float]] = {}
    for cell in profile.runs:
        runs.setdefault(cell.tokens, []).extend(cell.ratios(latency))
    return Residuals([cell.ratios(latency) for cell in profile.steps], runs)


class Padded:
    """On the wall clock: what was computed sooner than drawn takes as long as drawn."""

    def __init__(self, drawn: Drawn) -> None:
        self._drawn = drawn

    def runs(self, rows: Sequence[tuple[int, int]], took_ns: int) -> int:
        return max(0, self._drawn.runs(rows, took_ns) - took_ns)

    def steps(self, count: int, context: int, took_ns: int) -> list[int]:
        return [max(0, step_ns - took_ns // count) for step_ns in self._drawn.steps(count, context, took_ns)]

    def forks(self, count: int, context: int) -> int:
        return self._drawn.forks(count, context)


class Unchanged:
    """On the wall clock: everything takes what it takes."""

    def runs(self, rows: Sequence[tuple[int, int]], took_ns: int) -> int:
        return 0

    def steps(self, count: int, context: int, took_ns: int) -> list[int]:
        return [0] * count

    def forks(self, count: int, context: int) -> int:
        return 0


def slowed(profile: LatencyProfile, pace: float) -> LatencyProfile:
    """The profile of an engine that is ``pace`` times slower. Waking up a caller takes no longer."""
    fit = profile.fit
    coefficients = {name: pace * getattr(fit, name) for name in ("alpha", "beta", "gamma", "p", "q")}
    return msgspec.structs.replace(
        profile,
        fit=msgspec.structs.replace(
            fit,
            **coefficients,
            widths=tuple((width, pace * p, pace * q) for width, p, q in fit.widths),
            fork=(pace * fit.fork[0], pace * fit.fork[1]),
        ),
        runs=tuple(_cell(cell, pace) for cell in profile.runs),
        steps=tuple(_cell(cell, pace) for cell in profile.steps),
        branches=tuple(
            Branch(b.rows, b.context, _times(b.forks_ns, pace), _times(b.steps_ns, pace)) for b in profile.branches
        ),
        regimes=(),
    )


def _cell(cell: Cell, pace: float) -> Cell:
    return Cell(cell.tokens, cell.context, _times(cell.times_ns, pace))


def _times(times_ns: Sequence[int], pace: float) -> tuple[int, ...]:
    return tuple(round(pace * time) for time in times_ns)


class PacedEngine:
    """Computes a run, then waits on the clock for what ``times`` says; terminated while it waits, it has not run."""

    def __init__(self, engine: Engine, clock: Clock, times: Times) -> None:
        self.spec = engine.spec
        self._engine, self._clock, self._times = engine, clock, times
        self._seqs: dict[int, Seq] = {}
        self._owed_ns = 0  # by forks, which nothing can terminate
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._running = self._terminated = -1

    @property
    def free_rows(self) -> int:
        return self._engine.free_rows

    def open(self) -> Seq:
        return self._held(self._engine.open())

    def fork(self, seq: Seq, n: int = 1) -> list[Seq]:
        self._owed_ns += self._times.forks(n, seq.length)
        return [self._held(fork) for fork in self._engine.fork(seq, n)]

    def truncate(self, seq: Seq, length: int) -> None:
        self._engine.truncate(seq, length)

    def snapshot(self, seq: Seq) -> Snapshot:
        return self._engine.snapshot(seq)

    def restore(self, snapshot: Snapshot) -> Seq:
        return self._held(self._engine.restore(snapshot))

    def close(self, seq: Seq) -> None:
        self._seqs.pop(id(seq), None)
        self._engine.close(seq)

    def close_all(self) -> None:
        """Give back what a Reasoner that was closed still holds, for the next one on the same engine."""
        for seq in list(self._seqs.values()):
            self.close(seq)

    def _held(self, seq: Seq) -> Seq:
        self._seqs[id(seq)] = seq
        return seq

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        self._begin(generation)
        before = [row.seq.length for row in rows]
        begun_ns = MONOTONIC.now()
        logits = self._engine.run(rows, generation)
        sizes = [(len(row.tokens), length) for row, length in zip(rows, before, strict=True)]
        if self._passed([self._times.runs(sizes, MONOTONIC.now() - begun_ns)]) == 0:
            for row, length in zip(rows, before, strict=True):
                self._engine.truncate(row.seq, length)
            raise StepTerminated("the run was terminated")
        return logits

    def extend(self, bursts: Sequence[Burst], count: int, generation: int) -> list[list[int]]:
        (burst,) = bursts  # a car asks one question at a time
        seq = burst.seq
        self._begin(generation)
        before, begun_ns = seq.length, MONOTONIC.now()
        (taken,) = self._engine.extend(bursts, count, generation)
        passed = self._passed(self._times.steps(len(taken), before, MONOTONIC.now() - begun_ns))
        if passed < len(taken):
            self._engine.truncate(seq, before + passed)
            if passed == 0:
                raise StepTerminated("the run was terminated")
        return [taken[:passed]]

    def span(self, seqs: Sequence[Seq]) -> int | None:
        return self._engine.span(seqs)

    def _begin(self, generation: int) -> None:
        with self._lock:
            if generation == self._terminated:
                raise StepTerminated("the run was terminated before it began")
            self._running = generation
            self._stop.clear()

    def _passed(self, spans_ns: Sequence[int]) -> int:
        """Wait until these spans are over, one behind the other; how many were when they were, or it was terminated."""
        ends_ns = list(itertools.accumulate(spans_ns, initial=self._clock.now() + self._owed_ns))
        self._owed_ns = 0
        if not self._clock.wait_until(self._stop, ends_ns[-1]):
            return len(spans_ns)
        return max(0, bisect_right(ends_ns, self._clock.now()) - 1)

    def terminate(self, generation: int) -> None:
        with self._lock:
            self._terminated = generation
            if generation == self._running:
                self._stop.set()

    def health(self) -> Health:
        return self._engine.health()
