"""The GPU, asked for in a process of its own, since TensorRT without a driver ends the process that it is in."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, TypeVar

import msgspec

from anytime.errors import DeviceError

T = TypeVar("T")
_WAIT_S = 60.0
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_DRIVER = "libcuda.so.1"


class Gpu(msgspec.Struct, frozen=True, tag=True):
    """The first GPU that this process may use; ``cuda`` is the newest version that the driver runs."""

    gpu: str
    compute_capability: str
    cuda: str


class Nothing(msgspec.Struct, frozen=True, tag=True):
    """What a child process says instead, and why."""

    reason: str


def probe() -> Gpu:
    """Ask CUDA's driver in a child process.

    Raises:
        DeviceError: there is no driver, or it has no GPU.
    """
    found = ask_child(__spec__.name, Gpu, _WAIT_S)
    if isinstance(found, Nothing):
        raise DeviceError(f"there is no NVIDIA GPU to be used here: {found.reason}")
    return found


def ask_child(module: str, kind: type[T], wait_s: float) -> T | Nothing:
    """What a module, run in a process of its own, says of the GPU in its last line, as JSON; or why it does not.

    ``kind`` is a tagged struct, as ``Nothing`` is.
    """
    places = os.pathsep.join(os.path.abspath(place) for place in sys.path if place)
    command, env = [sys.executable, "-m", module], {**os.environ, "PYTHONPATH": places}
    try:
        run = subprocess.run(command, capture_output=True, env=env, timeout=wait_s, check=False)
    except subprocess.TimeoutExpired:
        return Nothing(f"NVIDIA's driver has not answered for {wait_s:.0f} s: look at it with nvidia-smi")
    lines = run.stdout.splitlines() or [b""]
    either: Any = kind | Nothing
    try:
        said: T | Nothing = msgspec.json.decode(lines[-1], type=either)
    except msgspec.DecodeError:
        return Nothing(f"asking NVIDIA's driver ended with exit code {run.returncode}")
    return said


def _ask() -> Gpu | Nothing:
    """What the driver's library says in this process."""
    import ctypes

    try:
        cuda = ctypes.CDLL(_DRIVER)
    except OSError as error:
        return Nothing(f"{_DRIVER}, the driver, cannot be loaded ({error})")
    if code := cuda.cuInit(0):
        return Nothing(f"the driver cannot be used (cuInit gives {code})")
    version, device, major, minor = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(256)
    code = (
        cuda.cuDriverGetVersion(ctypes.byref(version))
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetName(name, len(name), device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    )
    if code:
        return Nothing(f"the driver shows no GPU (error {code})")
    return Gpu(
        name.value.decode(errors="replace"),
        f"{major.value}.{minor.value}",
        f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_ask()))
