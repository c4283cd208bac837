"""More requests than the engine has rows: a thought gives its row up, and goes on in another with nothing lost."""

from __future__ import annotations

from typing import Any

import pytest

from anytime.errors import EngineError
from anytime.runtime.engine import Seq, Snapshot
from anytime.runtime.reasoner import Reasoner
from anytime.testing import ScriptedEngine
from tests.conftest import MakeReasoner, thinker
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S, HeldEngine

ASK: dict[str, Any] = {"answer": LEFT_OR_RIGHT, "fallback": "stop"}
TOKENS = 40  # of a whole thought
BUDGETS_S = (1.0, 0.9, 0.8, 0.7, 0.6)  # who comes later is more urgent


class Counting(HeldEngine):
    """Counts who was set aside, and fails where it is told to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.snapshots = self.fewest_free = 0
        self.failing: str | None = None

    def snapshot(self, seq: Seq) -> Snapshot:
        self.snapshots += 1
        if self.failing == "snapshot":
            raise EngineError("no memory for a snapshot")
        return super().snapshot(seq)

    def restore(self, snapshot: Snapshot) -> Seq:
        if self.failing == "restore":
            raise EngineError("the snapshot cannot be read")
        return super().restore(snapshot)


def crowded(make_reasoner: MakeReasoner, rows: int, **ask: Any) -> tuple[Reasoner, Counting, list[Any]]:
    """Five requests, each with an earlier deadline than those before, all taken in while the engine stands still."""
    script = thinker("ab\n" * (TOKENS // 3), lambda n: "left" if n < 20 else "right")
    reasoner, engine, _ = make_reasoner(script, kind=Counting, hold_at=6, max_rows=rows)
    assert isinstance(engine, Counting)
    first = reasoner.submit("what", budget=BUDGETS_S[0], **ASK, **ask)
    assert engine.reached.wait(PATIENCE_S)
    return reasoner, engine, [first, *(reasoner.submit("what", budget=s, **ASK) for s in BUDGETS_S[1:])]


def test_a_row_changes_hands_and_nothing_is_lost(make_reasoner: MakeReasoner) -> None:
    """Two rows or eight: every thought is thought to its end, and says the same."""
    found = []
    for rows in (2, 8):
        _, engine, crowd = crowded(make_reasoner, rows)
        engine.released.set()
        answers = [pending.result() for pending in crowd]
        found.append([(a.text, a.source, a.stopped, a.tokens.thought) for a in answers])
        assert bool(engine.snapshots) is (rows == 2)
    assert found[0] == found[1]
    assert {stopped for _, _, stopped, _ in found[0]} == {"complete"}


def test_rows_are_given_back(make_reasoner: MakeReasoner) -> None:
    """When all are served, as many are free as before, those parked for the next prompt among them."""
    reasoner, engine, crowd = crowded(make_reasoner, 2)
    engine.released.set()
    for pending in crowd:
        pending.result()
    assert reasoner.answer("what", budget=1.0, **ASK).stopped == "complete"
    assert reasoner._machine.free_rows == 2


def test_who_was_set_aside_can_be_cancelled(make_reasoner: MakeReasoner) -> None:
    """It ends with the best it has, and no row is missed or given back twice."""
    reasoner, engine, crowd = crowded(make_reasoner, 2)
    held, engine.hold_at = engine.released, len(engine.generations) + 6
    engine.reached.clear()
    engine.released = type(held)()
    held.set()
    assert engine.reached.wait(PATIENCE_S)
    assert crowd[0].job.aside is not None
    answer = crowd[0].cancel()
    engine.released.set()
    assert (answer.stopped, answer.valid) == ("cancelled", True)
    assert all(pending.result().stopped == "complete" for pending in crowd[1:])
    assert reasoner.answer("what", budget=1.0, **ASK).stopped == "complete"
    assert reasoner._machine.free_rows == 2


@pytest.mark.parametrize("failing", ["snapshot", "restore"])
def test_who_cannot_be_moved_fails_alone(make_reasoner: MakeReasoner, failing: str) -> None:
    """The request whose turn it was says why, with the best it has; the others are served, and the engine goes on."""
    reasoner, engine, crowd = crowded(make_reasoner, 2)
    engine.failing = failing
    engine.released.set()
    answers = [pending.result() for pending in crowd]
    errors = [answer for answer in answers if answer.stopped == "error"]
    assert errors
    assert all("snapshot" in answer.reason for answer in errors)
    assert any(answer.stopped == "complete" for answer in answers)
    engine.failing = None
    assert reasoner.answer("what", budget=1.0, **ASK).stopped == "complete"
    assert reasoner._machine.free_rows == 2


def test_lines_side_by_side_end_for_their_rows(make_reasoner: MakeReasoner) -> None:
    """Several rows cannot be had back at once: whoever holds them ends, and says so."""
    _, engine, crowd = crowded(make_reasoner, 2, policy="parallel:n=2")
    engine.released.set()
    answers = [pending.result() for pending in crowd]
    assert answers[0].valid
    assert "row of the engine was needed" in answers[0].reason
    assert all(answer.stopped == "complete" for answer in answers[1:])


def test_only_so_many_are_set_aside(make_reasoner: MakeReasoner) -> None:
    """As many as there are rows, for each takes as much memory as a row; beyond, the least urgent ends."""
    reasoner, engine, crowd = crowded(make_reasoner, 2)
    most, aside = 0, ScriptedEngine.snapshot

    def counting(seq: Seq) -> Snapshot:
        nonlocal most
        most = max(most, 1 + sum(job.aside is not None for job in reasoner._worker._jobs.values()))
        return aside(engine, seq)

    engine.snapshot = counting  # type: ignore[method-assign]
    engine.released.set()
    for pending in crowd:
        assert pending.result().valid
    assert most == 2
