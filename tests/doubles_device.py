"""A double of a GPU: its memory is an array, its addresses are places in it, what is queued waits for ``finish``."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from anytime.runtime.gpu.device import ALIGNMENT, RowCopy

BASE = 1 << 20  # address of the first byte
_streams = itertools.count(7)
DEVICES: dict[int, FakeDevice] = {}  # by stream


class CudaFailure(Exception):
    """What the double of CUDA raises."""


class FakeDevice:
    """See ``anytime.runtime.gpu.device.Device``."""

    package = "double 1"
    name = "Double"
    compute_capability = (8, 7)
    failures = (CudaFailure,)

    def __init__(self, size: int = 8 << 20, graphs: bool = True) -> None:
        self.memory = np.full(size, 0xA5, dtype=np.uint8)  # nobody may count on zeros that it did not ask for
        self.graphs, self.stream = graphs, next(_streams)
        self.free = size
        self.log: list[str] = []
        self.queue: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        self.capture_fails_at = -1  # capture number
        self.lost = ""
        self.finished: Callable[[], None] = lambda: None
        self.threads: set[int] = set()
        self._hosts: list[npt.NDArray[np.uint8]] = []
        self._next, self._captures = BASE, 0
        DEVICES[self.stream] = self

    def attach(self) -> None:
        self.log.append("attach")

    def free_bytes(self) -> int:
        return self.free

    def allocate(self, size: int) -> int:
        assert self.recording is None, "nothing can be allocated while a graph is captured"
        address, self._next = self._next, self._next + -(-size // ALIGNMENT) * ALIGNMENT
        if self._next - BASE > self.memory.nbytes:
            raise CudaFailure("out of memory")
        self.log.append("allocate")
        self.at(address, size)[:] = 0
        self.free -= size
        return address

    def pinned(self, size: int) -> npt.NDArray[np.uint8]:
        self._hosts.append(np.zeros(size, dtype=np.uint8))
        return self._hosts[-1]

    def at(self, address: int, size: int) -> npt.NDArray[np.uint8]:
        """Memory of the GPU."""
        assert BASE <= address <= address + size <= self._next, f"{address:#x} is not the GPU's"
        return self.memory[address - BASE : address - BASE + size]

    def submit(self, what: str, work: Callable[[], None]) -> None:
        self._check()
        self.log.append(what)
        (self.queue if self.recording is None else self.recording).append(work)

    def upload(self, to: int, source: npt.NDArray[np.generic]) -> None:
        self._check_pinned(source)
        self.submit("upload", lambda: self._copy(self.at(to, source.nbytes), source.view(np.uint8)))

    def download(self, to: npt.NDArray[np.generic], source: int) -> None:
        self._check_pinned(to)
        flat = to.view(np.uint8).reshape(-1)
        self.submit("download", lambda: self._copy(flat, self.at(source, to.nbytes)))

    @staticmethod
    def _copy(to: npt.NDArray[np.uint8], source: npt.NDArray[np.uint8]) -> None:
        to[...] = source.reshape(-1)

    def _check_pinned(self, array: npt.NDArray[np.generic]) -> None:
        assert array.flags.c_contiguous
        inside = any(
            host.ctypes.data <= array.ctypes.data <= array.ctypes.data + array.nbytes <= host.ctypes.data + host.nbytes
            for host in self._hosts
        )
        assert inside, "only pinned memory is copied without waiting"

    def copy_rows(self, copy: RowCopy) -> None:
        self.submit("copy_rows", lambda: self._copy_rows(copy))

    def _copy_rows(self, copy: RowCopy) -> None:
        """As ``copy_rows.cu`` does."""
        positions = self.numbers(copy.at, copy.rows, np.int64) if copy.at else np.zeros(copy.rows, dtype=np.int64)
        tables = (self.numbers(table, copy.parts, np.uint64) for table in (copy.to, copy.source))
        for to, source in zip(*tables, strict=True):
            for row in range(copy.rows):
                target = self._block(int(to), copy.to_row + row, copy.heads, copy.to_length, copy.units)
                origin = self._block(int(source), copy.source_row + row, copy.heads, copy.source_length, copy.units)
                start = int(positions[row])
                fits = min(copy.tokens, copy.to_length - start)
                target[:, start : start + fits] = origin[:, :fits]

    def _block(self, address: int, row: int, heads: int, length: int, units: int) -> npt.NDArray[np.uint8]:
        size = heads * length * units * 16
        return self.at(address + row * size, size).reshape(heads, length, units * 16)

    def numbers(self, address: int, count: int, dtype: Any) -> npt.NDArray[Any]:
        return self.at(address, count * np.dtype(dtype).itemsize).view(dtype)

    def host_number(self, address: int) -> int:
        """An int64 of pinned memory, read now."""
        assert any(host.ctypes.data <= address < host.ctypes.data + host.nbytes for host in self._hosts)
        return ctypes.c_int64.from_address(address).value

    def start(self) -> None:
        self._check()
        self.log.append("start")

    def finish(self) -> None:
        assert self.recording is None, "nobody can wait while a graph is captured"
        self._check()
        self.log.append("finish")
        queue, self.queue = self.queue, []
        for work in queue:
            work()
        self.finished()
        self._check()

    def _check(self) -> None:
        if self.lost:
            raise CudaFailure(self.lost)

    def elapsed_ns(self) -> int:
        return 1_500_000

    def capture(self, queue: Callable[[], None]) -> Callable[[], None]:
        self.begin_capture()
        try:
            queue()
        except BaseException:
            self.end_capture()
            raise
        return self.end_capture()

    def begin_capture(self) -> None:
        assert self.graphs, "this device has no graphs"
        assert not self.queue, "work is queued that would not be in the graph"
        self._captures += 1
        self.log.append("begin")
        self.recording = []

    @property
    def capture_fails(self) -> bool:
        return self._captures == self.capture_fails_at

    def end_capture(self) -> Callable[[], None]:
        recorded, self.recording = self.recording, None
        assert recorded is not None
        if self.capture_fails:
            raise CudaFailure("operation not permitted when stream is capturing")
        self.log.append("end")

        def launch() -> None:
            self.log.append("launch")
            self.queue += recorded

        return launch
