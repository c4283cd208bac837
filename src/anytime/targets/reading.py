"""Clocks at one moment, and how much slower they can have made an engine."""

from __future__ import annotations

import msgspec


class Reading(msgspec.Struct, frozen=True):
    """GPU and memory clock in MHz, whether the GPU had work, and why its clock is held down; None: not told.

    Clocks of a GPU without work say nothing: they fall to save power, and rise with the next run.
    """

    gpu_mhz: int | None = None
    memory_mhz: int | None = None
    busy: bool | None = None
    reasons: tuple[str, ...] = ()

    def higher(self, other: Reading) -> Reading:
        """The higher of each clock, of both readings."""
        return Reading(_most(self.gpu_mhz, other.gpu_mhz), _most(self.memory_mhz, other.memory_mhz))

    def __str__(self) -> str:
        clocks = [("GPU", self.gpu_mhz), ("memory", self.memory_mhz)]
        told = " and ".join(f"{name} {mhz} MHz" for name, mhz in clocks if mhz is not None)
        return (told or "no clocks") + (f" ({', '.join(self.reasons)})" if self.reasons else "")


def slowdown(full: Reading, now: Reading) -> float:
    """What times can have grown by since the clocks were ``full``: the largest ratio of a clock then to now, or 1.

    Every part of a run takes time in inverse proportion to one of the clocks or to none, so no run has slowed by more
    while the work is the same. Clocks that one of the readings does not tell are left out.
    """
    pairs = ((full.gpu_mhz, now.gpu_mhz), (full.memory_mhz, now.memory_mhz))
    return max([1.0, *(then / mhz for then, mhz in pairs if then and mhz)])


def _most(a: int | None, b: int | None) -> int | None:
    known = [mhz for mhz in (a, b) if mhz is not None]
    return max(known) if known else None
