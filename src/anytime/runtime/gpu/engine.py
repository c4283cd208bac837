"""An engine on one NVIDIA GPU: rows, steps, bursts and what happens when the GPU is lost.

How the model itself is run is another's (``trt.runs``, ``ortgpu.runs``). NOT RUN ON HARDWARE YET: the logic is tested
on doubles. A step that the GPU has begun cannot be stopped. A terminated burst ends behind it, and a run of several
pieces before the next one; the caller, on its own thread, is free regardless, and the next request waits for that step.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec
import numpy as np

from anytime.errors import EngineError, StepTerminated
from anytime.ext.logits import greedy
from anytime.runtime.engine import Burst, EngineSpec, FloatArray, Health, Row, Seq, Snapshot
from anytime.runtime.gpu.cache import Cache
from anytime.runtime.gpu.device import Device
from anytime.runtime.gpu.memory import SHORT, Memory

_REMEDY = (
    "load a new Reasoner in a new process, which isolated=True does by itself; dmesg has what the driver says (Xid), "
    "power and heat are the usual causes"
)


class Runs(Protocol):
    """Runs of a model with the inputs that the memory's pinned arrays hold. They are queued; ``finish`` waits."""

    def step(self, first: int, rows: int) -> None:
        """Queue a step of rows side by side, one token each; their logits come to the first places of the host's."""
        ...

    def run(self, row: int, tokens: int, room: int, want: int) -> None:
        """Queue a run of several tokens of one row, which has ``room`` for so many.

        The logits of the last ``want`` of them come to the first places of the host's.
        """
        ...


class Ready(msgspec.Struct, frozen=True):
    """A model on a GPU, with the memory it runs in. ``failures`` are further errors that mean a lost GPU."""

    memory: Memory
    runs: Runs
    spec: EngineSpec
    failures: tuple[type[Exception], ...] = ()


class GpuEngine:
    """See ``Engine``. ``elapsed_ns`` is what the GPU took for the latest run, step or copy, by its own events."""

    def __init__(self, device: Device, set_up: Callable[[], Ready]) -> None:
        """Raises: EngineError: ``set_up`` fails; what it raises of its own passes."""
        self._device, self._failures = device, device.failures
        self._thread, self._lost = 0, False
        self._running = self._terminated = -1  # generations
        with self._on_gpu(
            "the GPU cannot be set up", "end other programs that use it; see dmesg for what the driver says"
        ):
            ready = set_up()
            self._cache = Cache(device, ready.memory)
        self._memory, self._runs, self.spec = ready.memory, ready.runs, ready.spec
        self._failures = (*device.failures, *ready.failures)

    @property
    def free_rows(self) -> int:
        return self._cache.free_rows

    @property
    def elapsed_ns(self) -> int:
        with self._on_gpu():
            return self._device.elapsed_ns()

    def open(self) -> Seq:
        (row,) = self._cache.take()
        return Seq(0, row)

    def fork(self, seq: Seq, n: int = 1) -> list[Seq]:
        with self._on_gpu():
            return [Seq(seq.length, row) for row in self._cache.fork(seq.state, n)]

    def truncate(self, seq: Seq, length: int) -> None:
        if not 0 <= length <= seq.length:
            raise ValueError(f"cannot truncate a sequence of {seq.length} tokens to {length}")
        self._cache.lengths[seq.state] = seq.length = length

    def snapshot(self, seq: Seq) -> Snapshot:
        with self._on_gpu():
            return Snapshot(seq.length, self._cache.read(seq.state))

    def restore(self, snapshot: Snapshot) -> Seq:
        with self._on_gpu():
            return Seq(snapshot.length, self._cache.write(snapshot.cache))

    def close(self, seq: Seq) -> None:
        self._cache.close(seq.state)
        seq.state, seq.length = None, 0

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        for row in rows:
            self._check(row.seq, len(row.tokens), row.tokens)
        with self._step(generation):
            found = self._run(rows)
        for row in rows:
            self._grow(row.seq, len(row.tokens))
        return found

    def _run(self, rows: Sequence[Row]) -> list[FloatArray]:
        places = [row.seq.state for row in rows]
        if len(rows) > 1 and all(len(row.tokens) == 1 for row in rows) and self._cache.span(places) is not None:
            first = min(places)
            logits = self._together(places, [row.tokens[0] for row in rows])
            return [logits[place - first : place - first + row.want] for place, row in zip(places, rows, strict=True)]
        return [self._alone(row) if row is rows[-1] else self._alone(row).copy() for row in rows]

    def extend(self, bursts: Sequence[Burst], count: int, generation: int) -> list[list[int]]:
        for burst in bursts:
            self._check(burst.seq, count, (burst.token,))
        places = [burst.seq.state for burst in bursts]
        if self._cache.span(places) is None:
            raise ValueError("a full row lies between these: run them one by one")
        first, tokens = min(places), [burst.token for burst in bursts]
        taken: list[list[int]] = []
        with self._step(generation):
            while len(taken) < count and (not taken or self._terminated != generation):
                logits = self._together(places, tokens, ahead=len(taken))
                tokens = [greedy(logits[place - first]) for place in places]
                taken.append(tokens)
                if any(token < 0 or token in burst.ends for burst, token in zip(bursts, tokens, strict=True)):
                    break
        for burst in bursts:
            self._grow(burst.seq, len(taken))
        return [list(of_one) for of_one in zip(*taken, strict=True)]

    def span(self, seqs: Sequence[Seq]) -> int | None:
        found = self._cache.span([seq.state for seq in seqs])
        return None if found is None else len(found)

    def terminate(self, generation: int) -> None:
        self._terminated = generation

    def health(self) -> Health:
        if self._lost:
            return Health.LOST
        return Health.BUSY if self._running >= 0 else Health.READY

    def _together(self, places: Sequence[int], tokens: Sequence[int], ahead: int = 0) -> FloatArray:
        """A step of one token each of the rows at ``places``, ``ahead`` tokens behind their lengths.

        Rows that lie between them write behind their own lengths. The logits, from the first of the rows on.
        """
        memory, first, width = self._memory, min(places), max(places) - min(places) + 1
        memory.host_lengths[:width] = self._cache.lengths[first : first + width]
        memory.host_tokens[:width] = 0
        for place, token in zip(places, tokens, strict=True):
            memory.host_lengths[place - first] += ahead
            memory.host_tokens[place - first] = token
        self._device.start()
        self._runs.step(first, width)
        self._device.finish()
        return memory.host_logits

    def _alone(self, row: Row) -> FloatArray:
        """All tokens of one row, in as few pieces as the plan's chunk and the memory for logits allow."""
        memory, place = self._memory, row.seq.state
        done, found = 0, [memory.host_logits[:0]]
        for size, want in pieces(len(row.tokens), row.want, memory.layout.chunk, memory.layout.most_logits):
            if self._terminated == self._running:
                raise StepTerminated("the run was terminated")
            logits = self._piece(place, row.tokens[done : done + size], want, done)
            done += size
            found.append(logits if done == len(row.tokens) else logits.copy())
        return found[-1] if row.want == len(found[-1]) else np.concatenate(found)

    def _piece(self, place: int, tokens: Sequence[int], want: int, ahead: int) -> FloatArray:
        if len(tokens) == 1:
            return self._together([place], tokens, ahead)[:want]
        memory, length = self._memory, self._cache.lengths[place] + ahead
        memory.host_lengths[0] = length
        memory.host_tokens[: len(tokens)] = tokens
        memory.host_tokens[len(tokens) : SHORT[-1]] = 0
        self._device.start()
        self._runs.run(place, len(tokens), memory.layout.context - length, want)
        self._device.finish()
        return memory.host_logits[:want]

    def _grow(self, seq: Seq, tokens: int) -> None:
        seq.length += tokens
        self._cache.lengths[seq.state] = seq.length

    def _check(self, seq: Seq, count: int, tokens: Sequence[int]) -> None:
        """The GPU would read and write wherever these point to."""
        if count < 1 or seq.length + count > self.spec.max_context:
            raise ValueError(f"{count} tokens behind {seq.length} do not fit {self.spec.max_context}")
        if min(tokens) < 0 or max(tokens) >= self.spec.vocab_size:
            wrong = min(tokens) if min(tokens) < 0 else max(tokens)
            raise EngineError(
                f"token {wrong} is outside the vocabulary of {self.spec.vocab_size}: give the model's own"
            )

    @contextlib.contextmanager
    def _step(self, generation: int) -> Iterator[None]:
        """What runs for a generation, unless that was terminated before."""
        self._running = generation
        try:
            if self._terminated == generation:
                raise StepTerminated("the run was terminated before it began")
            with self._on_gpu():
                yield
        finally:
            self._running = -1

    @contextlib.contextmanager
    def _on_gpu(self, what: str = "the GPU was lost", remedy: str = _REMEDY) -> Iterator[None]:
        """The GPU for the calling thread. After an error of the device nothing in this process can use it any more."""
        if self._lost:
            raise EngineError(f"the GPU was lost in an earlier run: {_REMEDY}")
        try:
            if self._thread != threading.get_ident():
                self._device.attach()
                self._thread = threading.get_ident()
            yield
        except self._failures as error:
            self._lost = True
            raise EngineError(f"{what} ({error}): {remedy}") from error


def pieces(tokens: int, want: int, chunk: int, most_logits: int) -> Iterator[tuple[int, int]]:
    """Sizes of the runs that a run of ``tokens`` is done in, and of how many of its last tokens each gives logits.

    Where more logits are wanted than fit, the tokens without come first, then those with in short runs.
    """
    while tokens > chunk or want > most_logits:
        if tokens > want:
            size = min(chunk, tokens - want)
            yield size, 0
        else:
            size = min(chunk, SHORT[-1])
            yield size, size
            want -= size
        tokens -= size
    yield tokens, want
