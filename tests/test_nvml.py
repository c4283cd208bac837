"""Clocks through NVML: what is told, what is not, and a library that is missing or raises."""

from __future__ import annotations

import sys

import pytest

from anytime.errors import TargetError
from anytime.targets import Reading
from anytime.targets.nvml import GpuLimits, Nvml, named
from tests.doubles_nvml import FakeNvml, NVMLError, OlderNvml


def test_clocks_name_and_limits_are_read() -> None:
    """Of the GPU's first device: SM and memory clock, their highest, and its name."""
    gpu = Nvml(module=FakeNvml(clock={1: 1200, 2: 3201}))
    assert gpu.name == "NVIDIA H200"
    assert gpu.read() == Reading(1200, 3201, None)
    assert gpu.limits() == GpuLimits(1980, 3201)


def test_texts_may_be_bytes() -> None:
    """As in older versions of nvidia-ml-py."""
    gpu = Nvml(module=FakeNvml(name=b"NVIDIA H200", driver=b"535.1"))
    assert (gpu.name, gpu.driver) == ("NVIDIA H200", "535.1")


def test_the_driver_says_its_version() -> None:
    """Or nothing, where it cannot be asked."""
    assert Nvml(module=FakeNvml()).driver == "580.95.05"
    assert Nvml(module=FakeNvml(driver=NVMLError("not supported"))).driver == ""


@pytest.mark.parametrize("kind", [FakeNvml, OlderNvml])
def test_reasons_are_read_by_their_bits(kind: type[FakeNvml]) -> None:
    """What holds the clock down is named, under the function's old name too; clocks set on purpose are no trouble."""
    reading = Nvml(module=kind(reasons=0x4 | 0x40 | 0x2)).read()
    assert reading.reasons == ("software power cap", "hardware thermal slowdown")
    assert reading.busy is None


def test_an_idle_gpu_says_so() -> None:
    """Its clocks are low for want of work, which is no reason to plan for a slower engine."""
    assert Nvml(module=FakeNvml(reasons=0x1, clock={1: 210, 2: 405})).read() == Reading(210, 405, False)


@pytest.mark.parametrize("mask", [0, 1, 0x7FF, 1 << 40])
def test_any_mask_has_names(mask: int) -> None:
    """Bits of later drivers are passed over."""
    assert len(named(mask)) == (10 if mask == 0x7FF else 0)


@pytest.mark.parametrize(
    "answers", [{"init": NVMLError("Driver Not Loaded")}, {"handle": NVMLError("Invalid Argument")}]
)
def test_a_driver_that_refuses_is_an_error(answers: dict[str, Exception]) -> None:
    """No driver or no such GPU: an error that says which, and what to check."""
    with pytest.raises(TargetError, match="check the driver"):
        Nvml(module=FakeNvml(**answers))


def test_a_missing_library_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nvidia-ml-py the remedy is named."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(TargetError, match=r"anytime\[nvml\]"):
        Nvml()


def test_what_a_gpu_does_not_tell_is_left_out() -> None:
    """One clock that is not supported is None; reasons that are not supported are none."""
    refused = NVMLError("Not Supported")
    gpu = Nvml(module=FakeNvml(clock={1: refused, 2: 3201}, most=refused, reasons=refused, name=refused))
    assert gpu.read() == Reading(None, 3201)
    assert gpu.limits() == GpuLimits(None, None)
    assert gpu.name == ""


def test_a_gpu_that_tells_no_clock_is_an_error() -> None:
    """As when it has fallen off the bus: there is nothing to watch any more."""
    with pytest.raises(TargetError, match="tells no clocks"):
        Nvml(module=FakeNvml(clock=NVMLError("GPU is lost"))).read()


def test_the_library_is_let_go() -> None:
    """As often as it was taken."""
    module = FakeNvml()
    Nvml(module=module).close()
    assert module.open == 0
