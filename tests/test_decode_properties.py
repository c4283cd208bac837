"""What holds for the anytime loop whatever the budget, the thought and the seed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anytime.ext.latency import Latency
from anytime.runtime.answers.formats import AnswerFormat, Choices, Text
from anytime.runtime.prompt import Codec
from anytime.runtime.sampling import Sampling
from anytime.testing import Script
from tests.conftest import MS, make_profile, thinker, write_bundle
from tests.doubles import decode_alone

examples = settings(max_examples=60, deadline=None)
LEFT_RIGHT = Choices("left", "right")
# Whole nanoseconds, so that the engine's sums are exact and "never late" means never.
latencies = st.builds(
    lambda alpha, beta, gamma, p, q: Latency(2.0 * alpha, beta, gamma, p, q),
    st.integers(0, 500),
    st.integers(0, MS),
    st.integers(0, 5 * MS),
    st.integers(0, 20_000),
    st.integers(MS // 20, 2 * MS),
)
margins = st.floats(1.0, 2.0)
budgets = st.integers(0, 300 * MS)
thoughts = st.text("abc\n", max_size=120)
answers: st.SearchStrategy[AnswerFormat] = st.sampled_from([LEFT_RIGHT, Choices("abcd", "abce", "x"), Text(5)])
samplings = st.builds(Sampling, st.sampled_from([0.0, 0.7, 1.5]), st.floats(0.3, 1.0), st.integers(0, 2**32))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return Codec(write_bundle(tmp_path_factory.mktemp("loop") / "tiny"))


def says(thought: str) -> Script:
    """Answers 'abce' (and with it, for left or right, whatever is likelier among equals)."""
    return thinker(thought, lambda n: "abce")


def with_margins(latency: Latency, run_margin: float, step_margin: float) -> Latency:
    return Latency(latency.alpha, latency.beta, latency.gamma, latency.p, latency.q, run_margin, step_margin)


@examples
@given(st.data(), latencies, budgets, thoughts)
def test_never_late_when_the_engine_keeps_its_profile(
    shared: Codec, data: st.DataObject, latency: Latency, budget_ns: int, thought: str
) -> None:
    """An engine as fast as predicted is done in time, with an answer in hand unless the request was rejected."""
    answer, sampling = data.draw(answers), data.draw(samplings)
    cautious = with_margins(latency, data.draw(margins), data.draw(margins))
    job, bank, engine, clock = decode_alone(
        says(thought), budget_ns, shared, make_profile(cautious), answer=answer, sampling=sampling
    )
    assert clock.now() <= budget_ns
    if job.stopped == "rejected":
        assert engine.runs == []
    else:
        assert bank.best() is bank.offered[-1]
        assert bank.offered[0].source == "instant"


@examples
@given(st.data(), latencies, budgets, thoughts)
def test_an_engine_within_its_margins_is_never_late(
    shared: Codec, data: st.DataObject, latency: Latency, budget_ns: int, thought: str
) -> None:
    """Every run may take up to its upper bound: the thought is closed, and answered, within the reserve."""
    margin = data.draw(st.sampled_from([1.0, 1.25, 1.5]))
    cautious = with_margins(latency, margin, margin)
    seed = data.draw(st.integers(0, 2**16))
    job, bank, _, _ = decode_alone(
        says(thought),
        budget_ns,
        shared,
        make_profile(cautious),
        answer=data.draw(answers),
        slowdown=lambda run: 1.0 + (margin - 1.0) * ((run * 2654435761 + seed) % 5) / 4,
    )
    if len(job.thought) > 1:  # else a close was only tried: right behind the instant answer nothing was reserved
        rounding_ns = len(job.thought) + 64
        first = next(i for i, candidate in enumerate(bank.offered) if candidate.source == "thought")
        assert bank.offered_ns[first] <= budget_ns + rounding_ns
    assert job.stopped == "rejected" or bank.best() is not None


@examples
@given(st.data(), latencies, budgets, thoughts)
def test_the_same_seed_plan_and_times_give_the_same_answer(
    shared: Codec, data: st.DataObject, latency: Latency, budget_ns: int, thought: str
) -> None:
    """Nothing but seed, script and clock decides what comes out."""
    answer, sampling = data.draw(answers), data.draw(samplings)
    first, second = (
        decode_alone(says(thought), budget_ns, shared, make_profile(latency), answer=answer, sampling=sampling)
        for _ in range(2)
    )
    assert first[1].offered == second[1].offered
    assert first[0].thought == second[0].thought
    assert (first[2].runs, first[3].now()) == (second[2].runs, second[3].now())


@settings(max_examples=150, deadline=None)
@given(budgets, st.integers(0, 50 * MS), thoughts)
def test_more_time_never_rests_on_less_thought(shared: Codec, budget_ns: int, more_ns: int, thought: str) -> None:
    """With more time the returned answer rests on at least as many tokens of thought."""
    profile = make_profile(Latency(2.0, 20_000, MS, 100, MS))
    less, more = (
        decode_alone(says(thought), ns, shared, profile, answer=LEFT_RIGHT)[1].best()
        for ns in (budget_ns, budget_ns + more_ns)
    )
    assert less is None or (more is not None and less.thought_tokens <= more.thought_tokens)


@examples
@given(latencies, budgets, thoughts)
def test_the_thought_stays_within_the_cap(shared: Codec, latency: Latency, budget_ns: int, thought: str) -> None:
    """The token cap that is reported bounds the thought, but for the token that is committed with the close."""
    job, _, _, _ = decode_alone(says(thought), budget_ns, shared, make_profile(latency))
    assert len(job.thought) <= job.token_cap + 1
