"""What the parts of the double of rclpy share: the graph and its peers, clocks, callback groups, executors.

Messages go from peer to callback on the thread of the peer, but through the executor's threads and callback groups: a
callback that would have to wait for one of them for long fails the test.
"""

from __future__ import annotations

import contextlib
import enum
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tests.doubles import PATIENCE_S
from tests.doubles_rosidl import Types

if TYPE_CHECKING:
    from tests.doubles_rclpy_node import Node, Parameter, Publisher, Service, Subscription

MESSAGES = Types().modules()


class RCLError(RuntimeError):
    """Of rcl, as the C extension raises it."""


class UnsupportedEventTypeError(RCLError):
    """The middleware has no such event."""


class ExternalShutdownException(Exception):
    """The context was shut down while an executor was spinning."""


class World:
    """All that one test's nodes and peers share: the context, the graph, the clocks, what was published and logged."""

    def __init__(self) -> None:
        self.ok = False
        self.signals: Any = None
        self.system_ns: Callable[[], int] = lambda: 0
        self.deadlines = True  # the middleware has them
        self.nodes: list[Node] = []
        self.others: list[tuple[str, str]] = []  # names and namespaces of nodes elsewhere
        self.subscriptions: list[Subscription] = []
        self.publishers: list[Publisher] = []
        self.services: dict[str, Service] = {}
        self.actions: dict[str, Any] = {}
        self.heard: list[tuple[str, Any]] = []
        self.log: list[tuple[str, str]] = []
        self.executors: list[MultiThreadedExecutor] = []
        self.overrides: list[Parameter] = []  # of the command line

    def say(self, topic: str, message: Any) -> int:
        """A peer publishes; how many subscriptions took it."""
        took = [it for it in self.subscriptions if it.topic == topic]
        for it in took:
            assert isinstance(message, it.msg_type)
            it.node.serve(it.group, it.callback, message)
        return len(took)

    def of(self, topic: str) -> list[Any]:
        """What was published on a topic."""
        return [message for where, message in self.heard if where == topic]

    def call(self, name: str, request: Any) -> Any:
        """A client's call of a service."""
        service = self.services[name]
        assert isinstance(request, service.srv_type.Request)
        response = service.node.serve(service.group, service.callback, request, service.srv_type.Response())
        assert isinstance(response, service.srv_type.Response)
        return response

    def publisher(self, topic: str) -> Publisher:
        (found,) = (it for it in self.publishers if it.topic == topic)
        return found

    def subscription(self, topic: str) -> Subscription:
        (found,) = (it for it in self.subscriptions if it.topic == topic)
        return found

    def event(self, of: Publisher | Subscription, name: str, **fields: Any) -> None:
        """The middleware tells of something."""
        callback = getattr(of.event_callbacks, name)
        assert callback is not None, f"nobody listens to {name}"
        info = type(name, (), {"total_count": 1, "total_count_change": 1, **fields})()
        of.node.serve(of.group, callback, info)

    def tick(self, node: Node, period_s: float) -> None:
        """The time of the timers with this period has come."""
        for timer in node.own_timers:
            if timer.timer_period_ns == round(period_s * 1e9) and not timer.is_canceled():
                node.serve(timer.group, timer.callback)


WORLD = World()


class ClockType(enum.Enum):
    ROS_TIME = 1
    SYSTEM_TIME = 2
    STEADY_TIME = 3


class Time:
    def __init__(self, *, seconds: float = 0, nanoseconds: int = 0, clock_type: ClockType = ClockType.SYSTEM_TIME):
        self.nanoseconds, self.clock_type = int(seconds * 1e9) + nanoseconds, clock_type

    def to_msg(self) -> Any:
        sec, nanosec = divmod(self.nanoseconds, 10**9)
        return MESSAGES["builtin_interfaces.msg"].Time(sec=sec, nanosec=nanosec)


class Clock:
    def __init__(self, *, clock_type: ClockType = ClockType.SYSTEM_TIME) -> None:
        self.clock_type = clock_type
        self.override_ns: int | None = None  # by /clock

    def now(self) -> Time:
        ns = WORLD.system_ns() if self.override_ns is None else self.override_ns
        return Time(nanoseconds=ns, clock_type=self.clock_type)


class Timer:
    def __init__(self, callback: Callable[[], None], timer_period_ns: int, clock: Clock, group: CallbackGroup) -> None:
        self.callback, self.timer_period_ns, self.clock, self.group = callback, timer_period_ns, clock, group
        self._canceled = False

    def cancel(self) -> None:
        self._canceled = True

    def reset(self) -> None:
        self._canceled = False

    def is_canceled(self) -> bool:
        return self._canceled


class CallbackGroup:
    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        yield


class ReentrantCallbackGroup(CallbackGroup):
    pass


class MutuallyExclusiveCallbackGroup(CallbackGroup):
    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        assert self._lock.acquire(timeout=PATIENCE_S), "a callback waits for another of its group"
        try:
            yield
        finally:
            self._lock.release()


class Context:
    def ok(self) -> bool:
        return WORLD.ok


class MultiThreadedExecutor:
    def __init__(self, num_threads: int | None = None, *, context: Context | None = None) -> None:
        assert context is None
        self.context = Context()
        self._slots = threading.Semaphore(num_threads or 2)
        self._woken = threading.Condition()
        self._is_shutdown, self._error = False, None
        self.spinning = threading.Event()
        self.tasks: list[threading.Thread] = []
        WORLD.executors.append(self)

    def add_node(self, node: Node) -> bool:
        node.executor = self
        return True

    def create_task(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        def run() -> None:
            with self.slot():
                callback(*args, **kwargs)

        self.tasks.append(threading.Thread(target=run, daemon=True))
        self.tasks[-1].start()

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        assert self._slots.acquire(timeout=PATIENCE_S), "a callback waits for a thread of the executor"
        try:
            yield
        finally:
            self._slots.release()

    def spin(self) -> None:
        self.spinning.set()
        with self._woken:
            self._woken.wait_for(lambda: not WORLD.ok or self._is_shutdown or self._error)
            error, self._error = self._error, None
        if error is not None:
            raise error

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        self._is_shutdown = True
        self.wake()
        return True

    def wake(self) -> None:
        with self._woken:
            self._woken.notify_all()

    def fail(self, error: BaseException) -> None:
        """A callback or a take raises: ``spin`` does."""
        self.spinning.clear()
        self._error = error
        self.wake()
