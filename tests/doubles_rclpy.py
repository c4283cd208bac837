"""A double of the part of rclpy that the node uses, with the names, signatures and checks of ROS 2 Jazzy.

What is not here raises, as do arguments that rclpy does not have.
"""

from __future__ import annotations

import contextlib
import enum
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from tests import doubles_rclpy_managed as managed
from tests.doubles_rclpy_node import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    NameValidationException,
    Parameter,
)
from tests.doubles_rclpy_qos import (
    DurabilityPolicy,
    Duration,
    HistoryPolicy,
    PublisherEventCallbacks,
    QoSProfile,
    ReliabilityPolicy,
    SubscriptionEventCallbacks,
    qos_policy_name_from_kind,
)
from tests.doubles_rclpy_world import (
    MESSAGES,
    WORLD,
    Clock,
    ClockType,
    ExternalShutdownException,
    MultiThreadedExecutor,
    MutuallyExclusiveCallbackGroup,
    ReentrantCallbackGroup,
    UnsupportedEventTypeError,
    World,
)


class SignalHandlerOptions(enum.Enum):
    NO, SIGINT, SIGTERM, ALL = range(4)


def init(
    *,
    args: list[str] | None = None,
    context: Any = None,
    domain_id: int | None = None,
    signal_handler_options: Any = None,
) -> None:
    WORLD.ok, WORLD.signals = True, signal_handler_options


def try_shutdown(*, context: Any = None) -> None:
    WORLD.ok = False
    for executor in WORLD.executors:
        executor.wake()


def modules() -> dict[str, ModuleType]:
    """rclpy and the message packages, as they would be imported."""
    names = {
        "rclpy": (init, try_shutdown),
        "rclpy.action": (managed.ActionServer, managed.CancelResponse, managed.GoalResponse),
        "rclpy.callback_groups": (MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup),
        "rclpy.clock": (Clock, ClockType),
        "rclpy.duration": (Duration,),
        "rclpy.event_handler": (PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError),
        "rclpy.exceptions": (InvalidParameterTypeException, InvalidParameterValueException, NameValidationException),
        "rclpy.executors": (ExternalShutdownException, MultiThreadedExecutor),
        "rclpy.lifecycle": (managed.LifecycleNode, managed.LifecycleState, managed.TransitionCallbackReturn),
        "rclpy.parameter": (Parameter,),
        "rclpy.qos": (DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind),
        "rclpy.signals": (SignalHandlerOptions,),
    }
    made = dict(MESSAGES)
    for name, contents in names.items():
        made[name] = ModuleType(name)
        for thing in contents:
            setattr(made[name], thing.__name__, thing)
    return made


@contextlib.contextmanager
def installed() -> Iterator[World]:
    """With rclpy importable, and a new world; without it afterwards, and without what was imported on top of it."""
    WORLD.__init__()  # type: ignore[misc]
    there = modules()
    sys.modules.update(there)
    try:
        yield WORLD
    finally:
        for name in [name for name in sys.modules if name in there or name.startswith("anytime.node.ros")]:
            del sys.modules[name]
