"""When a periodic task is released, and by when each release is due."""

from __future__ import annotations

import msgspec

from anytime.errors import UsageError
from anytime.scheduler.clock import seconds_to_ns

_LONGEST_S = 86_400.0


class Releases(msgspec.Struct, frozen=True):
    """Release k is at ``start_ns + k · period_ns``, due ``deadline_ns`` later (Liu and Layland 1973)."""

    start_ns: int
    period_ns: int
    deadline_ns: int

    def next(self, now: int, after: int) -> int:
        """The first release behind the one numbered ``after`` that is not over: those due already are left out."""
        due = now - self.deadline_ns - self.start_ns
        return max(after + 1, -(-due // self.period_ns))

    def released_ns(self, k: int) -> int:
        """The instant of a release."""
        return self.start_ns + k * self.period_ns


def releases(now: int, period_s: float, due_s: float | None, phase_s: float) -> Releases:
    """Releases from ``phase_s`` after now on; due by the next one unless ``due_s`` says sooner.

    Raises:
        UsageError: a time that is no number, not above 0, more than a day, or a deadline behind the period.
    """
    due_s = period_s if due_s is None else due_s
    for name, value, least in (("period", period_s, True), ("due", due_s, True), ("phase", phase_s, False)):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= _LONGEST_S or (least and value == 0):
            raise UsageError(f"{name} is {value!r}: give seconds {'above' if least else 'from'} 0, at most a day")
    if due_s > period_s:
        raise UsageError(f"due is {due_s!r}, behind the next release: give the period, {period_s!r}, or less")
    start_ns = now + seconds_to_ns(phase_s)
    return Releases(start_ns, max(1, seconds_to_ns(period_s)), max(1, seconds_to_ns(due_s)))
