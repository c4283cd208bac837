"""The node: decisions by the deadline that the stamp implies, and none behind it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from anytime.node.messages import STATUS, Question, Time, Vehicle
from tests.conftest import LONG, MS, MakeReasoner, thinker, turns_at
from tests.doubles import PATIENCE_S, FailingEngine, HeldEngine
from tests.nodes import ListRecorder, Rig, scene


def rig(make_reasoner: MakeReasoner, **given: Any) -> Rig:
    """A node that is up, whose answer turns from left to right after 20 tokens of thought."""
    reasoner, _, clock = make_reasoner(turns_at(20))
    return Rig(reasoner, clock, **given).up()


def slowed(make_reasoner: MakeReasoner, **given: Any) -> tuple[Rig, list[float]]:
    """A node that is up, and how much slower its engine is from now on: a list of one number."""
    factor = [1.0]
    reasoner, _, clock = make_reasoner(turns_at(20), slowdown=lambda run: factor[0])
    return Rig(reasoner, clock, **given).up(), factor


def test_the_deadline_counts_from_the_stamp(make_reasoner: MakeReasoner) -> None:
    """A question that took 30 ms to arrive has 70 of its 100 ms left; the decision says where the time went."""
    up = rig(make_reasoner)
    asked_ns = up.clock.now()
    up.ask(age_ns=30 * MS, request_id="q1", trace_id="t1")
    (got,) = up.decisions
    assert (got.answer, got.source, got.status) == ("right", "thought", STATUS["deadline"])
    assert (got.request_id, got.trace_id, got.header.frame_id) == ("q1", "t1", "base_link")
    assert got.bundle_id == up.reasoner.bundle.id
    assert got.budget_s == 0.1
    assert 0.09 < got.elapsed_s <= 0.098  # margin_s is kept back
    assert got.slack_s == pytest.approx(got.budget_s - got.elapsed_s)
    assert up.clock.now() - asked_ns <= 68 * MS
    assert not got.late
    assert 20 < got.tokens_used <= got.tokens_planned + 1


def test_a_question_s_own_budget_and_choices(make_reasoner: MakeReasoner) -> None:
    """They go before the node's."""
    up = rig(make_reasoner)
    up.ask(budget_s=0.02, choices=["left", "?"])
    (got,) = up.decisions
    assert (got.answer, got.budget_s) == ("left", 0.02)


def test_the_trace_tells_how_it_came_about(make_reasoner: MakeReasoner) -> None:
    """The prompt, the thought, the answers as they changed, where the tokens and the time went."""
    up = rig(make_reasoner)
    up.ask(age_ns=10 * MS, request_id="q1")
    (got,), (decision,) = up.traces, up.decisions
    assert (got.prompt, got.published, got.stopped, got.source) == ("what", True, "deadline", "thought")
    assert got.request_id == "q1"
    assert got.thought == LONG[: got.tokens_thought]
    assert got.tokens_planned == decision.tokens_planned
    assert len(got.answers) == len(got.answers_confidence) == len(got.answers_s)
    assert all(0.01 <= seen_s <= decision.elapsed_s for seen_s in got.answers_s)
    assert set(got.answers) <= {"left", "right"}
    assert (got.answers[-1], got.answers_confidence[-1]) == (decision.answer, decision.confidence)
    assert got.queued_s == 0.01
    assert got.queued_s + got.reasoner_s == pytest.approx(decision.elapsed_s)


def test_a_scene_is_decided(make_reasoner: MakeReasoner) -> None:
    """It is written as text, and its answer is one of the actions."""
    up = rig(make_reasoner, budget_s=0.2)
    up.say(scene(up.header(), vehicles=[Vehicle(2, 34.4, 21.0)], request_id="s"))
    assert [(d.request_id, d.answer) for d in up.decisions] == [("s", "right")]
    assert up.traces[0].prompt == "lane 2 of 4 at 27 m/s\nlane 2 ahead 34 m 21 m/s"


def test_no_decision_is_published_behind_its_deadline(make_reasoner: MakeReasoner) -> None:
    """A step that takes far too long makes it late: withheld, counted, traced, and an error in diagnostics."""
    up, factor = slowed(make_reasoner)
    factor[0] = 500.0
    up.ask()
    assert up.decisions == []
    assert up.count("late") == 1
    assert [trace.published for trace in up.traces] == [False]
    level, message = up.status("decisions")
    assert level == 2
    assert "because the deadline had passed" in message
    factor[0] = 1.0
    up.ask()
    assert len(up.decisions) == 1


def test_too_little_time_is_a_rejection_at_once(make_reasoner: MakeReasoner) -> None:
    """The fallback, the reason, and no confidence."""
    up = rig(make_reasoner)
    up.ask(age_ns=97 * MS)
    (got,) = up.decisions
    assert (got.answer, got.source, got.status) == ("stop", "fallback", STATUS["rejected"])
    assert "0.5 ms are left and the floor for 5 prompt tokens is" in got.reason
    assert math.isnan(got.confidence)
    assert up.count("rejected") == 1


def test_an_engine_that_fails_still_gives_decisions(make_reasoner: MakeReasoner) -> None:
    """Status ERROR with the best there is, and the next question is answered."""
    reasoner, engine, clock = make_reasoner(turns_at(20), kind=FailingEngine, fail_at=-1)
    up = Rig(reasoner, clock).up()
    assert isinstance(engine, FailingEngine)
    engine._fail_at = engine._count + 4
    up.ask()
    up.ask()
    assert [d.status for d in up.decisions] == [STATUS["error"], STATUS["deadline"]]
    assert up.decisions[0].answer == "left"
    assert "the backend fell over" in up.reason("error")


TEN_MB = "x" * 10_000_000
BAD: list[tuple[str, Callable[[Rig], Any], str, str]] = [
    ("10 MB", lambda up: Question(header=up.header(), text=TEN_MB), "too_large", "10000000 characters"),
    ("10 MB id", lambda up: Question(header=up.header(), text="a", request_id=TEN_MB), "too_large", "request_id"),
    ("id", lambda up: Question(header=up.header(), text="a", request_id="\ud800"), "malformed", "can be printed"),
    ("choices", lambda up: Question(header=up.header(), text="a", choices=["a"] * 999), "too_large", "999 choices"),
    ("10 MB choice", lambda up: Question(header=up.header(), text="a", choices=["a", TEN_MB]), "too_large", "choices"),
    ("vehicles", lambda up: scene(up.header(), vehicles=[Vehicle(1, 2, 3)] * 400_000), "too_large", "400000 vehicles"),
    ("empty", lambda up: Question(header=up.header(), text=" "), "malformed", "the question is empty"),
    ("too long", lambda up: Question(header=up.header(), text="a" * 300), "malformed", "the model's context 256"),
    ("surrogate", lambda up: Question(header=up.header(), text="\ud800"), "malformed", ""),
    ("one choice", lambda up: Question(header=up.header(), text="a", choices=["a"]), "malformed", "at least two"),
    (
        "NaN budget",
        lambda up: Question(header=up.header(), text="a", budget_s=math.nan),
        "malformed",
        "budget_s is nan",
    ),
    ("budget", lambda up: Question(header=up.header(), text="a", budget_s=-1.0), "malformed", "budget_s is -1.0"),
    ("years", lambda up: Question(header=up.header(), text="a", budget_s=1e9), "malformed", "to a day"),
    ("NaN gap", lambda up: scene(up.header(), vehicles=[Vehicle(2, math.nan, 3.0)]), "malformed", "vehicle 0 is nan"),
    ("inf gap", lambda up: scene(up.header(), vehicles=[Vehicle(2, math.inf, 3.0)]), "malformed", "vehicle 0 is inf"),
    ("NaN speed", lambda up: scene(up.header(), vehicles=[Vehicle(2, 1.0, math.nan)]), "malformed", "speed_m_s"),
    ("own NaN", lambda up: scene(up.header(), speed_m_s=math.nan), "malformed", "our own vehicle is nan"),
    ("lane", lambda up: scene(up.header(), vehicles=[Vehicle(7, 1.0, 3.0)]), "malformed", "lane 7 of 4"),
    ("no lane", lambda up: scene(up.header(), lane=0), "malformed", "lane 0 of 4"),
    ("future", lambda up: Question(header=up.header(-50 * MS), text="a"), "future", "50.0 ms in the future"),
    ("other clock", lambda up: Question(header=up.header(-(10**12)), text="a"), "clock", "reads another clock"),
    ("stale", lambda up: Question(header=up.header(150 * MS), text="a"), "stale", "150.0 ms old"),
    ("no stamp", lambda up: Question(text="a"), "malformed", "fill in header.stamp"),
    ("types", lambda up: Question(header=up.header(), text=7), "malformed", "Question cannot be read"),
]


@pytest.mark.parametrize(("make", "trouble", "why"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_refused_and_the_node_keeps_deciding(
    make_reasoner: MakeReasoner, make: Callable[[Rig], Any], trouble: str, why: str
) -> None:
    """Counted under what it is, said in diagnostics, no decision; the next good question is answered."""
    up = rig(make_reasoner)
    up.say(make(up))
    assert up.decisions == []
    assert up.count(trouble) == 1
    assert why in up.reason(trouble)
    level, message = up.status("input")
    assert level == 2
    assert up.reason(trouble) in message
    up.ask()
    assert len(up.decisions) == 1


def held_rig(make_reasoner: MakeReasoner) -> tuple[Rig, HeldEngine]:
    """A node with threads of its own whose engine stands still in the third run of the next question."""
    script = thinker(LONG, lambda n: "left" if n < 20 else "right")
    reasoner, engine, clock = make_reasoner(script, kind=HeldEngine, hold_at=-1)
    up = Rig(reasoner, clock, threaded=True).up()
    assert isinstance(engine, HeldEngine)
    engine.hold_at = len(engine.generations) + 3
    return up, engine


def wait_for(done: Callable[[], bool]) -> None:
    """Until another thread has done it."""
    pause = threading.Event()
    for _ in range(PATIENCE_S * 200):
        if done():
            return
        pause.wait(0.005)
    pytest.fail("it did not happen")


def test_a_flood_is_answered_with_the_newest(make_reasoner: MakeReasoner) -> None:
    """Of 10,000 questions that come during one thought, the last is kept and the others are counted."""
    up, engine = held_rig(make_reasoner)
    up.ask(request_id="first")
    assert engine.reached.wait(PATIENCE_S)
    for i in range(10_000):
        up.ask(request_id=str(i))
    assert up.count("dropped") == 9_999
    assert up.count("taken") == 10_001
    engine.released.set()
    wait_for(lambda: len(up.traces) == 2)
    assert [trace.request_id for trace in up.traces] == ["first", "9999"]
    level, message = up.status("input")
    assert level == 1
    assert "9999 inputs in 10 s gave way to newer ones" in message
    up.node.shutdown()


def test_waiting_counts_in_the_budget(make_reasoner: MakeReasoner) -> None:
    """A question whose deadline passes behind another one is dropped as stale, not answered late."""
    up, engine = held_rig(make_reasoner)
    up.ask(request_id="first")
    assert engine.reached.wait(PATIENCE_S)
    up.ask(request_id="second")
    up.clock.advance(150 * MS)
    wait_for(lambda: up.count("stale") == 1)
    assert "while it waited for the one before it" in up.reason("stale")
    up.node.shutdown()


def test_deactivation_answers_what_was_taken_in(make_reasoner: MakeReasoner) -> None:
    """It returns when the decision is out; whatever comes meanwhile is refused."""
    up, engine = held_rig(make_reasoner)
    up.ask(request_id="first")
    assert engine.reached.wait(PATIENCE_S)
    leaving = threading.Thread(target=up.node.deactivate)
    leaving.start()
    wait_for(lambda: up.node._reception.listening_since_ns is None)
    up.ask(request_id="second")
    engine.released.set()
    leaving.join(PATIENCE_S)
    assert up.node.state == "inactive"
    assert [decision.request_id for decision in up.decisions] == ["first"]
    assert up.count("inactive") == 1
    up.node.shutdown()


def test_a_subscriber_that_fails_costs_nobody_an_answer(make_reasoner: MakeReasoner) -> None:
    """What could not be delivered is counted, and the node goes on."""
    up = rig(make_reasoner)

    def broken(message: object) -> None:
        raise RuntimeError("out of order")

    end = up.bus.subscribe(up.node.topics.decision.name, broken)
    up.ask()
    assert "Decision could not be published: RuntimeError('out of order')" in up.reason("unsent")
    assert up.status("transport")[0] == 1
    end()
    up.ask()
    assert len(up.decisions) == len(up.traces) == 2


def test_simulated_time(make_reasoner: MakeReasoner) -> None:
    """Stamps are in the time of /clock, and decisions too; without a /clock everything is refused."""
    up = rig(make_reasoner, use_sim_time=True)
    up.say(Question(text="what"))
    assert "no /clock has come yet" in up.reason("clock")
    up.say(Time(3, 0))
    up.ask(header=up.header())  # the system's time
    assert up.count("clock") == 2
    up.bus.publish("/clock", Time(3, -7))
    assert up.reason("malformed").startswith("/clock")
    fields = {"header": type(up.header())(Time(2, 980_000_000), "map")}
    up.ask(**fields)
    (got,) = up.decisions
    assert got.header.stamp == Time(3, 0)
    assert got.elapsed_s >= 0.02


def test_everything_is_recorded(make_reasoner: MakeReasoner) -> None:
    """What was taken in and what went out, with its topic and time, also traces that nobody wants published."""
    reasoner, _, clock = make_reasoner(turns_at(20))
    recorder = ListRecorder()
    up = Rig(reasoner, clock, recorder=recorder, record="here.mcap", trace=False).up()
    up.ask(text="")
    up.ask()
    up.node.diagnose()
    kinds = [type(message).__name__ for _, message, _ in recorder.kept]
    warm_up = ["Steps"] * 4
    assert kinds == ["Session", *warm_up, "Question", "Steps", "Decision", "Trace", "DiagnosticArray"]
    assert [recorder.kept[i][0] for i in (0, 1, 7)] == ["/anytime/session", "/anytime/steps", "/anytime/decision"]
    assert up.traces == []
    recorder.full = "the disk is full"
    assert up.status("recording") == (1, "the disk is full")
    up.ask()
    assert len(up.decisions) == 2
    up.node.shutdown()
    assert recorder.closed
