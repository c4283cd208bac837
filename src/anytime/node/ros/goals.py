"""The action ``~/reason`` and the service ``~/ask``.

Every goal is accepted, and thinking begins at once: one that the node refuses is aborted with a decision that says why,
which a rejected goal could not. A cancel returns the best answer so far; goals that end with the node's activity are
aborted with theirs.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode

from anytime.errors import InputError
from anytime.node.goal import Goal
from anytime.node.messages import STATUS, Decision, Header, Question, Time
from anytime.node.node import Node
from anytime.node.ros.messages import from_ros, ros_class, to_ros
from anytime.node.stamps import time_of
from anytime.scheduler.clock import NS_PER_S
from anytime.scheduler.clock import Clock as Steady

FEEDBACK_HZ = 20
_FEEDBACK_NS = NS_PER_S // FEEDBACK_HZ
_PAUSE_S, _PAUSES = 0.001, 1000


class Feedback:
    """The best answer so far, shown at once or, if that would be too often, when ``flush`` finds it is time."""

    def __init__(self, clock: Steady, publish: Callable[[Decision], None]) -> None:
        self._clock, self._publish = clock, publish
        self._lock = threading.Lock()
        self._latest: Decision | None = None
        self._due_ns = clock.now()

    def show(self, best: Decision) -> None:
        with self._lock:
            self._latest = best
        self.flush()

    def flush(self) -> None:
        with self._lock:
            now = self._clock.now()
            if self._latest is not None and now >= self._due_ns:
                self._publish(self._latest)
                self._latest, self._due_ns = None, now + _FEEDBACK_NS

    def end(self) -> None:
        """Show nothing more: the result is better."""
        with self._lock:
            self._latest = None


class Running:
    """A goal that was accepted: under way, or refused."""

    def __init__(self, handle: Any, goal: Goal | None, refusal: str, feedback: Feedback) -> None:
        self.handle, self.goal, self.refusal, self.feedback = handle, goal, refusal, feedback
        self.cancelled = False


class Goals:
    """Serves the action and the service; a goal occupies a thread of the executor until it ends."""

    def __init__(self, node: LifecycleNode, core: Node, clock: Steady) -> None:
        self._node, self._core, self._clock = node, core, clock
        self._action, self._ask_type = ros_class("anytime_msgs/action/Reason"), ros_class("anytime_msgs/srv/Ask")
        self._running: dict[bytes, Running] = {}
        self._changed = threading.Condition()
        group = ReentrantCallbackGroup()
        self._server = ActionServer(
            node,
            self._action,
            "~/reason",
            execute_callback=self._execute,
            callback_group=group,
            goal_callback=lambda request: GoalResponse.ACCEPT,
            handle_accepted_callback=self._accepted,
            cancel_callback=self._cancel,
        )
        self._service = node.create_service(self._ask_type, "~/ask", self._ask, callback_group=group)
        self._timer = node.create_timer(
            1 / FEEDBACK_HZ,
            self._flush,
            callback_group=group,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
            autostart=False,
        )

    def destroy(self) -> None:
        """Let go of the action, which rclpy does not do with its node; the service and the timer go with the node."""
        self._server.destroy()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until no goal is under way; False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, timeout_s)

    # -- the action, on threads of the executor; nothing may be raised there

    def _accepted(self, handle: Any) -> None:
        goal, refusal = None, ""
        try:
            goal = self._core.goal(
                from_ros(Question, handle.request.question),
                from_ros(Time, handle.request.deadline),
                handle.request.min_confidence,
            )
        except Exception as error:
            refusal = str(error) if isinstance(error, InputError) else repr(error)
        feedback = Feedback(self._clock, lambda best: handle.publish_feedback(self._feedback(best)))
        with self._changed:
            self._running[_key(handle)] = Running(handle, goal, refusal, feedback)
            self._timer.reset()
        handle.execute()

    def _feedback(self, best: Decision) -> Any:
        return self._action.Feedback(decision=to_ros(best))

    def _flush(self) -> None:
        for running in list(self._running.values()):
            running.feedback.flush()

    def _cancel(self, handle: Any) -> CancelResponse:
        running = self._running.get(_key(handle))
        if running is None:
            return CancelResponse.REJECT
        running.cancelled = True
        if running.goal is not None:
            running.goal.cancel()
        return CancelResponse.ACCEPT

    def _execute(self, handle: Any) -> Any:
        running = self._running[_key(handle)]
        try:
            decision, aborted = self._decision(running)
            self._end(running, decision, aborted)
            return self._action.Result(decision=to_ros(decision))
        finally:
            with self._changed:
                del self._running[_key(handle)]
                if not self._running:
                    self._changed.notify_all()
                    self._timer.cancel()

    def _decision(self, running: Running) -> tuple[Decision, bool]:
        """What the goal ends with, and whether that is an abort unless its client cancelled it."""
        if running.goal is None:
            return self._refused(running.handle.request.question, running.refusal), True
        try:
            decision = running.goal.run(running.feedback.show)
        except Exception as error:
            reason = str(error) if isinstance(error, InputError) else repr(error)
            return self._refused(running.handle.request.question, reason), True
        finally:
            running.feedback.end()
        return decision, decision.status in (STATUS["cancelled"], STATUS["rejected"], STATUS["error"])

    def _end(self, running: Running, decision: Decision, aborted: bool) -> None:
        handle = running.handle
        # rclpy marks a goal as being cancelled only after it has asked us, on another thread.
        pause = threading.Event()
        for _ in range(_PAUSES if running.cancelled else 0):
            if handle.is_cancel_requested:
                break
            pause.wait(_PAUSE_S)
        if handle.is_cancel_requested:
            handle.canceled()
        elif aborted:
            handle.abort()
        else:
            handle.succeed()

    # -- the service

    def _ask(self, request: Any, response: Any) -> Any:
        try:
            decision = self._core.goal(from_ros(Question, request.question)).run(lambda best: None)
        except Exception as error:
            reason = str(error) if isinstance(error, InputError) else repr(error)
            decision = self._refused(request.question, reason)
        response.decision = to_ros(decision)
        return response

    def _refused(self, asked: Any, reason: str) -> Decision:
        """What a question gets that was not thought about."""
        question = from_ros(Question, asked)
        return Decision(
            header=Header(time_of(self._node.get_clock().now().nanoseconds), question.header.frame_id),
            input_stamp=question.header.stamp,
            request_id=question.request_id,
            trace_id=question.trace_id,
            bundle_id="",
            status=STATUS["rejected"],
            source="fallback",
            answer=self._core.parameters.fallback,
            confidence=math.nan,
            calibrated=False,
            late=False,
            budget_s=0.0,
            elapsed_s=0.0,
            slack_s=0.0,
            tokens_used=0,
            tokens_planned=0,
            reason=reason,
        )


def _key(handle: Any) -> bytes:
    return bytes(handle.goal_id.uuid)
