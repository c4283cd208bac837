"""ROS time and steady time: the one place where a stamp becomes an instant on the clock that deadlines are kept by.

A stamp is in ROS time, which is the system's clock or, under ``use_sim_time``, what ``/clock`` says. Its age is taken
in that time at the moment it is looked at, and counted back from now on the steady clock. So a step of the system's
clock moves no deadline that was set before, and simulated time is taken to run as fast as real time from the stamp to
the deadline.
"""

from __future__ import annotations

from collections.abc import Callable

from anytime.errors import InputError
from anytime.node.messages import Time
from anytime.scheduler.clock import NS_PER_MS, NS_PER_S, Clock, system_ns

TOLERANCE_NS = 5 * NS_PER_MS  # two machines' clocks, kept in step by NTP, may differ by so much
_OTHER_CLOCK_NS = 10 * NS_PER_S  # who is so far off reads another clock (TAI and UTC differ by 37 s)
_MOST_SEC = 2**31 - 1


class Stamps:
    """Maps stamps to the steady clock ``clock``; ``system`` reads the system's clock, ns."""

    def __init__(
        self,
        clock: Clock,
        sim_time: bool = False,
        tolerance_ns: int = TOLERANCE_NS,
        system: Callable[[], int] = system_ns,
    ) -> None:
        self._clock, self._system, self._tolerance_ns = clock, system, tolerance_ns
        self.sim_time = sim_time
        self._simulated_ns: int | None = None

    def on_clock(self, time: Time) -> None:
        """Simulated time has come to this instant; it may jump back, when the simulation starts again.

        Raises:
            InputError: malformed.
        """
        self._simulated_ns = ns_of(time)

    def now_ns(self) -> int | None:
        """Now in ROS time; None before the first ``/clock``."""
        return self._simulated_ns if self.sim_time else self._system()

    def stamp(self) -> Time:
        """The stamp of a message that is published now; zero before the first ``/clock``, as ROS has it."""
        return time_of(self.now_ns() or 0)

    def steady_ns(self, stamp: Time, budget_ns: int) -> int:
        """The instant of a stamp on the steady clock, now where it is in the future by no more than the tolerance.

        Args:
            stamp: of a message that has just arrived.
            budget_ns: how long it matters. A stamp older than that is refused as stale.

        Raises:
            InputError: ``malformed``, from the ``future``, of another ``clock``, or ``stale``.
        """
        now = self._clock.now()  # before the other clock: a stall between the two makes the deadline earlier, not later
        age_ns = self._age_ns(stamp)
        if age_ns < -self._tolerance_ns:
            off = f"the stamp {_text(stamp)} is {_far(-age_ns)} in the future"
            if age_ns < -_OTHER_CLOCK_NS:
                raise InputError("clock", f"{off}: its publisher reads another clock; {self._remedy()}")
            raise InputError(
                "future", f"{off}, more than {_far(self._tolerance_ns)}: synchronize the clocks (NTP, PTP)"
            )
        if age_ns >= budget_ns:
            off = f"the stamp {_text(stamp)} is {_far(age_ns)} old, and its budget is {_far(budget_ns)}"
            if age_ns - budget_ns > _OTHER_CLOCK_NS:
                raise InputError("clock", f"{off}: its publisher reads another clock; {self._remedy()}")
            raise InputError("stale", off)
        return now - max(0, age_ns)

    def _age_ns(self, stamp: Time) -> int:
        stamp_ns, now_ns = ns_of(stamp), self.now_ns()
        if now_ns is None:
            raise InputError("clock", "use_sim_time is true and no /clock has come yet: start the simulation")
        if stamp_ns == 0 and not self.sim_time:
            raise InputError("malformed", "the stamp is zero: fill in header.stamp, from which the budget counts")
        return now_ns - stamp_ns

    def _remedy(self) -> str:
        if self.sim_time:
            return "the node has use_sim_time: give its publisher the same"
        return "stamp messages with the system's clock, or set use_sim_time for simulations and bags"


def ns_of(time: Time) -> int:
    """Nanoseconds since ROS time's zero.

    Raises:
        InputError: it is no stamp that ROS can write.
    """
    if not (0 <= time.sec <= _MOST_SEC and 0 <= time.nanosec < NS_PER_S):
        raise InputError("malformed", f"the stamp {_text(time)} is none: sec from 0, nanosec below 1000000000")
    return time.sec * NS_PER_S + time.nanosec


def time_of(instant_ns: int) -> Time:
    """The stamp of so many nanoseconds."""
    return Time(*divmod(instant_ns, NS_PER_S))


def _text(time: Time) -> str:
    return f"{time.sec}.{time.nanosec:09d}"


def _far(span_ns: int) -> str:
    return f"{span_ns / NS_PER_MS:.1f} ms" if span_ns < NS_PER_S else f"{span_ns / NS_PER_S:.1f} s"
