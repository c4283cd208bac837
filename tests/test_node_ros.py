"""The node over rclpy, on a double of rclpy: its life, its topics, stamps, events, and its end."""

from __future__ import annotations

from typing import Any

import pytest

from anytime.node.messages import STATUS
from anytime.testing import MockClock
from tests.conftest import LONG, MS, MakeReasoner, thinker, turns_at
from tests.doubles import PATIENCE_S, HeldEngine
from tests.doubles_rclpy import init
from tests.doubles_rclpy_qos import DurabilityPolicy, QoSPolicyKind, ReliabilityPolicy
from tests.doubles_rclpy_world import MESSAGES, MutuallyExclusiveCallbackGroup, World
from tests.nodes import EPOCH_NS
from tests.ros_nodes import MSG, STD, RosRig


def rig(world: World, make_reasoner: MakeReasoner, **given: Any) -> RosRig:
    """A node whose answer turns from left to right after 20 tokens of thought."""
    clock = MockClock(start_ns=10**9)
    return RosRig(world, lambda: make_reasoner(turns_at(20), clock=clock)[0], clock, **given)


# -- life


def test_the_transitions_are_the_node_s(world: World, make_reasoner: MakeReasoner) -> None:
    """Each transition of the lifecycle node is that of the node, and it answers only while it is active."""
    up = rig(world, make_reasoner)
    states = [(up.node.label, up.node.core.state)]
    for transition in ("configure", "activate", "deactivate", "activate", "deactivate", "cleanup", "shutdown"):
        assert up.node.asked(transition), transition
        states.append((up.node.label, up.node.core.state))
        if up.node.core.state != "finalized" and transition != "cleanup":
            up.ask()
    assert [label for label, _ in states] == [state for _, state in states]
    assert states[-1] == ("finalized", "finalized")
    assert len(up.decisions) == 2
    assert world.publishers == []


def test_a_configuration_that_fails(world: World, make_reasoner: MakeReasoner) -> None:
    """FAILURE: it stays unconfigured, says why in the log, and can be configured once that is put right."""
    up = rig(world, make_reasoner, choices=[], regex="(")
    assert not up.node.asked("configure")
    assert (up.node.label, up.node.core.state) == ("unconfigured", "unconfigured")
    assert "cannot be read" in up.node.failure
    assert world.log == [("error", up.node.failure)]
    assert up.set("regex", "")[0]
    assert up.set("choices", ["left", "right"])[0]
    up.up()
    assert up.node.failure == ""


def test_an_activation_that_is_refused(world: World, make_reasoner: MakeReasoner) -> None:
    """FAILURE: it stays inactive, and its publishers with it."""
    up = rig(world, make_reasoner, budget_s=0.0025)
    assert up.node.asked("configure")
    assert not up.node.asked("activate")
    assert (up.node.label, up.node.core.state) == ("inactive", "inactive")
    assert "99th percentile" in up.node.failure
    assert not world.publisher("/anytime/decision").is_activated  # type: ignore[attr-defined]


def test_an_activation_that_fails(world: World, make_reasoner: MakeReasoner) -> None:
    """ERROR: on_error brings it back to unconfigured."""
    up = rig(world, make_reasoner, policy="gues")
    assert up.node.asked("configure")
    assert not up.node.asked("activate")
    assert (up.node.label, up.node.core.state) == ("unconfigured", "unconfigured")
    assert "there is no policy 'gues'" in up.node.failure


def test_an_error_in_rclpy_itself(world: World, make_reasoner: MakeReasoner) -> None:
    """Whatever goes wrong between the two, both end unconfigured."""
    up = rig(world, make_reasoner).up()
    up.node.core.deactivate = lambda: 1 / 0  # type: ignore[method-assign,assignment]
    assert not up.node.asked("deactivate")
    assert up.node.label == "finalized"  # it could not be made inactive
    del up.node.core.deactivate
    other = rig(world, make_reasoner).up()
    real, other.node.core.deactivate = other.node.core.deactivate, lambda: 1 / 0  # type: ignore[assignment]
    other.node.on_error = lambda state: (  # type: ignore[method-assign]
        setattr(other.node.core, "deactivate", real),
        type(other.node).on_error(other.node, state),
    )[1]
    assert not other.node.asked("deactivate")
    assert (other.node.label, other.node.core.state) == ("unconfigured", "unconfigured")


def test_deactivate_loses_no_decision(world: World, make_reasoner: MakeReasoner) -> None:
    """What was taken in while it was active is published, though only deactivate waits for it."""
    reasoner, engine, clock = make_reasoner(thinker(LONG, lambda n: "left"), kind=HeldEngine, hold_at=-1)
    assert isinstance(engine, HeldEngine)
    up = RosRig(world, lambda: reasoner, clock, threaded=True)
    assert up.node.asked("configure")
    activate, deactivate = up.node.core.activate, up.node.core.deactivate

    def activated() -> None:
        activate()
        engine.hold_at = len(engine.generations) + 6
        up.ask(request_id="early")
        assert engine.reached.wait(PATIENCE_S)

    def deactivated() -> None:
        engine.released.set()
        deactivate()

    up.node.core.activate, up.node.core.deactivate = activated, deactivated  # type: ignore[method-assign]
    assert up.node.asked("activate")
    assert up.node.asked("deactivate")
    assert [it.request_id for it in up.decisions] == ["early"]
    assert not world.publisher("/anytime/decision").is_activated  # type: ignore[attr-defined]


def test_a_decision_within_activate(world: World, make_reasoner: MakeReasoner) -> None:
    """The publishers are on before the node listens."""
    up = rig(world, make_reasoner)
    assert up.node.asked("configure")
    activate = up.node.core.activate
    up.node.core.activate = lambda: (activate(), up.ask())[0]  # type: ignore[method-assign,func-returns-value]
    assert up.node.asked("activate")
    assert len(up.decisions) == 1


# -- topics


def test_a_question_becomes_a_decision(world: World, make_reasoner: MakeReasoner) -> None:
    """By the deadline that its stamp implies, as messages of the package, with a trace beside it."""
    up = rig(world, make_reasoner).up()
    asked_ns = up.clock.now()
    up.ask(age_ns=30 * MS, trace_id="t")
    (got,) = up.decisions
    assert isinstance(got, MSG.Decision)
    assert (got.answer, got.source, got.status) == ("right", "thought", STATUS["deadline"])
    assert (got.request_id, got.trace_id, got.header.frame_id) == ("q", "t", "base_link")
    assert up.clock.now() - asked_ns <= 68 * MS
    stamp = got.header.stamp
    assert stamp.sec * 10**9 + stamp.nanosec == EPOCH_NS + up.clock.now()
    (trace,) = world.of("/anytime/trace")
    assert isinstance(trace, MSG.Trace)
    assert trace.answers[-1] == "right"
    assert list(trace.answers_confidence)[-1] == got.confidence


def test_a_question_s_choices_and_a_scene(world: World, make_reasoner: MakeReasoner) -> None:
    """Lists of text and of messages are read as they are."""
    up = rig(world, make_reasoner, budget_s=0.2).up()
    up.ask(budget_s=0.02, choices=["left", "?"])
    vehicles = [MSG.Vehicle(lane=2, gap_m=34.4, speed_m_s=21.0)]
    header = STD.Header(stamp=up.stamp())
    world.say("/anytime/scene", MSG.Scene(header=header, lanes=4, lane=2, speed_m_s=27.2, vehicles=vehicles))
    assert [it.answer for it in up.decisions] == ["left", "right"]
    assert world.of("/anytime/trace")[1].prompt == "lane 2 of 4 at 27 m/s\nlane 2 ahead 34 m 21 m/s"


def test_the_quality_of_service(world: World, make_reasoner: MakeReasoner) -> None:
    """Offered strictly, asked for laxly, as the page has it."""
    up = rig(world, make_reasoner, period_s=0.15).up()
    decision = world.publisher("/anytime/decision").qos_profile
    assert (decision.reliability, decision.durability) == (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
    assert (decision.depth, decision.deadline.nanoseconds, decision.lifespan.nanoseconds) == (1, 150 * MS, 100 * MS)
    question = world.subscription("/anytime/question").qos_profile
    assert (question.reliability, question.depth) == (ReliabilityPolicy.BEST_EFFORT, 10)
    assert question.deadline.nanoseconds == question.lifespan.nanoseconds == 0
    assert world.publisher("/diagnostics").qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert [it.topic for it in world.subscriptions] == ["/anytime/question", "/anytime/scene"]
    groups = [it.group for it in world.subscriptions]
    assert all(isinstance(group, MutuallyExclusiveCallbackGroup) for group in groups)
    assert len({*map(id, groups), id(up.node.default_callback_group)}) == 3


def test_topics_are_opened_anew_with_each_configuration(world: World, make_reasoner: MakeReasoner) -> None:
    """Those of before are gone, those of now are once there."""
    up = rig(world, make_reasoner).up()
    for transition in ("deactivate", "cleanup"):
        assert up.node.asked(transition)
    assert up.set("decision_topic", "decided")[0]
    up.up()
    assert sorted(it.topic for it in world.publishers) == ["/anytime/trace", "/decided", "/diagnostics"]
    up.ask()
    assert [it.answer for it in world.of("/decided")] == ["right"]


def test_a_topic_that_cannot_be_opened(world: World, make_reasoner: MakeReasoner) -> None:
    """Configuring fails half-way; the next one leaves nothing of that behind."""
    up = rig(world, make_reasoner, decision_topic="a__b")
    assert not up.node.asked("configure")
    assert (up.node.label, "repeated underscores" in up.node.failure) == ("unconfigured", True)
    assert up.set("decision_topic", "~/decision")[0]
    up.up()
    assert [it.topic for it in world.subscriptions] == ["/anytime/question", "/anytime/scene"]
    up.ask()
    assert len(up.decisions) == 1


def test_a_node_in_a_namespace(world: World, make_reasoner: MakeReasoner) -> None:
    """Names are full."""
    from anytime.node.ros.node import AnytimeNode

    init()
    node = AnytimeNode("anytime", "/front", [])
    assert (node.core.name, node.core.topics.question.name) == ("/front/anytime", "/front/anytime/question")
    assert list(world.services) == ["/front/anytime/ask"]
    assert list(world.actions) == ["/front/anytime/reason"]


@pytest.mark.parametrize(
    ("sec", "age_ns", "trouble"), [(-5, 0, "malformed"), (None, -400 * MS, "future"), (None, 400 * MS, "stale")]
)
def test_bad_stamps(world: World, make_reasoner: MakeReasoner, sec: int | None, age_ns: int, trouble: str) -> None:
    """Refused and counted; the next question is answered."""
    up = rig(world, make_reasoner).up()
    question = up.question(age_ns)
    if sec is not None:
        question.header.stamp.sec = sec
    world.say("/anytime/question", question)
    assert up.count(trouble) == 1
    up.ask()
    assert len(up.decisions) == 1


def test_a_message_of_another_kind(world: World, make_reasoner: MakeReasoner) -> None:
    """Whatever rclpy brings, its callback raises nothing: it would end spinning."""
    up = rig(world, make_reasoner).up()
    world.subscription("/anytime/question").callback(MSG.Vehicle())
    assert "missing required field" in up.reason("malformed")
    up.ask()
    assert len(up.decisions) == 1


def test_diagnostics_are_published_in_every_state(world: World, make_reasoner: MakeReasoner) -> None:
    """By a publisher that the lifecycle does not switch off; levels are the bytes that ROS has."""
    up = rig(world, make_reasoner)
    assert up.node.asked("configure")
    up.node.core.diagnose()
    assert up.node.asked("activate")
    up.ask()
    up.node.core.diagnose()
    before, after = world.of("/diagnostics")
    assert isinstance(after, MESSAGES["diagnostic_msgs.msg"].DiagnosticArray)
    assert (before.status[0].name, before.status[0].level) == ("anytime: lifecycle", b"\x01")
    assert [it.level for it in after.status] == [b"\x00"] * 5


def test_the_node_s_own_threads(world: World, make_reasoner: MakeReasoner) -> None:
    """With its threads, what a subscription brings is served beside the executor; its end waits for the answer."""
    up = rig(world, make_reasoner, threaded=True).up()
    up.ask()
    up.node.end()
    assert [it.answer for it in up.decisions] == ["right"]


# -- events


def test_events_of_the_middleware_are_counted(world: World, make_reasoner: MakeReasoner) -> None:
    """Peers whose quality of service or type does not match, on either side, and decisions that did not come."""
    up = rig(world, make_reasoner).up()
    question, decision = world.subscription("/anytime/question"), world.publisher("/anytime/decision")
    world.event(question, "incompatible_qos", last_policy_kind=QoSPolicyKind.RELIABILITY)
    assert up.reason("qos") == "a publisher of /anytime/question offers another reliability"
    world.event(decision, "incompatible_qos", last_policy_kind=QoSPolicyKind.DEADLINE)
    assert up.reason("qos") == "a subscription of /anytime/decision asks for another deadline"
    world.event(question, "incompatible_type")
    world.event(decision, "incompatible_type")
    assert up.count("wrong_type") == 2
    world.event(decision, "deadline")
    assert up.count("missed") == 1
    transport = next(it for it in up.node.core.diagnose().status if it.name == "anytime: transport")
    assert transport.level == 1
    assert "asks for another deadline" in transport.message


def test_an_inactive_node_misses_no_deadline(world: World, make_reasoner: MakeReasoner) -> None:
    """Nobody expects decisions of it, though the middleware goes on to count."""
    up = rig(world, make_reasoner)
    assert up.node.asked("configure")
    world.event(world.publisher("/anytime/decision"), "deadline")
    assert up.count("missed") == 0


def test_a_middleware_without_deadlines(world: World, make_reasoner: MakeReasoner) -> None:
    """The topic is offered without that event."""
    world.deadlines = False
    up = rig(world, make_reasoner).up()
    assert world.publisher("/anytime/decision").event_callbacks.deadline is None
    up.ask()
    assert len(up.decisions) == 1


def test_another_node_of_this_name(world: World, make_reasoner: MakeReasoner) -> None:
    """Noted each second for as long as it is there; this node keeps deciding."""
    up = rig(world, make_reasoner).up()
    world.tick(up.node, 1.0)
    assert up.count("duplicate") == 0
    world.others = [("anytime", "/"), ("anytime", "/rear")]
    world.tick(up.node, 1.0)
    assert up.count("duplicate") == 1
    up.ask()
    assert len(up.decisions) == 1


def test_a_decision_that_cannot_be_published(world: World, make_reasoner: MakeReasoner) -> None:
    """Counted as unsent; nothing is raised into rclpy."""
    up = rig(world, make_reasoner).up()
    world.ok = False
    up.ask()
    assert up.count("unsent") == 2  # and its trace


# -- simulated time


def test_simulated_time(world: World, make_reasoner: MakeReasoner) -> None:
    """Stamps are in the time of /clock: before the first one all is refused; then ages count in it."""
    up = rig(world, make_reasoner, use_sim_time=True).up()
    clock_type = MESSAGES["rosgraph_msgs.msg"].Clock

    def ask(stamp_ns: int) -> None:
        world.say("/anytime/question", MSG.Question(header=STD.Header(stamp=up.at(stamp_ns)), text="what"))

    ask(5_000 * MS)
    assert "no /clock has come yet" in up.reason("clock")
    assert world.say("/clock", clock_type(clock=up.at(5_000 * MS))) == 2  # rclpy's own clock and ours
    before = up.clock.now()
    ask(4_970 * MS)
    (got,) = up.decisions
    assert got.budget_s == 0.1
    assert up.clock.now() - before <= 68 * MS
    assert got.header.stamp.sec == 5
    assert up.node.get_clock().now().nanoseconds == 5_000 * MS


def test_simulated_time_is_switched_by_a_parameter(world: World, make_reasoner: MakeReasoner) -> None:
    """While unconfigured; refused afterwards, and then rclpy's clock is not switched either."""
    up = rig(world, make_reasoner)
    assert up.set("use_sim_time", True)[0]
    assert up.node.asked("configure")
    assert [it.topic for it in world.subscriptions].count("/clock") == 2
    done, why = up.set("use_sim_time", False)
    assert not done
    assert "read-only while the node is configured" in why
    assert [it.topic for it in world.subscriptions].count("/clock") == 2
