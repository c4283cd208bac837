"""What machine this is, as far as it tells: part of every latency profile's key."""

from __future__ import annotations

import os
import platform

import msgspec

from anytime.errors import TargetError
from anytime.targets import jetson
from anytime.targets.files import read as _read
from anytime.targets.reading import Reading

_STATUS, _CONF = "/var/lib/nvpmodel/status", "/etc/nvpmodel.conf"
_DRIVER = "/proc/driver/nvidia/version"  # of a discrete GPU; a Jetson has none, or one that tells no clocks


class Host(msgspec.Struct, frozen=True):
    """The machine at hand. ``governor`` and ``load`` change by the minute and are no part of a profile's key."""

    processor: str
    architecture: str
    cores: int
    memory_gib: float
    power_mode: str
    governor: str
    load: float

    def threads(self) -> int:
        """Threads for the engine: one core is left to the caller, who has a deadline to keep."""
        return max(1, self.cores - 1)


class Clocks(msgspec.Struct, frozen=True):
    """Power mode and clocks of the cores this process may use, at one moment.

    ``mhz`` and ``most_mhz`` are the current frequency of each core and the highest it is allowed. What the machine does
    not tell is 'unknown', empty, or None.
    """

    power_mode: str
    governor: str
    mhz: tuple[int, ...]
    most_mhz: tuple[int, ...]
    gpu_mhz: int | None = None
    memory_mhz: int | None = None

    def reading(self) -> Reading:
        """The clocks that a GPU's runs depend on."""
        return Reading(self.gpu_mhz, self.memory_mhz)


def clocks() -> Clocks:
    """Read power mode and clocks; nothing is changed and no privilege needed."""
    cores = [f"/sys/devices/system/cpu/cpu{core}/cpufreq" for core in sorted(os.sched_getaffinity(0))]
    governors = {_read(f"{core}/scaling_governor") for core in cores} - {""}
    gpu = _gpu()
    return Clocks(
        power_mode=_power_mode(),
        governor=", ".join(sorted(governors)) or "unknown",
        mhz=_mhz([f"{core}/scaling_cur_freq" for core in cores]),
        most_mhz=_mhz([f"{core}/scaling_max_freq" for core in cores]),
        gpu_mhz=gpu.gpu_mhz,
        memory_mhz=gpu.memory_mhz,
    )


def _gpu() -> Reading:
    """Clocks of the GPU and of its memory, as far as they are told."""
    gpu, memory = jetson.gpu_clock(), jetson.memory_clock()
    if gpu is not None or memory is not None:
        return Reading(gpu.mhz if gpu else None, memory.mhz if memory else None)
    if not _read(_DRIVER):
        return Reading()
    from anytime.targets.nvml import Nvml

    try:
        device = Nvml()
        try:
            return device.read()
        finally:
            device.close()
    except TargetError:
        return Reading()


def _mhz(paths: list[str]) -> tuple[int, ...]:
    """Frequencies that files state in kHz; nothing where one of them states none."""
    texts = [_read(path) for path in paths]
    return tuple(int(text) // 1000 for text in texts) if all(text.isdecimal() for text in texts) else ()


def _power_mode() -> str:
    return jetson.power_mode(_read(_STATUS), _read(_CONF))


def detect() -> Host:
    """Look at the host; what it does not tell is 'unknown'."""
    return Host(
        processor=_processor(),
        architecture=platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory_bytes() / 2**30, 1),
        power_mode=_power_mode(),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown",
        load=os.getloadavg()[0],
    )


def memory_bytes() -> int:
    """All memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_bytes() -> int:
    """Memory that can be taken without swapping, as the kernel estimates it."""
    for line in _read("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return memory_bytes()


def _processor() -> str:
    """Model name with the stepping numbers that tell like-named processors apart."""
    fields: dict[str, str] = {}
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or _read("/proc/device-tree/model").strip("\0") or platform.machine()
    numbers = [fields[key] for key in ("cpu family", "model", "CPU part") if key in fields]
    return " ".join([name, *numbers])
