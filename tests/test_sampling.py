"""Choosing the next token."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anytime.errors import UsageError
from anytime.runtime.sampling import Sampler, Sampling, softmax

Logits = npt.NDArray[np.float32]
some_logits = arrays(np.float32, st.integers(1, 40), elements=st.floats(-30, 30, width=32))


def from_probabilities(*probabilities: float) -> Logits:
    return np.log(np.array(probabilities)).astype(np.float32)


@given(some_logits)
def test_temperature_zero_is_greedy(logits: Logits) -> None:
    """The likeliest token, the first of equals."""
    assert Sampler(Sampling(temperature=0.0)).next(logits) == int(np.argmax(logits))


@given(some_logits, st.floats(0.01, 5), st.floats(0.01, 1), st.integers(0, 2**63))
def test_a_seed_repeats(logits: Logits, temperature: float, top_p: float, seed: int) -> None:
    """The same seed and logits draw the same tokens."""
    first, second = (Sampler(Sampling(temperature, top_p, seed)) for _ in range(2))
    assert [first.next(logits) for _ in range(10)] == [second.next(logits) for _ in range(10)]


def test_seeds_differ() -> None:
    """Another seed draws other tokens."""
    draws = [[Sampler(Sampling(1.0, seed=seed)).next(np.zeros(1000, np.float32))] for seed in range(10)]
    assert len({tuple(draw) for draw in draws}) > 5


@given(some_logits, st.floats(0.05, 5), st.floats(0.01, 1.0), st.integers(0, 99))
def test_top_p_draws_only_from_the_smallest_set(logits: Logits, temperature: float, top_p: float, seed: int) -> None:
    """Whatever is drawn belongs to the likeliest tokens that reach top_p only together with it."""
    drawn = Sampler(Sampling(temperature, top_p, seed)).next(logits)
    probabilities = softmax((logits / np.float32(temperature)).astype(np.float32))
    likelier = probabilities[probabilities > probabilities[drawn]].sum()
    assert likelier < top_p + 1e-9


def test_top_p_keeps_the_whole_smallest_set() -> None:
    """Of 0.5, 0.3 and 0.2, a top_p of 0.7 keeps two and draws both, one in the ratio of the other."""
    sampler = Sampler(Sampling(1.0, top_p=0.7, seed=1))
    logits = from_probabilities(0.2, 0.5, 0.3)
    counts = np.bincount([sampler.next(logits) for _ in range(2000)], minlength=3)
    assert counts[0] == 0
    assert counts[1] / counts.sum() == pytest.approx(0.5 / 0.8, abs=0.05)


def test_a_set_that_reaches_top_p_exactly_is_enough() -> None:
    """Two tokens of 0.5: a top_p of 0.5 keeps one."""
    sampler = Sampler(Sampling(1.0, top_p=0.5, seed=3))
    assert {sampler.next(np.zeros(2, np.float32)) for _ in range(50)} == {0}


def test_temperature_flattens() -> None:
    """At temperature 2 the odds of 9 to 1 become 3 to 1."""
    sampler = Sampler(Sampling(2.0, seed=5))
    draws = [sampler.next(from_probabilities(0.9, 0.1)) for _ in range(4000)]
    assert np.mean(draws) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("temperature", [1e-6, 1e-40, 5e-324])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    """No temperature above 0 overflows."""
    sampler = Sampler(Sampling(temperature))
    assert {sampler.next(np.array([1.0, 30.0, 29.0], np.float32)) for _ in range(20)} == {1}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_p": float("nan")}, "top_p is nan"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_values_are_refused(fields: dict[str, Any], name: str) -> None:
    """A value that means nothing is refused where it is given, by name."""
    with pytest.raises(UsageError, match=name):
        Sampling(**fields)
