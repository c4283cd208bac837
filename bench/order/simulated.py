"""An engine in simulated time: what it says is the model's, how long it takes is drawn from the latency profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from anytime.errors import EngineError, StepTerminated
from anytime.runtime.engine import Burst, FloatArray, Health, Row, Seq, Snapshot
from anytime.testing import MockClock
from bench.order.remembered import Node, Remembered
from examples.highway.paced import Drawn

NEVER = 2**62
BETWEEN_NS = 100_000  # of Python's own time at every run, sharing out included


class Meanwhile(Protocol):
    """Who does something while the engine runs."""

    def due_ns(self) -> int:
        """When, next; NEVER where nothing is to come."""
        ...

    def happen(self) -> None:
        """It is that time."""
        ...


class Nothing:
    """Happens while nobody asks."""

    def due_ns(self) -> int:
        return NEVER

    def happen(self) -> None:
        pass


class SimulatedEngine:
    """One thread's engine. While a run takes its time, everything happens that is due by then."""

    def __init__(self, model: Remembered, times: Drawn, clock: MockClock) -> None:
        self.spec, self.free_rows = model.spec, model.spec.max_rows
        self.meanwhile: Meanwhile = Nothing()
        self._model, self._times, self._clock = model, times, clock
        self._terminated = -1

    def open(self) -> Seq:
        return self._opened(self._model.root)

    def fork(self, seq: Seq, n: int = 1) -> list[Seq]:
        self._clock.advance(self._times.forks(n, seq.length))
        return [self._opened(seq.state) for _ in range(n)]

    def _opened(self, node: Node) -> Seq:
        if not self.free_rows:
            raise EngineError(f"all {self.spec.max_rows} rows are in use: close some")
        self.free_rows -= 1
        return Seq(node.length, node)

    def truncate(self, seq: Seq, length: int) -> None:
        seq.state, seq.length = seq.state.at(length), length

    def snapshot(self, seq: Seq) -> Snapshot:
        return Snapshot(seq.length, seq.state)

    def restore(self, snapshot: Snapshot) -> Seq:
        return self._opened(snapshot.cache)  # type: ignore[arg-type]  # it is a node, see above

    def close(self, seq: Seq) -> None:
        self.free_rows += 1

    def span(self, seqs: Sequence[Seq]) -> int | None:
        return len(seqs)

    def terminate(self, generation: int) -> None:
        self._terminated = generation

    def health(self) -> Health:
        return Health.READY

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        sizes = [(len(row.tokens), row.seq.length) for row in rows]
        if not self._passed(BETWEEN_NS + self._times.runs(sizes, 0), generation):
            raise StepTerminated("the run was terminated")
        return [self._appended(row) for row in rows]

    def _appended(self, row: Row) -> FloatArray:
        wanted = []
        for left, token in zip(range(len(row.tokens), 0, -1), row.tokens, strict=True):
            self._append(row.seq, token)
            if left <= row.want:
                wanted.append(self._model.logits(row.seq.state))
        return np.array(wanted, dtype=np.float32)

    def extend(self, bursts: Sequence[Burst], count: int, generation: int) -> list[list[int]]:
        taken: list[list[int]] = [[] for _ in bursts]
        next_ = [burst.token for burst in bursts]
        begun_ns = BETWEEN_NS
        for _ in range(count):
            step_ns = self._times.runs([(1, burst.seq.length) for burst in bursts], 0)
            if not self._passed(begun_ns + step_ns, generation):
                break
            begun_ns = 0
            for i, burst in enumerate(bursts):
                self._append(burst.seq, next_[i])
                next_[i] = self._model.best(burst.seq.state)
                taken[i].append(next_[i])
            if any(token in burst.ends for token, burst in zip(next_, bursts, strict=True)):
                break
        if not taken[0]:
            raise StepTerminated("the run was terminated")
        return taken

    def _append(self, seq: Seq, token: int) -> None:
        seq.state, seq.length = seq.state.behind(token), seq.length + 1

    def _passed(self, span_ns: int, generation: int) -> bool:
        """Let so much time pass, and all that is due in it happen; False where that terminated the run."""
        now_ns = self._clock.now()
        end_ns, due_ns = now_ns + span_ns, now_ns
        while due_ns <= end_ns:
            self._clock.advance(max(0, due_ns - self._clock.now()))
            self.meanwhile.happen()
            if generation == self._terminated:
                return False
            due_ns = self.meanwhile.due_ns()
        self._clock.advance(end_ns - self._clock.now())
        return True
