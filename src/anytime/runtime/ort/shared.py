"""Keys and values in buffers of a fixed size, which the graph reads and extends in place.

A row is a slot of ``rows`` × ``context`` buffers, one pair a layer, taken once. Truncating costs nothing, because what
lies behind a sequence's length is never read; forking copies what is in use. Rows side by side run as one batch. A row
that lies between two others of a batch may run along idly, for what it writes lies behind its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from anytime.bundle import KvLayout
from anytime.errors import EngineError
from anytime.ext import ort
from anytime.runtime.engine import FloatArray
from anytime.runtime.rows import choose


class SharedCache:
    """The rows of one session, each with the bindings that run it."""

    def __init__(
        self, session: ort.Session, control: ort.Control, kv: KvLayout, rows: int, context: int, vocab: int
    ) -> None:
        self.rows = rows
        self._session, self._control, self._vocab, self._context = session, control, vocab, context
        self._past = [f"past_key_values.{i}.{part}" for i in range(kv.layers) for part in ("key", "value")]
        # Pages are taken by the system when they are first written to, so unused rows cost nothing but address space.
        self._arrays = [np.zeros((rows, kv.heads, context, kv.head_dim), dtype=kv.dtype) for _ in self._past]
        self._memory = ort.StepMemory(rows, vocab)
        self._steps: dict[tuple[int, int], ort.Binding] = {}
        self._runs: dict[int, ort.Binding] = {}
        self._free = list(range(rows))
        self._lengths = [0] * rows

    @property
    def free_rows(self) -> int:
        return len(self._free)

    def open(self) -> int:
        return self._take(1)[0]

    def _take(self, n: int, beside: int = -1) -> list[int]:
        taken = choose(self._free, n, self.rows, beside)
        self._free = [row for row in self._free if row not in taken]
        return taken

    def fork(self, row: int, length: int, n: int) -> list[int]:
        taken = self._take(n, beside=row)
        for array in self._arrays:
            array[taken, :, :length] = array[row, :, :length]
        for fork in taken:
            self._lengths[fork] = length
        return taken

    def truncate(self, row: int, length: int) -> None:
        """What lies behind the length is never read."""
        self._lengths[row] = length

    def close(self, row: int) -> None:
        self._free = sorted([*self._free, row])
        self._lengths[row] = 0

    def read(self, row: int, length: int) -> FloatArray:
        cache: FloatArray = np.stack([array[row, :, :length] for array in self._arrays])
        return cache

    def write(self, cache: FloatArray) -> int:
        """A row with this content.

        Raises:
            ValueError: it has another model's shape.
        """
        row = self.open()
        try:
            for array, part in zip(self._arrays, cache, strict=True):
                array[row, :, : part.shape[1]] = part
        except ValueError:
            self.close(row)
            raise
        self._lengths[row] = cache.shape[2]
        return row

    def run(self, row: int, tokens: Sequence[int], length: int, want: int, generation: int) -> FloatArray:
        if len(tokens) == 1:
            return self.steps([row], tokens, [length], generation)[0]
        total = length + len(tokens)
        logits = np.empty((1, want, self._vocab), dtype=np.float32)
        binding = self._runs.get(row) or self._runs.setdefault(row, self._bound(row, 1))
        binding.bind_input("input_ids", ort.Tensor(np.array([tokens], dtype=np.int64)))
        binding.bind_input("seqlens_k", ort.Tensor(np.array([total - 1], dtype=np.int32)))
        binding.bind_input("first_logit", ort.Tensor(np.array([len(tokens) - want], dtype=np.int64)))
        binding.bind_output("logits", ort.Tensor(logits))
        binding.run(self._control, generation)
        self._lengths[row] = total
        found: FloatArray = logits[0]
        return found

    def steps(
        self, rows: Sequence[int], tokens: Sequence[int], lengths: Sequence[int], generation: int
    ) -> list[FloatArray]:
        """One token for each of several rows; those side by side at once."""
        logits: dict[int, FloatArray] = {}
        batches = list(_side_by_side(rows))
        for batch in batches:
            for place, i in enumerate(batch):
                self._memory.place(place, tokens[i], lengths[i])
            self._step_binding(rows[batch[0]], len(batch)).run(self._control, generation)
            found = self._memory.logits[: len(batch)]
            logits.update(zip(batch, found if len(batches) == 1 else found.copy(), strict=True))
        for row, length in zip(rows, lengths, strict=True):
            self._lengths[row] = length + 1
        return [logits[i] for i in range(len(rows))]

    def extend(
        self,
        rows: Sequence[int],
        tokens: Sequence[int],
        lengths: Sequence[int],
        count: int,
        ends: Sequence[Sequence[int]],
        generation: int,
    ) -> list[list[int]]:
        first, width = min(rows), max(rows) - min(rows) + 1
        start, behind = np.full(width, ort.IDLE), np.array(self._lengths[first : first + width])
        stops = np.full((width, max(map(len, ends))), ort.IDLE)
        for row, token, length, stop in zip(rows, tokens, lengths, ends, strict=True):
            start[row - first], behind[row - first], stops[row - first, : len(stop)] = token, length, stop
        binding = self._step_binding(first, width)
        taken = binding.extend(self._control, generation, self._memory, start, behind, count, stops)
        for row, length in zip(rows, lengths, strict=True):
            self._lengths[row] = length + len(taken)
        return [taken[:, row - first].tolist() for row in rows]

    def span(self, rows: Sequence[int]) -> int | None:
        """From the first to the last of them; None where one between is full, for it has no place to idle."""
        between = range(min(rows), max(rows) + 1)
        full = any(self._lengths[row] >= self._context for row in between if row not in rows)
        return None if full else len(between)

    def _step_binding(self, first: int, width: int) -> ort.Binding:
        binding = self._steps.get((first, width))
        if binding is None:
            memory, binding = self._memory, self._bound(first, width)
            binding.bind_input("input_ids", ort.Tensor(memory.ids[:width]))
            binding.bind_input("seqlens_k", ort.Tensor(memory.last[:width]))
            binding.bind_input("first_logit", ort.Tensor(np.zeros(1, dtype=np.int64)))
            binding.bind_output("logits", ort.Tensor(memory.logits[:width]))
            self._steps[first, width] = binding
        return binding

    def _bound(self, first: int, width: int) -> ort.Binding:
        """A binding to the buffers of ``width`` rows, as input and output alike."""
        binding = ort.Binding(self._session)
        for name, array in zip(self._past, self._arrays, strict=True):
            tensor = ort.Tensor(array[first : first + width])
            binding.bind_input(name, tensor)
            binding.bind_output(name.replace("past_key_values", "present"), tensor)
        return binding


def _side_by_side(rows: Sequence[int]) -> Iterator[list[int]]:
    """Places of rows in ``rows``, grouped so that those of a group lie side by side."""
    batch: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: rows[i]):
        if batch and rows[i] != rows[batch[-1]] + 1:
            yield batch
            batch = []
        batch.append(i)
    yield batch


def check_in_place(session: ort.Session, kv: KvLayout, vocab: int) -> None:
    """Run a few steps in place and with separate buffers, and hold one to the other.

    A graph whose reader of the past is scheduled after its writer sees new values where it should see old ones; nothing
    but the numbers tells.

    Raises:
        EngineError: they differ.
    """
    control, length = ort.Control(), 0
    cache = SharedCache(session, control, kv, rows=1, context=16, vocab=vocab)
    apart = _ApartCache(session, control, kv, rows=1, context=16, vocab=vocab)
    for tokens in ([1, 2, 3, 4], [5], [6, 7], [8]):
        ids = [token % vocab for token in tokens]
        got, expected = (one.run(0, ids, length, len(ids), 0) for one in (cache, apart))
        if not np.allclose(got, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max())):
            raise EngineError("this ONNX Runtime does not update the cache in place correctly: use another version")
        length += len(tokens)


class _ApartCache(SharedCache):
    """The same with inputs and outputs in buffers of their own, copied between runs; one row."""

    _present: tuple[FloatArray, ...] = ()

    def _bound(self, first: int, width: int) -> ort.Binding:
        binding = super()._bound(first, width)
        self._present = self._present or tuple(array.copy() for array in self._arrays)
        for name, array in zip(self._past, self._present, strict=True):
            binding.bind_output(name.replace("past_key_values", "present"), ort.Tensor(array))
        return binding

    def run(self, row: int, tokens: Sequence[int], length: int, want: int, generation: int) -> FloatArray:
        logits: FloatArray = super().run(row, tokens, length, want, generation).copy()
        for array, present in zip(self._arrays, self._present, strict=True):
            array[...] = present
        return logits
