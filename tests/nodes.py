"""A node on a mock clock over a scripted engine, on a bus in this process, and what it published."""

from __future__ import annotations

from typing import Any

from anytime.node.inprocess import Bus, InProcess
from anytime.node.messages import Decision, DiagnosticArray, Header, Input, Output, Question, Scene, Time, Trace
from anytime.node.node import Node
from anytime.node.parameters import Parameters, parameters_of
from anytime.node.stamps import time_of
from anytime.node.transport import Recorder, Topic, Topics
from anytime.runtime.reasoner import Reasoner
from anytime.testing import MockClock
from tests.conftest import MS

EPOCH_NS = 1_800_000_000_000 * MS  # of the system's clock where the steady one is 0
DEFAULTS: dict[str, Any] = {
    "choices": ["left", "right"],
    "actions": ["left", "right"],
    "warm_up_question": "what",
    "warm_up": 3,
    "budget_s": 0.1,
    "period_s": 0.1,
    "fallback": "stop",
}


class Rig:
    """A node, a peer that asks, and everything the peer received."""

    def __init__(
        self,
        reasoner: Reasoner,
        clock: MockClock,
        *,
        bus: Bus | None = None,
        threaded: bool = False,
        name: str = "/anytime",
        recorder: Recorder | None = None,
        **given: Any,
    ) -> None:
        self.reasoner, self.clock, self.bus = reasoner, clock, bus or Bus()
        self.decisions: list[Decision] = []
        self.traces: list[Trace] = []
        self.diagnostics: list[DiagnosticArray] = []

        def opened(parameters: Parameters, topics: Topics) -> Recorder:
            assert recorder is not None
            return recorder

        self.node = Node(
            InProcess(self.bus),
            parameters_of({**DEFAULTS, **given}),
            name=name,
            load=lambda parameters: reasoner,
            **({} if recorder is None else {"recorder": opened}),
            clock=clock,
            system=lambda: EPOCH_NS + clock.now(),
            threaded=threaded,
        )
        self.bus.subscribe(f"{name}/decision", self.decisions.append)
        self.bus.subscribe(f"{name}/trace", self.traces.append)
        self.bus.subscribe("/diagnostics", self.diagnostics.append)

    def up(self) -> Rig:
        self.node.configure()
        self.node.activate()
        return self

    def header(self, age_ns: int = 0) -> Header:
        """Of a message that was stamped so long ago."""
        return Header(time_of(EPOCH_NS + self.clock.now() - age_ns), "base_link")

    def ask(self, text: str = "what", age_ns: int = 0, **fields: Any) -> None:
        self.say(Question(**{"header": self.header(age_ns), "text": text, **fields}))

    def say(self, message: Input | Time) -> None:
        topics = self.node.topics
        self.bus.publish(topics.of(message).name, message)

    def count(self, what: str) -> int:
        return self.node.counts.totals().counts.get(what, 0)

    def reason(self, trouble: str) -> str:
        return self.node.counts.totals().reasons[trouble]

    def status(self, part: str) -> tuple[int, str]:
        """Level and message of a part of the diagnostics of now."""
        found = {status.name.rpartition(": ")[2]: status for status in self.node.diagnose().status}
        return found[part].level, found[part].message


def scene(header: Header, **fields: Any) -> Scene:
    return Scene(**{"header": header, "lanes": 4, "lane": 2, "speed_m_s": 27.2, **fields})


class ListRecorder:
    """Keeps what is recorded in a list; ``full`` is what it says of its disk."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, Input | Output | Time, Time]] = []
        self.full, self.closed = "", False

    def record(self, topic: Topic, message: Input | Output | Time, stamp: Time) -> None:
        self.kept.append((topic.name, message, stamp))

    def trouble(self) -> str:
        return self.full

    def close(self) -> None:
        self.closed = True
