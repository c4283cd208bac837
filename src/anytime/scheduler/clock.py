"""The clock: the only place in the package that reads the time."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timezone
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """A monotonic clock in integer nanoseconds."""

    def now(self) -> int:
        """The current instant, ns."""
        ...

    def wait_until(self, event: threading.Event, instant_ns: int) -> bool:
        """Block until ``event`` is set or the instant has come; whether it was set."""
        ...


class MonotonicClock:
    """CLOCK_MONOTONIC, which ROS calls steady time: no steps, no leap seconds."""

    def now(self) -> int:
        return time.monotonic_ns()

    def wait_until(self, event: threading.Event, instant_ns: int) -> bool:
        while not event.is_set():
            left_ns = instant_ns - self.now()
            if left_ns <= 0:
                return False
            event.wait(left_ns / NS_PER_S)  # releases the GIL; the timeout also counts on CLOCK_MONOTONIC
        return True


MONOTONIC = MonotonicClock()


def seconds_to_ns(seconds: float) -> int:
    """Seconds as a float to the nearest nanosecond."""
    return round(seconds * NS_PER_S)


def system_ns() -> int:
    """The system's clock, ns since 1970: what stamps of other machines are in. It may be set at any time."""
    return time.time_ns()


def utc_stamp() -> str:
    """The date and time for people, in records that outlive the process. Never used in arithmetic."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
