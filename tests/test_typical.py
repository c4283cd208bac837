"""What is typical of a machine, by the decode passes of its profile."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from anytime.calibrate.typical import factor_of, pace_of
from anytime.scheduler.pace import Pace
from anytime.scheduler.profile import Cell, LatencyProfile


def measured(profile: LatencyProfile, ratio: Callable[[int], float], steps: int = 4_000) -> LatencyProfile:
    """The profile of a decode pass whose i-th step took ``ratio(i)`` times what is predicted."""
    latency = profile.latency()
    times = tuple(round(ratio(i) * latency.run_ns(1, 100 + i)) for i in range(steps))
    return msgspec.structs.replace(profile, steps=(Cell(1, 100, times),))


def test_steps_as_predicted_have_pace_and_factor_one(profile: LatencyProfile) -> None:
    """Nothing is slower than planned with."""
    steady = measured(profile, lambda i: 1.0)
    assert (pace_of(steady), factor_of(steady)) == (1.0, 1.0)


def test_stalls_add_to_the_pace_and_not_to_the_factor(profile: LatencyProfile) -> None:
    """One step in a hundred that takes eleven times as long adds a tenth; a single stall is no slowdown."""
    stalling = measured(profile, lambda i: 11.0 if i % 100 == 50 else 1.0)
    assert pace_of(stalling) == pytest.approx(1.1, abs=0.005)
    assert factor_of(stalling) == 1.0


def test_slow_stretches_keep_the_factor_up(profile: LatencyProfile) -> None:
    """Behind a slow stretch the runtime stays wary for longer than it lasted, as a live one does."""
    uneven = measured(profile, lambda i: 1.3 if i % 400 < 80 else 1.0)
    assert pace_of(uneven) == pytest.approx(1.06, abs=0.005)
    assert 1.15 < factor_of(uneven) < 1.3


def test_a_quick_profile_will_do(profile: LatencyProfile) -> None:
    """A single row of steps, not even a full one, has a pace and a factor."""
    assert factor_of(measured(profile, lambda i: 2.0, steps=3)) == Pace(profile).factor
