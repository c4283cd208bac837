"""What carries messages between the node and its peers, and what keeps a record of them.

A transport is in-process, DDS or rclpy; the node does not know which. It brings in what arrives by calling its
``Host``, from any thread, and takes out what the node publishes. Nothing here waits for a peer.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import msgspec

from anytime.node.messages import Decision, DiagnosticArray, Input, Kept, Output, Question, Scene, Time, Trace

Trouble: TypeAlias = str  # a kind of trouble, by which diagnostics count it; see ``counts``


class Qos(msgspec.Struct, frozen=True):
    """Quality of service of a topic as DDS has it, always keep-last and volatile; no deadline or lifespan: infinite."""

    reliable: bool
    depth: int = 1
    deadline_ns: int | None = None
    lifespan_ns: int | None = None


class Topic(msgspec.Struct, frozen=True):
    """A topic by its full ROS name (``/anytime/question``), what it carries, and what is offered or asked for."""

    name: str
    message: type[msgspec.Struct]
    qos: Qos


class Topics(msgspec.Struct, frozen=True):
    """The topics of a node; ``clock`` only under simulated time (``rosgraph_msgs/msg/Clock``, its ``clock``)."""

    question: Topic
    scene: Topic
    clock: Topic | None
    decision: Topic
    trace: Topic
    diagnostics: Topic

    def of(self, message: Input | Output | Time) -> Topic:
        """Where a message belongs."""
        found = {
            Question: self.question,
            Scene: self.scene,
            Time: self.clock,
            Decision: self.decision,
            Trace: self.trace,
            DiagnosticArray: self.diagnostics,
        }[type(message)]
        assert found is not None
        return found


class Host(Protocol):
    """What a transport may ask of the node. All return soon and raise nothing, whatever they are given."""

    @property
    def name(self) -> str:
        """The node's full name, like ``/anytime``."""
        ...

    @property
    def topics(self) -> Topics: ...

    def on_question(self, question: Question) -> None:
        """A question arrived."""
        ...

    def on_scene(self, scene: Scene) -> None:
        """A scene arrived."""
        ...

    def on_clock(self, time: Time) -> None:
        """Simulated time went on."""
        ...

    def note(self, trouble: Trouble, reason: str) -> None:
        """Something is wrong that only the transport sees: ``malformed`` bytes, a ``wrong_type``, a ``duplicate``
        node of our name, ``qos`` that does not match, a deadline ``missed``, a message ``unsent``.
        """
        ...


class Transport(Protocol):
    """Carries messages. ``open`` and ``close`` may come several times, in turns."""

    def open(self, host: Host) -> None:
        """Subscribe and offer the host's topics.

        Raises:
            NodeError: that cannot be done; or a node of this name is there, where the transport can tell at once.
        """
        ...

    def publish(self, message: Output) -> None:
        """Hand a message over; never waits, and drops rather than queues. Raises nothing."""
        ...

    def close(self) -> None:
        """Let go of everything; nothing more is brought in once this returned."""
        ...


class Recorder(Protocol):
    """Keeps what came in and went out. It must neither block nor raise, whatever the disk does."""

    def record(self, topic: Topic, message: Kept, stamp: Time) -> None:
        """A message that was taken in or went out, a Trace always; or that only a record has."""
        ...

    def trouble(self) -> str:
        """What is wrong, like a full disk; empty when nothing is."""
        ...

    def close(self) -> None:
        """Write what was recorded, and close."""
        ...
