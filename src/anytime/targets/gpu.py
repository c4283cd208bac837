"""The GPU, asked for in a process of its own, since TensorRT without a driver ends the process that it is in."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from anytime.errors import DeviceError

_WAIT_S = 60.0
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_DRIVER = "libcuda.so.1"


class Gpu(msgspec.Struct, frozen=True):
    """The first GPU that this process may use; ``cuda`` is the newest version that the driver runs."""

    gpu: str
    compute_capability: str
    cuda: str


class _Nothing(msgspec.Struct, frozen=True):
    reason: str


def probe() -> Gpu:
    """Ask CUDA's driver in a child process.

    Raises:
        DeviceError: there is no driver, or it has no GPU.
    """
    try:
        run = subprocess.run([sys.executable, "-m", __spec__.name], capture_output=True, timeout=_WAIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"NVIDIA's driver has not answered for {_WAIT_S:.0f} s: look at it with nvidia-smi") from None
    try:
        return msgspec.json.decode(run.stdout, type=Gpu)
    except msgspec.DecodeError:
        pass
    try:
        reason = msgspec.json.decode(run.stdout, type=_Nothing).reason
    except msgspec.DecodeError:
        reason = f"asking NVIDIA's driver ended with exit code {run.returncode}"
    raise DeviceError(f"there is no NVIDIA GPU to be used here: {reason}")


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
