"""Stamps: from ROS time to the steady clock, and what is refused on the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime.errors import InputError
from anytime.node.messages import Time
from anytime.node.stamps import TOLERANCE_NS, Stamps, ns_of, time_of
from anytime.testing import MockClock
from tests.conftest import MS

S = 1000 * MS
EPOCH_NS = 1_800_000_000 * S  # of the system's clock in these tests


def stamps(clock: MockClock, sim_time: bool = False) -> Stamps:
    """The system's clock runs beside the steady one."""
    return Stamps(clock, sim_time, system=lambda: EPOCH_NS + clock.now())


def refused(call: Callable[[], object]) -> InputError:
    with pytest.raises(InputError) as caught:
        call()
    return caught.value


@given(st.integers(0, 2**31 * S - 1))
def test_a_stamp_is_two_numbers(instant_ns: int) -> None:
    """Seconds and nanoseconds and back."""
    assert ns_of(time_of(instant_ns)) == instant_ns


@given(st.integers(-TOLERANCE_NS, 200 * MS - 1))
def test_a_deadline_counts_from_the_stamp(age_ns: int) -> None:
    """A stamp's age is taken off now; one slightly in the future is now, so that no budget grows."""
    clock = MockClock(start_ns=7 * S)
    got = stamps(clock).steady_ns(time_of(EPOCH_NS + 7 * S - age_ns), 200 * MS)
    assert got == 7 * S - max(0, age_ns)


def test_a_stall_between_reading_the_clocks_gives_no_time_away() -> None:
    """Whatever passes between the two readings makes the deadline earlier."""
    clock = MockClock(start_ns=S)

    def system() -> int:
        clock.advance(30 * MS)
        return EPOCH_NS + clock.now()

    assert Stamps(clock, system=system).steady_ns(time_of(EPOCH_NS + S), 100 * MS) == S - 30 * MS


def test_a_step_of_the_system_clock_moves_no_deadline_set_before() -> None:
    """The mapping is made when the stamp is looked at, anew each time."""
    clock, offset = MockClock(start_ns=S), [EPOCH_NS]
    mapped = Stamps(clock, system=lambda: offset[0] + clock.now())
    before = mapped.steady_ns(time_of(EPOCH_NS + S - 20 * MS), 100 * MS)
    offset[0] += 3600 * S
    assert before == S - 20 * MS
    assert mapped.steady_ns(time_of(EPOCH_NS + 3601 * S - 20 * MS), 100 * MS) == before


@pytest.mark.parametrize(
    ("off_ns", "trouble", "why"),
    [
        (TOLERANCE_NS + 1, "future", "in the future"),
        (2 * S, "future", "synchronize the clocks"),
        (37 * S, "clock", "reads another clock"),  # TAI instead of UTC
        (-200 * MS, "stale", "its budget is 200.0 ms"),
        (-5 * S, "stale", "5.0 s old"),
        (-37 * S, "clock", "reads another clock"),
        (-EPOCH_NS + 5 * S, "clock", "with the system's clock, or set use_sim_time"),  # steady or simulated time
    ],
)
def test_stamps_that_are_refused(off_ns: int, trouble: str, why: str) -> None:
    """From the future, from another clock, or older than the budget: the reason says which."""
    clock = MockClock(start_ns=10 * S)
    error = refused(lambda: stamps(clock).steady_ns(time_of(EPOCH_NS + 10 * S + off_ns), 200 * MS))
    assert error.trouble == trouble
    assert why in str(error)


@pytest.mark.parametrize("stamp", [Time(-1, 0), Time(1, S), Time(1, -1), Time(2**31, 0), Time(0, 0)])
def test_malformed_stamps(stamp: Time) -> None:
    """Numbers that ROS cannot write, and the zero of a publisher that fills in nothing."""
    assert refused(lambda: stamps(MockClock()).steady_ns(stamp, S)).trouble == "malformed"


def test_simulated_time_is_what_clock_says() -> None:
    """Ages are taken in simulated time; before the first /clock everything is refused, and messages are stamped 0."""
    clock = MockClock(start_ns=50 * S)
    mapped = stamps(clock, sim_time=True)
    error = refused(lambda: mapped.steady_ns(time_of(S), S))
    assert (error.trouble, mapped.stamp()) == ("clock", Time())
    assert "no /clock has come yet" in str(error)
    mapped.on_clock(Time(3, 0))
    assert mapped.stamp() == Time(3, 0)
    assert mapped.steady_ns(time_of(3 * S - 40 * MS), S) == 50 * S - 40 * MS
    assert mapped.steady_ns(Time(3, 0), S) == 50 * S
    assert "give its publisher the same" in str(refused(lambda: mapped.steady_ns(time_of(EPOCH_NS), S)))


def test_a_simulation_may_start_again() -> None:
    """When /clock jumps back, stamps of before are in the future."""
    mapped = stamps(MockClock(start_ns=50 * S), sim_time=True)
    mapped.on_clock(Time(30, 0))
    mapped.on_clock(Time(25, 0))
    assert refused(lambda: mapped.steady_ns(Time(30, 0), S)).trouble == "future"
    assert mapped.steady_ns(Time(25, 0), S) == 50 * S
