"""What requests offer for the engine's time: stages along a concave hull, from forecasts where there are any."""

from __future__ import annotations

import itertools

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
from anytime.scheduler.profile import LatencyProfile
from anytime.scheduler.stages import hull
from anytime.testing import MockClock, ScriptedEngine
from tests.conftest import MS
from tests.doubles import LEFT_OR_RIGHT, flat_forecast


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 1)), max_size=12), st.floats(0, 1))
def test_stages_lie_on_the_concave_hull(points: list[tuple[int, float]], base: float) -> None:
    """Each stage gains less for its time than the one before, all gain, and no point lies above the way they lead."""
    stages = hull(points, base)
    assert all(cost > 0 and gain > 0 for cost, gain in stages)
    slopes = [gain / cost for cost, gain in stages]
    assert all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(slopes))
    for cost, quality in points:
        if cost > 0:
            reached, spent = base, 0
            for length, gain in stages:
                part = min(length, cost - spent)
                reached += gain * max(0, part) / length
                spent += length
            assert quality <= reached + 1e-9


def test_what_promises_nothing_is_no_stage() -> None:
    """Time that leads nowhere is not asked for."""
    assert hull([(10, 0.5), (20, 0.4)], 0.5) == []
    assert hull([(10, 0.6), (20, 0.9), (30, 0.9)], 0.5) == [(20, 0.4)]


def market(codec: Codec, profile: LatencyProfile, forecast: Forecast | None) -> tuple[Market, Job]:
    clock = MockClock()
    engine = ScriptedEngine(clock, profile.latency(), lambda tokens: 0, vocab_size=64, max_context=256)
    machine = Machine(engine, codec, profile, profile.latency(), clock, Prefixes(engine), forecast)
    answer = compile_format(LEFT_OR_RIGHT, codec)
    return Market(machine), Job(1, codec.encode("what"), 100 * MS, answer, Sampling(), UntilDeadline(), AnswerBank())


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
