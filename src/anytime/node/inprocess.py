"""Topics inside one process, for tests, for replay, and to try the node without any middleware.

A message is delivered to every subscriber on the thread that publishes it, before ``publish`` returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from anytime.errors import NodeError
from anytime.node.messages import Output
from anytime.node.transport import Host

Subscriber = Callable[[Any], None]


class Bus:
    """Topics by name, and the nodes that are on them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: dict[str, list[Subscriber]] = {}
        self._nodes: set[str] = set()

    def subscribe(self, topic: str, subscriber: Subscriber) -> Callable[[], None]:
        """Have a topic's messages from now on; what it returns ends that."""
        with self._lock:
            self._subscribers.setdefault(topic, []).append(subscriber)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers[topic].remove(subscriber)

        return unsubscribe

    def publish(self, topic: str, message: object) -> None:
        """Deliver a message now."""
        with self._lock:
            subscribers = list(self._subscribers.get(topic, ()))
        for subscriber in subscribers:
            subscriber(message)

    def join(self, node: str) -> None:
        """Take a node's name.

        Raises:
            NodeError: it is taken.
        """
        with self._lock:
            if node in self._nodes:
                raise NodeError(f"there is a node {node} on this bus already: give each its own name")
            self._nodes.add(node)

    def leave(self, node: str) -> None:
        """Give a node's name back."""
        with self._lock:
            self._nodes.discard(node)


class InProcess:
    """The transport over a ``Bus``."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._host: Host | None = None
        self._ends: list[Callable[[], None]] = []

    def open(self, host: Host) -> None:
        self._bus.join(host.name)
        self._host = host
        topics = host.topics
        heard: list[tuple[str, Subscriber]] = [
            (topics.question.name, host.on_question),
            (topics.scene.name, host.on_scene),
        ]
        if topics.clock is not None:
            heard.append((topics.clock.name, host.on_clock))
        self._ends = [self._bus.subscribe(topic, subscriber) for topic, subscriber in heard]

    def publish(self, message: Output) -> None:
        if self._host is not None:
            self._bus.publish(self._host.topics.of(message).name, message)

    def close(self) -> None:
        if self._host is None:
            return
        for end in self._ends:
            end()
        self._bus.leave(self._host.name)
        self._host = None
