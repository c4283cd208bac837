"""Questions from the foreign peer to the node and to the control in turns, at 5 to 20 Hz, and what came back when."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from typing import Any, NamedTuple

from cyclonedds.domain import DomainParticipant
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from rich.progress import Progress, TaskID

from anytime.node.dds.qos import policies
from anytime.node.dds.types import idl_of
from anytime.node.transport import Qos
from anytime.runtime.questions import Question
from bench.node.foreign import LOOPBACK, Foreign
from bench.node.served import CONTROL, NODE
from bench.report import ROOT

LEAST_HZ, MOST_HZ = 5.0, 20.0
LEAST_SHARE, MOST_SHARE = 0.4, 0.9  # of the period, as budget
TARGETS = (NODE, CONTROL)
_TRACE = "anytime_msgs/msg/Trace"
_SEED = 5
_GRACE_S = 1.0  # behind the last one
_START_S = 120.0


class Row(NamedTuple):
    """A question and its decision; ``answered_ms``: since it was asked, by the peer's clock, None where none came."""

    number: int
    target: str
    rate_hz: float
    budget_ms: float
    answered_ms: float | None
    reasoner_ms: float | None
    source: str

    @property
    def on_time(self) -> bool:
        return self.answered_ms is not None and self.answered_ms <= self.budget_ms


class Served:
    """The process with node and control. ``close`` it; ``counts`` are the node's then."""

    def __init__(self, domain: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.node.served", str(domain)],
            cwd=ROOT,
            env=os.environ | {"CYCLONEDDS_URI": LOOPBACK},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "active\n":
            raise SystemExit("the node did not become active; its reason is above")
        self.counts = ""

    def close(self) -> None:
        self.counts = self._process.communicate(timeout=_START_S)[0].strip()


class Traces:
    """The traces of the node, in which it says how long the reasoner had."""

    def __init__(self, domain: int) -> None:
        self._participant = DomainParticipant(domain)
        topic = Topic(self._participant, f"rt{NODE}/trace", idl_of(_TRACE))
        asked = policies(Qos(reliable=False, depth=1000), _TRACE, offered=False)
        self._reader: DataReader[Any] = DataReader(self._participant, topic, asked)

    def reasoner_ms(self) -> dict[str, float]:
        """Of all requests so far that were not told before."""
        valid = (trace for trace in self._reader.take(1000) if trace.sample_info.valid_data)
        return {trace.request_id: 1e3 * trace.reasoner_s for trace in valid}


def measure(domain: int, questions: list[Question], asked: int, bar: Progress, task: TaskID) -> tuple[list[Row], str]:
    """So many questions to each, and the node's own counts."""
    source, served, traces = random.Random(_SEED), Served(domain), Traces(domain)
    peer = Foreign(domain, *TARGETS)
    told: dict[str, float] = {}
    plan = []
    try:
        peer.matched(0, 1)
        peer.listen_until(time.monotonic() + _GRACE_S)  # until it is known to those that it matches with
        due_s = time.monotonic()
        for number in range(asked):
            rate_hz, share = source.uniform(LEAST_HZ, MOST_HZ), source.uniform(LEAST_SHARE, MOST_SHARE)
            question = source.choice(questions)
            for target in (0, 1) if number % 2 else (1, 0):
                plan.append((number, target, rate_hz, share / rate_hz))
                peer.ask(target, f"{number}-{target}", share / rate_hz, question.question)
                due_s = max(due_s + 1.0 / rate_hz, time.monotonic())
                peer.listen_until(due_s)
            told |= traces.reasoner_ms()
            bar.update(task, advance=1, refresh=number % 10 == 0)
        peer.listen_until(time.monotonic() + _GRACE_S)
        told |= traces.reasoner_ms()
    finally:
        peer.close()
        served.close()
    return [_row(peer, told, *planned) for planned in plan], served.counts


def _row(peer: Foreign, told: dict[str, float], number: int, target: int, rate_hz: float, budget_s: float) -> Row:
    name = f"{number}-{target}"
    asked = next(said for said in peer.heard if said.get("asked") == name)
    decided = next((said for said in peer.heard if said.get("decision") == name), None)
    answered_ms = None if decided is None else (decided["steady_ns"] - asked["steady_ns"]) / 1e6
    reasoner_ms = told.get(name) if target == 0 else None
    source = "" if decided is None else decided["source"]
    return Row(number, TARGETS[target], round(rate_hz, 3), round(1e3 * budget_s, 4), answered_ms, reasoner_ms, source)
