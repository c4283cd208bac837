"""Which GPU this is, and in what condition it is measured."""

from __future__ import annotations

from typing import Any

import msgspec

from anytime.errors import TargetError
from anytime.targets import Condition, here
from anytime.targets.gpu import Gpu, probe
from anytime.targets.jetson import Clock
from anytime.targets.nvml import Nvml


class Card(msgspec.Struct, frozen=True):
    """``driver`` is empty where it is not told."""

    gpu: Gpu
    driver: str
    condition: Condition

    def told(self) -> str:
        """In a line."""
        where = self.condition
        parts = [
            f"{self.gpu.gpu}, compute capability {self.gpu.compute_capability}",
            f"driver {self.driver or 'not told'}, CUDA {self.gpu.cuda}",
            f"GPU clock {_clock(where.gpu_clock)}, memory clock {_clock(where.memory_clock)}",
        ]
        parts += [f"JetPack {where.jetpack}"] if where.jetpack else []
        parts += [f"power mode {where.power_mode}"] if where.power_mode != "unknown" else []
        return "; ".join(parts)


def card(nvml: Any = None) -> Card:
    """The first GPU. ``nvml`` is a double of ``pynvml``.

    Raises:
        DeviceError: there is none to be used.
    """
    found = probe()
    try:
        asked = Nvml(module=nvml)
        driver = asked.driver
        asked.close()
    except TargetError:
        driver = ""
    return Card(found, driver, here())


def _clock(clock: Clock | None) -> str:
    if clock is None or clock.mhz is None:
        return "not told"
    held = {True: "locked", False: "not locked", None: "locked or not, it is not told"}[clock.locked]
    return f"{clock.mhz} of up to {clock.most_mhz or '?'} MHz, {held}"
