"""The lifecycle node: ROS 2's transitions, parameters and executor around ``anytime.node.node.Node``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from anytime.errors import NodeError
from anytime.node.node import Node
from anytime.node.ros.goals import Goals
from anytime.node.ros.parameters import checked, declare
from anytime.node.ros.transport import Rclpy
from anytime.scheduler.clock import MONOTONIC, Clock

_LAST_GOALS_S = 2.0


class AnytimeNode(LifecycleNode):  # type: ignore[misc]
    """A managed node. ``failure`` says why the last transition did not succeed; empty when it did."""

    def __init__(
        self, name: str, namespace: str, parameters: list[Parameter], clock: Clock = MONOTONIC, **core: Any
    ) -> None:
        """
        Args:
            name: as the command line may have remapped it.
            namespace: likewise.
            parameters: to begin with, unless the command line says otherwise.
            clock: by which deadlines are kept.
            core: what else ``anytime.node.node.Node`` takes.

        Raises:
            ParameterError: a parameter cannot have its value.
            NodeError: a ROS type is not installed.
        """
        super().__init__(name, namespace=namespace, parameter_overrides=parameters)
        self.failure = ""
        self.core = Node(
            Rclpy(self),
            declare(self),
            name=f"{self.get_namespace().rstrip('/')}/{self.get_name()}",
            clock=clock,
            # ROS time without use_sim_time; with it, stamps.py counts from /clock as the transport hears it.
            system=lambda: int(self.get_clock().now().nanoseconds),
            **core,
        )
        self.goals = Goals(self, self.core, clock)
        self.add_on_set_parameters_callback(lambda changes: checked(self.core, changes))

    # -- transitions, called by rclpy

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._moved(self.core.configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        super().on_activate(state)  # publishers first: a decision may be made before activate returns
        moved = self._moved(self.core.activate)
        if moved != TransitionCallbackReturn.SUCCESS:
            super().on_deactivate(state)
        return moved

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        moved = self._moved(self.core.deactivate)
        super().on_deactivate(state)  # publishers last: what was taken in is still answered
        return moved

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._moved(self.core.cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._moved(self.core.shutdown)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, whatever went wrong."""
        with contextlib.suppress(NodeError):
            if self.core.state == "active":
                self.core.deactivate()
            if self.core.state == "inactive":
                self.core.cleanup()
        super().on_deactivate(state)
        back = self.core.state == "unconfigured"
        return TransitionCallbackReturn.SUCCESS if back else TransitionCallbackReturn.FAILURE

    def _moved(self, transition: Callable[[], None]) -> TransitionCallbackReturn:
        before = self.core.state
        try:
            transition()
        except NodeError as error:
            self.failure = str(error)
            self.get_logger().error(self.failure)
            refused = self.core.state == before
            return TransitionCallbackReturn.FAILURE if refused else TransitionCallbackReturn.ERROR
        self.failure = ""
        return TransitionCallbackReturn.SUCCESS

    # -- its end

    def end(self) -> None:
        """Answer what was taken in, let goals end with their best answers, and let go of everything."""
        with contextlib.suppress(Exception):  # in the middle of a transition, or finalized: rclpy refuses
            self.trigger_shutdown()
        self.core.shutdown()
        self.goals.wait_until_empty(_LAST_GOALS_S)
