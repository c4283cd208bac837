"""The speeds to plan with follow the engine when it becomes slower than its profile, and come back."""

from __future__ import annotations

import pytest

from anytime.runtime.policies.until import UntilDeadline
from anytime.runtime.prompt import Codec
from anytime.scheduler.admission import Grant, Work, admit
from anytime.scheduler.pace import Pace, slowed
from anytime.scheduler.profile import LatencyProfile
from tests.conftest import MS, MakeReasoner, turns_at
from tests.doubles import LEFT_OR_RIGHT, decode_alone

WORK = Work(20, 0, 1, 1, 1024)


def cap(pace: Pace) -> int:
    outcome = admit(WORK, 200 * MS, pace.profile)
    assert isinstance(outcome, Grant)
    return outcome.token_cap


def slow(pace: Pace, times: float, bursts: int) -> None:
    for _ in range(bursts):
        predicted_ns = sum(pace.measured.latency().run_ns(1, 100 + i) for i in range(8))
        pace.stepped(8, 100, 1, round(times * predicted_ns))


def test_caps_shrink_within_twenty_steps_of_a_slowdown(profile: LatencyProfile) -> None:
    """Two bursts of eight steps at three times their time, and a budget buys no more than a third of the thought."""
    pace = Pace(profile)
    before = cap(pace)
    slow(pace, 3.0, bursts=2)
    assert cap(pace) <= 0.36 * before
    assert pace.latency().run_ns(1, 100) >= 2.9 * profile.latency().run_ns(1, 100)
    assert pace.latency(4).run_ns(1, 100) >= 2.9 * profile.latency(4).run_ns(1, 100)


def test_a_single_stall_changes_little(profile: LatencyProfile) -> None:
    """One burst of fifty times its time is no slowdown."""
    pace = Pace(profile)
    before = cap(pace)
    slow(pace, 50.0, bursts=1)
    assert cap(pace) >= 0.7 * before


def test_speeds_come_back(profile: LatencyProfile) -> None:
    """Behind the slowdown, predictions approach what was measured again, and are never faster."""
    pace = Pace(profile)
    slow(pace, 3.0, bursts=4)
    slow(pace, 0.5, bursts=600)
    assert pace.latency().run_ns(1, 100) == pytest.approx(profile.latency().run_ns(1, 100), rel=0.05)
    assert pace.latency().run_ns(1, 100) >= profile.latency().run_ns(1, 100)


def test_the_factor_is_what_is_planned_with(profile: LatencyProfile) -> None:
    """The profile to plan with is the measured one of an engine that is slower by the factor."""
    pace = Pace(profile)
    assert (pace.factor, pace.profile) == (1.0, profile)
    slow(pace, 3.0, bursts=4)
    assert pace.factor == pytest.approx(3.0, rel=0.02)
    assert pace.profile == slowed(profile, pace.factor)
    assert pace.profile.rows_ns(4, 100) == pytest.approx(pace.factor * profile.rows_ns(4, 100), abs=1)


def test_a_report_asks_for_a_new_profile(profile: LatencyProfile) -> None:
    """A pace that stays another is reported with its figures; one that holds is not."""
    pace = Pace(profile)
    slow(pace, 1.0, bursts=500)
    assert pace.report() is None
    slow(pace, 2.0, bursts=500)
    assert "2.00 times" in (pace.report() or "")


def test_a_slower_engine_closes_in_time(codec: Codec, profile: LatencyProfile) -> None:
    """An engine three times slower than its profile still closes its thought before the deadline."""
    job, bank, _, clock = decode_alone(
        turns_at(0), 200 * MS, codec, profile, policy=UntilDeadline(), slowdown=lambda run: 3.0
    )
    assert job.stopped == "deadline"
    assert bank.offered[-1].source == "thought"
    assert clock.now() <= 200 * MS


def test_no_engine_is_taken_for_slow_for_ever(make_reasoner: MakeReasoner) -> None:
    """After a slowdown under which nothing fits any more, refusals lead back to trying."""
    reasoner, _, _ = make_reasoner(turns_at(0))
    slow(reasoner._machine.pace, 80.0, bursts=4)
    answers = [reasoner.answer("what", budget=0.05, answer=LEFT_OR_RIGHT) for _ in range(8)]
    assert answers[0].stopped == "rejected"
    assert answers[-1].valid
    assert reasoner.drift() is None
