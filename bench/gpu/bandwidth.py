"""How fast the GPU's memory is: a copy from one half of a large buffer to the other, by the driver's own copy.

``python -m bench.gpu.bandwidth`` prints it, in a process of its own, which takes the memory with it. It needs the
driver and no other package, so that every engine on a GPU is held to the same figure.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import msgspec

from anytime.errors import DeviceError
from anytime.targets.gpu import Nothing, ask_child

GIB = 1 << 30
_SHARE = 8  # of the free memory, where that is less than 1 GiB
_COPIES, _WARM_UP = 30, 3
_WAIT_S = 120.0
_DRIVER = "libcuda.so.1"
_POINTER = ctypes.c_uint64  # CUdeviceptr
# The CUDA driver API; what _v2 ends is what cuda.h calls by the plain name.
_TYPES: dict[str, list[Any]] = {
    "cuInit": [ctypes.c_uint],
    "cuDeviceGet": [ctypes.POINTER(ctypes.c_int), ctypes.c_int],
    "cuDevicePrimaryCtxRetain": [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int],
    "cuCtxSetCurrent": [ctypes.c_void_p],
    "cuMemGetInfo_v2": [ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)],
    "cuMemAlloc_v2": [ctypes.POINTER(_POINTER), ctypes.c_size_t],
    "cuMemsetD8_v2": [_POINTER, ctypes.c_ubyte, ctypes.c_size_t],
    "cuMemcpyDtoDAsync_v2": [_POINTER, _POINTER, ctypes.c_size_t, ctypes.c_void_p],
    "cuEventCreate": [ctypes.POINTER(ctypes.c_void_p), ctypes.c_uint],
    "cuEventRecord": [ctypes.c_void_p, ctypes.c_void_p],
    "cuEventSynchronize": [ctypes.c_void_p],
    "cuEventElapsedTime": [ctypes.POINTER(ctypes.c_float), ctypes.c_void_p, ctypes.c_void_p],
}


class Bandwidth(msgspec.Struct, frozen=True, tag=True):
    """Copies of ``copied_bytes``, each of which is read and written, and what each took by the GPU's own events."""

    memory_bytes: int
    copied_bytes: int
    copies_ms: list[float]

    @property
    def bytes_s(self) -> float:
        """Read and written, in the fastest copy."""
        return 2 * self.copied_bytes / (min(self.copies_ms) / 1e3)


def bandwidth() -> Bandwidth:
    """Measure it in a child process.

    Raises:
        DeviceError: it cannot be measured.
    """
    found = ask_child("bench.gpu.bandwidth", Bandwidth, _WAIT_S)
    if isinstance(found, Nothing):
        raise DeviceError(f"the bandwidth was not measured: {found.reason}")
    return found


class _Driver:
    """The driver's calls, whose errors are raised."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(_DRIVER)
        for name, types in _TYPES.items():
            getattr(self._library, name).argtypes = types

    def call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._library, name)(*arguments):
            raise DeviceError(f"{name} gives {code}")

    def made(self, kind: Any, name: str, *arguments: Any) -> Any:
        """What a call puts where its first argument points to."""
        value = kind()
        self.call(name, ctypes.byref(value), *arguments)
        return value


def measure() -> Bandwidth:
    """In this process, which then has a context on the GPU.

    Raises:
        DeviceError: a call fails.
        OSError: there is no driver.
    """
    driver = _Driver()
    driver.call("cuInit", 0)
    device = driver.made(ctypes.c_int, "cuDeviceGet", 0)
    driver.call("cuCtxSetCurrent", driver.made(ctypes.c_void_p, "cuDevicePrimaryCtxRetain", device))
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    size = min(GIB, free.value // _SHARE)
    halves = [driver.made(_POINTER, "cuMemAlloc_v2", size) for _ in range(2)]
    for half in halves:
        driver.call("cuMemsetD8_v2", half, 0x5A, size)  # what was never written may be read faster
    begun, done = (driver.made(ctypes.c_void_p, "cuEventCreate", 0) for _ in range(2))
    copies_ms = []
    for number in range(_WARM_UP + _COPIES):
        driver.call("cuEventRecord", begun, None)
        driver.call("cuMemcpyDtoDAsync_v2", halves[number % 2], halves[1 - number % 2], size, None)
        driver.call("cuEventRecord", done, None)
        driver.call("cuEventSynchronize", done)
        copies_ms.append(driver.made(ctypes.c_float, "cuEventElapsedTime", begun, done).value)
    return Bandwidth(total.value, size, copies_ms[_WARM_UP:])


def _said() -> Bandwidth | Nothing:
    try:
        return measure()
    except (DeviceError, OSError) as error:
        return Nothing(str(error))


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_said()))
