"""The device through ``cuda.core``: graphs, a stream of the highest priority, events that block."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable

import cuda.core
import numpy as np
import numpy.typing as npt
from cuda.bindings import driver
from cuda.core import (
    Buffer,
    EventOptions,
    LaunchConfig,
    LegacyPinnedMemoryResource,
    ObjectCode,
    StreamOptions,
    launch,
)
from cuda.core import Device as Gpu
from cuda.core._utils.cuda_utils import CUDAError  # it has no public name

from anytime.errors import DeviceError
from anytime.runtime.gpu.device import KERNEL, THREADS, RowCopy, kernel_code


def open_gpu() -> CudaDevice:
    """The first GPU.

    Raises:
        DeviceError: it cannot be used.
    """
    try:
        return CudaDevice()
    except (CUDAError, RuntimeError) as error:
        raise DeviceError(
            f"cuda.core {cuda.core.__version__} cannot use the GPU ({error}): install the cuda-bindings of the "
            "driver's CUDA version"
        ) from error


class CudaDevice:
    """See ``Device``."""

    graphs = True
    failures = (CUDAError, RuntimeError)  # the latter for a capture that is not valid

    def __init__(self) -> None:
        self._gpu = gpu = Gpu(0)
        gpu.set_current()
        self.package = f"cuda.core {cuda.core.__version__}"
        self.name = gpu.name
        self.compute_capability = (gpu.compute_capability.major, gpu.compute_capability.minor)
        _least, highest = _checked(driver.cuCtxGetStreamPriorityRange())
        self._stream = gpu.create_stream(options=StreamOptions(nonblocking=True, priority=highest))
        self.stream = int(self._stream.handle)
        # A thread that spins would take the core on which the caller waits for its deadline.
        options = EventOptions(timing_enabled=True, blocking_sync=True)
        self._begun, self._done = gpu.create_event(options), gpu.create_event(options)
        self._kernel = ObjectCode.from_ptx(kernel_code()).get_kernel(KERNEL)
        self._host = LegacyPinnedMemoryResource()
        self._kept: list[Buffer] = []

    def attach(self) -> None:
        Gpu(0).set_current()  # there is one such object a thread

    def free_bytes(self) -> int:
        free, _total = _checked(driver.cuMemGetInfo())
        return int(free)

    def allocate(self, size: int) -> int:
        buffer = self._gpu.allocate(size, stream=self._stream)
        buffer.fill(0, stream=self._stream)
        self._kept.append(buffer)
        return int(buffer.handle)

    def pinned(self, size: int) -> npt.NDArray[np.uint8]:
        buffer = self._host.allocate(size)
        self._kept.append(buffer)
        memory = (ctypes.c_uint8 * size).from_address(int(buffer.handle))
        return np.ctypeslib.as_array(memory)

    def upload(self, to: int, source: npt.NDArray[np.generic]) -> None:
        size = source.nbytes
        Buffer.from_handle(to, size).copy_from(Buffer.from_handle(source.ctypes.data, size), stream=self._stream)

    def download(self, to: npt.NDArray[np.generic], source: int) -> None:
        size = to.nbytes
        Buffer.from_handle(to.ctypes.data, size).copy_from(Buffer.from_handle(source, size), stream=self._stream)

    def copy_rows(self, copy: RowCopy) -> None:
        launch(self._stream, LaunchConfig(grid=copy.grid, block=THREADS), self._kernel, *copy.arguments)

    def start(self) -> None:
        self._stream.record(self._begun)

    def finish(self) -> None:
        self._stream.record(self._done)
        self._done.sync()

    def elapsed_ns(self) -> int:
        return int((self._done - self._begun) * 1e6)

    def capture(self, queue: Callable[[], None]) -> Callable[[], None]:
        builder = self._stream.create_graph_builder()
        builder.begin_building(mode="thread_local")
        try:
            queue()
            graph = builder.end_building().complete()
        except BaseException:
            with contextlib.suppress(CUDAError):  # the capture is not valid any more, but the stream must be out of it
                builder.close()
            raise
        graph.upload(self._stream)
        return lambda: graph.launch(self._stream)


def _checked(result: tuple[driver.CUresult, int, int]) -> tuple[int, int]:
    error, first, second = result
    if error != driver.CUresult.CUDA_SUCCESS:
        raise CUDAError(f"{error.name}")
    return first, second
