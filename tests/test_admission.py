"""Admission and the token cap."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anytime.ext.latency import Latency
from anytime.scheduler.admission import BUDGETS_MS, Grant, Refusal, Work, admit, instant_ns, token_caps
from anytime.scheduler.profile import LatencyProfile
from tests.conftest import MS, make_profile

WORK = Work(prompt_tokens=20, cached_tokens=0, close_tokens=1, answer_steps=3, max_context=4096)
PROFILE = make_profile(Latency(1.0, 20_000.0, 1e6, 100.0, 1e6, run_margin=1.25, step_margin=1.5))


def with_segments(profile: LatencyProfile, *segments: tuple[int, float]) -> LatencyProfile:
    return msgspec.structs.replace(profile, fit=msgspec.structs.replace(profile.fit, segments=segments))


def test_the_floor_is_prefill_and_instant_answer_at_their_upper_bounds() -> None:
    """The floor covers the prompt with the close tag in one run, and every further answer step, with their margins."""
    prefill_ns = 1.25 * (1.0 * 21 * 10.5 + 20_000 * 21 + 1e6)
    steps_ns = 3 * 1.5 * (100 * 24 + 1e6)
    assert instant_ns(WORK, PROFILE) == pytest.approx(prefill_ns + steps_ns, abs=4)


def test_a_request_at_the_floor_is_granted_and_below_it_refused() -> None:
    """A nanosecond decides, and a grant at the floor promises no thought."""
    floor_ns = instant_ns(WORK, PROFILE)
    granted = admit(WORK, floor_ns, PROFILE)
    assert isinstance(granted, Grant)
    assert granted.token_cap == 0
    assert isinstance(admit(WORK, floor_ns - 1, PROFILE), Refusal)


def test_a_refusal_says_what_is_left_what_is_needed_and_what_to_do() -> None:
    """The reason is a whole message for a person."""
    refused = admit(WORK, 2 * MS, PROFILE)
    floor_ms = instant_ns(WORK, PROFILE) / MS
    assert isinstance(refused, Refusal)
    assert refused.reason == (
        f"2.0 ms are left and the floor for 20 prompt tokens is {floor_ms:.1f} ms: give more time or a shorter prompt"
    )


def test_the_reserve_is_the_upper_bound_of_closing() -> None:
    """What is kept back is what the kernel says closing can cost."""
    granted = admit(WORK, 100 * MS, PROFILE)
    assert isinstance(granted, Grant)
    assert granted.reserve_ns == PROFILE.latency().closing_ns(20, 1, 3)


@given(st.integers(6 * MS, 500 * MS), st.integers(0, 500 * MS), st.floats(1.0, 3.0), st.floats(0.0, 1.0))
@example(14_747_124, 502_300, 2.0, 0.0)  # eight steps were measured to need a larger margin than one
def test_more_time_never_lowers_the_cap(left_ns: int, more_ns: int, margin: float, easing: float) -> None:
    """The cap is monotone in the budget, also where longer segments have a smaller margin."""
    profile = with_segments(PROFILE, (8, margin), (32, 1 + (margin - 1) * easing), (128, 1.0))
    less, more = admit(WORK, left_ns, profile), admit(WORK, left_ns + more_ns, profile)
    if isinstance(less, Grant):
        assert isinstance(more, Grant)
        assert less.token_cap <= more.token_cap


@given(st.integers(10 * MS, 500 * MS))
def test_a_capped_thought_fits_before_the_reserve(left_ns: int) -> None:
    """Prefill, the capped thought at its segment's margin, and the reserve fit in what is left."""
    profile = with_segments(PROFILE, (8, 1.2))
    granted = admit(WORK, left_ns, profile)
    assert isinstance(granted, Grant)
    thought_ns = sum(profile.latency().run_ns(1, 20 + i) for i in range(granted.token_cap))
    spare_ns = left_ns - profile.latency().run_ns(21, 0) - granted.reserve_ns
    assert 1.2 * thought_ns <= max(spare_ns, 0) + granted.token_cap + 1


def test_a_larger_segment_margin_lowers_the_cap() -> None:
    """Segments that overran their prediction when measured are paid for with thought."""
    calm, shaky = (admit(WORK, 200 * MS, with_segments(PROFILE, (8, margin))) for margin in (1.0, 2.0))
    assert isinstance(calm, Grant)
    assert isinstance(shaky, Grant)
    assert shaky.token_cap <= calm.token_cap / 2 + 1


def test_the_cap_never_leaves_the_context() -> None:
    """Prompt, thought, close tag and answer stay within the model's context however much time there is."""
    granted = admit(Work(20, 0, 1, 3, 64), 10**12, PROFILE)
    assert isinstance(granted, Grant)
    assert 0 < granted.token_cap <= 64 - 20 - 1 - 3


def test_token_caps_lists_every_budget_and_none_below_the_floor() -> None:
    """The table a profile prints: one cap a budget, rising, None where not even the instant answer fits."""
    slow = make_profile(Latency(0.0, 0.0, 30.0 * MS, 0.0, 1.0 * MS))
    caps = token_caps(slow, prompt_tokens=10, close_tokens=1)
    assert tuple(caps) == BUDGETS_MS
    assert caps[20] is None
    # 100 ms less 0.5 for delivery, 30 for the prompt and 30 kept back for the close leave 39 steps of 1 ms.
    assert caps[50] == 0
    assert caps[100] == 39
    assert caps[200] == 139


def test_token_caps_keep_the_delivery_time_back() -> None:
    """What delivery takes is no time to think."""
    late = msgspec.structs.replace(PROFILE, delivery_ns=10 * MS)
    quick, slow = (token_caps(profile, 20, 1)[100] for profile in (PROFILE, late))
    assert quick is not None
    assert slow is not None
    assert 9 <= quick - slow <= 10
