"""The device through ``pycuda``, which knows neither graphs nor priorities of streams."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pycuda
from pycuda import driver

from anytime.errors import DeviceError
from anytime.runtime.gpu.device import KERNEL, THREADS, RowCopy, kernel_code

_ARGUMENTS = "QQQQQQQQQQ"  # of the kernel: 64 bits each


def open_gpu() -> PycudaDevice:
    """The first GPU.

    Raises:
        DeviceError: it cannot be used.
    """
    try:
        return PycudaDevice()
    except driver.Error as error:
        raise DeviceError(
            f"pycuda {pycuda.VERSION_TEXT} cannot use the GPU ({error}): build it with the driver's CUDA version, "
            "or pip install 'anytime[tensorrt]'"
        ) from error


class PycudaDevice:
    """See ``Device``."""

    graphs = False
    failures = (driver.Error,)

    def __init__(self) -> None:
        driver.init()
        gpu = driver.Device(0)
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._context = gpu.retain_primary_context()  # the one that TensorRT uses
        self.attach()
        self.package = f"pycuda {pycuda.VERSION_TEXT}"
        self.name = gpu.name()
        self.compute_capability = gpu.compute_capability()
        with self._pushed():
            self._stream = driver.Stream()
            # A thread that spins would take the core on which the caller waits for its deadline.
            self._begun, self._done = (driver.Event(driver.event_flags.BLOCKING_SYNC) for _ in range(2))
            self._module = driver.module_from_buffer(kernel_code())
            self._kernel = self._module.get_function(KERNEL)
            self._kernel.prepare(_ARGUMENTS)
        self.stream = int(self._stream.handle)
        self._kept: list[driver.DeviceAllocation] = []

    def attach(self) -> None:
        if code := self._cuda.cuCtxSetCurrent(ctypes.c_void_p(self._context.handle)):
            raise DeviceError(f"the GPU cannot be used from another thread (CUDA error {code}): see dmesg")

    @contextlib.contextmanager
    def _pushed(self) -> Iterator[None]:
        """What is made needs pycuda's own notion of a context, which ends the process of a thread that keeps it."""
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def free_bytes(self) -> int:
        free, _total = driver.mem_get_info()
        return int(free)

    def allocate(self, size: int) -> int:
        with self._pushed():
            memory = driver.mem_alloc(size)
        driver.memset_d8_async(int(memory), 0, size, self._stream)
        self._kept.append(memory)
        return int(memory)

    def pinned(self, size: int) -> npt.NDArray[np.uint8]:
        with self._pushed():
            memory: npt.NDArray[np.uint8] = driver.pagelocked_empty(size, np.uint8)
        return memory

    def upload(self, to: int, source: npt.NDArray[np.generic]) -> None:
        driver.memcpy_htod_async(to, source, self._stream)

    def download(self, to: npt.NDArray[np.generic], source: int) -> None:
        driver.memcpy_dtoh_async(to, source, self._stream)

    def copy_rows(self, copy: RowCopy) -> None:
        self._kernel.prepared_async_call(copy.grid, (THREADS, 1, 1), self._stream, *copy.arguments)

    def start(self) -> None:
        self._begun.record(self._stream)

    def finish(self) -> None:
        self._done.record(self._stream)
        self._done.synchronize()

    def elapsed_ns(self) -> int:
        return int(self._begun.time_till(self._done) * 1e6)

    def capture(self, queue: Callable[[], None]) -> Callable[[], None]:
        raise NotImplementedError("pycuda has no CUDA graphs")
