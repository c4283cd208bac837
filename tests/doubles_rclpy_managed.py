"""The managed part of the double of rclpy: lifecycle nodes, their publishers, and action servers."""

from __future__ import annotations

import enum
import threading
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.doubles import PATIENCE_S
from tests.doubles_rclpy_node import Node, Publisher
from tests.doubles_rclpy_world import WORLD, CallbackGroup, RCLError
from tests.doubles_rosidl import Message

# From each state, by each transition: the state between, and where success, failure and an error lead.
_SHUTDOWN = ("shuttingdown", "finalized", "finalized")
MACHINE = {
    ("unconfigured", "configure"): ("configuring", "inactive", "unconfigured"),
    ("inactive", "cleanup"): ("cleaningup", "unconfigured", "inactive"),
    ("inactive", "activate"): ("activating", "active", "inactive"),
    ("active", "deactivate"): ("deactivating", "inactive", "active"),
    ("unconfigured", "shutdown"): _SHUTDOWN,
    ("inactive", "shutdown"): _SHUTDOWN,
    ("active", "shutdown"): _SHUTDOWN,
}


class TransitionCallbackReturn(enum.Enum):
    SUCCESS, FAILURE, ERROR = range(3)


class LifecycleState(NamedTuple):
    label: str
    state_id: int


class LifecyclePublisher(Publisher):
    is_activated = False

    def publish(self, msg: Any) -> None:
        if self.is_activated:
            super().publish(msg)


class LifecycleNode(Node):
    def __init__(self, node_name: str, *, enable_communication_interface: bool = True, **kwargs: Any) -> None:
        super().__init__(node_name, **kwargs)
        self.__dict__["_managed_entities"] = set()
        self.label = "unconfigured"

    def create_lifecycle_publisher(self, *args: Any, **kwargs: Any) -> Publisher:
        made = self.create_publisher(*args, **kwargs, publisher_class=LifecyclePublisher)
        self._managed_entities.add(made)
        return made

    def destroy_lifecycle_publisher(self, publisher: LifecyclePublisher) -> bool:
        self._managed_entities.remove(publisher)
        return self.destroy_publisher(publisher)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    on_cleanup = on_shutdown = on_error = on_configure

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        for it in self._managed_entities:
            it.is_activated = True
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        for it in self._managed_entities:
            it.is_activated = False
        return TransitionCallbackReturn.SUCCESS

    def trigger_configure(self) -> TransitionCallbackReturn:
        return self._change("configure")

    def trigger_activate(self) -> TransitionCallbackReturn:
        return self._change("activate")

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        return self._change("shutdown")

    def _change(self, transition: str) -> TransitionCallbackReturn:
        if (self.label, transition) not in MACHINE:
            raise RCLError(f"no transition {transition} from {self.label}")
        before = LifecycleState(self.label, 0)
        self.label, success, failure = MACHINE[self.label, transition]
        result = self._called(getattr(self, f"on_{transition}"), before)
        goals = {TransitionCallbackReturn.SUCCESS: success, TransitionCallbackReturn.FAILURE: failure}
        self.label = goals.get(result, "errorprocessing")
        if result == TransitionCallbackReturn.ERROR:
            recovered = self._called(self.on_error, before) == TransitionCallbackReturn.SUCCESS
            self.label = "unconfigured" if recovered else "finalized"
        return result

    def _called(self, callback: Callable[[LifecycleState], Any], state: LifecycleState) -> Any:
        try:
            result = callback(state)
        except Exception:  # which rclpy swallows
            return TransitionCallbackReturn.ERROR
        assert isinstance(result, TransitionCallbackReturn)
        return result

    def asked(self, transition: str) -> bool:
        """The service ``~/change_state``, as ``ros2 lifecycle set`` calls it; whether it succeeded."""
        return bool(
            self.serve(self.default_callback_group, self._change, transition) == TransitionCallbackReturn.SUCCESS
        )


# -- actions


class GoalResponse(enum.Enum):
    REJECT, ACCEPT = 1, 2


class CancelResponse(enum.Enum):
    REJECT, ACCEPT = 1, 2


ACCEPTED, EXECUTING, CANCELING, SUCCEEDED, CANCELED, ABORTED = range(1, 7)
GOALS = {
    (ACCEPTED, "execute"): EXECUTING,
    (ACCEPTED, "cancel_goal"): CANCELING,
    (EXECUTING, "cancel_goal"): CANCELING,
    (EXECUTING, "succeed"): SUCCEEDED,
    (EXECUTING, "abort"): ABORTED,
    (CANCELING, "succeed"): SUCCEEDED,
    (CANCELING, "abort"): ABORTED,
    (CANCELING, "canceled"): CANCELED,
}


class GoalId(NamedTuple):
    uuid: bytes


class ServerGoalHandle:
    def __init__(self, server: ActionServer, request: Any) -> None:
        self._server, self.request = server, request
        self.goal_id = GoalId(uuid.uuid4().bytes)
        self.status = ACCEPTED
        self.feedback: list[Message] = []
        self.result: Any = None
        self.sent = False  # the result, while there was a context to send it
        self.ended, self.looked_at, self.shown = threading.Event(), threading.Event(), threading.Event()
        self._lock = threading.Lock()

    @property
    def is_active(self) -> bool:
        return self.status in (ACCEPTED, EXECUTING, CANCELING)

    @property
    def is_cancel_requested(self) -> bool:
        self.looked_at.set()
        return self.status == CANCELING

    def update(self, event: str) -> None:
        with self._lock:
            if (self.status, event) not in GOALS:
                raise RCLError(f"goal_handle attempted invalid transition from {self.status} with {event}")
            self.status = GOALS[self.status, event]

    def execute(self, execute_callback: Any = None) -> None:
        if self.status != CANCELING:
            self.update("execute")
        self._server.node.executor.create_task(self._server.run, execute_callback, self)

    def publish_feedback(self, feedback: Any) -> None:
        if not isinstance(feedback, self._server.action_type.Feedback):
            raise TypeError
        assert self.is_active, "feedback of a goal that has ended"
        self.feedback.append(feedback)
        self.shown.set()

    def succeed(self) -> None:
        self.update("succeed")

    def abort(self) -> None:
        self.update("abort")

    def canceled(self) -> None:
        self.update("canceled")


class ActionServer:
    def __init__(
        self,
        node: Node,
        action_type: Any,
        action_name: str,
        execute_callback: Callable[[Any], Any],
        *,
        callback_group: CallbackGroup | None = None,
        goal_callback: Callable[[Any], GoalResponse] = lambda request: GoalResponse.ACCEPT,
        handle_accepted_callback: Callable[[Any], None] = lambda handle: handle.execute(),
        cancel_callback: Callable[[Any], CancelResponse] = lambda handle: CancelResponse.REJECT,
        goal_service_qos_profile: Any = None,
        result_service_qos_profile: Any = None,
        cancel_service_qos_profile: Any = None,
        feedback_pub_qos_profile: Any = None,
        status_pub_qos_profile: Any = None,
        result_timeout: int = 900,
    ) -> None:
        self.node, self.action_type, self._execute = node, action_type, execute_callback
        self.group = callback_group or node.default_callback_group
        self._goal, self._accepted, self._cancel = goal_callback, handle_accepted_callback, cancel_callback
        self.name = node.resolve(action_name)
        WORLD.actions[self.name] = self

    def destroy(self) -> None:
        del WORLD.actions[self.name]

    def run(self, execute_callback: Any, handle: ServerGoalHandle) -> None:
        try:
            result = (execute_callback or self._execute)(handle)
        except Exception:
            result = self.action_type.Result()
        if handle.is_active:
            handle.abort()
        assert isinstance(result, self.action_type.Result)
        handle.result, handle.sent = result, WORLD.ok
        handle.ended.set()

    # -- a client's side

    def send(self, goal: Any) -> ServerGoalHandle:
        """Send a goal that is accepted."""
        assert isinstance(goal, self.action_type.Goal)
        return self.node.serve(self.group, self._sent, goal)  # type: ignore[no-any-return]

    def _sent(self, goal: Any) -> ServerGoalHandle:
        assert self._goal(goal) == GoalResponse.ACCEPT
        handle = ServerGoalHandle(self, goal)
        self._accepted(handle)
        return handle

    def cancel(self, handle: ServerGoalHandle, between: Callable[[], Any] = lambda: None) -> bool:
        """Ask for a goal to be cancelled; ``between`` asking the node and marking the goal, ``between`` is called."""
        return bool(self.node.serve(self.group, self._cancelled, handle, between))

    def _cancelled(self, handle: ServerGoalHandle, between: Callable[[], Any]) -> bool:
        if not handle.is_active or self._cancel(handle) != CancelResponse.ACCEPT:
            return False
        between()
        try:
            handle.update("cancel_goal")
        except RCLError:
            return False
        return True


def outcome(handle: ServerGoalHandle) -> tuple[int, Any]:
    """How a goal ended, and its decision."""
    assert handle.ended.wait(PATIENCE_S), "the goal has not ended"
    return handle.status, handle.result.decision
