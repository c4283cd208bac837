"""The GPU, with drivers made on the spot."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from anytime.errors import DeviceError
from anytime.targets.gpu import Gpu, probe

DRIVER = """
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
int cuInit(unsigned flags) { %s }
int cuDriverGetVersion(int *version) { *version = 13020; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 0; return %d; }
int cuDeviceGetName(char *name, int length, int device) { strcpy(name, "Orin (nvgpu)"); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : 7; return 0; }
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a driver where a child process finds it first."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    def make(init: str = "return 0;", device: int = 0) -> None:
        gcc = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(tmp_path / "libcuda.so.1")]
        subprocess.run(gcc, input=DRIVER % (init, device), text=True, check=True)

    return make


def test_the_driver_says_what_gpu_it_has(driver: Callable[..., None]) -> None:
    """Name, compute capability and the newest CUDA there can be, whatever the driver prints meanwhile."""
    driver('puts("a greeting"); fflush(stdout); return 0;')
    assert probe() == Gpu("Orin (nvgpu)", "8.7", "13.2")


@pytest.mark.parametrize(
    ("init", "device", "reason"),
    [
        ("return 35;", 0, r"the driver cannot be used \(cuInit gives 35\)"),
        ("return 0;", 100, r"the driver shows no GPU \(error 100\)"),
        ("abort();", 0, "asking NVIDIA's driver ended with exit code -6"),
    ],
)
def test_a_driver_that_fails_is_an_error_not_an_end(
    init: str, device: int, reason: str, driver: Callable[..., None]
) -> None:
    """Whatever the driver does, even crash, this process lives and says what happened."""
    driver(init, device)
    with pytest.raises(DeviceError, match=f"no NVIDIA GPU to be used here: {reason}"):
        probe()


def test_no_driver_is_said(driver: Callable[..., None], tmp_path: Path) -> None:
    """A machine without NVIDIA's driver, or with one that cannot be loaded."""
    (tmp_path / "libcuda.so.1").write_text("no library")
    with pytest.raises(DeviceError, match=r"libcuda\.so\.1, the driver, cannot be loaded"):
        probe()


def test_a_driver_that_does_not_answer_is_given_up(
    driver: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, with what to look at."""
    driver("for (;;);")
    monkeypatch.setattr("anytime.targets.gpu._WAIT_S", 0.2)
    with pytest.raises(DeviceError, match=r"not answered for 0 s.*nvidia-smi"):
        probe()
