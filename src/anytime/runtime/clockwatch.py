"""Following the machine's clocks: when one drops, plans are made for a slower engine at once, not some steps later.

The clocks come from ``tegrastats`` on a Jetson, from NVML where the engine runs on a discrete GPU. How much slower the
engine really is, its own steps show afterwards (``scheduler.pace``); the clocks say it before the next step is planned.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from anytime.errors import TargetError
from anytime.scheduler.clock import NS_PER_MS, Clock
from anytime.scheduler.pace import Pace
from anytime.scheduler.profile import LatencyProfile
from anytime.targets import Reading, slowdown

if TYPE_CHECKING:
    import logging

_PERIOD_NS = 200 * NS_PER_MS
_NOTICED = 1.03  # clocks differ by a step or two from reading to reading
NO_GPU = "none"
_DEBUG, _WARNING = 10, 30  # of logging, which takes long to import


class Source(Protocol):
    """Readings as they come. Iterating raises ``TargetError`` where there are no more; ``close`` ends it quietly."""

    def __iter__(self) -> Iterator[Reading]: ...

    def close(self) -> None: ...


class ClockWatch:
    """Tells a pace of every drop of the clocks below those that its profile was measured at.

    Where the profile does not know those, the highest seen since count. A drop is told once, and again when it deepens:
    what steps take is known better from then on. That it is over is told too. The log has a warning of a drop deeper
    than any before, and of whatever goes wrong here, which disturbs nobody.
    """

    def __init__(
        self, source: Source, pace: Pace, measured_at: Reading, busy: Callable[[], bool], gpu: bool = True
    ) -> None:
        """``busy`` says whether the engine has work, where a reading does not; without ``gpu``, memory counts alone."""
        self._source, self._pace, self._busy, self._gpu = source, pace, busy, gpu
        self._full = self._counted(measured_at)
        self._known = self._full
        self._told = self._deepest = 1.0
        self._thread = threading.Thread(target=self._watch, name="anytime-clocks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the watching, and its source."""
        self._source.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=1.0)

    def note(self, reading: Reading) -> None:
        """Take one reading into account."""
        if not (self._busy() if reading.busy is None else reading.busy):
            return
        now = self._counted(reading)
        self._full = Reading(
            self._known.gpu_mhz or now.higher(self._full).gpu_mhz,
            self._known.memory_mhz or now.higher(self._full).memory_mhz,
        )
        slower = slowdown(self._full, now)
        if slower < _NOTICED and self._told > 1.0:
            self._told = 1.0
            self._pace.recover()
        elif slower > self._told * _NOTICED:
            self._told = slower
            self._pace.expect(slower)
            plans = f"plans are made for an engine {slower:.2f} times as slow, until its steps show how slow it is"
            level = _WARNING if slower > self._deepest * _NOTICED else _DEBUG
            self._deepest = max(self._deepest, slower)
            _log().log(level, "clocks dropped: %s instead of %s; %s", reading, self._full, plans)

    def _counted(self, reading: Reading) -> Reading:
        return reading if self._gpu else Reading(memory_mhz=reading.memory_mhz)

    def _watch(self) -> None:
        try:
            for reading in self._source:
                self.note(reading)
        except TargetError as error:
            _log().warning("%s", error)
        except Exception:  # the clocks are a help; nobody may fail for want of them
            _log().exception("clocks are no longer watched")


def follow(source: Source, profile: LatencyProfile, pace: Pace, busy: Callable[[], bool]) -> ClockWatch:
    """Start watching for a pace what its profile was measured at; an engine on the processor heeds memory alone."""
    warm = profile.regime("warm")
    measured_at = warm.clocks.reading() if warm is not None else Reading()
    watch = ClockWatch(source, pace, measured_at, busy, gpu=profile.key.gpu != NO_GPU)
    watch.start()
    return watch


class NvmlSource:
    """Readings of a GPU, five a second."""

    def __init__(self, device: GpuReader, clock: Clock) -> None:
        self._device, self._clock, self._ended = device, clock, threading.Event()

    def __iter__(self) -> Iterator[Reading]:
        """
        Raises:
            TargetError: the GPU tells no clocks any more.
        """
        try:
            while not self._clock.wait_until(self._ended, self._clock.now() + _PERIOD_NS):
                yield self._device.read()
        finally:
            self._device.close()

    def close(self) -> None:
        self._ended.set()


class GpuReader(Protocol):
    """What ``targets.nvml.Nvml`` is."""

    def read(self) -> Reading: ...

    def close(self) -> None: ...


def find_source(gpu: str, clock: Clock) -> Source | None:
    """Where this machine's clocks can be read; None where nowhere. ``gpu`` is that of the engine's profile."""
    from anytime.targets import tegrastats

    try:
        if tegrastats.available():
            return tegrastats.Tegrastats()
        if gpu != NO_GPU:
            from anytime.targets.nvml import Nvml

            return NvmlSource(Nvml(), clock)
    except TargetError as error:
        _log().warning("%s", error)
    return None


def _log() -> logging.Logger:
    import logging  # most machines tell no clocks, and it takes long to import

    return logging.getLogger("anytime")
