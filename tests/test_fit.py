"""Fitting the latency model."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime.scheduler.fit import fit_relative, nonnegative_least_squares

coefficients = st.floats(0.0, 1e6, allow_subnormal=False)


@given(st.lists(st.lists(st.floats(-10, 10), min_size=3, max_size=3), min_size=4, max_size=12), st.integers(0, 2**16))
def test_least_squares_is_nonnegative_and_no_grid_point_beats_it(rows: list[list[float]], seed: int) -> None:
    """The solution has no negative part, and no other nonnegative point lies closer."""
    a = np.round(np.array(rows), 3)
    rng = np.random.default_rng(seed)
    b = rng.normal(size=len(a))
    x = nonnegative_least_squares(a, b)
    assert (x >= 0).all()
    error = np.linalg.norm(a @ x - b)
    nearby = np.abs(x + rng.normal(size=(50, 3)) * rng.choice([1e-3, 0.1, 1.0], size=(50, 1)))
    assert all(np.linalg.norm(a @ other - b) >= error * (1 - 1e-9) - 1e-9 for other in nearby)


def test_least_squares_drops_a_coefficient_that_wants_to_be_negative() -> None:
    """A falling line fits best as a constant."""
    x = nonnegative_least_squares(np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]), np.array([3.0, 2.0, 1.0]))
    assert x == pytest.approx([0.0, 2.0])


@given(st.tuples(coefficients, coefficients, st.floats(1.0, 1e6)))
def test_fit_relative_recovers_known_coefficients(known: tuple[float, float, float]) -> None:
    """Times made from coefficients are explained by them, to a millionth of each time."""
    features = [(n * (c + n / 2), n, 1.0) for n, c in itertools.product((2, 8, 64, 512), (0, 64, 1024))]
    times = [sum(f * k for f, k in zip(row, known, strict=True)) for row in features]
    fitted = fit_relative(features, times)
    assert (fitted >= 0).all()
    assert np.asarray(features) @ fitted == pytest.approx(times, rel=1e-6)


def test_fit_relative_weighs_short_runs_like_long_ones() -> None:
    """The same relative misses weigh the same: one constant through 1 and 100 lies nearer to the short one."""
    (constant,) = fit_relative([(1.0,), (1.0,)], [1.0, 100.0])
    assert constant == pytest.approx(1.01 / 1.0001)
