"""What the engine needs of CUDA: one GPU, one stream of its own on it, and memory whose addresses never change.

Two packages offer it: ``cuda.core``, which can capture CUDA graphs, and ``pycuda``, which cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from anytime.errors import DeviceError

ALIGNMENT = 256  # of every address that TensorRT is given
KERNEL = "copy_rows"
THREADS = 128  # of a block of the kernel
UNIT = 16  # bytes that one of them copies


class RowCopy(msgspec.Struct, frozen=True):
    """Tokens of some rows from one place on the GPU to another, in the buffers of all layers; see ``copy_rows.cu``.

    ``to`` and ``source`` are addresses of tables of ``parts`` buffers, [row, head, position, unit of 16 bytes], with
    ``to_length`` and ``source_length`` positions. ``at`` is the address of the position of each row's first token in
    ``to``, int64 [rows]; 0: they begin at 0.
    """

    to: int
    source: int
    at: int
    to_row: int
    to_length: int
    source_row: int
    source_length: int
    heads: int
    tokens: int
    units: int
    rows: int
    parts: int

    @property
    def arguments(self) -> tuple[int, ...]:
        """Those of the kernel, all of 64 bits."""
        places = (self.to_row, self.to_length, self.source_row, self.source_length)
        return (self.to, self.source, self.at, *places, self.heads, self.tokens, self.units)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Blocks of the kernel."""
        return -(-self.tokens * self.units // THREADS), self.rows * self.heads, self.parts


class Device(Protocol):
    """One GPU. What is queued runs on its stream in the order of the calls; only ``finish`` waits, without the GIL.

    ``failures`` are the errors that any call may raise. ``graphs``: whether ``capture`` can be tried.
    """

    package: str
    name: str
    compute_capability: tuple[int, int]
    graphs: bool
    stream: int
    failures: tuple[type[Exception], ...]

    def attach(self) -> None:
        """Make the GPU the calling thread's; every thread does so before its other calls."""
        ...

    def free_bytes(self) -> int: ...

    def allocate(self, size: int) -> int:
        """The aligned address of so many bytes on the GPU, all zero, for as long as the device lives."""
        ...

    def pinned(self, size: int) -> npt.NDArray[np.uint8]:
        """Memory of the host that the GPU copies to and from by itself, for as long as the device lives."""
        ...

    def upload(self, to: int, source: npt.NDArray[np.generic]) -> None:
        """Queue a copy of pinned memory to the GPU."""
        ...

    def download(self, to: npt.NDArray[np.generic], source: int) -> None:
        """Queue a copy to pinned memory."""
        ...

    def copy_rows(self, copy: RowCopy) -> None:
        """Queue a copy on the GPU."""
        ...

    def start(self) -> None:
        """Queue the beginning of what ``elapsed_ns`` times."""
        ...

    def finish(self) -> None:
        """Wait until the GPU has done all that was queued."""
        ...

    def elapsed_ns(self) -> int:
        """What the GPU took from the latest ``start`` to the latest ``finish``, by its own events."""
        ...

    def capture(self, queue: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph of what ``queue`` queues, with the addresses it uses; calling it queues all that again."""
        ...


def open_device() -> Device:
    """The first GPU, through ``cuda.core`` where that is installed, else through ``pycuda``.

    Raises:
        DeviceError: neither is, or the GPU cannot be used with it.
    """
    for package, module in (("cuda.core", "device_cuda"), ("pycuda", "device_pycuda")):
        if _installed(package):
            opened: Device = import_module(f"anytime.runtime.gpu.{module}").open_gpu()
            return opened
    raise DeviceError("neither cuda-core nor pycuda is installed: pip install 'anytime[tensorrt]'")


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False


def kernel_code() -> bytes:
    """The kernel as PTX, which the driver compiles for the GPU at hand."""
    return Path(__file__).with_name(f"{KERNEL}.ptx").read_bytes()
