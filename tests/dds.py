"""DDS for tests: a host that keeps what it is told, and a peer made of Cyclone's parts."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Qos as Policies
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic as DdsTopic

from anytime.node.dds.qos import policies
from anytime.node.dds.transport import Dds
from anytime.node.dds.types import from_idl, idl_of, ros_type
from anytime.node.messages import Asked, Decision, Header, Question, Scene, Time, decision_of
from anytime.node.node import Node
from anytime.node.parameters import parameters_of
from anytime.node.stamps import time_of
from anytime.node.topics import topics_of
from anytime.node.transport import Qos, Topic
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.clock import NS_PER_S, system_ns
from bench.node.foreign import LOOPBACK
from tests.conftest import MS, MakeReasoner, turns_at
from tests.nodes import DEFAULTS
from tests.test_node_messages import answer

LIMIT_S = 10.0  # discovery is a matter of milliseconds; a machine may be busy


_domains = itertools.count(os.getpid() % 50)


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """A domain of this test's own, on loopback."""
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK)
    return 1 + next(_domains) % 100


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it holds, where nothing tells when."""
    never = threading.Event()
    for _ in range(int(LIMIT_S * 100)):
        if holds():
            return
        never.wait(0.01)
    raise AssertionError(f"it does not hold after {LIMIT_S} s")


class KeepingHost:
    """A host without a node. ``until`` waits for what it was told."""

    def __init__(self, name: str = "/anytime", **given: Any) -> None:
        self.name = name
        self.topics = topics_of(parameters_of(given), name)
        self.inputs: list[Question | Scene | Time] = []
        self.notes: list[tuple[str, str]] = []
        self._changed = threading.Condition()

    def _keep(self, message: Question | Scene | Time) -> None:
        with self._changed:
            self.inputs.append(message)
            self._changed.notify_all()

    on_question = on_scene = on_clock = _keep

    def note(self, trouble: str, reason: str) -> None:
        with self._changed:
            self.notes.append((trouble, reason))
            self._changed.notify_all()

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds, which is looked at whenever something was told."""
        with self._changed:
            assert self._changed.wait_for(holds, LIMIT_S), f"told {self.inputs}, noted {self.notes}"

    def noted(self, trouble: str) -> str:
        """Wait until this trouble was noted; its reason."""
        self.until(lambda: trouble in dict(self.notes))
        with self._changed:
            return dict(self.notes)[trouble]


class CyclonePeer:
    """A participant with writers and readers of its own; ``drop`` the last reference and it is gone."""

    def __init__(self, domain: int) -> None:
        self.participant = DomainParticipant(domain)

    def topic(self, name: str, kind: type[IdlStruct]) -> DdsTopic[Any]:
        return DdsTopic(self.participant, f"rt{name}", kind)

    def writer(self, topic: Topic, *others: Any) -> DataWriter[Any]:
        """A writer of a topic; ``others``: policies instead of its own, lax ones."""
        ros = ros_type(topic.message)
        offered = policies(Qos(reliable=True), ros, offered=True)
        return DataWriter(self.participant, self.topic(topic.name, idl_of(ros)), _with(offered, others))

    def reader(self, topic: Topic, *others: Any) -> DataReader[Any]:
        """The same of a reader."""
        ros = ros_type(topic.message)
        asked = policies(Qos(reliable=True, depth=100), ros, offered=False)
        return DataReader(self.participant, self.topic(topic.name, idl_of(ros)), _with(asked, others))

    def matched(self, entity: DataReader[Any] | DataWriter[Any]) -> None:
        """Wait until it is matched."""
        eventually(lambda: bool(entity.matched_pub if isinstance(entity, DataReader) else entity.matched_sub))

    def take(self, reader: DataReader[Any], number: int = 1) -> list[Any]:
        """Wait for so many samples."""
        condition = ReadCondition(reader, SampleState.Any | ViewState.Any | InstanceState.Any)
        waitset = WaitSet(self.participant)
        waitset.attach(condition)
        taken: list[Any] = []
        while len(taken) < number:
            assert waitset.wait(int(LIMIT_S * NS_PER_S)) > 0, f"{len(taken)} of {number} came within {LIMIT_S} s"
            taken += [sample for sample in reader.take(number) if sample.sample_info.valid_data]
        return taken

    def decisions(self, reader: DataReader[Any], number: int = 1) -> list[Decision]:
        return [from_idl(sample, Decision) for sample in self.take(reader, number)]


def _with(base: Policies, others: tuple[Any, ...]) -> Policies:
    return Policies(*others, base=base)


Open = Callable[..., "tuple[Dds, KeepingHost]"]


@pytest.fixture
def opened(domain: int) -> Iterator[Open]:
    """``opened(name, ...)``: a transport that is open, and its host."""
    made: list[Dds] = []

    def make(name: str = "/anytime", **given: Any) -> tuple[Dds, KeepingHost]:
        host, dds = KeepingHost(name, **given), Dds(domain)
        dds.open(host)
        made.append(dds)
        return dds, host

    yield make
    for dds in made:
        dds.close()


@pytest.fixture
def node(domain: int, make_reasoner: MakeReasoner) -> Iterator[Node]:
    """A node that is up, of simulated steps on a mock clock; stamps are in the system's time."""
    reasoner, _, clock = make_reasoner(turns_at(20))

    def load(parameters: object) -> Reasoner:
        return reasoner

    made = Node(Dds(domain), parameters_of(DEFAULTS), load=load, clock=clock, threaded=False)
    made.configure()
    made.activate()
    yield made
    made.shutdown()


def decision(**changes: Any) -> Decision:
    """A decision, with changes to the answer."""
    asked = Asked(Question(header=Header(Time(5, 6), "base"), trace_id="t", text="what"), 100 * MS, 300 * MS)
    return decision_of(answer(**changes), asked, Time(7, 8), 250 * MS)


def question(**fields: Any) -> Question:
    """A question that is stamped now."""
    return Question(**{"header": Header(time_of(system_ns()), "base"), "text": "what", "request_id": "q", **fields})
