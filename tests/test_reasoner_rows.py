"""Rows of the engine are few: who gets one, who loses one, and that all come back."""

from __future__ import annotations

import pytest

from anytime import Text
from anytime.runtime.policies.policy import Following, Plan, View
from tests.conftest import MakeReasoner
from tests.doubles import PATIENCE_S, HeldEngine
from tests.test_reasoner_sharing import ASK, busy


def test_an_urgent_request_takes_the_row_of_the_least_urgent(make_reasoner: MakeReasoner) -> None:
    """With every row in use it waits as long as it can; then the latest deadline makes way, and goes on behind it."""
    reasoner, engine, _ = make_reasoner(lambda tokens: 10, kind=HeldEngine, hold_at=30, max_rows=1)
    assert isinstance(engine, HeldEngine)
    patient = reasoner.submit("what", budget=5.0, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    urgent, thought = reasoner.submit("what", budget=0.05, **ASK), len(patient.job.thought)
    engine.released.set()
    assert urgent.result().valid
    ended = patient.result()
    assert ended.valid
    assert ended.tokens.thought > 2 * thought
    assert "row of the engine was needed" not in ended.reason


class AgainAndAgain(Following):
    """Thinks three tokens at a time and answers: most of its steps are a close with a whole answer."""

    def begin(self, view: View) -> Plan:
        return Plan(limit=3)

    def judge(self, view: View) -> Plan:
        return Plan(limit=3)


@pytest.mark.parametrize("budget_ms", range(24, 60, 3))
def test_a_row_is_taken_before_a_whole_answer_of_another_is_too_much(
    budget_ms: int, make_reasoner: MakeReasoner
) -> None:
    """What waits for a row counts on the longest step of whoever goes on, not on one run of the engine."""
    reasoner, engine, _ = make_reasoner(lambda tokens: 10, kind=HeldEngine, hold_at=30, max_rows=1)
    assert isinstance(engine, HeldEngine)
    reasoner.submit("what", budget=5.0, answer=Text(16), fallback="stop", policy=AgainAndAgain())
    assert engine.reached.wait(PATIENCE_S)
    urgent = reasoner.submit("what", budget=budget_ms / 1000, **ASK)
    engine.released.set()
    answer = urgent.result()
    assert answer.valid or (answer.stopped == "rejected" and "too little" in answer.reason)
    assert answer.valid or budget_ms < 50


def test_every_row_is_given_back(make_reasoner: MakeReasoner) -> None:
    """Requests that end, are cancelled, superseded or dropped leave no row behind."""
    reasoner, engine, _, first = busy(make_reasoner)
    asked = [reasoner.submit("what", budget=0.2, topic="t", **ASK) for _ in range(5)]
    asked += [reasoner.submit("what", budget=0.2, **ASK) for _ in range(5)]
    asked[-1].cancel()
    engine.released.set()
    for pending in (first, *asked):
        pending.result()
    reasoner.close()
    assert engine.free_rows + reasoner._machine.prefixes.parked == engine.spec.max_rows
