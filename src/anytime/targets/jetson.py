"""What a Jetson tells of itself in files: board, release, power mode by its name, clocks, and what holds them down.

Paths as Jetson Linux 35 to 39 have them: ``/etc/nv_tegra_release``, ``/var/lib/nvpmodel/status``,
``/etc/nvpmodel.conf``; devfreq for the GPU and, on Thor, the memory; BPMP's debugfs for the memory of Orin, which only
root may read.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from anytime.targets.files import number, read, words

ROOT = Path("/")
_GPU = ("gpu-gpc-0", "17000000.gpu", "17000000.ga10b")  # Thor, Orin since JetPack 6, Orin before
_HZ_PER_MHZ = 1_000_000
_MODE = re.compile(r"pmode:\s*(\d+)")
_NAMED = re.compile(r"<\s*POWER_MODEL\s+ID\s*=\s*(\d+)\s+NAME\s*=\s*([^\s>]+)")
_RELEASE = re.compile(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)")
# Jetson Linux to JetPack; as in jetson_stats.
_JETPACKS = {
    "36.3": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5": "6.2.2",
    "38.2": "7.0",
    "38.4": "7.1",
    "39.2": "7.2",
}
_LOCKED = ("performance", "userspace")  # governors that do not follow the load


class Clock(msgspec.Struct, frozen=True):
    """A clock now and its bounds, MHz, and whether it is held where it is; None: not told."""

    mhz: int | None = None
    least_mhz: int | None = None
    most_mhz: int | None = None
    locked: bool | None = None


def compatible(root: Path = ROOT) -> tuple[str, ...]:
    """What the board calls itself, most special first; empty where there is no device tree."""
    return words(root / "proc/device-tree/compatible")


def release(root: Path = ROOT) -> str:
    """Jetson Linux's version, like ``36.4.3``; empty where this is none."""
    found = _RELEASE.search(read(root / "etc/nv_tegra_release"))
    return f"{found[1]}.{found[2]}" if found else ""


def jetpack(version: str) -> str:
    """The JetPack that a version of Jetson Linux belongs to; empty where it is not known."""
    return next((name for prefix, name in _JETPACKS.items() if f"{version}.".startswith(f"{prefix}.")), "")


def power_modes(conf: str) -> dict[int, str]:
    """The names of the board's modes by their numbers, from nvpmodel's configuration."""
    lines = (line for line in conf.splitlines() if not line.lstrip().startswith("#"))
    return {int(found[1]): found[2] for line in lines if (found := _NAMED.search(line))}


def power_mode(status: str, conf: str) -> str:
    """The mode's name: nvpmodel keeps its number, which means another mode on another board."""
    found = _MODE.search(status)
    if found is None:
        return status or "unknown"
    return power_modes(conf).get(int(found[1]), f"mode {int(found[1])}")


def gpu_clock(root: Path = ROOT) -> Clock | None:
    """The GPU's clock; None where there is none of the known names."""
    for name in _GPU:
        folder = root / "sys/class/devfreq" / name
        if (clock := _devfreq(folder)) is not None:
            return clock
    return None


def memory_clock(root: Path = ROOT) -> Clock | None:
    """The memory's clock (EMC); only its cap where reading it takes root; None where nothing is told."""
    if (clock := _devfreq(root / "sys/class/devfreq/bwmgr")) is not None:
        return clock
    folder = root / "sys/kernel/debug/bpmp/debug/clk/emc"
    mhz, least, most = (_mhz(number(folder / name)) for name in ("rate", "min_rate", "max_rate"))
    caps = (root / "sys/kernel/nvpmodel_clk_cap/emc", root / "sys/kernel/nvpmodel_emc_cap/emc_iso_cap")
    cap = next((found for path in caps if (found := _mhz(number(path)))), None)
    bounds = [bound for bound in (most, cap) if bound]
    flag = number(folder / "mrq_rate_locked")
    clock = Clock(mhz, least, min(bounds) if bounds else None, None if flag is None else flag == 1)
    return None if clock == Clock() else clock


def _devfreq(folder: Path) -> Clock | None:
    mhz, least, most = (_mhz(number(folder / f"{name}_freq")) for name in ("cur", "min", "max"))
    if mhz is None and most is None:
        return None
    bound = least is not None and least == most
    return Clock(mhz, least, most, bound or read(folder / "governor") in _LOCKED)


def _mhz(hertz: int | None) -> int | None:
    """Whole MHz of a frequency; 0 is how some files say that there is none."""
    return hertz // _HZ_PER_MHZ if hertz else None


def throttling(root: Path = ROOT) -> tuple[str, ...]:
    """What holds clocks down now, or has since the machine was started: heat, and too much current."""
    found = []
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind = read(device / "type")
        if kind.endswith("-alert") and (number(device / "cur_state") or 0) > 0:
            found.append(f"{kind} is on")
    for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if read(monitor / "name") == "soctherm_oc":
            counts = {path.name.split("_")[0]: number(path) for path in sorted(monitor.glob("oc*_event_cnt"))}
            found += [
                f"{name}: {count} over-current or under-voltage events" for name, count in counts.items() if count
            ]
    return tuple(found)
