"""All memory of an engine on the GPU and beside it: computed first, held against what is free, then taken once."""

from __future__ import annotations

import msgspec
import numpy as np

from anytime.errors import EngineError
from anytime.runtime.engine import FloatArray
from anytime.runtime.gpu.device import ALIGNMENT, UNIT, Device, RowCopy

MOST_LOGITS = 64  # of one row, in one run; a run that wants those of more tokens is taken apart
SHORT = (2, 4, 8, 16)  # tokens of the runs that are captured
HALF = 2  # bytes
_INT = 8
_MIB = 2**20


class Layout(msgspec.Struct, frozen=True):
    """Sizes of an engine's runs. ``parts``: keys and values of each layer, in turn; ``scratch_bytes``: TensorRT's."""

    rows: int
    chunk: int
    layers: int
    heads: int
    context: int
    channels: int
    vocab: int
    appended: bool
    scratch_bytes: int

    @property
    def parts(self) -> int:
        return 2 * self.layers

    @property
    def row_bytes(self) -> int:
        """Of one row in one part."""
        return self.heads * self.context * self.channels * HALF

    @property
    def part_bytes(self) -> int:
        return self.rows * self.row_bytes

    @property
    def units(self) -> int:
        """Of 16 bytes, in what one head holds of one token."""
        return self.channels * HALF // UNIT

    @property
    def most_tokens(self) -> int:
        """Of all rows, in one run."""
        return max(self.rows, self.chunk)

    @property
    def most_logits(self) -> int:
        """Of all rows, in one run."""
        return max(self.rows, min(MOST_LOGITS, self.chunk))

    @property
    def new_bytes(self) -> int:
        """What a graph returns that does not update its cache, in one part."""
        return aligned(self.heads * self.most_tokens * self.channels * HALF) if self.appended else 0

    @property
    def input_bytes(self) -> int:
        """Lengths, the first logit, then tokens; see ``Memory``."""
        return self.lengths_bytes + ALIGNMENT + aligned(self.most_tokens * _INT)

    @property
    def lengths_bytes(self) -> int:
        return aligned(self.rows * _INT)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes on the GPU, by what they are for."""
        return {
            f"the cache of {self.rows} sequences of {self.context} tokens": self.parts * self.part_bytes,
            **({"TensorRT's own": self.scratch_bytes} if self.scratch_bytes else {}),
            "inputs and outputs": self.input_bytes
            + self.most_logits * self.vocab * 4
            + self.parts * (self.new_bytes + 2 * _INT),
        }


def check_free(sizes: dict[str, int], free: int) -> None:
    """Raises: EngineError: so much is not free on the GPU."""
    if sum(sizes.values()) > free:
        wanted = ", ".join(f"{size / _MIB:,.0f} MiB for {name}" for name, size in sizes.items())
        raise EngineError(
            f"the GPU has {free / _MIB:,.0f} MiB of memory free, and {sum(sizes.values()) / _MIB:,.0f} MiB are needed "
            f"({wanted}): end other programs, export with a smaller --max-context, or build a plan with fewer --rows"
        )


class Memory:
    """The memory of one engine. Addresses are those of the GPU; arrays are pinned memory of the host.

    Inputs lie side by side, so that one copy brings them to the GPU: lengths [rows], then the first logit, then tokens,
    each at an aligned place.
    """

    def __init__(self, device: Device, layout: Layout) -> None:
        """Raises: EngineError: there is not enough of it."""
        check_free(layout.sizes, device.free_bytes())
        self.layout = layout
        self.scratch = device.allocate(max(ALIGNMENT, layout.scratch_bytes))
        cache = device.allocate(layout.parts * layout.part_bytes)
        self.cache = [cache + i * layout.part_bytes for i in range(layout.parts)]
        new = device.allocate(layout.parts * layout.new_bytes) if layout.appended else 0
        self.new = [new + i * layout.new_bytes for i in range(layout.parts)] if layout.appended else []
        self.inputs = device.allocate(layout.input_bytes)
        self.lengths, self.first_logit = self.inputs, self.inputs + layout.lengths_bytes
        self.tokens = self.first_logit + ALIGNMENT
        self.logits = device.allocate(aligned(layout.most_logits * layout.vocab * 4))
        self.host_inputs = device.pinned(layout.input_bytes)
        numbers = self.host_inputs.view(np.int64)
        first_logit, tokens = ((place - self.inputs) // _INT for place in (self.first_logit, self.tokens))
        self.host_lengths, self.host_first_logit = numbers[: layout.rows], numbers[first_logit : first_logit + 1]
        self.host_tokens = numbers[tokens : tokens + layout.most_tokens]
        logits: FloatArray = device.pinned(layout.most_logits * layout.vocab * 4).view(np.float32)
        self.host_logits = logits.reshape(layout.most_logits, layout.vocab)
        self.host_row = device.pinned(layout.row_bytes)  # of one part, for snapshots
        self.cache_table, self.new_table = self._table(device, self.cache), self._table(device, self.new)

    def append(self, row: int, rows: int, tokens: int) -> RowCopy:
        """The new keys and values of so many rows and tokens, behind those that the rows from ``row`` on hold."""
        layout = self.layout
        return RowCopy(
            to=self.cache_table,
            source=self.new_table,
            at=self.lengths,
            to_row=row,
            to_length=layout.context,
            source_row=0,
            source_length=tokens,
            heads=layout.heads,
            tokens=tokens,
            units=layout.units,
            rows=rows,
            parts=layout.parts,
        )

    def _table(self, device: Device, addresses: list[int]) -> int:
        """Addresses where the GPU can read them."""
        if not addresses:
            return 0
        host = device.pinned(len(addresses) * _INT)
        host.view(np.uint64)[:] = addresses
        table = device.allocate(host.nbytes)
        device.upload(table, host)
        return table


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
