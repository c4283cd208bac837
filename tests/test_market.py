"""What requests offer for the engine's time: stages along a concave hull, from forecasts where there are any."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anytime.runtime.answers.compiling import compile_format
from anytime.runtime.bank import AnswerBank, Candidate
from anytime.runtime.forecast import Forecast
from anytime.runtime.job import Job, Machine
from anytime.runtime.market import Market
from anytime.runtime.policies.until import UntilDeadline
from anytime.runtime.prefixes import Prefixes
from anytime.runtime.prompt import Codec
from anytime.runtime.sampling import Sampling
from anytime.scheduler.pace import Pace
from anytime.scheduler.profile import LatencyProfile
from anytime.scheduler.stages import hull
from anytime.testing import MockClock, ScriptedEngine
from tests.conftest import MS
from tests.doubles import LEFT_OR_RIGHT, flat_forecast
from tests.test_forecast import forecast

# In millionths: the difference of two floats can be so small that there is no slope between them.
PROBABILITIES = st.integers(0, 10**6).map(lambda millionths: millionths / 10**6)


@given(st.lists(st.tuples(st.integers(0, 100), PROBABILITIES), max_size=12), PROBABILITIES)
def test_corners_are_the_rising_concave_hull(points: list[tuple[int, float]], base: float) -> None:
    """Gains fall from corner to corner, and no point lies above the way along them."""
    corners = hull((0, base), points)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(corners)]
    assert all(slope > 0 for slope in slopes)
    assert all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(slopes))
    for cost, quality in points:
        if cost > 0:
            assert quality <= np.interp(cost, *zip(*corners, strict=True)) + 1e-9


def test_what_promises_nothing_is_no_corner() -> None:
    """Time that leads nowhere is not asked for."""
    assert hull((0, 0.5), [(10, 0.5), (20, 0.4)]) == [(0, 0.5)]
    assert hull((0, 0.5), [(10, 0.6), (20, 0.9), (30, 0.9)]) == [(0, 0.5), (20, 0.9)]


def market(codec: Codec, profile: LatencyProfile, forecast: Forecast | None) -> tuple[Market, Job]:
    clock = MockClock()
    engine = ScriptedEngine(clock, profile.latency(), lambda tokens: 0, vocab_size=64, max_context=256)
    machine = Machine(engine, codec, Pace(profile), clock, Prefixes(engine), forecast)
    answer = compile_format(LEFT_OR_RIGHT, codec)
    policy = UntilDeadline()
    job = Job(1, "1", codec.encode("what"), 100 * MS, answer, Sampling(), policy, AnswerBank())
    return Market(machine), job


def test_a_forecast_says_what_a_thought_is_worth(codec: Codec, profile: LatencyProfile) -> None:
    """A thought that is expected to help is offered at what it costs; one that is not is not offered."""
    offers, job = market(codec, profile, flat_forecast(now=0.6, length=50, later=0.9))
    job.bank.offer(Candidate("left", 0.6, "instant", 0, 1, likelihood=0.6))
    ((cost_ns, gain),) = offers.stages(job)
    assert gain == 0.9 - 0.6 or abs(gain - 0.3) < 1e-9
    assert cost_ns < 5 * MS  # by that forecast even the shortest thought is worth as much as a long one
    hopeless, job = market(codec, profile, flat_forecast(now=0.6, length=50, later=0.5))
    job.bank.offer(Candidate("left", 0.6, "instant", 0, 1, likelihood=0.6))
    assert hopeless.stages(job) == []


def test_without_a_forecast_more_thought_is_worth_ever_less(codec: Codec, profile: LatencyProfile) -> None:
    """All the context could be thought through, in stages that gain less and less, whatever was thought before."""
    offers, job = market(codec, profile, None)
    fresh = offers.stages(job)
    assert len(fresh) == 8
    assert 200 * MS < sum(cost for cost, _ in fresh) < 350 * MS
    job.thought, job.effort = [0] * 100, ""
    begun = offers.stages(job)
    assert begun[0][1] / begun[0][0] < fresh[0][1] / fresh[0][0]


def test_a_thought_that_lasts_longer_than_expected_is_offered_its_end(codec: Codec, profile: LatencyProfile) -> None:
    """What is left is short then, and worth what a whole thought is: time for it is cheap."""
    offers, job = market(codec, profile, forecast())
    job.bank.offer(Candidate("left", 0.5, "instant", 0, 1, likelihood=0.5))
    gains = []
    for done in (50, 100, 130):
        job.thought, job.effort = [0] * done, ""
        cost_ns, gain = map(sum, zip(*offers.stages(job), strict=True))
        gains.append(gain / cost_ns)
    assert gains == sorted(gains)
    assert gains[0] < gains[2]


def test_a_request_under_way_is_worked_out_once(codec: Codec, profile: LatencyProfile) -> None:
    """Until it has come further: of many that wait, one thinks."""
    offers, job = market(codec, profile, forecast())
    job.thought, job.effort = [0] * 50, ""
    assert offers.stages(job) is offers.stages(job)
    before = offers.stages(job)
    job.thought = [0] * 60
    assert offers.stages(job) != before
