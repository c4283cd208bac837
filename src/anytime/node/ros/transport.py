"""Topics over rclpy, with the quality of service and the events of ``anytime.node.transport``.

Decisions and traces have lifecycle publishers, as managed nodes do; ``/diagnostics`` has a plain one, for a node that
is not active must be able to say so. Each topic that is heard has a callback group of its own: its messages come in
order, and wait neither for a transition nor for a goal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind

from anytime.node.messages import ROS_TYPES, DiagnosticArray, Output, Question, Scene, Time
from anytime.node.ros.messages import from_ros, ros_class, to_ros
from anytime.node.transport import Host, Qos, Topic

_LOOK_AROUND_S = 1.0  # for another node of our name


class Rclpy:
    """The transport over the entities of a lifecycle node."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._host: Host | None = None
        self._subscriptions: list[Any] = []
        self._publishers: dict[type[msgspec.Struct], Any] = {}
        self._timer: Any = None

    def open(self, host: Host) -> None:
        self._host = host
        topics = host.topics
        self._hear(topics.question, _type(topics.question), lambda it: host.on_question(from_ros(Question, it)))
        self._hear(topics.scene, _type(topics.scene), lambda it: host.on_scene(from_ros(Scene, it)))
        if topics.clock is not None:
            # rclpy hears /clock too, for its own clock; stamps are mapped by what the host is told, and recorded.
            clock_type = ros_class("rosgraph_msgs/msg/Clock")
            self._hear(topics.clock, clock_type, lambda it: host.on_clock(from_ros(Time, it.clock)))
        for topic in (topics.decision, topics.trace, topics.diagnostics):
            self._publishers[topic.message] = self._offered(topic)
        self._timer = self._node.create_timer(
            _LOOK_AROUND_S,
            self._look_around,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def publish(self, message: Output) -> None:
        publisher = self._publishers.get(type(message))
        if publisher is not None:
            publisher.publish(to_ros(message))

    def close(self) -> None:
        if self._host is None:
            return
        if self._timer is not None:  # None where opening failed half-way
            self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        publishers, self._publishers = self._publishers, {}
        for kind, publisher in publishers.items():
            if kind is DiagnosticArray:
                self._node.destroy_publisher(publisher)
            else:
                self._node.destroy_lifecycle_publisher(publisher)
        self._host, self._timer, self._subscriptions = None, None, []

    def _note(self, trouble: str, reason: str) -> None:
        if self._host is not None:
            self._host.note(trouble, reason)

    def _hear(self, topic: Topic, kind: Any, callback: Callable[[Any], None]) -> None:
        def taken(message: Any) -> None:
            try:
                callback(message)
            except msgspec.ValidationError as error:  # nothing may be raised: rclpy would end spinning
                self._note("malformed", f"{topic.name}: {error}")

        events = SubscriptionEventCallbacks(
            incompatible_qos=lambda event: self._note("qos", f"a publisher of {topic.name} offers {_policy(event)}"),
            incompatible_type=lambda event: self._note("wrong_type", f"{topic.name} has a publisher of another type"),
        )
        self._subscriptions.append(
            self._node.create_subscription(
                kind,
                topic.name,
                taken,
                qos_profile(topic.qos),
                callback_group=MutuallyExclusiveCallbackGroup(),
                event_callbacks=events,
            )
        )

    def _offered(self, topic: Topic) -> Any:
        create = self._node.create_publisher
        if topic.message is not DiagnosticArray:
            create = self._node.create_lifecycle_publisher

        def created(events: PublisherEventCallbacks) -> Any:
            group = MutuallyExclusiveCallbackGroup()
            profile = qos_profile(topic.qos)
            return create(_type(topic), topic.name, profile, callback_group=group, event_callbacks=events)

        def missed(event: Any) -> None:
            if self._publishers[topic.message].is_activated:  # none is expected of an inactive node
                self._note("missed", f"no {topic.message.__name__} for longer than the period that was offered")

        common: dict[str, Any] = {
            "incompatible_qos": lambda event: self._note(
                "qos", f"a subscription of {topic.name} asks for {_policy(event)}"
            ),
            "incompatible_type": lambda event: self._note(
                "wrong_type", f"{topic.name} has a subscription of another type"
            ),
        }
        if topic.qos.deadline_ns is None:
            return created(PublisherEventCallbacks(**common))
        try:
            return created(PublisherEventCallbacks(deadline=missed, **common))
        except UnsupportedEventTypeError:  # a middleware without deadlines, like Zenoh
            return created(PublisherEventCallbacks(**common))

    def _look_around(self) -> None:
        """A second node of our name is allowed in ROS, and one that was killed is seen for some seconds more."""
        if self._host is not None:
            known = [f"{space.rstrip('/')}/{name}" for name, space in self._node.get_node_names_and_namespaces()]
            if known.count(self._host.name) > 1:
                self._note("duplicate", f"there is another node {self._host.name}: give each its own name")


def qos_profile(qos: Qos) -> QoSProfile:
    """Quality of service as rclpy has it; what is not given stays unspecified, which is infinite."""
    given: dict[str, Any] = {}
    if qos.deadline_ns is not None:
        given["deadline"] = Duration(nanoseconds=qos.deadline_ns)
    if qos.lifespan_ns is not None:
        given["lifespan"] = Duration(nanoseconds=qos.lifespan_ns)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=qos.depth,
        reliability=ReliabilityPolicy.RELIABLE if qos.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
        **given,
    )


def _type(topic: Topic) -> Any:
    return ros_class(ROS_TYPES[topic.message])


def _policy(event: Any) -> str:
    return f"another {qos_policy_name_from_kind(event.last_policy_kind).lower()}"
