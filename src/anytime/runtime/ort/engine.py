"""The ONNX Runtime engine on the CPU, the default that works everywhere.

A run that was terminated does not advance its sequence: whatever it wrote lies behind the sequence's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from anytime.bundle import Bundle, Manifest
from anytime.errors import EngineError, StepTerminated
from anytime.ext import ort
from anytime.runtime.engine import Burst, EngineSpec, FloatArray, Health, Row, Seq, Snapshot
from anytime.runtime.ort.native import graph_for, load_library, open_session
from anytime.runtime.ort.shared import SharedCache, check_in_place
from anytime.targets import available_bytes, memory_bytes

MOST_ROWS = 8
LEAST_ROWS = 3  # what measuring a profile takes
_CACHE_SHARE = 16  # at most one part in so many of the machine's memory goes into the cache
_State = Any  # a row of one cache, the tensors of another


class Cache(Protocol):
    """Keys and values of all sequences, and the runs that extend them; see ``ort_shared`` and ``ort_growing``."""

    rows: int

    @property
    def free_rows(self) -> int: ...
    def open(self) -> _State: ...
    def fork(self, state: _State, length: int, n: int) -> list[_State]: ...
    def truncate(self, state: _State, length: int) -> None: ...
    def close(self, state: _State) -> None: ...
    def read(self, state: _State, length: int) -> FloatArray: ...
    def write(self, cache: FloatArray) -> _State: ...
    def run(self, state: _State, tokens: Sequence[int], length: int, want: int, generation: int) -> FloatArray: ...
    def steps(
        self, states: Sequence[_State], tokens: Sequence[int], lengths: Sequence[int], generation: int
    ) -> list[FloatArray]: ...
    def extend(
        self,
        states: Sequence[_State],
        tokens: Sequence[int],
        lengths: Sequence[int],
        count: int,
        ends: Sequence[Sequence[int]],
        generation: int,
    ) -> list[list[int]]: ...
    def span(self, states: Sequence[_State]) -> int | None: ...


class OrtEngine:
    """One model in one ONNX Runtime session on the CPU."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        manifest = bundle.manifest
        version = load_library()
        graph = graph_for(bundle, version)
        session = open_session(bundle, graph, threads)
        self._control = ort.Control()
        self._cache = _cache(session, self._control, manifest)
        self.spec = EngineSpec(
            name="onnxruntime",
            version=version,
            provider="CPUExecutionProvider",
            threads=threads,
            precision=graph.precision,
            vocab_size=manifest.vocab_size,
            max_rows=self._cache.rows,
            max_context=manifest.max_context,
        )

    @property
    def free_rows(self) -> int:
        return self._cache.free_rows

    def open(self) -> Seq:
        return Seq(0, self._cache.open())

    def fork(self, seq: Seq, n: int = 1) -> list[Seq]:
        return [Seq(seq.length, state) for state in self._cache.fork(seq.state, seq.length, n)]

    def truncate(self, seq: Seq, length: int) -> None:
        if not 0 <= length <= seq.length:
            raise ValueError(f"cannot truncate a sequence of {seq.length} tokens to {length}")
        if length < seq.length:
            self._cache.truncate(seq.state, length)
            seq.length = length

    def snapshot(self, seq: Seq) -> Snapshot:
        return Snapshot(seq.length, self._cache.read(seq.state, seq.length))

    def restore(self, snapshot: Snapshot) -> Seq:
        try:
            return Seq(snapshot.length, self._cache.write(snapshot.cache))
        except ValueError as error:
            raise EngineError(f"the snapshot is another model's: {error}") from error

    def close(self, seq: Seq) -> None:
        self._cache.close(seq.state)
        seq.state, seq.length = None, 0

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        for row in rows:
            self._check_room(row.seq, len(row.tokens))
        try:
            logits = self._run(rows, generation)
        except (ort.Terminated, ort.OrtError) as error:
            raise _translated(error) from error
        for row in rows:
            row.seq.length += len(row.tokens)
        return logits

    def _run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        if len(rows) > 1 and all(len(row.tokens) == 1 for row in rows):
            states, lengths = [row.seq.state for row in rows], [row.seq.length for row in rows]
            return self._cache.steps(states, [row.tokens[0] for row in rows], lengths, generation)
        runs = ((row.seq.state, row.tokens, row.seq.length, row.want) for row in rows)
        found = [(self._cache.run(*run, generation)) for run in runs]
        return found if len(found) == 1 else [logits.copy() for logits in found]

    def extend(self, bursts: Sequence[Burst], count: int, generation: int) -> list[list[int]]:
        for burst in bursts:
            self._check_room(burst.seq, count)
        states, lengths = [burst.seq.state for burst in bursts], [burst.seq.length for burst in bursts]
        tokens, ends = [burst.token for burst in bursts], [burst.ends for burst in bursts]
        try:
            taken = self._cache.extend(states, tokens, lengths, count, ends, generation)
        except (ort.Terminated, ort.OrtError) as error:
            raise _translated(error) from error
        for burst in bursts:
            burst.seq.length += len(taken[0])
        return taken

    def span(self, seqs: Sequence[Seq]) -> int | None:
        return self._cache.span([seq.state for seq in seqs])

    def _check_room(self, seq: Seq, tokens: int) -> None:
        if tokens < 1 or seq.length + tokens > self.spec.max_context:
            raise ValueError(f"{tokens} tokens behind {seq.length} do not fit {self.spec.max_context}")

    def terminate(self, generation: int) -> None:
        self._control.terminate(generation)

    def health(self) -> Health:
        return Health.BUSY if self._control.running else Health.READY


def _translated(error: Exception) -> Exception:
    if isinstance(error, ort.Terminated):
        return StepTerminated(str(error))
    return EngineError(f"ONNX Runtime failed: {error}")


def _cache(session: ort.Session, control: ort.Control, manifest: Manifest) -> Cache:
    kv, context = manifest.kv, manifest.max_context
    if kv.layout == "growing":
        from anytime.runtime.ort.growing import GrowingCache

        return GrowingCache(session, control, kv, MOST_ROWS, manifest.vocab_size)
    check_in_place(session, kv, manifest.vocab_size)
    row_bytes = 2 * kv.layers * kv.heads * kv.head_dim * context * np.dtype(kv.dtype).itemsize
    rows = cache_rows(row_bytes, memory_bytes())
    if rows * row_bytes > (free := available_bytes()):
        raise EngineError(
            f"the cache needs {rows * row_bytes / 2**20:,.0f} MiB for {rows} sequences of {context} tokens and "
            f"{free / 2**20:,.0f} MiB are free: end other programs, or export with a smaller --max-context"
        )
    return SharedCache(session, control, kv, rows, context, manifest.vocab_size)


def cache_rows(row_bytes: int, memory: int) -> int:
    """How many sequences a cache holds: 8, or half of it where they do not fit a sixteenth of the memory, or 3."""
    rows = MOST_ROWS
    while rows > LEAST_ROWS and rows * row_bytes > memory // _CACHE_SHARE:
        rows = max(LEAST_ROWS, rows // 2)
    return rows
