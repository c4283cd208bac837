"""Doubles of ``cuda.core`` and of ``pycuda``, as far as the engine on TensorRT uses them, over one of a GPU.

Tests of the real packages, where these are installed, hold the names used here to them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from anytime.runtime.gpu.device import RowCopy
from tests.doubles_device import BASE, CudaFailure, FakeDevice

KERNEL = object()


def row_copy(grid: tuple[int, int, int], arguments: tuple[int, ...]) -> RowCopy:
    """What a launch of the kernel does."""
    to, source, at, to_row, to_length, source_row, source_length, heads, tokens, units = arguments
    made = RowCopy(
        to=to,
        source=source,
        at=at,
        to_row=to_row,
        to_length=to_length,
        source_row=source_row,
        source_length=source_length,
        heads=heads,
        tokens=tokens,
        units=units,
        rows=grid[1] // heads,
        parts=grid[2],
    )
    assert made.grid == grid
    return made


def _module(name: str, **names: Any) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(names)
    return made


def cuda_core(gpu: FakeDevice) -> dict[str, ModuleType]:
    """The modules of cuda-core and cuda-bindings, by name."""

    class Buffer:
        def __init__(self, handle: int, size: int) -> None:
            self.handle, self.size = handle, size

        @staticmethod
        def from_handle(ptr: int, size: int) -> Buffer:
            return Buffer(ptr, size)

        def copy_from(self, src: Buffer, *, stream: Stream) -> None:
            assert (self.size, stream.handle) == (src.size, gpu.stream)
            if self.on_gpu:
                gpu.upload(self.handle, src.host())
            else:
                gpu.download(self.host(), src.handle)

        def fill(self, value: int, *, stream: Stream) -> None:
            assert (value, stream.handle) == (0, gpu.stream)

        @property
        def on_gpu(self) -> bool:
            return BASE <= self.handle < BASE + gpu.memory.nbytes

        def host(self) -> npt.NDArray[np.uint8]:
            return np.ctypeslib.as_array((ctypes.c_uint8 * self.size).from_address(self.handle))

    class Event:
        def sync(self) -> None:
            gpu.finish()

        def __sub__(self, other: Event) -> float:
            return gpu.elapsed_ns() / 1e6

    class Stream:
        handle = gpu.stream

        def record(self, event: Event) -> None:
            if event is events[0]:
                gpu.start()

        def create_graph_builder(self) -> GraphBuilder:
            return GraphBuilder()

    class GraphBuilder:
        def begin_building(self, mode: str) -> GraphBuilder:
            assert mode == "thread_local"
            gpu.begin_capture()
            return self

        def end_building(self) -> GraphBuilder:
            if gpu.capture_fails:
                raise RuntimeError("the build process has been invalidated and must be ended")
            self._launch = gpu.end_capture()
            return self

        def close(self) -> None:
            gpu.end_capture()

        def complete(self) -> Graph:
            return Graph(self._launch)

    class Graph:
        def __init__(self, launch: Callable[[], None]) -> None:
            self._launch = launch

        def upload(self, stream: Stream) -> None:
            gpu.log.append("upload graph")

        def launch(self, stream: Stream) -> None:
            assert stream.handle == gpu.stream
            self._launch()

    class Device:
        name = gpu.name
        compute_capability = SimpleNamespace(major=8, minor=7)

        def __init__(self, device_id: int) -> None:
            assert device_id == 0

        def set_current(self) -> None:
            gpu.attach()

        def create_stream(self, *, options: Any) -> Stream:
            assert options == {"nonblocking": True, "priority": -5}
            return Stream()

        def create_event(self, options: Any) -> Event:
            assert options == {"timing_enabled": True, "blocking_sync": True}
            events.append(Event())
            return events[-1]

        def allocate(self, size: int, *, stream: Stream) -> Buffer:
            return Buffer(gpu.allocate(size), size)

    class LegacyPinnedMemoryResource:
        def allocate(self, size: int) -> Buffer:
            return Buffer(gpu.pinned(size).ctypes.data, size)

    def launch(stream: Stream, config: dict[str, Any], kernel: object, *arguments: int) -> None:
        assert kernel is KERNEL
        assert config["block"] == 128
        gpu.copy_rows(row_copy(config["grid"], arguments))

    events: list[Event] = []
    code = SimpleNamespace(from_ptx=lambda ptx: SimpleNamespace(get_kernel=lambda name: KERNEL))
    driver = _module(
        "cuda.bindings.driver",
        CUresult=SimpleNamespace(CUDA_SUCCESS=0),
        cuCtxGetStreamPriorityRange=lambda: (0, 0, -5),
        cuMemGetInfo=lambda: (0, gpu.free_bytes(), gpu.memory.nbytes),
    )
    core = _module(
        "cuda.core",
        __version__="1.2.0",
        Buffer=Buffer,
        Device=Device,
        EventOptions=dict,
        LaunchConfig=dict,
        LegacyPinnedMemoryResource=LegacyPinnedMemoryResource,
        ObjectCode=code,
        StreamOptions=dict,
        launch=launch,
    )
    modules = [
        _module("cuda", core=core, __path__=[]),
        _module("cuda.bindings", driver=driver, __path__=[]),
        driver,
        core,
        _module("cuda.core._utils"),
        _module("cuda.core._utils.cuda_utils", CUDAError=CudaFailure),
    ]
    return {module.__name__: module for module in modules}


def driver_library(gpu: FakeDevice) -> Any:
    """The driver's library, of which one function is called."""

    def set_current(context: ctypes.c_void_p) -> int:
        assert context.value == 0xC0
        gpu.attach()
        return 0

    return SimpleNamespace(cuCtxSetCurrent=set_current)


def pycuda(gpu: FakeDevice) -> dict[str, ModuleType]:
    """The modules of pycuda, by name."""

    class Stream:
        handle = gpu.stream

        def __init__(self) -> None:
            assert pushed

    class Event:
        def __init__(self, flags: str) -> None:
            assert pushed
            assert flags == "blocking"
            events.append(self)

        def record(self, stream: Stream) -> None:
            if self is events[0]:
                gpu.start()

        def synchronize(self) -> None:
            gpu.finish()

        def time_till(self, end: Event) -> float:
            assert (self, end) == tuple(events)
            return gpu.elapsed_ns() / 1e6

    class Function:
        def prepare(self, types: str) -> None:
            assert types == "Q" * 10

        def prepared_async_call(self, grid: Any, block: Any, stream: Stream, *arguments: int) -> None:
            assert block == (128, 1, 1)
            gpu.copy_rows(row_copy(grid, arguments))

    class Device:
        def __init__(self, index: int) -> None:
            assert index == 0

        def name(self) -> str:
            return gpu.name

        def compute_capability(self) -> tuple[int, int]:
            return gpu.compute_capability

        def retain_primary_context(self) -> Any:
            return SimpleNamespace(handle=0xC0, push=lambda: pushed.append(1), pop=pushed.pop)

    def module_from_buffer(code: bytes) -> Any:
        assert pushed
        assert b"copy_rows" in code
        return SimpleNamespace(get_function=lambda name: Function())

    events: list[Event] = []
    pushed: list[int] = []
    driver = _module(
        "pycuda.driver",
        Device=Device,
        Error=CudaFailure,
        Event=Event,
        Stream=Stream,
        event_flags=SimpleNamespace(BLOCKING_SYNC="blocking"),
        init=lambda: None,
        mem_alloc=lambda size: pushed and gpu.allocate(size),
        mem_get_info=lambda: (gpu.free_bytes(), gpu.memory.nbytes),
        memcpy_dtoh_async=lambda to, source, stream: gpu.download(to, source),
        memcpy_htod_async=lambda to, source, stream: gpu.upload(to, source),
        memset_d8_async=lambda to, value, size, stream: None,
        module_from_buffer=module_from_buffer,
        pagelocked_empty=lambda size, dtype: pushed and gpu.pinned(size),
    )
    package = _module("pycuda", VERSION_TEXT="2026.1", driver=driver, __path__=[])
    return {"pycuda": package, "pycuda.driver": driver}
