"""What is known of a thought under way: how much of it is left, and what it will be worth."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime.runtime.forecast import Forecast
from tests.doubles import flat_forecast

MEAN, SPREAD = 100, 5.0
ASKED = 20, "choices", ""  # a prompt's tokens, the kind of answer, the effort


def forecast() -> Forecast:
    """Thoughts of 100 tokens, give or take 5; a half is right without one, and ever more the further it comes."""
    known = flat_forecast(now=0.5, length=MEAN, later=0.5).calibration
    curve = known.efforts[""]
    share = 4  # the term of what there is time for
    rising = tuple(3.0 if i == share else weight for i, weight in enumerate(curve.fresh))
    lengths = {kind: (*shape[:3], SPREAD) for kind, shape in curve.length.items()}
    risen = msgspec.structs.replace(curve, fresh=rising, length=lengths)
    return Forecast(msgspec.structs.replace(known, efforts={"": risen}))


def test_the_rest_of_a_thought_is_the_mean_of_what_can_be_left() -> None:
    """All of it long before its end; half a normal distribution at its mean; a little, and never nothing, beyond."""
    known = forecast()
    assert known.rest(*ASKED, 0) == pytest.approx(MEAN)
    assert known.rest(*ASKED, 60) == pytest.approx(40, abs=1e-6)
    assert known.rest(*ASKED, MEAN) == pytest.approx(SPREAD * math.sqrt(2 / math.pi))
    assert 0 < known.rest(*ASKED, 150) < known.rest(*ASKED, 105) < known.rest(*ASKED, MEAN)


def test_a_promise_is_of_the_whole_thought_where_there_is_time_for_it() -> None:
    """And what is known of one that is cut short where it is sure not to be over."""
    known = forecast()
    whole, nothing = known.fresh(0.5, *ASKED, 150), known.fresh(0.5, *ASKED, 0)
    assert known.promises(0.5, *ASKED, 0, [0, 40, 200]) == pytest.approx([nothing, known.fresh(0.5, *ASKED, 40), whole])
    half = known.promises(0.5, *ASKED, 0, [MEAN])[0]
    cut = known.fresh(0.5, *ASKED, 87)  # where hardly any is over
    assert half == pytest.approx((whole + cut) / 2, abs=0.01)


@given(st.integers(0, 160), st.lists(st.integers(0, 200), min_size=2, max_size=6))
def test_a_promise_rises_with_time_and_with_what_is_done(done: int, ahead: list[int]) -> None:
    """More time never promises less, and neither does a thought that has come further."""
    known, ahead = forecast(), sorted(ahead)
    promises = known.promises(0.5, *ASKED, done, ahead)
    assert promises == sorted(promises)
    further = known.promises(0.5, *ASKED, done + 1, ahead)
    assert all(b >= a - 1e-12 for a, b in zip(promises, further, strict=True))
