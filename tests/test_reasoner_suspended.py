"""A thought that has used up its time stands still, and goes on, answers or ends where it stands."""

from __future__ import annotations

import itertools
import threading
from typing import Any

from anytime.runtime.pending import Pending
from anytime.runtime.reasoner import Reasoner
from tests.conftest import MakeReasoner, thinker
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S, HeldEngine, held

ASK: dict[str, Any] = {"answer": LEFT_OR_RIGHT, "fallback": "stop"}


def thoughts_of_two(make_reasoner: MakeReasoner, policy: str) -> tuple[int, int, list[int]]:
    """Tokens of two thoughts whose deadlines leave time for one, the later under this policy; whose turns it was."""
    reasoner, engine, _ = held(make_reasoner)
    reasoner.submit("what", budget=1.0, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    one = reasoner.submit("what", budget=0.1, **ASK)
    two = reasoner.submit("what", budget=0.101, policy=policy, **ASK)
    engine.released.set()
    tokens = one.result().tokens.thought, two.result().tokens.thought
    return *tokens, [generation for generation, _ in itertools.groupby(engine.generations)]


def test_a_thought_out_of_time_goes_on_when_others_leave_theirs(make_reasoner: MakeReasoner) -> None:
    """It stands still where the other's share begins; what the other turns out not to need is its own again."""
    shared, _, _ = thoughts_of_two(make_reasoner, "until-deadline")
    left, needed, order = thoughts_of_two(make_reasoner, "fixed:tokens=12")
    assert needed == 12
    assert left > 1.3 * shared
    assert order[order.index(3) :].count(2) > 1


def suspended(make_reasoner: MakeReasoner, hold_at: int, **engine_args: Any) -> tuple[Reasoner, HeldEngine, Pending]:
    """A Reasoner that runs the later of two requests, the earlier of which has used up its time."""
    reasoner, engine, _ = make_reasoner(
        thinker("ab\n" * 60, lambda n: "left" if n < 20 else "right"), kind=HeldEngine, hold_at=3, **engine_args
    )
    assert isinstance(engine, HeldEngine)
    first = reasoner.submit("what", budget=0.1, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    reasoner.submit("what", budget=0.12, **ASK)
    held_first, engine.released, engine.hold_at = engine.released, threading.Event(), hold_at
    engine.reached.clear()
    held_first.set()
    assert engine.reached.wait(PATIENCE_S)
    assert first.job.resume_ns
    return reasoner, engine, first


def test_answer_now_reaches_a_thought_out_of_time(make_reasoner: MakeReasoner) -> None:
    """It does not wait for the others."""
    _, engine, first = suspended(make_reasoner, hold_at=95)
    first.answer_now()
    engine.released.set()
    answer = first.result()
    assert (answer.stopped, answer.source) == ("early", "thought")


def test_a_thought_out_of_time_gives_its_row_to_who_has_none(make_reasoner: MakeReasoner) -> None:
    """At once, though whoever comes could wait; it is set aside with what it has found."""
    reasoner, engine, first = suspended(make_reasoner, hold_at=95, max_rows=2)
    came = reasoner.submit("what", budget=1.0, **ASK)
    held, engine.released, engine.hold_at = engine.released, threading.Event(), len(engine.generations) + 1
    engine.reached.clear()
    held.set()
    assert engine.reached.wait(PATIENCE_S)
    assert (engine.generations[-1], first.job.aside is not None) == (came.job.generation, True)
    engine.released.set()
    assert (first.result().text, came.result().stopped) == ("right", "complete")
