"""Public test doubles: a clock that moves only when told to, and an engine whose every cost and word is known."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from anytime.errors import EngineError, StepTerminated
from anytime.ext.latency import Latency
from anytime.runtime.engine import Burst, EngineSpec, FloatArray, Health, Row, Seq, Snapshot


class MockClock:
    """A clock that stands still until ``advance``; waiting ends when the event is set or the instant has come."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._moved = threading.Condition()

    def now(self) -> int:
        with self._moved:
            return self._now_ns

    def advance(self, by_ns: int) -> None:
        """Let ``by_ns`` nanoseconds pass."""
        with self._moved:
            self._now_ns += by_ns
            self._moved.notify_all()

    def wait_until(self, event: threading.Event, instant_ns: int) -> bool:
        with self._moved:
            # The event has no hook to wake this condition, so it is looked at again in short real waits.
            while not event.is_set() and self._now_ns < instant_ns:
                self._moved.wait(0.001)
        return event.is_set()


Script = Callable[[Sequence[int]], int]


class ScriptedEngine:
    """An engine that runs on a ``MockClock``: ``script(tokens so far)`` is the likeliest next token.

    Every run advances the clock by exactly what ``latency`` predicts, times ``slowdown(run number)``. A terminated run
    takes no time and leaves its sequence as it was.
    """

    def __init__(
        self,
        clock: MockClock,
        latency: Latency,
        script: Script,
        vocab_size: int = 128,
        max_context: int = 1024,
        slowdown: Callable[[int], float] = lambda run: 1.0,
        max_rows: int = 8,
    ) -> None:
        self.spec = EngineSpec("scripted", "1", "none", 1, "none", vocab_size, max_rows, max_context)
        self.runs: list[tuple[int, int]] = []  # (tokens, context) of every run
        self._clock, self._latency, self._script, self._slowdown = clock, latency, script, slowdown
        self._terminated = -1
        self.free_rows = max_rows

    def open(self) -> Seq:
        return self._opened(0, ())

    def _opened(self, length: int, state: tuple[int, ...]) -> Seq:
        if not self.free_rows:
            raise EngineError(f"all {self.spec.max_rows} rows are in use: close some")
        self.free_rows -= 1
        return Seq(length, state)

    def fork(self, seq: Seq, n: int = 1) -> list[Seq]:
        return [self._opened(seq.length, seq.state) for _ in range(n)]

    def truncate(self, seq: Seq, length: int) -> None:
        seq.state, seq.length = seq.state[:length], length

    def close(self, seq: Seq) -> None:
        seq.state, seq.length = (), 0
        self.free_rows += 1

    def snapshot(self, seq: Seq) -> Snapshot:
        return Snapshot(seq.length, np.array(seq.state, dtype=np.float32).reshape(1, 1, -1, 1))

    def restore(self, snapshot: Snapshot) -> Seq:
        return self._opened(snapshot.length, tuple(int(token) for token in snapshot.cache.reshape(-1)))

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        """Rows run side by side: together they take as long as the longest of them."""
        costs_ns = [self._cost_ns(row) for row in rows]
        if generation != self._terminated:
            self._clock.advance(max(costs_ns))
        if generation == self._terminated:
            raise StepTerminated("the run was terminated")
        return [self._append(row) for row in rows]

    def _cost_ns(self, row: Row) -> int:
        if row.seq.length + len(row.tokens) > self.spec.max_context:
            raise ValueError(f"{len(row.tokens)} tokens behind {row.seq.length} do not fit {self.spec.max_context}")
        self.runs.append((len(row.tokens), row.seq.length))
        return round(self._latency.run_ns(len(row.tokens), row.seq.length) * self._slowdown(len(self.runs)))

    def _append(self, row: Row) -> FloatArray:
        tokens = (*row.seq.state, *row.tokens)
        logits = np.zeros((row.want, self.spec.vocab_size), dtype=np.float32)
        for i in range(row.want):
            logits[i, self._script(tokens[: len(tokens) - row.want + 1 + i])] = 5.0
        row.seq.state, row.seq.length = tokens, len(tokens)
        return logits

    def extend(self, bursts: Sequence[Burst], count: int, generation: int) -> list[list[int]]:
        tokens = [burst.token for burst in bursts]
        taken: list[list[int]] = []
        while len(taken) < count:
            try:
                found = self.run(
                    [Row(burst.seq, [token]) for burst, token in zip(bursts, tokens, strict=True)], generation
                )
            except StepTerminated:
                if not taken:
                    raise
                break
            tokens = [int(logits[0].argmax()) for logits in found]
            taken.append(tokens)
            if any(token in burst.ends for burst, token in zip(bursts, tokens, strict=True)):
                break
        return [list(row) for row in zip(*taken, strict=True)]

    def span(self, seqs: Sequence[Seq]) -> int:
        return len(seqs)

    def terminate(self, generation: int) -> None:
        self._terminated = generation

    def health(self) -> Health:
        return Health.READY
