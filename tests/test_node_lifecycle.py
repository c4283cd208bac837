"""The node's managed life: which transition leads where, what refuses it, and what diagnostics say of it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from anytime.errors import BundleError, EngineError, NodeError, ParameterError
from anytime.node.inprocess import Bus, InProcess
from anytime.node.messages import ERROR, OK, WARN
from anytime.node.node import Node, load_reasoner
from anytime.node.parameters import Parameters, parameters_of
from anytime.node.topics import full_name
from anytime.runtime.reasoner import Reasoner
from anytime.testing import ScriptedEngine
from tests.conftest import MS, MakeReasoner, turns_at
from tests.doubles import PATIENCE_S
from tests.nodes import DEFAULTS, Rig


class GoneEngine(ScriptedEngine):
    """Fails in every run."""

    def run(self, *args: Any) -> Any:
        raise EngineError("gone")


def rig(make_reasoner: MakeReasoner, **given: Any) -> Rig:
    reasoner, _, clock = make_reasoner(turns_at(20))
    return Rig(reasoner, clock, **given)


def test_one_life(make_reasoner: MakeReasoner) -> None:
    """Configured, active, inactive, active again, cleaned up, and to the end; it answers only while active."""
    up = rig(make_reasoner)
    assert up.node.state == "unconfigured"
    up.node.configure()
    assert up.node.state == "inactive"
    up.ask()
    assert up.decisions == []
    assert up.reason("inactive") == "the node is not active: activate it"
    up.node.activate()
    up.ask()
    up.node.deactivate()
    up.ask()
    assert len(up.decisions) == 1
    up.node.activate()
    up.ask()
    assert len(up.decisions) == 2
    up.node.deactivate()
    up.node.cleanup()
    assert up.node.state == "unconfigured"
    up.node.shutdown()
    assert up.node.state == "finalized"


@pytest.mark.parametrize(
    ("before", "transition", "why"),
    [
        ([], "activate", "cannot activate: it is unconfigured, not inactive"),
        ([], "deactivate", "it is unconfigured, not active"),
        ([], "cleanup", "cannot clean up"),
        (["configure"], "configure", "it is inactive, not unconfigured"),
        (["configure", "activate"], "cleanup", "it is active, not inactive"),
        (["configure", "activate"], "activate", "it is active"),
        (["configure", "activate", "shutdown"], "configure", "it is finalized"),
    ],
)
def test_transitions_that_there_are_not(
    make_reasoner: MakeReasoner, before: list[str], transition: str, why: str
) -> None:
    """They raise, and change nothing."""
    up = rig(make_reasoner)
    for name in before:
        getattr(up.node, name)()
    state = up.node.state
    with pytest.raises(NodeError, match=why):
        getattr(up.node, transition)()
    assert up.node.state == state


def test_a_bundle_that_cannot_be_loaded(tmp_path: Path) -> None:
    """configure fails, the node is unconfigured, diagnostics say why, and another bundle can be tried."""
    bus, seen = Bus(), list[Any]()
    bus.subscribe("/diagnostics", seen.append)
    node = Node(InProcess(bus), parameters_of({"bundle": str(tmp_path / "none")}), threaded=False)
    with pytest.raises(NodeError, match="no bundle at"):
        node.configure()
    assert node.state == "unconfigured"
    node.diagnose()
    lifecycle = seen[0].status[0]
    assert (lifecycle.name, lifecycle.level) == ("anytime: lifecycle", ERROR)
    assert "no bundle at" in lifecycle.message
    node.set_parameters({"bundle": ""})
    assert node.parameters.bundle == ""


def test_an_altered_bundle_is_not_loaded(bundle: Any) -> None:
    """Loading verifies every file."""
    (bundle.path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BundleError):
        load_reasoner(parameters_of({"bundle": str(bundle.path)}))


def test_an_error_of_no_kind_of_ours(make_reasoner: MakeReasoner) -> None:
    """What loading raises beyond our errors leads to unconfigured, too."""

    def load(parameters: Parameters) -> Reasoner:
        raise MemoryError("no room")

    node = Node(InProcess(Bus()), load=load, threaded=False)
    with pytest.raises(NodeError, match=r"could not configure: MemoryError\('no room'\)"):
        node.configure()
    assert node.state == "unconfigured"


def test_a_format_that_the_bundle_cannot_answer_in(make_reasoner: MakeReasoner) -> None:
    """It is found out on configuring, not with the first question."""
    up = rig(make_reasoner, choices=[], regex="(")
    with pytest.raises(NodeError, match="cannot be read"):
        up.node.configure()


def test_activation_is_refused_where_the_first_answer_takes_too_long(make_reasoner: MakeReasoner) -> None:
    """The measured 99th percentile and the margin must fit the budget; the node stays inactive and says so."""
    up = rig(make_reasoner, budget_s=0.0025)
    up.node.configure()
    with pytest.raises(NodeError, match=r"99th percentile of 3\) and margin_s 2.0 ms, more than budget_s, 2.5 ms"):
        up.node.activate()
    assert up.node.state == "inactive"
    assert up.status("lifecycle")[0] == ERROR


def test_the_percentile_counts_slow_ones(make_reasoner: MakeReasoner) -> None:
    """Of 50 warm-up questions with a slow one among them, the 99th percentile is the slow one's time."""
    slow_run = [0]
    reasoner, engine, clock = make_reasoner(turns_at(20), slowdown=lambda run: 200.0 if run == slow_run[0] else 1.0)
    up = Rig(reasoner, clock, warm_up=50)
    up.node.configure()
    before = len(engine.runs)
    up.node.activate()
    up.node.deactivate()
    slow_run[0] = 2 * len(engine.runs) - before - 20  # among the last of as many runs again
    with pytest.raises(NodeError, match="a first answer takes 2"):
        up.node.activate()


def test_warming_up_does_not_profit_from_what_it_asked_before(make_reasoner: MakeReasoner) -> None:
    """Every warm-up question is prefilled anew, as a new one would be."""
    reasoner, engine, clock = make_reasoner(turns_at(20))
    up = Rig(reasoner, clock, warm_up=8, warm_up_question="a question longer than what is kept")
    up.node.configure()
    up.node.activate()
    prompts = [tokens for tokens, context in engine.runs if context == 0]
    assert len(prompts) >= 8


def test_warming_up_ends_after_ten_seconds(make_reasoner: MakeReasoner) -> None:
    """However many questions the parameter asks for."""
    reasoner, _, clock = make_reasoner(turns_at(20), slowdown=lambda run: 400.0)
    up = Rig(reasoner, clock, warm_up=10_000, budget_s=5.0)
    up.node.configure()
    before_ns = clock.now()
    up.node.activate()
    assert clock.now() - before_ns < 17_000 * MS


def test_an_engine_that_fails_in_warming_up(make_reasoner: MakeReasoner) -> None:
    """The model has no answer: activation is refused."""
    reasoner, _, clock = make_reasoner(turns_at(20), kind=GoneEngine)
    up = Rig(reasoner, clock)
    up.node.configure()
    with pytest.raises(NodeError, match="no answer to the warm-up question"):
        up.node.activate()
    assert up.node.state == "inactive"


def test_a_policy_that_there_is_not(make_reasoner: MakeReasoner) -> None:
    """Found out in warming up, which fails: the node is unconfigured."""
    up = rig(make_reasoner, policy="gues")
    up.node.configure()
    with pytest.raises(NodeError, match="there is no policy 'gues'"):
        up.node.activate()
    assert up.node.state == "unconfigured"


def test_parameters_change_as_far_as_the_state_allows(make_reasoner: MakeReasoner) -> None:
    """Some at any time, with effect on the next decision; the others not while configured."""
    up = rig(make_reasoner).up()
    up.node.set_parameters({"fallback": "brake"})
    up.ask(age_ns=99 * MS)
    assert up.decisions[0].answer == "brake"
    with pytest.raises(ParameterError, match="budget_s is read-only while the node is configured"):
        up.node.set_parameters({"budget_s": 0.5})
    up.node.deactivate()
    up.node.cleanup()
    up.node.set_parameters({"budget_s": 0.5, "decision_topic": "decided"})
    up.node.configure()
    assert up.node.topics.decision.name == "/decided"
    assert up.node.topics.decision.qos.lifespan_ns == 500 * MS


def test_a_second_node_of_the_same_name(make_reasoner: MakeReasoner) -> None:
    """It is not configured, and the first is not disturbed; once that has ended, the name is free."""
    first = rig(make_reasoner).up()
    second = rig(make_reasoner, bus=first.bus)
    with pytest.raises(NodeError, match="a node /anytime on this bus already"):
        second.node.configure()
    assert second.node.state == "unconfigured"
    first.ask()
    assert len(first.decisions) == 1
    first.node.shutdown()
    second.node.configure()
    assert second.node.state == "inactive"


def test_two_nodes_of_other_names_share_a_bus(make_reasoner: MakeReasoner) -> None:
    """Each has topics of its own."""
    one = rig(make_reasoner, name="/front/anytime").up()
    other = rig(make_reasoner, name="/rear/anytime", bus=one.bus).up()
    one.ask()
    assert (len(one.decisions), len(other.decisions)) == (1, 0)


def test_a_record_without_a_recorder(make_reasoner: MakeReasoner) -> None:
    """Nobody believes that a record is kept where none is."""
    up = rig(make_reasoner, record="here.mcap")
    with pytest.raises(NodeError, match="without a recorder"):
        up.node.configure()


def test_full_names_of_topics() -> None:
    """As ROS resolves them."""
    assert full_name("~/question", "/ns/anytime") == "/ns/anytime/question"
    assert full_name("question", "/ns/anytime") == "/ns/question"
    assert full_name("question", "/anytime") == "/question"
    assert full_name("/question", "/ns/anytime") == "/question"


def test_diagnostics_come_every_second(make_reasoner: MakeReasoner) -> None:
    """On a thread of the node's, from configure on; in seconds of its clock."""
    up = rig(make_reasoner, threaded=True)
    came = threading.Semaphore(0)
    up.bus.subscribe("/diagnostics", lambda message: came.release())
    up.node.configure()
    assert up.diagnostics == []
    for _ in range(3):
        up.clock.advance(1000 * MS)
        assert came.acquire(timeout=PATIENCE_S)
    assert len(up.diagnostics) == 3
    up.node.shutdown()


def test_a_quiet_active_node_warns(make_reasoner: MakeReasoner) -> None:
    """The watchdog: no input for two periods is a warning, for ten an error; input ends both."""
    up = rig(make_reasoner).up()
    assert up.status("input") == (OK, "as often as expected")
    up.clock.advance(250 * MS)
    assert up.status("input")[0] == WARN
    up.clock.advance(2000 * MS)
    assert up.status("input") == (ERROR, "no input for 2.2 s")
    up.ask()
    assert up.status("input")[0] == OK
    assert {part: up.status(part)[0] for part in ("lifecycle", "decisions", "transport", "engine")} == {
        "lifecycle": OK,
        "decisions": OK,
        "transport": OK,
        "engine": OK,
    }


def test_the_defaults_of_the_tests_are_parameters() -> None:
    """What these tests set exists."""
    assert parameters_of(DEFAULTS).warm_up == 3
