"""The compiled arithmetic of time against the plain reference."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anytime.ext.latency import CLOSE, PROBE, THINK, Latency, time_decisions
from anytime.scheduler import reference

margins = st.floats(1.0, 4.0)
latencies = st.builds(
    Latency,
    alpha=st.floats(0.0, 1e4),
    beta=st.floats(0.0, 1e7),
    gamma=st.floats(0.0, 1e8),
    p=st.floats(0.0, 1e6),
    q=st.floats(1.0, 1e8),
    run_margin=margins,
    step_margin=margins,
)
lengths = st.integers(0, 4096)
contexts = st.integers(0, 40_000)


@given(latencies, st.integers(-2, 4096), contexts)
def test_run_ns_is_the_reference(latency: Latency, n: int, context: int) -> None:
    """A run's predicted cost is the reference's, rounded up to a nanosecond."""
    expected = reference.run_cost(latency, n, context)
    assert reference.is_close(latency.run_ns(n, context), expected)
    assert latency.run_ns(n, context) >= expected * (1 - 1e-12)


@given(latencies, st.integers(-2, 4096), contexts)
def test_upper_ns_is_the_reference_and_never_below_the_prediction(latency: Latency, n: int, context: int) -> None:
    """The upper bound is the reference's, and an upper bound."""
    assert reference.is_close(latency.upper_ns(n, context), reference.upper_cost(latency, n, context))
    assert latency.upper_ns(n, context) >= latency.run_ns(n, context)


@given(latencies, contexts, st.integers(0, 16), st.integers(0, 64))
def test_closing_ns_is_the_reference(latency: Latency, context: int, close_tokens: int, answer_steps: int) -> None:
    """Closing costs what the reference adds up step by step."""
    expected = reference.closing_cost(latency, context, close_tokens, answer_steps)
    assert reference.is_close(latency.closing_ns(context, close_tokens, answer_steps), expected)


@given(latencies, contexts, st.integers(0, 16), st.integers(0, 64))
def test_likely_closing_ns_is_the_reference(
    latency: Latency, context: int, close_tokens: int, answer_steps: int
) -> None:
    """What a closing likely takes is the reference's, and never more than its upper bound."""
    expected = reference.likely_closing_cost(latency, context, close_tokens, answer_steps)
    likely_ns = latency.likely_closing_ns(context, close_tokens, answer_steps)
    assert reference.is_close(likely_ns, expected)
    assert likely_ns <= latency.closing_ns(context, close_tokens, answer_steps)


def thought_ns(latency: Latency, steps: int, context: int) -> float:
    return sum(latency.p * (context + i) + latency.q for i in range(steps))


@given(latencies, st.integers(-(10**9), 10**11), contexts, st.integers(-1, 1500))
@example(Latency(0, 0, 0, 0, 1000), 5000, 0, 100)  # p = 0: exactly five steps
@example(Latency(0, 0, 0, 2, 1000), 2002, 0, 100)  # exactly two
@example(Latency(0, 0, 0, 1e6, 0), 1, 0, 100)  # a first step that costs nothing
def test_think_steps_is_the_reference(latency: Latency, budget_ns: int, context: int, limit: int) -> None:
    """The closed form counts the steps that fit; off by one only where a step fits or fails by rounding."""
    got = latency.think_steps(budget_ns, context, limit)
    expected = 0 if budget_ns <= 0 else reference.think_steps(latency, budget_ns, context, limit)
    if got != expected:
        assert abs(got - expected) == 1
        assert reference.is_close(thought_ns(latency, max(got, expected), context), budget_ns)


@given(latencies, st.integers(0, 10**10), st.integers(0, 10**9), contexts)
def test_more_time_never_buys_fewer_steps(latency: Latency, budget_ns: int, more_ns: int, context: int) -> None:
    """think_steps is monotone in the budget."""
    assert latency.think_steps(budget_ns, context, 1000) <= latency.think_steps(budget_ns + more_ns, context, 1000)


work = st.tuples(contexts, st.integers(0, 8), st.integers(0, 32))  # context, tokens of the close tag, answer steps


@given(latencies, st.integers(-(10**9), 10**10), work, st.booleans())
def test_next_action_is_the_reference(
    latency: Latency, left_ns: int, work: tuple[int, int, int], probe_due: bool
) -> None:
    """The kernel decides as the reference does, but for ties within rounding."""
    context, close_tokens, answer_steps = work
    args = (*work, probe_due, False)
    got = latency.next_action(left_ns, *args)
    expected = reference.next_action(latency, left_ns, *args)
    if got != expected:
        closing_after = reference.closing_cost(latency, context + 1, close_tokens, answer_steps)
        probe = reference.closing_cost(latency, context, close_tokens, answer_steps) + closing_after
        think = reference.upper_cost(latency, 1, context) + closing_after
        assert reference.is_close(probe, left_ns) or reference.is_close(think, left_ns)


@given(latencies, st.integers(-(10**9), 10**10), work, st.integers(0, 16))
def test_sure_steps_is_the_reference(latency: Latency, left_ns: int, work: tuple[int, int, int], limit: int) -> None:
    """As many steps as the reference takes one by one, but for ties within rounding."""
    got = latency.sure_steps(left_ns, *work, limit)
    expected = reference.sure_steps(latency, left_ns, *work, limit)
    if got != expected:
        context, close_tokens, answer_steps = work
        steps = max(got, expected)
        spent = latency.step_margin * thought_ns(latency, steps, context)
        closing = reference.closing_cost(latency, context + steps, close_tokens, answer_steps)
        assert abs(got - expected) == 1
        assert reference.is_close(spent + closing, left_ns)


@given(latencies, work, st.booleans(), st.integers(2, 1000))
def test_next_action_at_its_boundaries(
    latency: Latency, work: tuple[int, int, int], probe_due: bool, off_ns: int
) -> None:
    """Just inside a boundary the action is taken, just outside it is not; what is finished is closed."""
    context, close_tokens, answer_steps = work
    after_ns = latency.closing_ns(context + 1, close_tokens, answer_steps)
    think_ns = latency.upper_ns(1, context) + after_ns
    probe_ns = latency.closing_ns(context, close_tokens, answer_steps) + after_ns
    slack_ns = off_ns + int(probe_ns * 1e-9)
    assert latency.next_action(think_ns + slack_ns, *work, False, False) == THINK
    assert latency.next_action(min(think_ns, probe_ns) - slack_ns, *work, probe_due, False) == CLOSE
    assert latency.next_action(probe_ns + slack_ns, *work, True, False) == PROBE
    assert latency.next_action(10**15, *work, probe_due, True) == CLOSE


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma", "p", "q"])
@pytest.mark.parametrize("value", [-1.0, -1e-300, float("nan"), float("inf")])
def test_a_coefficient_that_is_no_cost_is_refused(name: str, value: float) -> None:
    """Negative, NaN and infinite coefficients raise."""
    good = {"alpha": 1.0, "beta": 1.0, "gamma": 1.0, "p": 1.0, "q": 1.0}
    with pytest.raises(ValueError, match="coefficients"):
        Latency(**{**good, name: value})


@pytest.mark.parametrize("name", ["run_margin", "step_margin"])
@pytest.mark.parametrize("value", [0.99, -1.0, float("nan"), float("inf")])
def test_a_margin_that_lowers_the_prediction_is_refused(name: str, value: float) -> None:
    """A margin turns a prediction into an upper bound, so it is finite and at least 1."""
    with pytest.raises(ValueError, match="margins"):
        Latency(1.0, 1.0, 1.0, 1.0, 1.0, **{name: value})


def test_steps_that_cost_nothing_are_refused() -> None:
    """With p = q = 0 any number of steps would fit."""
    with pytest.raises(ValueError, match="must cost something"):
        Latency(1.0, 1.0, 1.0, 0.0, 0.0)


def test_time_decisions_makes_every_decision(latency: Latency) -> None:
    """The loop that the speed of decisions is measured with skips none."""
    expected = sum(
        latency.next_action(5_000_000 + i, 64, 1, 0, i & 15 == 0, False)
        + latency.think_steps(5_000_000 + i, 64, 100_000)
        for i in range(40)
    )
    assert time_decisions(latency, 40, 5_000_000, 64) == expected


def test_a_missing_kernel_stops_the_import() -> None:
    """Without the compiled kernel ``import anytime`` raises; there is no slow path behind it."""
    code = "import sys; sys.modules['anytime.ext.latency'] = None; import anytime"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "anytime.ext.latency" in done.stderr.splitlines()[-1]
