"""Runs of the model through ONNX Runtime: what comes again and again is bound once, and captured as a CUDA graph.

A step of every number of rows, and runs of up to 16 tokens, from every row they can begin at: each has a binding of its
own, whose addresses never change, and a graph. The first run of each captures it, when the engine is opened. Longer
runs take their exact size and are queued node by node.

The graph returns new keys and values, which a copy on the same stream puts behind those that the rows hold.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np

from anytime.runtime.gpu.device import Device
from anytime.runtime.gpu.memory import SHORT, Memory
from anytime.runtime.ortgpu.session import NO_GRAPH, Bound, Session


class OrtRuns:
    """See ``gpu.Runs``."""

    def __init__(self, session: Session, device: Device, memory: Memory) -> None:
        """Captures all graphs, and makes the longest run, after which ONNX Runtime has taken all memory it needs.

        Raises:
            RunFailed, or one of the device's errors: something cannot be run.
        """
        layout = memory.layout
        self._session, self._device, self._memory = session, device, memory
        self._short = [n for n in SHORT if n <= layout.chunk]
        shapes = [(width, 1) for width in range(1, layout.rows + 1)] + [(1, n) for n in self._short]
        wanted = [(row, *shape) for shape in shapes for row in range(layout.rows - shape[0] + 1)]
        graphs = count(1)  # 0 is what ONNX Runtime takes for none given
        self._bound = {place: self._bind(*place, 0, next(graphs)) for place in wanted}
        memory.host_inputs[:] = 0
        for place, run in self._bound.items():
            self._launch(run, *place)
            device.finish()
        first_logit = max(0, layout.chunk - layout.most_logits)
        longest = self._bind(0, 1, layout.chunk, first_logit, NO_GRAPH)
        self._launch(longest, 0, 1, layout.chunk, first_logit)
        device.finish()

    def step(self, first: int, rows: int) -> None:
        self._launch(self._bound[first, rows, 1], first, rows, 1)
        self._device.download(self._memory.host_logits[:rows], self._memory.logits)

    def run(self, row: int, tokens: int, room: int, want: int) -> None:
        memory = self._memory
        size = next((n for n in self._short if tokens <= n <= room), 0)
        first_logit = 0 if size else tokens - max(1, want)
        if size:
            self._launch(self._bound[row, 1, size], row, 1, size)
        else:
            self._launch(self._bind(row, 1, tokens, first_logit, NO_GRAPH), row, 1, tokens, first_logit)
        if want:
            skipped = tokens - want - first_logit
            self._device.download(memory.host_logits[:want], memory.logits + skipped * memory.layout.vocab * 4)

    def _launch(self, run: Callable[[], None], row: int, rows: int, tokens: int, first_logit: int = 0) -> None:
        memory, device = self._memory, self._device
        memory.host_first_logit[0] = first_logit
        used = memory.tokens - memory.inputs + rows * tokens * memory.host_tokens.itemsize
        device.upload(memory.inputs, memory.host_inputs[:used])
        run()
        device.copy_rows(memory.append(row, rows, tokens))

    def _bind(self, row: int, rows: int, tokens: int, first_logit: int, graph: int) -> Callable[[], None]:
        memory, layout = self._memory, self._memory.layout
        cache = (rows, layout.heads, layout.context, layout.channels)
        new = (rows, layout.heads, tokens, layout.channels)
        past, returned = tensor_names(layout.layers)
        inputs = [
            Bound("input_ids", np.int64, (rows, tokens), memory.tokens),
            Bound("past_length", np.int64, (rows,), memory.lengths),
            Bound("first_logit", np.int64, (1,), memory.host_first_logit.ctypes.data, on_host=True),
        ]
        starts = (address + row * layout.row_bytes for address in memory.cache)
        inputs += [Bound(name, np.float16, cache, start) for name, start in zip(past, starts, strict=True)]
        outputs = [Bound("logits", np.float32, (rows, tokens - first_logit, layout.vocab), memory.logits)]
        outputs += [Bound(name, np.float16, new, address) for name, address in zip(returned, memory.new, strict=True)]
        return self._session.bind(inputs, outputs, graph)


def tensor_names(layers: int) -> tuple[list[str], list[str]]:
    """The graph's past keys and values, and those that it returns."""
    parts = [f"{i}.{part}" for i in range(layers) for part in ("key", "value")]
    return [f"past_key_values.{part}" for part in parts], [f"new.{part}" for part in parts]
