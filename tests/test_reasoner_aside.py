"""More requests than the engine has rows: a thought gives its row up, and goes on in another with nothing lost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from anytime.errors import EngineError
from anytime.runtime.engine import FloatArray, Row, Seq, Snapshot
from anytime.runtime.pending import Pending
from anytime.runtime.reasoner import Reasoner
from anytime.testing import ScriptedEngine
from tests.conftest import MakeReasoner, thinker
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S

ASK: dict[str, Any] = {"answer": LEFT_OR_RIGHT, "fallback": "stop"}
RELAXED_S, URGENT_S = 1.0, 0.08  # an urgent one has time for a whole thought of 40 ms, and none to wait for a row


class Watched(ScriptedEngine):
    """Stands still in one run of one request, notes who was set aside, and fails where it is told to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stand_still = 1, 6  # in which run of which request, by its generation
        self.reached, self.released = threading.Event(), threading.Event()
        self.snapshots = 0
        self.failing = ""
        self._runs = Counter[int]()

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        self._runs[generation] += 1
        if (generation, self._runs[generation]) == self.stand_still:
            self.reached.set()
            assert self.released.wait(PATIENCE_S), "the engine was not released"
        return super().run(rows, generation)

    def go_on_to(self, generation: int, run: int) -> None:
        """Until that run of that request."""
        released, self.released = self.released, threading.Event()
        self.stand_still = generation, run
        self.reached.clear()
        released.set()
        assert self.reached.wait(PATIENCE_S)

    def snapshot(self, seq: Seq) -> Snapshot:
        self.snapshots += 1
        if self.failing == "snapshot":
            raise EngineError("no memory for the snapshot")
        return super().snapshot(seq)

    def restore(self, snapshot: Snapshot) -> Seq:
        if self.failing == "restore":
            raise EngineError("the snapshot cannot be read")
        return super().restore(snapshot)


def crowded(
    make_reasoner: MakeReasoner, rows: int = 2, urgent: int = 1, **ask: Any
) -> tuple[Reasoner, Watched, list[Pending]]:
    """Two relaxed requests that think, and behind them urgent ones, while the engine stands still."""
    script = thinker("ab\n" * 13, lambda n: "left" if n < 20 else "right")
    reasoner, engine, _ = make_reasoner(script, kind=Watched, max_rows=rows)
    assert isinstance(engine, Watched)
    first = reasoner.submit("what", budget=RELAXED_S, **ASK, **ask)
    assert engine.reached.wait(PATIENCE_S)
    second = reasoner.submit("what", budget=0.9 * RELAXED_S, **ASK)
    engine.go_on_to(2, 6)
    budgets_s = [URGENT_S * (1 + 0.7 * i) for i in range(urgent)]
    return reasoner, engine, [first, second, *(reasoner.submit("what", budget=s, **ASK) for s in budgets_s)]


def test_a_row_changes_hands_and_nothing_is_lost(make_reasoner: MakeReasoner) -> None:
    """Two rows or eight: every thought is thought to its end, and says the same."""
    found = []
    for rows in (2, 8):
        _, engine, crowd = crowded(make_reasoner, rows, urgent=3)
        engine.released.set()
        answers = [pending.result() for pending in crowd]
        found.append([(a.text, a.source, a.stopped, a.tokens.thought) for a in answers])
        assert bool(engine.snapshots) is (rows == 2)
    assert found[0] == found[1]
    assert {stopped for _, _, stopped, _ in found[0]} == {"complete"}


def test_rows_are_given_back(make_reasoner: MakeReasoner) -> None:
    """When all are served, as many are free as before, those parked for the next prompt among them."""
    reasoner, engine, crowd = crowded(make_reasoner)
    engine.released.set()
    for pending in crowd:
        pending.result()
    assert engine.snapshots
    assert reasoner.answer("what", budget=1.0, **ASK).stopped == "complete"
    assert reasoner._machine.free_rows == 2


def test_who_was_set_aside_can_be_cancelled(make_reasoner: MakeReasoner) -> None:
    """It ends with the best it has, and no row is missed or given back twice."""
    reasoner, engine, crowd = crowded(make_reasoner)
    engine.go_on_to(3, 5)
    assert crowd[0].job.aside is not None
    answer = crowd[0].cancel()
    engine.released.set()
    assert (answer.stopped, answer.valid) == ("cancelled", True)
    assert [pending.result().stopped for pending in crowd[1:]] == ["complete"] * 2
    assert reasoner.answer("what", budget=1.0, **ASK).stopped == "complete"
    assert reasoner._machine.free_rows == 2


@pytest.mark.parametrize("failing", ["snapshot", "restore"])
def test_who_cannot_be_moved_fails_alone(make_reasoner: MakeReasoner, failing: str) -> None:
    """The request whose turn it was says why, with the best it has; the others are served, and the engine goes on."""
    reasoner, engine, crowd = crowded(make_reasoner)
    engine.failing = failing
    engine.released.set()
    answers = [pending.result() for pending in crowd]
    (failed,) = [answer for answer in answers if answer.stopped == "error"]
    assert "snapshot" in failed.reason
    assert [answer.stopped for answer in answers].count("complete") == 2
    engine.failing = ""
    assert reasoner.answer("what", budget=1.0, **ASK).stopped == "complete"
    assert reasoner._machine.free_rows == 2


def test_lines_side_by_side_end_for_their_rows(make_reasoner: MakeReasoner) -> None:
    """Several rows cannot be had back at once: whoever holds them ends, and says so."""
    _, engine, crowd = crowded(make_reasoner, rows=3, policy="self-consistency:k=2")
    engine.released.set()
    answers = [pending.result() for pending in crowd]
    assert answers[0].valid
    assert "row of the engine was needed" in answers[0].reason
    assert answers[2].stopped == "complete"


def test_only_so_many_are_set_aside(make_reasoner: MakeReasoner) -> None:
    """As many as there are rows, for each takes as much memory as a row; beyond, the least urgent ends."""
    reasoner, engine, crowd = crowded(make_reasoner)
    for i, budget_s in ((4, 0.05), (5, 0.03)):
        engine.go_on_to(i - 1, 4)
        crowd.append(reasoner.submit("what", budget=budget_s, **ASK))
    engine.go_on_to(5, 2)
    assert [pending.job.aside is not None for pending in crowd] == [True, True, False, False, False]
    engine.released.set()
    answers = [pending.result() for pending in crowd]
    assert all(answer.valid for answer in answers)
    assert "row of the engine was needed" in answers[2].reason
    assert [answer.stopped for answer in answers[:2]] == ["complete"] * 2
