"""Runs of the model on the GPU: shapes that come again and again as CUDA graphs, all others queued one by one.

In short runs the GPU waits for the host: hundreds of small kernels, each launched by itself. So decode steps of every
number of rows, and runs of up to 16 tokens, are captured once for every row they can begin at; a run of 3 tokens is one
of 4 of which the last counts for nothing. Longer runs keep the GPU busy without that, and take their exact size.

A captured graph is only valid while its execution context keeps the shapes it was captured with. So every shape has a
context of its own; they share their scratch memory, as there is one run at a time.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from anytime.errors import EngineError
from anytime.runtime.gpu.device import Device
from anytime.runtime.gpu.memory import SHORT, Memory
from anytime.runtime.trt.adapter import Context, Model

DECODE, PREFILL = 0, 1  # optimization profiles


class Shape:
    """Runs of one shape, ``rows`` × ``tokens``, from whichever row on; logits of all tokens from ``first_logit`` on."""

    def __init__(self, model: Model, device: Device, memory: Memory, profile: int) -> None:
        self._device, self._memory = device, memory
        self._context: Context = model.context(profile, memory.scratch, device.stream)
        device.finish()  # the profile is set on the stream
        self._graphs: dict[int, Callable[[], None]] = {}
        self._shape, self._row = (0, 0, 0), -1
        parts = [f"{i}.{part}" for i in range(memory.layout.layers) for part in ("key", "value")]
        self._past = [f"past_key_values.{part}" for part in parts]
        self._returned = [f"{'new' if memory.layout.appended else 'present'}.{part}" for part in parts]
        # Shapes that depend on a value are worked out on the host, so TensorRT may want that value there.
        on_host = model.tensors["first_logit"].on_host
        self._first_logit = memory.host_first_logit.ctypes.data if on_host else memory.first_logit

    def set(self, rows: int, tokens: int, first_logit: int) -> None:
        """Raises: EngineError: the plan has no such shape."""
        memory, context = self._memory, self._context
        memory.host_first_logit[0] = first_logit
        if self._shape == (rows, tokens, first_logit):
            return
        layout = memory.layout
        context.set_shape("input_ids", (rows, tokens))
        context.set_shape("past_length", (rows,))
        context.set_shape("first_logit", (1,))
        for name in self._past:
            context.set_shape(name, (rows, layout.heads, layout.context, layout.channels))
        context.bind("input_ids", memory.tokens)
        context.bind("past_length", memory.lengths)
        context.bind("first_logit", self._first_logit)
        context.bind("logits", memory.logits)
        for name, address in zip(self._returned, memory.new, strict=False):
            context.bind(name, address)
        context.check()
        self._shape = rows, tokens, first_logit

    def capture(self, row: int) -> None:
        """Make a graph of the runs that begin at this row, whose content is lost.

        Raises:
            EngineError, or one of the device's: it cannot be captured.
        """
        self._bind(row)
        self._queue(row)  # what is only done once, or after a change of shape, must not come to be in the graph
        self._device.finish()
        self._graphs[row] = self._device.capture(functools.partial(self._queue, row))

    def forget(self) -> None:
        """Do without graphs."""
        self._graphs.clear()

    def launch(self, row: int) -> None:
        """Queue a run with the inputs that the memory's pinned arrays hold."""
        self._memory.host_first_logit[0] = self._shape[2]
        graph = self._graphs.get(row)
        if graph is not None:
            graph()
        else:
            self._bind(row)
            self._queue(row)

    def _bind(self, row: int) -> None:
        """Let the run begin at this row of the cache."""
        if self._row == row:
            return
        memory, context = self._memory, self._context
        for name, returned, address in zip(self._past, self._returned, memory.cache, strict=True):
            context.bind(name, address + row * memory.layout.row_bytes)
            if not memory.layout.appended:
                context.bind(returned, address + row * memory.layout.row_bytes)
        self._row = row

    def _queue(self, row: int) -> None:
        memory, device = self._memory, self._device
        rows, tokens, _ = self._shape
        used = memory.tokens - memory.inputs + rows * tokens * memory.host_tokens.itemsize
        device.upload(memory.inputs, memory.host_inputs[:used])
        self._context.enqueue()
        if memory.layout.appended:
            device.copy_rows(memory.append(row, rows, tokens))
        if tokens == 1:
            device.download(memory.host_logits[:rows], memory.logits)


class Runs:
    """All runs of a model; the inputs are those that the memory's pinned arrays hold."""

    def __init__(self, model: Model, device: Device, memory: Memory) -> None:
        """Raises: EngineError: the plan cannot be run."""
        layout = memory.layout
        self._memory, self._device = memory, device
        self._steps = [Shape(model, device, memory, DECODE) for _ in range(layout.rows)]
        self._short = {n: Shape(model, device, memory, PREFILL) for n in SHORT if n <= layout.chunk}
        self._long = Shape(model, device, memory, PREFILL)
        for i, shape in enumerate(self._steps):
            shape.set(i + 1, 1, 0)
        for tokens, shape in self._short.items():
            shape.set(1, tokens, 0)
        self.captured = self._capture() if device.graphs else 0

    def _capture(self) -> int:
        """Capture what comes often; how many graphs there are. Without them everything runs all the same, slower."""
        layout = self._memory.layout
        wanted = [
            (shape, row) for width, shape in enumerate(self._steps, 1) for row in range(layout.rows - width + 1)
        ] + [(shape, row) for shape in self._short.values() for row in range(layout.rows)]
        self._memory.host_inputs[:] = 0
        wrong: tuple[type[Exception], ...] = (EngineError, *self._device.failures)
        try:
            for shape, row in wanted:
                shape.capture(row)
        except wrong as error:
            for shape in (*self._steps, *self._short.values()):
                shape.forget()
            log = logging.getLogger("anytime")
            log.warning("no CUDA graphs can be captured (%s): runs are queued one by one, which is slower", error)
            return 0
        return len(wanted)

    def step(self, first: int, rows: int) -> None:
        """Queue a step of rows side by side, one token each; their logits come to the first places of the host's."""
        self._steps[rows - 1].launch(first)

    def run(self, row: int, tokens: int, room: int, want: int) -> None:
        """Queue a run of several tokens of one row, which has ``room`` for so many.

        The logits of the last ``want`` of them come to the first places of the host's.
        """
        size = next((n for n in self._short if tokens <= n <= room), 0)
        if size:
            shape, first_logit = self._short[size], 0
        else:
            shape, first_logit = self._long, tokens - max(1, want)
            shape.set(1, tokens, first_logit)
        shape.launch(row)
        if want:
            memory = self._memory
            skipped = tokens - want - first_logit
            start = memory.logits + skipped * memory.layout.vocab * 4
            self._device.download(memory.host_logits[:want], start)
