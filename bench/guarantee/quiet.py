"""Whether a bare timer is on time here. Where it is not, hours of measuring end in parts that are void."""

from __future__ import annotations

import threading

from anytime.scheduler.clock import NS_PER_MS, Clock
from bench.guarantee.figures import CONTROL_VOID

WAITS, QUICK_WAITS = 1_000, 50
_WAIT_NS = 10 * NS_PER_MS


def late_timers_ns(clock: Clock, delivery_ns: int, count: int) -> list[int]:
    """How late each timer was that was late, of so many that ring ``delivery_ns`` before a deadline."""
    never, late = threading.Event(), []
    for _ in range(count):
        deadline_ns = clock.now() + _WAIT_NS
        clock.wait_until(never, deadline_ns - delivery_ns)
        late.append(clock.now() - deadline_ns)
    return [late_ns for late_ns in late if late_ns > 0]


def unfit(late_ns: list[int], count: int) -> str | None:
    """What to say of a machine whose timers alone are late too often, before anything is measured on it."""
    if len(late_ns) <= CONTROL_VOID * count:
        return None
    return (
        f"this machine is late by itself: {len(late_ns)} of {count} bare timers were, by up to "
        f"{max(late_ns) / NS_PER_MS:.1f} ms, and parts measured now will be void: end other programs, or measure "
        "elsewhere"
    )
