"""The action Reason: feedback, minimum confidence, cancelling, deadlines."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from anytime.errors import InputError, PromptError
from anytime.node.messages import STATUS, THINKING, Decision, Question, Time
from anytime.node.stamps import time_of
from tests.conftest import LONG, MS, MakeReasoner, thinker, turns_at
from tests.doubles import PATIENCE_S, HeldEngine
from tests.nodes import EPOCH_NS, Rig

S = 1000 * MS


def rig(make_reasoner: MakeReasoner, **given: Any) -> Rig:
    reasoner, _, clock = make_reasoner(turns_at(20))
    return Rig(reasoner, clock, **given).up()


def question(up: Rig, **fields: Any) -> Question:
    return Question(**{"header": up.header(), "text": "what", "request_id": "g", **fields})


def test_a_goal_has_feedback_and_a_result(make_reasoner: MakeReasoner) -> None:
    """Feedback is the best so far, never beyond the result; the result is no topic, but is traced and counted."""
    up = rig(make_reasoner)
    seen: list[Decision] = []
    got = up.node.goal(question(up)).run(seen.append)
    assert (got.answer, got.status, got.late, got.request_id) == ("right", STATUS["deadline"], False, "g")
    assert all(decision.status == THINKING for decision in seen)
    assert all(decision.answer in ("left", "right") for decision in seen)
    assert all(decision.elapsed_s <= got.elapsed_s for decision in seen)
    assert up.decisions == []
    assert [trace.published for trace in up.traces] == [False]
    assert up.count("decisions") == 1


def test_a_goal_names_its_deadline(make_reasoner: MakeReasoner) -> None:
    """An instant of ROS time, which counts instead of a budget."""
    up = rig(make_reasoner)
    deadline = time_of(EPOCH_NS + up.clock.now() + 50 * MS)
    got = up.node.goal(question(up, budget_s=5.0), deadline).run(lambda decision: None)
    assert got.budget_s == 0.05
    assert 0.04 < got.elapsed_s <= 0.05


def test_a_goal_s_minimum_confidence(make_reasoner: MakeReasoner) -> None:
    """Answers below it are not returned: the fallback, and why."""
    up = rig(make_reasoner)
    got = up.node.goal(question(up), Time(), 1.0).run(lambda decision: None)
    assert (got.answer, got.source) == ("stop", "fallback")
    assert "below min_confidence=1.0" in got.reason


def test_a_cancel_returns_the_best_answer(make_reasoner: MakeReasoner) -> None:
    """At once, though the engine stands still in a step."""
    script = thinker(LONG, lambda n: "left")
    reasoner, engine, clock = make_reasoner(script, kind=HeldEngine, hold_at=-1)
    assert isinstance(engine, HeldEngine)
    up = Rig(reasoner, clock).up()
    engine.hold_at = len(engine.generations) + 6
    goal, got = up.node.goal(question(up)), list[Decision]()
    running = threading.Thread(target=lambda: got.append(goal.run(lambda decision: None)))
    running.start()
    assert engine.reached.wait(PATIENCE_S)
    goal.cancel()
    running.join(PATIENCE_S)
    assert (got[0].answer, got[0].status) == ("left", STATUS["cancelled"])
    assert got[0].source != "fallback"


def test_goals_end_with_the_node_s_activity(make_reasoner: MakeReasoner) -> None:
    """Deactivating does not wait for their deadlines; they return the best there is."""
    up = rig(make_reasoner)
    goal = up.node.goal(question(up, budget_s=3600.0))
    up.node.deactivate()
    assert goal.run(lambda decision: None).status == STATUS["cancelled"]
    with pytest.raises(InputError, match="the node is not active"):
        up.node.goal(question(up))


def test_too_many_goals(make_reasoner: MakeReasoner) -> None:
    """One more than max_goals is refused; one that ended makes room."""
    up = rig(make_reasoner, max_goals=1)
    first = up.node.goal(question(up, request_id="1"))
    with pytest.raises(InputError, match="1 goals are under way") as caught:
        up.node.goal(question(up, request_id="2"))
    assert caught.value.trouble == "busy"
    first.run(lambda decision: None)
    assert up.node.goal(question(up, request_id="3")).run(lambda decision: None).answer == "right"


def test_a_client_that_fails(make_reasoner: MakeReasoner) -> None:
    """Feedback that raises ends the goal and the thinking, and makes room for the next."""
    script = thinker(LONG, lambda n: "left")
    reasoner, engine, clock = make_reasoner(script, kind=HeldEngine, hold_at=-1)
    assert isinstance(engine, HeldEngine)
    up = Rig(reasoner, clock, max_goals=1).up()
    engine.hold_at = len(engine.generations) + 6

    def gone(decision: Decision) -> None:
        raise ConnectionError("the client has gone")

    with pytest.raises(ConnectionError):
        up.node.goal(question(up)).run(gone)
    assert engine.terminated
    assert up.node.goal(question(up, request_id="next")).run(lambda decision: None).answer == "left"


@pytest.mark.parametrize(
    ("deadline", "min_confidence", "trouble", "why"),
    [
        (Time(1, 0), 0.0, "malformed", "behind the stamp"),
        (Time(2**31 - 1, 0), 0.0, "malformed", "give one up to a day"),
        (Time(5, 2**31), 0.0, "malformed", "nanosec below"),
        (Time(), float("nan"), "malformed", "min_confidence is nan"),
        (Time(), 1.5, "malformed", "min_confidence is 1.5"),
    ],
)
def test_bad_goals(make_reasoner: MakeReasoner, deadline: Time, min_confidence: float, trouble: str, why: str) -> None:
    """Refused and counted like topics; the next goal is served."""
    up = rig(make_reasoner)
    with pytest.raises(InputError, match=why):
        up.node.goal(question(up), deadline, min_confidence)
    assert up.count(trouble) == 1
    assert up.node.goal(question(up)).run(lambda decision: None).answer == "right"


def test_a_goal_of_the_past(make_reasoner: MakeReasoner) -> None:
    """Its deadline has gone: stale."""
    up = rig(make_reasoner)
    with pytest.raises(InputError) as caught:
        up.node.goal(question(up, header=up.header(80 * MS)), time_of(EPOCH_NS + up.clock.now() - 10 * MS))
    assert caught.value.trouble == "stale"


def test_two_goals_of_one_id(make_reasoner: MakeReasoner) -> None:
    """The second is refused while the first is under way."""
    script = thinker(LONG, lambda n: "left")
    reasoner, engine, clock = make_reasoner(script, kind=HeldEngine, hold_at=-1)
    assert isinstance(engine, HeldEngine)
    up = Rig(reasoner, clock).up()
    engine.hold_at = len(engine.generations) + 3
    goal = up.node.goal(question(up))
    assert engine.reached.wait(PATIENCE_S)
    with pytest.raises(InputError, match="a request with the id 'g' is under way"):
        up.node.goal(question(up))
    engine.released.set()
    goal.run(lambda decision: None)


class _Malformed:
    """Under way in an isolated process, which finds its prompt malformed."""

    def wait_for_news(self) -> bool:
        return False

    def leave(self) -> Any:
        raise PromptError("the prompt has too many tokens: shorten it")


def test_what_only_an_isolated_process_could_see(make_reasoner: MakeReasoner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt that is refused over there is malformed, not an error of the engine."""
    up = rig(make_reasoner)
    monkeypatch.setattr(up.reasoner, "submit", lambda prompt, **request: _Malformed())
    up.ask()
    assert (up.count("malformed"), up.count("error")) == (1, 0)
    with pytest.raises(InputError, match="too many tokens"):
        up.node.goal(question(up)).run(lambda decision: None)
    assert up.count("malformed") == 2
