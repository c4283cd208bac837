"""Does TensorRT start here? Found out in a child process: without a driver its constructors end the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import msgspec

from anytime.errors import DeviceError
from anytime.targets.gpu import Gpu
from anytime.targets.gpu import probe as probe_gpu

_TIMEOUT_S = 120.0  # a Jetson takes long to load TensorRT for the first time
_MARK = "anytime: "
_CHILD = f"""
import json
def say(**what):
    print({_MARK!r} + json.dumps(what), flush=True)
try:
    import tensorrt
except (ImportError, OSError) as error:
    say(stage="import", error=str(error))
else:
    say(stage="start", version=tensorrt.__version__)
    tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
    say(stage="ready", version=tensorrt.__version__)
"""


class Probed(msgspec.Struct, frozen=True):
    """A GPU, and the version of the TensorRT that starts on it."""

    gpu: Gpu
    tensorrt: str


class _Words(msgspec.Struct):
    """The child's latest line."""

    stage: str = ""
    version: str = ""
    error: str = ""


def probe() -> Probed:
    """What is there.

    Raises:
        DeviceError: no GPU, driver or TensorRT, or ones that do not go together; the message says what to do.
    """
    gpu = probe_gpu()
    words, how = _asked()
    if words.stage == "ready":
        return Probed(gpu, words.version)
    if words.stage == "start":
        raise DeviceError(
            f"TensorRT {words.version} does not start on this driver, which knows CUDA up to {gpu.cuda} ({how}): "
            "update the driver, or install the TensorRT made for its CUDA version"
        )
    raise DeviceError(
        f"TensorRT cannot be loaded ({words.error or how}): install it (JetPack brings it as python3-libnvinfer, and a "
        "virtual environment needs --system-site-packages to see it; elsewhere pip install tensorrt)"
    )


def _asked() -> tuple[_Words, str]:
    """The child's latest words, and how it ended."""
    places = os.pathsep.join(os.path.abspath(place) for place in sys.path if place)
    env = {**os.environ, "PYTHONPATH": places, "PYTHONSAFEPATH": "1"}
    try:
        child = subprocess.run(
            [sys.executable, "-c", _CHILD], capture_output=True, env=env, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"TensorRT has not started for {_TIMEOUT_S:.0f} s: dmesg has what the driver says; reboot if it hangs"
        ) from error
    said = child.stdout.decode(errors="replace").splitlines()
    lines = [line.removeprefix(_MARK) for line in said if line.startswith(_MARK)]
    printed = child.stderr.decode(errors="replace").strip().splitlines()
    how = _ending(child.returncode) + (f"; {printed[-1]}" if printed else "")
    return (msgspec.json.decode(lines[-1], type=_Words) if lines else _Words()), how


def _ending(code: int) -> str:
    if code >= 0:
        return f"the process that tried it ended with exit code {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"the process that tried it was killed by {known.get(-code, f'signal {-code}')}"
