"""The lifecycle node on the double of rclpy, with an executor to serve it, and a peer's view of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anytime.node.stamps import time_of
from anytime.runtime.reasoner import Reasoner
from anytime.testing import MockClock
from tests.doubles_rclpy import init
from tests.doubles_rclpy_world import MESSAGES, MultiThreadedExecutor, World
from tests.nodes import DEFAULTS, EPOCH_NS

NAME = "/anytime"
MSG, SRV, ACTION = MESSAGES["anytime_msgs.msg"], MESSAGES["anytime_msgs.srv"], MESSAGES["anytime_msgs.action"]
STD, TIME = MESSAGES["std_msgs.msg"], MESSAGES["builtin_interfaces.msg"]


class RosRig:
    """A node on a mock clock over a scripted engine; peers speak and hear through ``world``."""

    def __init__(
        self, world: World, load: Callable[[], Reasoner], clock: MockClock, *, threaded: bool = False, **given: Any
    ) -> None:
        from anytime.node.ros.node import AnytimeNode
        from anytime.node.ros.parameters import overrides

        self.world, self.clock = world, clock
        world.system_ns = lambda: EPOCH_NS + clock.now()
        if not world.ok:
            init()
        self.node = AnytimeNode(
            "anytime", "", overrides({**DEFAULTS, **given}), clock, load=lambda parameters: load(), threaded=threaded
        )
        self.executor = MultiThreadedExecutor(num_threads=8)
        self.executor.add_node(self.node)

    def up(self) -> RosRig:
        assert self.node.asked("configure"), self.node.failure
        assert self.node.asked("activate"), self.node.failure
        return self

    def stamp(self, age_ns: int = 0) -> Any:
        return self.at(EPOCH_NS + self.clock.now() - age_ns)

    @staticmethod
    def at(instant_ns: int) -> Any:
        time = time_of(instant_ns)
        return TIME.Time(sec=time.sec, nanosec=time.nanosec)

    def question(self, age_ns: int = 0, **fields: Any) -> Any:
        header = STD.Header(stamp=self.stamp(age_ns), frame_id="base_link")
        return MSG.Question(**{"header": header, "text": "what", "request_id": "q", **fields})

    def ask(self, age_ns: int = 0, **fields: Any) -> None:
        assert self.world.say(f"{NAME}/question", self.question(age_ns, **fields)) == 1

    @property
    def decisions(self) -> list[Any]:
        return self.world.of(f"{NAME}/decision")

    def send(self, **fields: Any) -> Any:
        """A goal of a client's."""
        goal = ACTION.Reason.Goal(**{"question": self.question(), **fields})
        return self.world.actions[f"{NAME}/reason"].send(goal)

    def count(self, what: str) -> int:
        return self.node.core.counts.totals().counts.get(what, 0)

    def reason(self, trouble: str) -> str:
        return self.node.core.counts.totals().reasons[trouble]

    def set(self, name: str, value: Any) -> tuple[bool, str]:
        """``ros2 param set``: whether it was set, and why not."""
        from rclpy.parameter import Parameter

        change = [Parameter(name, value=value)]
        (result,) = self.node.serve(self.node.default_callback_group, self.node.set_parameters, change)
        return result.successful, result.reason
