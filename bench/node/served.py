"""The process that is measured: the node on DDS and, beside it, a control that only waits.

``python -m bench.node.served DOMAIN``: prints ``active`` when the node is, and serves until stdin ends.
"""

from __future__ import annotations

import json
import sys
import threading

from anytime.node.dds.transport import Dds
from anytime.node.messages import Decision, Header, Question, Scene, Time
from anytime.node.node import Node
from anytime.node.parameters import ACTIONS, Parameters
from anytime.node.stamps import Stamps
from anytime.node.topics import topics_of
from anytime.scheduler.clock import MONOTONIC, NS_PER_S, seconds_to_ns

NODE, CONTROL = "/anytime", "/control"
PARAMETERS = Parameters(choices=list(ACTIONS), fallback="SLOWER")


class Control:
    """Takes a question as the node does, waits for as long as the node may think at most, and publishes."""

    def __init__(self, domain: int) -> None:
        self.name, self.topics = CONTROL, topics_of(PARAMETERS, CONTROL)
        self._stamps, self._never = Stamps(MONOTONIC), threading.Event()
        self._changed = threading.Condition()
        self._waiting: tuple[Question, int] | None = None
        self._dds = Dds(domain)
        threading.Thread(target=self._serve, daemon=True).start()
        self._dds.open(self)

    def on_question(self, question: Question) -> None:
        deadline_ns = self._stamps.steady_ns(question.header.stamp, 10 * NS_PER_S) + seconds_to_ns(question.budget_s)
        with self._changed:
            self._waiting = question, deadline_ns
            self._changed.notify_all()

    def on_scene(self, scene: Scene) -> None: ...

    def on_clock(self, time: Time) -> None: ...

    def note(self, trouble: str, reason: str) -> None: ...

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None)
                assert self._waiting is not None
                (question, deadline_ns), self._waiting = self._waiting, None
            MONOTONIC.wait_until(self._never, deadline_ns - seconds_to_ns(PARAMETERS.margin_s))
            self._dds.publish(self._decision(question))

    def _decision(self, question: Question) -> Decision:
        return Decision(
            header=Header(self._stamps.stamp()),
            input_stamp=question.header.stamp,
            request_id=question.request_id,
            trace_id="",
            bundle_id="",
            status=0,
            source="fallback",
            answer="",
            confidence=0.0,
            calibrated=False,
            late=False,
            budget_s=question.budget_s,
            elapsed_s=0.0,
            slack_s=0.0,
            tokens_used=0,
            tokens_planned=0,
            reason="",
        )

    def close(self) -> None:
        self._dds.close()


def main() -> None:
    domain = int(sys.argv[1])
    node, control = Node(Dds(domain), PARAMETERS, name=NODE), Control(domain)
    try:
        node.configure()
        node.activate()
        print("active", flush=True)
        sys.stdin.read()
        print(json.dumps(node.counts.totals().counts), flush=True)
    finally:
        control.close()
        node.shutdown()


if __name__ == "__main__":
    main()
