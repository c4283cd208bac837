"""Watching how far the engine drifts from its profile."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime.ext import drift as kernel
from anytime.ext.latency import Latency
from anytime.scheduler import reference
from anytime.scheduler.drift import RUN, STEP, Drift
from anytime.scheduler.profile import Cell, LatencyProfile, Regime
from anytime.scheduler.tail import summarize
from anytime.targets import Clocks
from tests.conftest import make_profile

PREDICTED_NS = 1_000_000
COUNTED = ("factor", "margin", "planned_margin", "ratio", "actions", "overruns", "misses", "away")

ratios = st.one_of(st.floats(0.0, 5.0), st.just(1.0), st.floats(0.95, 1.05), st.floats(5.0, 1e6))
actions = st.tuples(st.integers(1, 10**10), ratios, st.sampled_from([STEP, RUN]))


def watcher(margin: float = 1.2, eta: float = 0.05, most: float = 4.0) -> kernel.Drift:
    return kernel.Drift(margin, 0.01, eta, 1.0, most)


def feed(drift: kernel.Drift, times: Iterable[float], kind: int = STEP) -> None:
    """One action for each of ``times``, measured over predicted."""
    for ratio in times:
        drift.update(PREDICTED_NS, round(PREDICTED_NS * ratio), kind)


def noise(count: int, spread: float = 0.05, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [rng.uniform(1 - spread, 1 + spread) for _ in range(count)]


def assert_same(found: kernel.Drift, plain: reference.Drift) -> None:
    for name in COUNTED:
        assert getattr(found, name) == pytest.approx(getattr(plain, name), rel=1e-9), name
    for kind in (STEP, RUN):
        assert found.pace(kind) == pytest.approx(plain.pace(kind), rel=1e-9)


@given(
    st.lists(actions, max_size=80),
    st.floats(1.0, 3.0),
    st.floats(0.001, 0.5),
    st.floats(0.001, 1.0),
    st.floats(3.0, 10.0),
)
def test_the_kernel_is_the_reference(
    taken: list[tuple[int, float, int]], margin: float, delta: float, eta: float, most: float
) -> None:
    """After every action the kernel stands where the plain Python stands."""
    found, plain = kernel.Drift(margin, delta, eta, 1.0, most), reference.Drift(margin, delta, eta, 1.0, most)
    assert_same(found, plain)
    for predicted_ns, ratio, kind in taken:
        for drift in (found, plain):
            drift.update(predicted_ns, round(predicted_ns * ratio), kind)
        assert_same(found, plain)


def test_the_kernel_is_the_reference_over_many_actions() -> None:
    """Old counts fade in the kernel as they do in plain Python, and in both they do."""
    found, plain = watcher(), reference.Drift(1.2, 0.01, 0.05, 1.0, 4.0)
    rng = random.Random(0)
    for _ in range(25_000):
        measured_ns, kind = round(PREDICTED_NS * rng.lognormvariate(0.0, 0.3)), rng.choice([STEP, RUN])
        found.update(PREDICTED_NS, measured_ns, kind)
        plain.update(PREDICTED_NS, measured_ns, kind)
    assert_same(found, plain)
    assert 5_000 < found.actions <= 10_000


@given(st.floats(1.3, 50.0), st.integers(0, 60), st.integers(0, 2**16))
def test_throttling_is_noticed_within_twenty_steps(slow: float, before: int, seed: int) -> None:
    """Whatever the slowdown, from 1.3 to 50 times, twenty steps of it raise the factor to nine tenths of it or more."""
    drift = watcher()
    feed(drift, noise(before, seed=seed))
    feed(drift, [slow * ratio for ratio in noise(20, seed=seed + 1)])
    assert 0.9 * slow <= drift.factor <= 1.05 * slow


@given(st.lists(ratios, min_size=15, max_size=60))
def test_the_factor_never_exceeds_what_was_seen(times: list[float]) -> None:
    """No factor without a slowdown: it is 1 at least, and at most the slowest action seen."""
    drift = watcher()
    feed(drift, times)
    assert 1.0 <= drift.factor <= max(1.0, *times) * (1 + 1e-6)


@given(st.floats(1.0, 1e6), st.floats(1.0, 10.0), st.integers(0, 2**16))
def test_one_outlier_moves_the_factor_by_a_tenth_at_most(outlier: float, pace: float, seed: int) -> None:
    """A single stall, however long, neither then nor in the steps behind it raises the factor by more than a tenth."""
    drift = watcher()
    feed(drift, [pace * ratio for ratio in noise(40, seed=seed)])
    before = drift.factor
    for ratio in (outlier, *(pace * ratio for ratio in noise(40, seed=seed + 1))):
        feed(drift, [ratio])
        assert drift.factor <= 1.1 * before


@pytest.mark.parametrize("slow", [1.3, 2.0, 50.0])
def test_the_factor_falls_with_a_half_life_of_200_steps(slow: float) -> None:
    """When the slowdown is over, what the factor is above 1 halves in 200 steps, and again in the next 200."""
    drift = watcher()
    feed(drift, [slow] * 30)
    feed(drift, [1.0] * 8)  # until most of the last fifteen are as predicted again
    for _ in range(2):
        above = drift.factor - 1
        feed(drift, [1.0] * 200)
        assert drift.factor - 1 == pytest.approx(above / 2, rel=0.01)


def test_an_overrun_is_measured_beyond_factor_and_margin() -> None:
    """The margin rises by eta less its share after an overrun, falls by eta times delta else; the factor counts in."""
    drift = watcher(margin=1.5, eta=0.1)
    feed(drift, [1.5])
    assert (drift.margin, drift.overruns) == (pytest.approx(1.5 - 0.1 * 0.01), 0)
    feed(drift, [1.5])
    assert (drift.margin, drift.overruns) == (pytest.approx(1.499 + 0.1 * 0.99), 1)
    feed(drift, [3.0] * 20)
    overruns = drift.overruns
    feed(drift, [3.0 * 1.05] * 50)  # slow, and the factor knows: no overruns
    assert drift.overruns == overruns
    assert drift.misses == 70  # all of which the profile's own margin would have missed


@given(st.lists(ratios, max_size=100), st.floats(0.01, 2.0))
def test_the_margin_stays_within_its_bounds(times: list[float], eta: float) -> None:
    """Whatever is measured, the margin is neither below the least nor above the most."""
    drift = watcher(eta=eta)
    for ratio in times:
        feed(drift, [ratio])
        assert 1.0 <= drift.margin <= 4.0


@given(st.lists(st.floats(0.5, 3.5), max_size=400), st.floats(0.1, 0.5))
def test_overruns_are_few_whatever_the_times_do(times: list[float], eta: float) -> None:
    """The guarantee of adaptive conformal inference: at most delta of the actions and (most - margin) / eta more."""
    drift = watcher(eta=eta)
    feed(drift, times)
    assert drift.overruns <= 0.01 * len(times) + (4.0 - 1.2) / eta + 1e-9


def test_the_margin_settles_where_one_in_a_hundred_overruns() -> None:
    """On heavy-tailed times that change their spread on the way, about the planned share overruns."""
    drift, rng = watcher(), random.Random(1)
    overran = 0.0
    for spread in (0.05, 0.2, 0.1):
        for _ in range(9_000):
            before = drift.overruns if drift.actions < 10_000 else drift.overruns / 2
            feed(drift, [rng.lognormvariate(0.0, spread)])
            overran += drift.overruns - before
    assert overran / 27_000 == pytest.approx(0.01, rel=0.25)


def regime(name: str, pace: float) -> Regime:
    return Regime(name, Clocks("unknown", "unknown", (), ()), (Cell(1, 0, (1,)),), summarize([pace] * 10))


@pytest.fixture
def profile() -> LatencyProfile:
    """A profile with a margin of 1.2 and steps that are 2.5 times slower under load."""
    plain = make_profile(Latency(1.0, 20_000.0, 1_000_000.0, 100.0, 1_000_000.0, 1.2, 1.2))
    regimes = (regime("first", 6.0), regime("warm", 1.0), regime("idle 100 ms", 1.5), regime("loaded", 2.5))
    return msgspec.structs.replace(plain, regimes=regimes)


def test_a_profile_that_holds_is_not_reported(profile: LatencyProfile) -> None:
    """Times as predicted, with a stall in two hundred steps, are no reason to measure again."""
    drift = Drift(profile)
    feed(drift, [8.0 if i % 200 == 0 else ratio for i, ratio in enumerate(noise(20_000))])
    assert drift.report() is None


def test_a_lasting_slowdown_is_reported_with_its_figures(profile: LatencyProfile) -> None:
    """After a thousand slow actions in a row the report says how slow, of what kind, and what to do; not before."""
    drift = Drift(profile)
    feed(drift, noise(200))
    feed(drift, [1.9] * 900)
    assert "engine actions took" not in (drift.report() or "")
    feed(drift, [1.9] * 200)
    feed(drift, [1.1] * 5, RUN)
    report = drift.report()
    assert report is not None
    for text in ("1,098 engine actions took 1.90 times", "runs 1.10 times", "run 'anytime profile'"):
        assert text in report
    assert "as measured under" not in report
    feed(drift, [1.0] * 20)
    assert "engine actions took" not in (drift.report() or "")


def test_a_lasting_speedup_is_reported(profile: LatencyProfile) -> None:
    """A machine that is much faster than its profile wastes time, which is reported too."""
    drift = Drift(profile)
    feed(drift, [0.5] * 1100)
    assert "took 0.50 times" in (drift.report() or "")


@pytest.mark.parametrize(("pace", "name"), [(2.4, "loaded"), (1.45, "idle 100 ms"), (5.5, "first"), (9.0, None)])
def test_a_slowdown_like_a_measured_regime_is_named(profile: LatencyProfile, pace: float, name: str | None) -> None:
    """When the pace is that of a regime in the profile, the report says which, so that the cause can be looked for."""
    drift = Drift(profile)
    feed(drift, [pace] * 1100)
    report = drift.report() or ""
    assert f"{pace:.2f} times" in report
    assert ("as measured under" in report) == (name is not None)
    assert repr(name) in report or name is None


def test_overruns_of_the_profiles_margin_are_reported(profile: LatencyProfile) -> None:
    """Stalls in five of a hundred actions are more than the profile planned for, though the typical time is right."""
    drift = Drift(profile)
    feed(drift, [3.0 if i % 20 == 0 else ratio for i, ratio in enumerate(noise(2_000))])
    report = drift.report()
    assert report is not None
    for text in ("5.0% of the last 2,000 engine actions", "margin of 1.20", "1.0% should have", "'anytime profile'"):
        assert text in report


def test_few_actions_are_no_reason_for_a_report(profile: LatencyProfile) -> None:
    """A hundred slow actions are a hiccup, and the factor's to deal with."""
    drift = Drift(profile)
    feed(drift, [20.0] * 100)
    assert drift.report() is None
    assert drift.factor == pytest.approx(20.0)


def test_times_of_nothing_are_reported_without_an_error(profile: LatencyProfile) -> None:
    """Actions that take no time at all, as on a mock clock, are far from their prediction and nothing worse."""
    drift = Drift(profile)
    feed(drift, [0.0] * 1100)
    assert "took 0.00 times" in (drift.report() or "")


def test_the_margin_begins_with_the_profiles_and_may_double(profile: LatencyProfile) -> None:
    """The margin of a step to begin with and at least, and twice that at most."""
    drift = Drift(profile)
    assert (drift.margin, drift.delta, drift.least, drift.most) == (1.2, 0.01, 1.2, 2.4)


@pytest.mark.parametrize(("predicted_ns", "measured_ns"), [(0, 5), (-1, 5), (5, -1)])
def test_times_that_cannot_be_are_refused(predicted_ns: int, measured_ns: int) -> None:
    """A prediction is above 0, a measured time not below; a refused action leaves no trace."""
    drift = watcher()
    with pytest.raises(ValueError, match=f"predicted {predicted_ns} ns must be above 0, measured {measured_ns} ns"):
        drift.update(predicted_ns, measured_ns)
    assert drift.actions == 0


@pytest.mark.parametrize("kind", [-1, 2])
def test_a_kind_that_is_none_is_refused(kind: int) -> None:
    """An action is a step or a run."""
    with pytest.raises(ValueError, match=f"the kind {kind} is none"):
        watcher().update(1, 1, kind)
    with pytest.raises(ValueError, match=f"the kind {kind} is none"):
        watcher().pace(kind)


@pytest.mark.parametrize(
    ("margin", "least", "most"),
    [(0.9, 0.9, 4.0), (1.0, 1.1, 4.0), (5.0, 1.0, 4.0), (float("nan"), 1.0, 4.0), (1.0, 1.0, float("inf"))],
)
def test_margins_out_of_order_are_refused(margin: float, least: float, most: float) -> None:
    """The margin lies between the least and the most, from 1 on, and is finite."""
    with pytest.raises(ValueError, match="must lie between"):
        kernel.Drift(margin, 0.01, 0.05, least, most)


@pytest.mark.parametrize(
    ("delta", "eta"), [(0.0, 0.1), (1.0, 0.1), (float("nan"), 0.1), (0.1, 0.0), (0.1, float("inf"))]
)
def test_a_rule_that_cannot_work_is_refused(delta: float, eta: float) -> None:
    """A share of overruns is between 0 and 1, and what they raise the margin by is above 0."""
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        kernel.Drift(1.0, delta, eta, 1.0, 4.0)


@given(st.lists(st.one_of(actions, st.floats(1.0, 50.0), st.just("recover"), st.just("doubt")), max_size=80))
def test_what_is_told_is_as_in_the_reference(said: list[tuple[int, float, int] | float | str]) -> None:
    """Slowdowns expected, over, or doubted between actions: the kernel stands where the plain Python stands."""
    found, plain = watcher(), reference.Drift(1.2, 0.01, 0.05, 1.0, 4.0)
    for what in said:
        for drift in (found, plain):
            if isinstance(what, tuple):
                drift.update(what[0], round(what[0] * what[1]), what[2])
            elif isinstance(what, float):
                drift.expect(what)
            else:
                getattr(drift, what)()
        assert_same(found, plain)


def test_an_expected_slowdown_is_the_factor_at_once_and_fades_as_others_do() -> None:
    """Told of twice the time, the factor is 2; a lesser one changes nothing; as predicted, it halves in 200 actions."""
    drift = watcher()
    drift.expect(2.0)
    drift.expect(1.5)
    assert drift.factor == 2.0
    feed(drift, [1.0] * 200)
    assert drift.factor == pytest.approx(1.5, rel=0.01)
    drift.recover()
    assert drift.factor == 1.0


def test_a_recovery_keeps_what_actions_show() -> None:
    """Clocks that are back do not hide an engine that is slow for another reason."""
    drift = watcher()
    feed(drift, [1.6] * 20)
    drift.expect(3.0)
    drift.recover()
    assert drift.factor == pytest.approx(1.6)


@pytest.mark.parametrize("slowdown", [0.99, 0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_slowdown_is_refused(slowdown: float) -> None:
    """Below 1 or not finite: an error with the value, and the factor stays."""
    drift = watcher()
    with pytest.raises(ValueError, match="slowdown"):
        drift.expect(slowdown)
    assert drift.factor == 1.0
