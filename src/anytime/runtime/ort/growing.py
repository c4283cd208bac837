"""Keys and values as the graph returns them from every run, longer each time: what is exported unfused."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from anytime.bundle import KvLayout
from anytime.errors import EngineError
from anytime.ext import ort
from anytime.ext.logits import greedy
from anytime.runtime.engine import FloatArray


class Past(msgspec.Struct, eq=False):
    """Immutable tensors, replaced by longer ones at every run, so that forks can share them."""

    tensors: list[ort.Tensor]


class GrowingCache:
    """The sequences of one session."""

    def __init__(self, session: ort.Session, control: ort.Control, kv: KvLayout, rows: int, vocab: int) -> None:
        self.rows = rows
        self._session, self._control, self._kv, self._vocab = session, control, kv, vocab
        self._past = [f"past_key_values.{i}.{part}" for i in range(kv.layers) for part in ("key", "value")]
        self._open = 0

    @property
    def free_rows(self) -> int:
        return self.rows - self._open

    def open(self) -> Past:
        return self._started(np.zeros((len(self._past), self._kv.heads, 0, self._kv.head_dim), dtype=self._kv.dtype))

    def _started(self, cache: FloatArray) -> Past:
        if self._open >= self.rows:
            raise EngineError(f"all {self.rows} sequences are in use: close some")
        self._open += 1
        return Past([ort.Tensor(np.ascontiguousarray(part[None])) for part in cache])

    def fork(self, past: Past, length: int, n: int) -> list[Past]:
        if self._open + n > self.rows:
            raise EngineError(f"{n} more rows are wanted and {self.rows - self._open} of {self.rows} are free")
        self._open += n
        return [Past(list(past.tensors)) for _ in range(n)]

    def truncate(self, past: Past, length: int) -> None:
        past.tensors = [ort.Tensor(np.ascontiguousarray(tensor.floats()[:, :, :length])) for tensor in past.tensors]

    def close(self, past: Past) -> None:
        past.tensors = []
        self._open -= 1

    def read(self, past: Past, length: int) -> FloatArray:
        return np.stack([tensor.floats()[0, :, :length] for tensor in past.tensors])

    def write(self, cache: FloatArray) -> Past:
        expected = (len(self._past), self._kv.heads, cache.shape[2], self._kv.head_dim)
        if cache.shape != expected:
            raise ValueError(f"the shape is {cache.shape}, not {expected}")
        return self._started(cache)

    def run(self, past: Past, tokens: Sequence[int], length: int, want: int, generation: int) -> FloatArray:
        total = length + len(tokens)
        inputs = {
            "input_ids": np.array([tokens], dtype=np.int64),
            "attention_mask": np.ones((1, total), dtype=np.int64),
            "position_ids": np.arange(length, total, dtype=np.int64)[None],
            "first_logit": np.array([len(tokens) - want], dtype=np.int64),
        }
        binding = ort.Binding(self._session)
        for name, array in inputs.items():
            if name in self._session.inputs:
                binding.bind_input(name, ort.Tensor(array))
        for name, tensor in zip(self._past, past.tensors, strict=True):
            binding.bind_input(name, tensor)
            binding.let_output(name.replace("past_key_values", "present"))
        logits = np.empty((1, want, self._vocab), dtype=np.float32)
        binding.bind_output("logits", ort.Tensor(logits))
        binding.run(self._control, generation)
        past.tensors = binding.outputs()[: len(self._past)]
        found: FloatArray = logits[0]
        return found

    def steps(
        self, pasts: Sequence[Past], tokens: Sequence[int], lengths: Sequence[int], generation: int
    ) -> list[FloatArray]:
        """One token for each of several sequences, one after the other; none is longer unless all are."""
        before = [list(past.tensors) for past in pasts]
        try:
            rows = zip(pasts, tokens, lengths, strict=True)
            return [self.run(past, [token], length, 1, generation) for past, token, length in rows]
        except BaseException:
            for past, tensors in zip(pasts, before, strict=True):
                past.tensors = tensors
            raise

    def extend(
        self,
        pasts: Sequence[Past],
        tokens: Sequence[int],
        lengths: Sequence[int],
        count: int,
        ends: Sequence[Sequence[int]],
        generation: int,
    ) -> list[list[int]]:
        taken: list[list[int]] = []
        while len(taken) < count:
            try:
                found = self.steps(pasts, tokens, [length + len(taken) for length in lengths], generation)
            except ort.Terminated:
                if not taken:
                    raise
                break
            tokens = [greedy(logits[0]) for logits in found]
            taken.append(tokens)
            if any(token < 0 or token in stops for token, stops in zip(tokens, ends, strict=True)):
                break
        return [list(row) for row in zip(*taken, strict=True)]

    def span(self, pasts: Sequence[Past]) -> int:
        return len(pasts)
