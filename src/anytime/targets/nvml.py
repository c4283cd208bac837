"""A discrete GPU through NVML: its name, its clocks, and why they are held down.

Needs nvidia-ml-py (``pip install 'anytime[nvml]'``), which loads the driver's own library.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import msgspec

from anytime.errors import TargetError
from anytime.targets.reading import Reading

_IDLE = 0x1
# nvmlClocksEventReasons, NVML API Reference Guide.
_REASONS = {
    0x2: "application clocks setting",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks setting",
    0x200: "board limit",
    0x400: "reliability",
}
# Asked for by whoever set them, so no sign of trouble.
_WANTED = 0x2 | 0x100


class GpuLimits(msgspec.Struct, frozen=True):
    """The highest clocks that a GPU has, MHz; None: not told."""

    gpu_mhz: int | None
    memory_mhz: int | None


class Nvml:
    """One GPU. ``module`` is ``pynvml`` or a double of it."""

    def __init__(self, index: int = 0, module: Any = None) -> None:
        """
        Raises:
            TargetError: there is no nvidia-ml-py, no driver, or no such GPU.
        """
        try:
            self._nvml = module if module is not None else import_module("pynvml")
        except ImportError as error:
            raise TargetError(
                f"GPU clocks cannot be read ({error}): install nvidia-ml-py with \"pip install 'anytime[nvml]'\""
            ) from error
        try:
            self._nvml.nvmlInit()
            self._device = self._nvml.nvmlDeviceGetHandleByIndex(index)
        except Exception as error:  # NVMLError and its kin; whatever it is, nobody may fail for want of clocks
            raise TargetError(f"GPU {index} cannot be read through NVML ({error}): check the driver") from error

    @property
    def name(self) -> str:
        """The model's whole name; empty where it is not told."""
        return _text(self._ask(lambda: self._nvml.nvmlDeviceGetName(self._device)))

    @property
    def driver(self) -> str:
        """The driver's version; empty where it is not told."""
        return _text(self._ask(self._nvml.nvmlSystemGetDriverVersion))

    def limits(self) -> GpuLimits:
        """The highest clocks there are."""
        nvml = self._nvml
        return GpuLimits(
            self._mhz(lambda: nvml.nvmlDeviceGetMaxClockInfo(self._device, nvml.NVML_CLOCK_SM)),
            self._mhz(lambda: nvml.nvmlDeviceGetMaxClockInfo(self._device, nvml.NVML_CLOCK_MEM)),
        )

    def read(self) -> Reading:
        """Clocks now.

        Raises:
            TargetError: the GPU tells neither of them.
        """
        nvml = self._nvml
        gpu = self._mhz(lambda: nvml.nvmlDeviceGetClockInfo(self._device, nvml.NVML_CLOCK_SM))
        memory = self._mhz(lambda: nvml.nvmlDeviceGetClockInfo(self._device, nvml.NVML_CLOCK_MEM))
        if gpu is None and memory is None:
            raise TargetError(f"the GPU {self.name!r} tells no clocks through NVML: check the driver")
        mask = self._reasons()
        return Reading(gpu, memory, False if mask & _IDLE else None, named(mask & ~_WANTED))

    def _reasons(self) -> int:
        """The bit mask of clocks event reasons, called throttle reasons by older drivers."""
        for call in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
            ask = getattr(self._nvml, call, None)
            found = self._ask(lambda ask=ask: ask(self._device)) if ask else None  # type: ignore[misc]
            if isinstance(found, int):
                return found
        return 0

    def _mhz(self, ask: Callable[[], Any]) -> int | None:
        found = self._ask(ask)
        return found if isinstance(found, int) and found > 0 else None

    def _ask(self, ask: Callable[[], Any]) -> Any:
        """What it says; None where it says that it cannot."""
        try:
            return ask()
        except Exception:  # NVMLError_NotSupported, on boards that do not tell this; or a driver that has gone
            return None

    def close(self) -> None:
        """Let go of the library."""
        self._ask(self._nvml.nvmlShutdown)


def _text(found: Any) -> str:
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found or "")


def named(mask: int) -> tuple[str, ...]:
    """What the bits of a mask of reasons mean; being idle is none."""
    return tuple(name for bit, name in _REASONS.items() if mask & bit)
