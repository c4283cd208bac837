"""The rows of the cache on the GPU: who has which, how long each is, copies between them and out of them.

Truncating costs nothing, because what lies behind a row's length is never read; a run may write there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anytime.errors import EngineError
from anytime.runtime.engine import FloatArray
from anytime.runtime.gpu.device import Device, RowCopy
from anytime.runtime.gpu.memory import Memory
from anytime.runtime.rows import choose


class Cache:
    """Keys and values of all sequences."""

    def __init__(self, device: Device, memory: Memory) -> None:
        self._device, self._memory = device, memory
        self.rows = memory.layout.rows
        self.lengths = [0] * self.rows
        self._free = list(range(self.rows))

    @property
    def free_rows(self) -> int:
        return len(self._free)

    def take(self, n: int = 1, beside: int = -1) -> list[int]:
        """See ``rows.choose``."""
        taken = choose(self._free, n, self.rows, beside)
        self._free = [row for row in self._free if row not in taken]
        return taken

    def close(self, row: int) -> None:
        self._free = sorted([*self._free, row])
        self.lengths[row] = 0

    def fork(self, row: int, n: int) -> list[int]:
        """Rows with the same content, which are ready when this returns.

        Raises:
            EngineError: there are not that many, or one of the device's.
        """
        taken = self.take(n, beside=row)
        length = self.lengths[row]
        self._device.start()
        for fork in taken:
            if length:
                self._device.copy_rows(self._copy(row, fork, length))
            self.lengths[fork] = length
        self._device.finish()
        return taken

    def _copy(self, row: int, to: int, length: int) -> RowCopy:
        table, layout = self._memory.cache_table, self._memory.layout
        return RowCopy(
            to=table,
            source=table,
            at=0,
            to_row=to,
            to_length=layout.context,
            source_row=row,
            source_length=layout.context,
            heads=layout.heads,
            tokens=length,
            units=layout.units,
            rows=1,
            parts=layout.parts,
        )

    def read(self, row: int) -> FloatArray:
        """A copy of what a row holds, [part, head, position, channel]."""
        layout, host = self._memory.layout, self._memory.host_row
        shape = (layout.heads, layout.context, layout.channels)
        parts = []
        for address in self._memory.cache:
            self._device.start()
            self._device.download(host, address + row * layout.row_bytes)
            self._device.finish()
            held = host.view(np.float16).reshape(shape)
            parts.append(held[:, : self.lengths[row]].astype(np.float32))
        return np.stack(parts)

    def write(self, cache: FloatArray) -> int:
        """A row with this content.

        Raises:
            EngineError: it has another model's shape, or there is no row.
        """
        layout, host = self._memory.layout, self._memory.host_row
        parts, heads, length, channels = cache.shape if cache.ndim == 4 else (0, 0, 0, 0)
        if (parts, heads, channels) != (layout.parts, layout.heads, layout.channels) or length > layout.context:
            raise EngineError(
                f"the snapshot is another model's: its shape is {cache.shape}, not {layout.parts} parts of "
                f"{layout.heads} heads, up to {layout.context} tokens and {layout.channels} channels"
            )
        (row,) = self.take()
        held = host.view(np.float16).reshape(layout.heads, layout.context, layout.channels)
        for address, part in zip(self._memory.cache, cache, strict=True):
            held[:, :length] = part
            self._device.start()
            self._device.upload(address + row * layout.row_bytes, host)
            self._device.finish()
        self.lengths[row] = length
        return row

    def span(self, rows: Sequence[int]) -> range | None:
        """From the first to the last of them; None where one between is full, for it has no place to idle."""
        between = range(min(rows), max(rows) + 1)
        full = any(self.lengths[row] >= self._memory.layout.context for row in between if row not in rows)
        return None if full else between
