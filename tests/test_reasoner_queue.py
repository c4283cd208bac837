"""Several requests: the queue, and cancelling."""

from __future__ import annotations

import threading
from typing import Any

from anytime import Answer
from anytime.runtime.intake import MOST_REQUESTS
from tests.conftest import MakeReasoner, thinker
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S, held

LONG = thinker("ab\n" * 60, lambda n: "left" if n < 20 else "right")
ASK: dict[str, Any] = {"answer": LEFT_OR_RIGHT, "fallback": "stop"}


def test_a_request_still_waiting_at_its_deadline_gets_its_fallback(make_reasoner: MakeReasoner) -> None:
    """The caller behind a long request leaves on time too, and is told that it was still waiting."""
    reasoner, engine, clock = held(make_reasoner)
    first = reasoner.submit("what", budget=1.0, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    second = reasoner.submit("what", budget=0.05, **ASK)
    clock.advance(second.job.ready_ns - clock.now())
    got = second.result()
    assert (got.text, got.source, got.stopped, got.late) == ("stop", "fallback", "deadline", False)
    assert "still waiting for the engine" in got.reason
    assert not got.overrun, "no step of this request ran past its plan"
    engine.released.set()
    assert first.result().text == "right"
    assert set(engine.generations) == {first.job.generation}


def test_how_many_are_under_way_is_bounded(make_reasoner: MakeReasoner) -> None:
    """One request too many is rejected at once, with the reason; the others are all answered."""
    reasoner, engine, clock = held(make_reasoner)
    pending = [reasoner.submit("what", budget=0.1, **ASK)]
    assert engine.reached.wait(PATIENCE_S)
    pending += [reasoner.submit("what", budget=500.0, **ASK) for _ in range(MOST_REQUESTS - 1)]
    before_ns = clock.now()
    rejected = reasoner.answer("what", budget=80.0, **ASK)
    assert (rejected.stopped, rejected.text) == ("rejected", "stop")
    assert f"{MOST_REQUESTS} requests are under way already" in rejected.reason
    assert clock.now() == before_ns
    engine.released.set()
    assert [each.result().text for each in pending] == ["right"] * MOST_REQUESTS


def test_who_was_called_off_waits_no_more(make_reasoner: MakeReasoner) -> None:
    """A full house makes room for a new request by those that were cancelled."""
    reasoner, engine, clock = held(make_reasoner)
    first = reasoner.submit("what", budget=0.1, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    waiting = [reasoner.submit("what", budget=500.0, **ASK) for _ in range(MOST_REQUESTS - 1)]
    for one in waiting:
        one.cancel()
    late_comer = reasoner.submit("what", budget=80.0, **ASK)
    clock.advance(first.job.ready_ns - clock.now())
    first.result()
    assert late_comer.result().text == "right"
    assert all(one.result().stopped == "cancelled" for one in waiting)


def test_the_answer_is_given_once(make_reasoner: MakeReasoner) -> None:
    """Asking for the result again gives the same answer, delivered when it was."""
    reasoner, engine, clock = held(make_reasoner)
    pending = reasoner.submit("what", budget=0.5, **ASK)
    engine.released.set()
    answer = pending.result()
    clock.advance(10**9)
    assert pending.result() is answer
    assert not answer.late


def test_requests_of_many_threads_are_all_answered(make_reasoner: MakeReasoner) -> None:
    """A Reasoner is shared by threads: every one gets its own answer."""
    reasoner, _, _ = make_reasoner(LONG)
    got: dict[int, Answer] = {}

    def ask(i: int) -> None:
        got[i] = reasoner.answer("what", budget=80.0, request_id=str(i), **ASK)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert {i: (answer.text, answer.request_id) for i, answer in got.items()} == {
        i: ("right", str(i)) for i in range(8)
    }


def test_cancel_stops_the_thinking_and_keeps_the_best(make_reasoner: MakeReasoner) -> None:
    """The step that runs is told to end; result returns at once what was found."""
    reasoner, engine, clock = held(make_reasoner, hold_at=40)
    pending = reasoner.submit("what", budget=10.0, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    before_ns = clock.now()
    pending.cancel()
    got = pending.result()
    assert (got.text, got.source, got.stopped, got.overrun) == ("right", "probe", "cancelled", False)
    assert engine.terminated == [pending.job.generation]
    assert clock.now() == before_ns


def test_a_waiting_request_can_be_cancelled(make_reasoner: MakeReasoner) -> None:
    """It returns its fallback at once and never reaches the engine; the running one is not disturbed."""
    reasoner, engine, _ = held(make_reasoner)
    first = reasoner.submit("what", budget=0.1, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    second = reasoner.submit("what", budget=0.1, **ASK)
    second.cancel()
    assert (second.result().text, second.result().stopped) == ("stop", "cancelled")
    assert engine.terminated == []
    engine.released.set()
    assert first.result().text == "right"
    assert reasoner.answer("what", budget=0.1, **ASK).text == "right"
    assert second.job.generation not in engine.generations


def test_cancelling_what_is_over_changes_nothing(make_reasoner: MakeReasoner) -> None:
    """Neither a finished nor a rejected request is called cancelled, and no step of another one is told to end."""
    reasoner, engine, _ = held(make_reasoner, hold_at=10**9)
    for budget, stopped in ((0.1, "deadline"), (0.0, "rejected")):
        pending = reasoner.submit("what", budget=budget, **ASK)
        assert pending.job.done.wait(PATIENCE_S)
        pending.cancel()
        assert pending.result().stopped == stopped
    assert engine.terminated == []
