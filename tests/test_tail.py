"""The tail of measured over predicted times."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime.scheduler.tail import Pareto, burstiness, fit_pareto, summarize, tail_quantile


@pytest.mark.parametrize(
    ("m", "delta", "rank"), [(99, 0.01, 99), (999, 0.001, 999), (150, 0.01, 150), (300, 0.01, 298)]
)
def test_conformal_quantile_has_the_rank_of_the_formula(m: int, delta: float, rank: int) -> None:
    """With enough samples the bound is the ceil((1 - delta)(m + 1))-th smallest, in whatever order they come."""
    samples = np.random.default_rng(m).permutation(np.arange(1, m + 1)).astype(float)
    assert tail_quantile(samples.tolist(), delta) == (rank, "conformal")


@pytest.mark.parametrize(("m", "delta"), [(98, 0.01), (998, 0.001), (1, 0.01), (7, 0.01)])
def test_too_few_samples_are_flagged_and_bound_by_no_less_than_the_largest(m: int, delta: float) -> None:
    """Where no rank is high enough the tail is extrapolated, said to be so, and never below what was seen."""
    samples = np.random.default_rng(m).exponential(size=m)
    bound, how = tail_quantile(samples.tolist(), delta)
    assert how == "generalized-pareto"
    assert bound >= samples.max()


def test_equal_samples_are_their_own_bound() -> None:
    """A tail without spread extrapolates to itself."""
    assert tail_quantile([1.5] * 50, 0.001) == (1.5, "generalized-pareto")


def test_generalized_pareto_meets_the_true_quantile_of_exponential_data() -> None:
    """The extrapolated 0.9999 quantile of exponential samples lies near -ln(0.0001), in the middle of many draws."""
    rng = np.random.default_rng(1)
    bounds = [tail_quantile(rng.exponential(size=2000).tolist(), 1e-4)[0] for _ in range(60)]
    assert np.median(bounds) == pytest.approx(-math.log(1e-4), rel=0.1)


@given(st.floats(-0.9, 0.9), st.floats(0.01, 10.0), st.floats(1e-4, 0.1))
def test_a_pareto_tail_gives_the_quantile_of_its_distribution(shape: float, scale: float, delta: float) -> None:
    """Above the quantile of ``delta`` lies that share of the samples, by the distribution function."""
    tail = Pareto(threshold=2.0, share=0.1, scale=scale, shape=shape)
    excess = (tail.quantile(delta) - 2.0) / scale
    above = math.exp(-excess) if abs(shape) < 1e-9 else (1 + shape * excess) ** (-1 / shape)
    assert above * 0.1 == pytest.approx(delta, rel=1e-3)


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.3])
def test_the_fit_finds_scale_and_shape_of_pareto_samples(shape: float) -> None:
    """Of samples drawn from a generalized Pareto distribution the fit recovers the parameters."""
    uniform = np.random.default_rng(3).uniform(size=100_000)
    samples = -np.log(uniform) if shape == 0 else (uniform**-shape - 1) / shape
    tail = fit_pareto(samples, 10_000)
    assert tail is not None
    assert tail.share == 0.1
    assert tail.shape == pytest.approx(shape, abs=0.05)
    assert tail.scale == pytest.approx(0.1**-shape, rel=0.05)  # the excess over a threshold is Pareto again


@pytest.mark.parametrize("samples", [[1.0] * 200, [1.0, 2.0]])
def test_without_spread_or_samples_there_is_no_tail(samples: list[float]) -> None:
    """Samples that are all alike, or too few, have no tail to fit."""
    assert fit_pareto(np.array(samples), 10) is None


def test_the_summary_states_what_was_measured() -> None:
    """Median, 99th percentile and maximum are the samples'; few samples have no far quantile and no bursts."""
    found = summarize([float(n) for n in range(1, 52)])
    assert (found.samples, found.p50, found.most) == (51, 26.0, 51.0)
    assert found.p99 == pytest.approx(50.5)
    assert (found.p999, found.interval, found.pareto, found.burst) == (None, None, None, None)


def test_a_single_sample_has_a_summary() -> None:
    """One sample is its own median and maximum."""
    found = summarize([1.5])
    assert (found.p50, found.p99, found.most, found.base) == (1.5, 1.5, 1.5, 0.0)


def test_samples_all_alike_are_their_own_far_quantile() -> None:
    """Without spread the far quantile and its interval are the one value there is."""
    found = summarize([1.5] * 500)
    assert (found.p999, found.interval, found.burst, found.base) == (1.5, (1.5, 1.5), None, 0.0)


def test_many_samples_speak_for_themselves() -> None:
    """With enough samples above it the far quantile is the sample's own, whatever the tail looks like: two clusters."""
    rng = np.random.default_rng(0)
    samples = np.where(rng.uniform(size=100_000) < 0.002, 30.0, 1.0) + rng.uniform(size=100_000)
    found = summarize(samples.tolist())
    assert found.p999 == pytest.approx(float(np.quantile(samples, 0.999)))
    assert found.p999 == pytest.approx(30.5, abs=0.2)


def test_few_samples_are_extrapolated() -> None:
    """Of a thousand exponential samples the far quantile lies near -ln(0.001), in the middle of many draws."""
    rng = np.random.default_rng(5)
    found = [summarize(rng.exponential(size=1000).tolist()).p999 for _ in range(40)]
    assert np.median([value for value in found if value is not None]) == pytest.approx(-math.log(0.001), rel=0.1)


def test_the_interval_holds_the_true_quantile() -> None:
    """Most of the intervals of fresh exponential samples hold -ln(0.001), and they are no wider than they need be."""
    rng = np.random.default_rng(6)
    intervals = [summarize(rng.exponential(size=2000).tolist()).interval for _ in range(40)]
    assert sum(low < -math.log(0.001) < high for low, high in filter(None, intervals)) >= 30
    assert np.median([high / low for low, high in filter(None, intervals)]) < 2


def test_the_interval_is_wider_where_stalls_come_in_bursts() -> None:
    """The same samples in bursts are fewer independent stalls, and the interval says so."""
    rng = np.random.default_rng(7)
    calm, slow = rng.uniform(1.0, 1.1, size=2880), rng.uniform(2.0, 10.0, size=120)
    scattered = rng.permutation(np.concatenate([calm, slow]))
    together = np.concatenate([calm[:1500], np.sort(slow), calm[1500:]])
    widths = [high - low for low, high in (summarize(list(s)).interval or (0, 0) for s in (scattered, together))]
    assert widths[1] > 1.5 * widths[0] > 0


def test_the_same_samples_have_the_same_summary() -> None:
    """The resampling is seeded: a profile's figures can be had again from its samples."""
    samples = np.random.default_rng(8).exponential(size=500).tolist()
    assert summarize(samples) == summarize(samples)


def test_burstiness_tells_bursts_from_scattered_stalls() -> None:
    """Ten stalls in a row are followed by another nine times of ten; ten that are scattered, never."""
    together, scattered = np.ones(1000), np.ones(1000)
    together[500:510] = scattered[50:1000:100] = 5.0
    assert burstiness(together, 2.0) == (0.9, 0.01)
    assert burstiness(scattered, 2.0) == (0.0, 0.01)


def test_burstiness_of_too_few_stalls_is_not_stated() -> None:
    """Two samples above the threshold say nothing about what comes behind one."""
    assert burstiness(np.array([1.0, 5.0, 5.0, *[1.0] * 97]), 2.0) == (None, 0.02)
