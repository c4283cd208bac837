"""Parameters over rclpy, on a double of rclpy."""

from __future__ import annotations

from typing import Any

import pytest

from anytime.errors import ParameterError
from anytime.node.parameters import Parameters, declared
from anytime.testing import MockClock
from tests.conftest import MS, MakeReasoner, turns_at
from tests.doubles_rclpy import init
from tests.doubles_rclpy_world import World
from tests.ros_nodes import RosRig


def rig(world: World, make_reasoner: MakeReasoner, **given: Any) -> RosRig:
    """A node whose answer turns from left to right after 20 tokens of thought."""
    clock = MockClock(start_ns=10**9)
    return RosRig(world, lambda: make_reasoner(turns_at(20), clock=clock)[0], clock, **given)


def test_every_parameter_is_declared(world: World, make_reasoner: MakeReasoner) -> None:
    """With its type, its bounds, and what it is for; a list that is empty is not set."""
    up = rig(world, make_reasoner, choices=[], actions=["left", "right"])
    for parameter in declared():
        descriptor = up.node._descriptors[parameter.name]
        if parameter.name == "use_sim_time":  # rclpy's
            continue
        assert descriptor.description == parameter.description
        assert not descriptor.read_only
        assert ("read-only" in descriptor.additional_constraints) == parameter.read_only
        bounds = [*descriptor.floating_point_range, *descriptor.integer_range]
        assert [(it.from_value, it.to_value) for it in bounds] == ([parameter.bounds] if parameter.bounds else [])
    assert up.node.core.parameters.choices == []
    assert up.node.core.parameters.budget_s == 0.1


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("margin_s", 0.2, "no less than budget_s"),
        ("margin_s", -1.0, "out of range"),
        ("min_confidence", 1.5, "out of range"),
        ("min_confidence", "high", "Wrong parameter type"),
        ("choices", ["left", "right"], "read-only while the node is configured"),
    ],
)
def test_parameters_are_checked(world: World, make_reasoner: MakeReasoner, name: str, value: Any, why: str) -> None:
    """What rclpy's descriptors let through, the node's own checks refuse; nothing is changed."""
    up = rig(world, make_reasoner).up()
    before = up.node.core.parameters
    done, reason = up.set(name, value)
    assert not done
    assert why in reason
    assert up.node.core.parameters == before


def test_a_live_parameter(world: World, make_reasoner: MakeReasoner) -> None:
    """Has effect on the next decision."""
    up = rig(world, make_reasoner).up()
    assert up.set("fallback", "brake") == (True, "")
    up.ask(age_ns=99 * MS)
    assert up.decisions[0].answer == "brake"


def test_parameters_of_others_are_left_to_them(world: World, make_reasoner: MakeReasoner) -> None:
    """Like those that rclpy declares for itself."""
    up = rig(world, make_reasoner)
    up.node.declare_parameter("qos_overrides.depth", 1)
    assert up.set("qos_overrides.depth", 2)[0]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("budget_s", 1, "write 1.0, not 1"),
        ("budget_s", 1e9, "out of range"),
        ("decision_topic", "1 2", "decision_topic"),
        ("margin_s", 0.3, "no time is left to think"),
    ],
)
def test_parameters_to_start_with(world: World, name: str, value: Any, why: str) -> None:
    """Of the command line or a file: a bad one ends the start with its reason."""
    from rclpy.parameter import Parameter

    from anytime.node.ros.node import AnytimeNode

    init()
    world.overrides = [Parameter(name, value=value)]
    with pytest.raises(ParameterError, match=why):
        AnytimeNode("anytime", "", [])


def test_parameters_that_only_fit_together(world: World) -> None:
    """They are looked at when all of them are known."""
    from rclpy.parameter import Parameter

    from anytime.node.ros.node import AnytimeNode

    init()
    world.overrides = [Parameter("budget_s", value=0.002), Parameter("margin_s", value=0.001)]
    assert AnytimeNode("anytime", "", []).core.parameters == Parameters(budget_s=0.002, margin_s=0.001)
