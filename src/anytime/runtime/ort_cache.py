"""The two ways in which an exported graph keeps its keys and values, behind one small interface.

*Shared*: one buffer of the full context for each layer, which the graph reads and extends in place. *Growing*: the
graph returns a longer cache from every run, as Optimum exports it; sequences are then immutable tensors that forks
share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from anytime.bundle import Manifest
from anytime.errors import EngineError
from anytime.runtime.engine import FloatArray

_KEPT = 4  # closed buffers kept for the next sequence, because fresh memory is slow when first touched


class Cache(Protocol):
    """Keys and values of one sequence. ``run`` appends tokens behind the first ``length`` and returns all logits."""

    def run(self, tokens: Any, length: int, options: Any) -> FloatArray: ...

    def fork(self, length: int) -> Cache: ...

    def truncate(self, length: int) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class GraphIO:
    """A session with the names and shapes of its cache."""

    ort: Any
    session: Any
    manifest: Manifest

    def past(self) -> list[str]:
        return [f"past_key_values.{i}.{part}" for i in range(self.manifest.kv.layers) for part in ("key", "value")]

    def present(self) -> list[str]:
        return [name.replace("past_key_values", "present") for name in self.past()]

    def value(self, array: Any) -> Any:
        """An OrtValue over a numpy array, without a copy on the CPU."""
        return self.ort.OrtValue.ortvalue_from_numpy(array)

    def zeros(self, length: int) -> Any:
        kv = self.manifest.kv
        return np.zeros((1, kv.heads, length, kv.head_dim), dtype=kv.dtype)


class SharedCache:
    """Fixed buffers, bound once; truncating costs nothing, forking copies what is in use."""

    def __init__(self, io: GraphIO, free: list[SharedCache]) -> None:
        self._io, self._free = io, free
        self._arrays = [io.zeros(io.manifest.max_context) for _ in io.past()]
        self._values = [io.value(array) for array in self._arrays]
        self._binding = io.session.io_binding()
        self._binding.bind_output("logits", "cpu")
        for past, present, value in zip(io.past(), io.present(), self._values, strict=True):
            self._binding.bind_ortvalue_input(past, value)
            self._binding.bind_ortvalue_output(present, value)

    def run(self, tokens: Any, length: int, options: Any) -> FloatArray:
        io, binding, total = self._io, self._binding, length + len(tokens)
        inputs = {  # held until the run is over, because ONNX Runtime 1.23 does not keep the arrays of its values alive
            "input_ids": np.array([tokens], dtype=np.int64),
            "seqlens_k": np.array([total - 1], dtype=np.int32),
            "total_sequence_length": np.array(total, dtype=np.int32),
        }
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, io.value(array))
        binding.bind_output("logits", "cpu")  # its shape changes with the number of tokens
        io.session.run_with_iobinding(binding, options)
        logits: FloatArray = binding.get_outputs()[0].numpy()[0]
        return logits

    def fork(self, length: int) -> SharedCache:
        other = shared_cache(self._io, self._free)
        for mine, theirs in zip(self._arrays, other._arrays, strict=True):
            theirs[:, :, :length] = mine[:, :, :length]
        return other

    def truncate(self, length: int) -> None:
        pass  # what lies behind the length is never read

    def close(self) -> None:
        if len(self._free) < _KEPT:
            self._free.append(self)


def shared_cache(io: GraphIO, free: list[SharedCache]) -> SharedCache:
    """A closed cache again, or a new one. What it held before lies behind every length and is never read."""
    return free.pop() if free else SharedCache(io, free)


class GrowingCache:
    """Immutable tensors, replaced by longer ones at every run."""

    def __init__(self, io: GraphIO) -> None:
        self._io = io
        self._hold([io.zeros(0) for _ in io.past()])

    def _hold(self, arrays: list[Any]) -> None:
        """Take arrays for the cache, and keep them alive beside the values over them."""
        self._arrays, self._values = arrays, [self._io.value(array) for array in arrays]

    def run(self, tokens: Any, length: int, options: Any) -> FloatArray:
        io, total = self._io, length + len(tokens)
        inputs = {
            "input_ids": np.array([tokens], dtype=np.int64),
            "attention_mask": np.ones((1, total), dtype=np.int64),
            "position_ids": np.arange(length, total, dtype=np.int64)[None],
        }
        wanted = {node.name for node in io.session.get_inputs()}
        feeds = dict(zip(io.past(), self._values, strict=True))
        feeds |= {name: io.value(array) for name, array in inputs.items() if name in wanted}
        logits, *values = io.session.run_with_ort_values(["logits", *io.present()], feeds, options)
        self._values, self._arrays = values, []
        array: FloatArray = logits.numpy()[0]
        return array

    def fork(self, length: int) -> GrowingCache:
        other = GrowingCache(self._io)
        other._arrays, other._values = self._arrays, self._values
        return other

    def truncate(self, length: int) -> None:
        self._hold([np.ascontiguousarray(value.numpy()[:, :, :length]) for value in self._values])

    def close(self) -> None:
        self._arrays, self._values = [], []


def check_in_place(io: GraphIO) -> None:
    """Run a few steps in place and with separate buffers, and hold one to the other.

    A graph whose reader of the past is scheduled after its writer sees new values where it should see old ones; nothing
    but the numbers tells.

    Raises:
        EngineError: they differ.
    """
    cache = SharedCache(io, [])
    past = [io.zeros(io.manifest.max_context) for _ in io.past()]
    length = 0
    for tokens in ([1, 2, 3, 4], [5], [6, 7], [8]):
        total = length + len(tokens)
        feeds = dict(zip(io.past(), past, strict=True))
        feeds["input_ids"] = np.array([tokens], dtype=np.int64)
        feeds["seqlens_k"] = np.array([total - 1], dtype=np.int32)
        feeds["total_sequence_length"] = np.array(total, dtype=np.int32)
        expected, *past = io.session.run(["logits", *io.present()], feeds)
        got = cache.run(tokens, length, None)
        if not np.allclose(got, expected[0], rtol=1e-4, atol=1e-4 * float(np.abs(expected).max())):
            raise EngineError("this ONNX Runtime does not update the cache in place correctly: use another version")
        length = total
