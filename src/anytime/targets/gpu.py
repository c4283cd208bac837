"""The GPU, asked for in a process of its own, since TensorRT without a driver ends the process that it is in."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec

from anytime.errors import DeviceError

_WAIT_S = 60.0
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_DRIVER = "libcuda.so.1"


class Gpu(msgspec.Struct, frozen=True, tag=True):
    """The first GPU that this process may use; ``cuda`` is the newest version that the driver runs."""

    gpu: str
    compute_capability: str
    cuda: str


class _Nothing(msgspec.Struct, frozen=True, tag=True):
    reason: str


def probe() -> Gpu:
    """Ask CUDA's driver in a child process.

    Raises:
        DeviceError: there is no driver, or it has no GPU.
    """
    places = os.pathsep.join(os.path.abspath(place) for place in sys.path if place)
    command, env = [sys.executable, "-m", __spec__.name], {**os.environ, "PYTHONPATH": places}
    try:
        run = subprocess.run(command, capture_output=True, env=env, timeout=_WAIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"NVIDIA's driver has not answered for {_WAIT_S:.0f} s: look at it with nvidia-smi") from None
    lines = run.stdout.splitlines() or [b""]
    found: Gpu | _Nothing
    try:
        found = msgspec.json.decode(lines[-1], type=Gpu | _Nothing)
    except msgspec.DecodeError:
        found = _Nothing(f"asking NVIDIA's driver ended with exit code {run.returncode}")
    if isinstance(found, _Nothing):
        raise DeviceError(f"there is no NVIDIA GPU to be used here: {found.reason}")
    return found


def _ask() -> Gpu | _Nothing:
    """What the driver's library says in this process."""
    import ctypes

    try:
        cuda = ctypes.CDLL(_DRIVER)
    except OSError as error:
        return _Nothing(f"{_DRIVER}, the driver, cannot be loaded ({error})")
    if code := cuda.cuInit(0):
        return _Nothing(f"the driver cannot be used (cuInit gives {code})")
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
        return _Nothing(f"the driver shows no GPU (error {code})")
    return Gpu(
        name.value.decode(errors="replace"),
        f"{major.value}.{minor.value}",
        f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_ask()))
