"""Looking for a TensorRT that starts: in a child process, which it may end as it likes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from anytime.errors import DeviceError
from anytime.runtime.trt import probe as probing
from anytime.runtime.trt.probe import probe
from anytime.targets.gpu import Gpu

ORIN = Gpu("Orin", "8.7", "12.6")
MODULE = """
__version__ = "10.3.0"
print("[TRT] it talks on its standard output, too")
class Logger:
    ERROR = 1
    def __init__(self, severity): pass
def Runtime(logger):
    {body}
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a child process finds its TensorRT; the GPU's driver is there."""
    monkeypatch.setattr(probing, "probe_gpu", lambda: ORIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "tensorrt.py"


def test_a_tensorrt_that_starts_is_found(install: Path) -> None:
    """With its version, and the GPU it is for; nothing of it is imported here."""
    install.write_text(MODULE.format(body="pass"), encoding="utf-8")
    found = probe()
    assert (found.gpu, found.tensorrt) == (ORIN, "10.3.0")
    assert "tensorrt" not in sys.modules


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"was killed by SIGSEGV"),
        ("raise TypeError('factory function returned nullptr')", r"exit code 1; TypeError: factory function returned"),
        ("import sys; print('CUDA error 35', file=sys.stderr); sys.exit(3)", r"exit code 3; CUDA error 35"),
    ],
)
def test_one_that_crashes_is_said_and_survived(install: Path, body: str, how: str) -> None:
    """As on a driver that is too old: the message has both versions and the remedy."""
    install.write_text(MODULE.format(body=body), encoding="utf-8")
    message = (
        rf"TensorRT 10.3.0 does not start on this driver, which knows CUDA up to 12.6 \(.*{how}.*update the driver"
    )
    with pytest.raises(DeviceError, match=message):
        probe()


def test_one_that_cannot_be_imported_is_said(install: Path) -> None:
    """Because it is not there, or its libraries are not."""
    with pytest.raises(DeviceError, match=r"TensorRT cannot be loaded \(No module named 'tensorrt'\): install it"):
        probe()
    install.write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')", encoding="utf-8")
    with pytest.raises(DeviceError, match=r"cannot be loaded \(libnvinfer.so.10: cannot open"):
        probe()
    install.write_text("import os; os.abort()", encoding="utf-8")
    with pytest.raises(DeviceError, match=r"cannot be loaded \(the process that tried it was killed by SIGABRT"):
        probe()


def test_one_that_hangs_is_given_up(install: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver can do that, too."""
    monkeypatch.setattr(probing, "_TIMEOUT_S", 0.5)
    install.write_text(MODULE.format(body="import threading; threading.Event().wait()"), encoding="utf-8")
    with pytest.raises(DeviceError, match="has not started for"):
        probe()


def test_without_a_gpu_tensorrt_is_not_even_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver's probe says is the answer."""

    def none() -> Gpu:
        raise DeviceError("there is no NVIDIA GPU to be used here: libcuda.so.1, the driver, is not installed")

    monkeypatch.setattr(probing, "probe_gpu", none)
    monkeypatch.setattr(probing, "_asked", lambda: pytest.fail("TensorRT was tried"))
    with pytest.raises(DeviceError, match="the driver, is not installed"):
        probe()
