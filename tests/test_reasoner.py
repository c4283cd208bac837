"""The Reasoner: budgets, fallbacks and the caller's conditions."""

from __future__ import annotations

from typing import Any

import pytest

from anytime import AnswerFormatError, BudgetError, Choices, PromptError, Text, UsageError
from tests.conftest import MS, MakeReasoner, thinker
from tests.doubles import LEFT_OR_RIGHT

LONG = thinker("ab\n" * 60, lambda n: "left" if n < 20 else "right")
ASK: dict[str, Any] = {"answer": LEFT_OR_RIGHT}


def test_an_answer_says_how_it_was_found(make_reasoner: MakeReasoner) -> None:
    """Text, source, counts and instants of an answer on time fit together."""
    reasoner, _, clock = make_reasoner(LONG)
    received_ns = clock.now()
    got = reasoner.answer("what", budget=0.1, request_id="q1", **ASK)
    assert (got.text, got.source, got.stopped) == ("right", "thought", "deadline")
    assert (got.received_ns, got.deadline_ns) == (received_ns, received_ns + 100 * MS)
    assert received_ns < got.delivered_ns <= got.deadline_ns
    assert got.valid
    assert not got.late
    assert not got.overrun
    assert 0.9 < got.confidence <= 1.0
    assert 80 < got.tokens.thought <= got.token_cap + 1
    assert got.thought == ("ab\n" * 60)[: got.tokens.thought]
    assert (got.tokens.prompt, got.tokens.answer) == (5, 1)
    assert (got.request_id, got.bundle_id) == ("q1", reasoner.bundle.id)
    assert got.slack_s == pytest.approx(0.1 - got.elapsed_s)


def test_a_complete_thought_returns_before_the_deadline(make_reasoner: MakeReasoner) -> None:
    """The caller is not kept waiting for a deadline that nobody needs any more."""
    reasoner, _, _ = make_reasoner(thinker("abc", lambda n: "right"))
    got = reasoner.answer("what", budget=5.0, **ASK)
    assert got.stopped == "complete"
    assert got.elapsed_s < 0.01


@pytest.mark.parametrize("budget", [0, 0.0, -1, -1e9, 0.0004, 1e-300])
def test_no_time_at_all_gives_the_fallback_at_once(make_reasoner: MakeReasoner, budget: float) -> None:
    """Zero, negative and less than delivery takes: rejected without the engine, and the reason is said."""
    reasoner, engine, clock = make_reasoner(LONG)
    before_ns = clock.now()
    got = reasoner.answer("what", budget=budget, fallback="stop", **ASK)
    assert (got.text, got.source, got.stopped) == ("stop", "fallback", "rejected")
    assert "less than it takes to deliver an answer" in got.reason
    assert not got.valid
    assert clock.now() == before_ns
    assert engine.runs == []


def test_below_the_floor_gives_the_fallback_at_once(make_reasoner: MakeReasoner) -> None:
    """Too little for prefill and instant answer: rejected without the engine, with the floor in the reason."""
    reasoner, engine, clock = make_reasoner(LONG)
    before_ns = clock.now()
    got = reasoner.answer("what", budget=0.001, fallback="stop", **ASK)
    assert (got.text, got.source, got.stopped) == ("stop", "fallback", "rejected")
    assert "the floor for 5 prompt tokens is" in got.reason
    assert clock.now() == before_ns
    assert engine.runs == []


@pytest.mark.parametrize(
    ("time", "why"),
    [
        ({"budget": float("nan")}, "budget is nan"),
        ({"budget": float("inf")}, "budget is inf"),
        ({"deadline": float("-inf")}, "deadline is -inf"),
        ({"budget": "0.2"}, "budget is '0.2'"),
        ({"budget": True}, "budget is True"),
        ({"budget": 10**400}, "budget is 1000"),
        ({"budget": -(10**400)}, "budget is -1000"),
        ({"deadline": 1e300}, r"deadline is 1e\+300"),
        ({"budget": 200_000}, "more than a day ahead: it must be in seconds"),
        ({}, "neither budget nor deadline"),
        ({"budget": 1.0, "deadline": 2.0}, "both budget and deadline"),
    ],
)
def test_a_time_that_cannot_be_read_is_refused(make_reasoner: MakeReasoner, time: dict[str, Any], why: str) -> None:
    """A mistake in the call raises at once, with the value; it is not answered with a fallback."""
    reasoner, engine, _ = make_reasoner(LONG)
    with pytest.raises(BudgetError, match=why):
        reasoner.answer("what", **time, **ASK)
    assert engine.runs == []


def test_a_deadline_is_absolute(make_reasoner: MakeReasoner) -> None:
    """The clock of the mock starts at 1 s: a deadline of 1.05 s leaves 50 ms, one of 0.9 s has passed."""
    reasoner, _, _ = make_reasoner(LONG)
    got = reasoner.answer("what", deadline=1.05, **ASK)
    assert got.deadline_ns == 1050 * MS
    assert got.delivered_ns <= 1050 * MS
    assert got.source == "thought"
    assert reasoner.answer("what", deadline=0.9, **ASK).stopped == "rejected"


def test_a_fallback_may_be_made_when_needed(make_reasoner: MakeReasoner) -> None:
    """A callable is called when, and only when, the model has no answer."""
    reasoner, _, _ = make_reasoner(LONG)
    called: list[str] = []

    def fallback() -> str:
        called.append("fallback")
        return "stop"

    assert reasoner.answer("what", budget=0.05, fallback=fallback, **ASK).text == "right"
    assert called == []
    assert reasoner.answer("what", budget=0, fallback=fallback, **ASK).text == "stop"
    assert called == ["fallback"]


def test_a_fallback_that_raises_costs_nobody_the_answer(make_reasoner: MakeReasoner) -> None:
    """The text is empty, and both reasons are said."""

    def fallback() -> str:
        raise LookupError("no plan B")

    reasoner, _, _ = make_reasoner(LONG)
    got = reasoner.answer("what", budget=0, fallback=fallback, **ASK)
    assert (got.text, got.source) == ("", "fallback")
    assert "fallback() raised LookupError('no plan B')" in got.reason
    assert "deliver" in got.reason


def test_accept_keeps_the_last_answer_it_took(make_reasoner: MakeReasoner) -> None:
    """The model comes to 'right', which the caller refuses: 'left' from before stands."""
    reasoner, _, _ = make_reasoner(LONG)
    got = reasoner.answer("what", budget=0.1, accept=lambda text: text == "left", **ASK)
    assert (got.text, got.stopped) == ("left", "deadline")
    assert got.source in {"instant", "probe"}
    assert got.tokens.thought < 20


def test_accept_that_takes_nothing_leaves_the_fallback(make_reasoner: MakeReasoner) -> None:
    """Everything vetoed: the fallback, on time, with the veto in the reason."""
    reasoner, _, _ = make_reasoner(LONG)
    got = reasoner.answer("what", budget=0.1, accept=lambda text: False, fallback="stop", **ASK)
    assert (got.text, got.source, got.late) == ("stop", "fallback", False)
    assert "accept('right') said no" in got.reason


def test_min_confidence_is_a_bar(make_reasoner: MakeReasoner) -> None:
    """The scripted engine is 99.3 % sure: 0.99 lets its answers through, 0.999 none."""
    reasoner, _, _ = make_reasoner(LONG)
    assert reasoner.answer("what", budget=0.1, min_confidence=0.99, **ASK).text == "right"
    got = reasoner.answer("what", budget=0.1, min_confidence=0.999, fallback="stop", **ASK)
    assert got.text == "stop"
    assert "below min_confidence=0.999" in got.reason


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_bar_that_is_none_is_refused(make_reasoner: MakeReasoner, value: float) -> None:
    """min_confidence is a probability."""
    reasoner, _, _ = make_reasoner(LONG)
    with pytest.raises(UsageError, match="between 0 and 1"):
        reasoner.answer("what", budget=1.0, min_confidence=value, **ASK)


@pytest.mark.parametrize("answer", ["left", ["left", "right"], {"a": 1}, None])
def test_what_is_no_format_is_refused(make_reasoner: MakeReasoner, answer: Any) -> None:
    """Also what cannot be hashed: the message lists the formats."""
    reasoner, _, _ = make_reasoner(LONG)
    with pytest.raises(AnswerFormatError, match="use Choices, Regex, JsonSchema or Text"):
        reasoner.answer("what", budget=1.0, answer=answer)


def test_a_prompt_that_cannot_be_one_is_refused(make_reasoner: MakeReasoner) -> None:
    """Whether it is seen at once or only in tokens, the caller gets a PromptError, and the next request is normal."""
    reasoner, engine, _ = make_reasoner(LONG)
    for prompt in ("", "a" * 255, "a" * 100_000, b"what"):
        with pytest.raises(PromptError):
            reasoner.answer(prompt, budget=1.0, **ASK)  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="the answer up to"):
        reasoner.answer("a" * 240, budget=1.0, answer=Text(30))
    assert engine.runs == []
    assert reasoner.answer("what", budget=0.1, **ASK).text == "right"


def test_a_format_can_be_prepared(make_reasoner: MakeReasoner) -> None:
    """prepare compiles once, refuses what cannot be compiled, and answers use what it made."""
    reasoner, _, _ = make_reasoner(LONG)
    with pytest.raises(AnswerFormatError):
        reasoner.prepare(Choices("é", "ü"))
    reasoner.prepare(LEFT_OR_RIGHT)
    made = reasoner._compiled(LEFT_OR_RIGHT)
    assert reasoner._compiled(Choices("left", "right")) is made


def test_requests_made_inside_each_other_keep_their_own_names(make_reasoner: MakeReasoner) -> None:
    """Two requests that overlap while being made have different ids and generations."""
    reasoner, _, _ = make_reasoner(LONG)
    compiled, inner = reasoner._compiled, []

    def nested(answer: Any) -> Any:
        if not inner:
            inner.append(None)
            inner[0] = reasoner.submit("what", budget=0.05, **ASK)
        return compiled(answer)

    reasoner._compiled = nested  # type: ignore[method-assign]
    outer = reasoner.submit("what", budget=0.05, **ASK)
    assert inner[0].job.generation != outer.job.generation
    assert inner[0].job.request_id != outer.job.request_id
    outer.result()
