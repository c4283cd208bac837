"""The action and the service over rclpy, on a double of rclpy."""

from __future__ import annotations

import threading
from typing import Any

from anytime.node.messages import STATUS, THINKING
from anytime.testing import MockClock
from tests.conftest import LONG, MS, MakeReasoner, thinker, turns_at
from tests.doubles import PATIENCE_S, HeldEngine
from tests.doubles_rclpy_managed import ABORTED, CANCELED, SUCCEEDED, outcome
from tests.doubles_rclpy_world import World
from tests.ros_nodes import SRV, RosRig


def rig(world: World, make_reasoner: MakeReasoner, **given: Any) -> RosRig:
    """A node that is up, whose answer turns from left to right after 20 tokens of thought."""
    clock = MockClock(start_ns=10**9)
    return RosRig(world, lambda: make_reasoner(turns_at(20), clock=clock)[0], clock, **given).up()


def held(world: World, make_reasoner: MakeReasoner, **given: Any) -> tuple[RosRig, HeldEngine]:
    """A node that is up, whose engine stands still in the sixth run from now on."""
    reasoner, engine, clock = make_reasoner(thinker(LONG, lambda n: "left"), kind=HeldEngine, hold_at=-1)
    assert isinstance(engine, HeldEngine)
    up = RosRig(world, lambda: reasoner, clock, **given).up()
    engine.hold_at = len(engine.generations) + 6
    return up, engine


def test_a_goal_succeeds(world: World, make_reasoner: MakeReasoner) -> None:
    """With feedback on the way and the decision as its result; the topic has none of it."""
    up, engine = held(world, make_reasoner)
    handle = up.send()
    assert handle.shown.wait(PATIENCE_S)
    shown = handle.feedback[0].decision
    assert (shown.status, shown.answer, shown.source, shown.request_id) == (THINKING, "left", "instant", "q")
    engine.released.set()
    status, decision = outcome(handle)
    assert (status, decision.answer, decision.status) == (SUCCEEDED, "left", STATUS["deadline"])
    assert decision.tokens_used > shown.tokens_used
    assert up.decisions == []
    assert up.world.of("/anytime/trace")[0].published is False


def test_a_goal_s_deadline_and_minimum_confidence(world: World, make_reasoner: MakeReasoner) -> None:
    """They are the goal's own."""
    up = rig(world, make_reasoner)
    deadline = up.stamp(age_ns=-50 * MS)
    status, decision = outcome(up.send(deadline=deadline, min_confidence=1.0))
    assert (status, decision.budget_s, decision.answer, decision.source) == (SUCCEEDED, 0.05, "stop", "fallback")
    assert "below min_confidence=1.0" in decision.reason


def test_feedback_comes_at_most_so_often(world: World, make_reasoner: MakeReasoner) -> None:
    """The first at once; a later one within 50 ms when the timer finds that it is time; none after the end."""
    from anytime.node.ros.goals import Feedback

    clock, shown = MockClock(), list[Any]()
    feedback = Feedback(clock, shown.append)
    for best in ("a", "b", "c"):
        feedback.show(best)  # type: ignore[arg-type]
    assert shown == ["a"]
    clock.advance(49 * MS)
    feedback.flush()
    assert shown == ["a"]
    clock.advance(1 * MS)
    feedback.flush()
    feedback.flush()
    assert shown == ["a", "c"]
    feedback.show("d")  # type: ignore[arg-type]
    feedback.end()
    clock.advance(100 * MS)
    feedback.flush()
    assert shown == ["a", "c"]


def test_the_timer_of_feedback_runs_with_goals_only(world: World, make_reasoner: MakeReasoner) -> None:
    """It shows what was held back, and sleeps while no goal is under way."""
    up, engine = held(world, make_reasoner)
    (timer,) = (it for it in up.node.own_timers if it.timer_period_ns == 50 * MS)
    assert timer.is_canceled()
    handle = up.send(question=up.question(budget_s=3600.0))
    assert engine.reached.wait(PATIENCE_S)
    assert handle.shown.wait(PATIENCE_S)
    assert not timer.is_canceled()
    (running,) = up.node.goals._running.values()
    running.feedback.show(up.node.goals._refused(up.question(), "held back"))
    assert len(handle.feedback) == 1
    up.clock.advance(50 * MS)
    world.tick(up.node, 0.05)
    assert [it.decision.reason for it in handle.feedback] == ["", "held back"]
    assert world.actions["/anytime/reason"].cancel(handle)
    outcome(handle)
    assert up.node.goals.wait_until_empty(PATIENCE_S)
    assert timer.is_canceled()


def test_a_cancel_returns_the_best_answer(world: World, make_reasoner: MakeReasoner) -> None:
    """At once, though the engine stands still, and as CANCELED, though rclpy marks the goal only behind our back."""
    up, engine = held(world, make_reasoner)
    handle = up.send(question=up.question(budget_s=3600.0))
    assert engine.reached.wait(PATIENCE_S)
    server = world.actions["/anytime/reason"]
    # The goal's thread has its answer, and looks for the mark, before rclpy sets it.
    assert server.cancel(handle, between=lambda: handle.looked_at.wait(PATIENCE_S))
    status, decision = outcome(handle)
    assert (status, decision.answer, decision.status) == (CANCELED, "left", STATUS["cancelled"])
    assert decision.source != "fallback"
    assert not server.cancel(handle)


def test_goals_end_with_the_node_s_activity(world: World, make_reasoner: MakeReasoner) -> None:
    """Aborted, with their best answers; nobody cancelled them."""
    up, engine = held(world, make_reasoner)
    handle = up.send(question=up.question(budget_s=3600.0))
    assert engine.reached.wait(PATIENCE_S)
    assert up.node.asked("deactivate")
    status, decision = outcome(handle)
    assert (status, decision.answer, decision.status) == (ABORTED, "left", STATUS["cancelled"])


def test_intake_goes_on_beside_goals(world: World, make_reasoner: MakeReasoner) -> None:
    """While a goal occupies a thread, questions, parameters and other goals are taken in."""
    up, engine = held(world, make_reasoner, threaded=True, max_goals=2)
    first = up.send(question=up.question(budget_s=3600.0, request_id="1"))
    assert engine.reached.wait(PATIENCE_S)
    up.ask(budget_s=3600.0)
    assert up.count("taken") == 2
    assert up.set("fallback", "brake")[0]
    second = up.send(question=up.question(budget_s=3600.0, request_id="2"))
    status, decision = outcome(up.send(question=up.question(request_id="3")))
    assert (status, decision.status, decision.answer) == (ABORTED, STATUS["rejected"], "brake")
    assert "2 goals are under way" in decision.reason
    up.node.end()
    assert [outcome(it)[0] for it in (first, second)] == [ABORTED, ABORTED]


def test_a_goal_that_is_refused(world: World, make_reasoner: MakeReasoner) -> None:
    """Its result says why, with the fallback; the same while the node is not active."""
    up = rig(world, make_reasoner)
    status, decision = outcome(up.send(min_confidence=1.5))
    assert (status, decision.status, decision.source) == (ABORTED, STATUS["rejected"], "fallback")
    assert (decision.answer, decision.request_id) == ("stop", "q")
    assert "min_confidence is 1.5" in decision.reason
    assert up.count("malformed") == 1
    assert up.node.asked("deactivate")
    status, decision = outcome(up.send())
    assert (status, decision.reason) == (ABORTED, "the node is not active: activate it")
    assert up.node.goals._running == {}


def test_a_client_that_fails(world: World, make_reasoner: MakeReasoner) -> None:
    """Feedback that cannot be sent ends the goal; the next one is served."""
    up, _ = held(world, make_reasoner)
    feedback = up.node.goals._feedback
    up.node.goals._feedback = lambda best: 1 / 0
    status, decision = outcome(up.send())
    assert (status, decision.reason) == (ABORTED, "ZeroDivisionError('division by zero')")
    up.node.goals._feedback = feedback
    assert outcome(up.send(question=up.question(request_id="next")))[0] == SUCCEEDED


def test_the_service(world: World, make_reasoner: MakeReasoner) -> None:
    """A question, and its decision; a refusal with its reason."""
    up = rig(world, make_reasoner)
    got = world.call("/anytime/ask", SRV.Ask.Request(question=up.question())).decision
    assert (got.answer, got.status, got.late) == ("right", STATUS["deadline"], False)
    got = world.call("/anytime/ask", SRV.Ask.Request(question=up.question(text=" "))).decision
    assert (got.answer, got.status) == ("stop", STATUS["rejected"])
    assert got.reason == "the question is empty: fill in text"


def test_the_service_does_not_block(world: World, make_reasoner: MakeReasoner) -> None:
    """Two clients wait for their answers at the same time, and a goal beside them."""
    up, engine = held(world, make_reasoner)
    got: list[Any] = []

    def ask(name: str) -> None:
        request = SRV.Ask.Request(question=up.question(request_id=name, budget_s=3600.0))
        got.append(world.call("/anytime/ask", request).decision)

    clients = [threading.Thread(target=ask, args=(name,)) for name in "ab"]
    for client in clients:
        client.start()
    assert engine.reached.wait(PATIENCE_S)
    handle = up.send(question=up.question(request_id="c", budget_s=3600.0))
    up.node.end()
    for client in clients:
        client.join(PATIENCE_S)
    assert sorted(it.request_id for it in got) == ["a", "b"]
    assert outcome(handle)[0] == ABORTED
