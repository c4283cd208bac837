"""The node's endpoints on DDS, and the loop that brings in what arrives there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cyclonedds.core import DDSStatus, GuardCondition, ReadCondition, WaitSet
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic as DdsTopic

from anytime.node.dds.graph import ANYTHING, Graph
from anytime.node.dds.malformed import Tap
from anytime.node.dds.peers import HANDLE, End, Peers
from anytime.node.dds.qos import policies
from anytime.node.dds.types import from_idl, idl_of, ros_type
from anytime.node.transport import Host, Topic, Trouble
from anytime.scheduler.clock import MONOTONIC, NS_PER_S

_BEAT_NS = 2 * NS_PER_S  # what lasts is noted again so often; diagnostics look back ten seconds
_MOST = 16  # messages of a topic before the others have their turn
_ENCLAVE = b"enclave=/;"  # by which ROS 2 knows a participant as one of its own
_STATUSES = {
    DataReader: DDSStatus.RequestedIncompatibleQos,
    DataWriter: DDSStatus.OfferedIncompatibleQos | DDSStatus.OfferedDeadlineMissed,
}


class Connection:
    """All that is open, until ``stop``. ``work`` is for a thread of its own."""

    def __init__(self, host: Host, domain: int) -> None:
        """Join the domain.

        Raises:
            DDSException: that cannot be done.
        """
        self.host = host
        topics = host.topics
        self._participant = participant = DomainParticipant(domain, Qos(Policy.Userdata(_ENCLAVE)))
        brought: list[tuple[Topic | None, Callable[[Any], None]]] = [
            (topics.question, host.on_question),
            (topics.scene, host.on_scene),
            (topics.clock, host.on_clock),
        ]
        heard = [(topic, bring) for topic, bring in brought if topic is not None]
        self._readers = [(_end(participant, topic, DataReader), bring) for topic, bring in heard]
        self._taps = [(topic.name, Tap(participant, topic)) for topic, _ in heard]
        outputs = (topics.decision, topics.trace, topics.diagnostics)
        self.writers = {topic.message: _end(participant, topic, DataWriter) for topic in outputs}
        readers, writers = [end for end, _ in self._readers], list(self.writers.values())
        self._ends = [*readers, *writers]
        self._peers = Peers(participant, self._ends)
        self._graph = Graph(participant, host.name, [e.entity for e in readers], [e.entity for e in writers])
        self._stop = GuardCondition(participant)
        self._waitset = WaitSet(participant)
        unread = [*(ReadCondition(end.entity, ANYTHING) for end in readers), *(tap.condition for _, tap in self._taps)]
        for condition in (self._stop, *unread, *self._peers.conditions, *self._graph.conditions):
            self._waitset.attach(condition)
        for end in self._ends:
            self._waitset.attach(end.entity)

    def stop(self) -> None:
        """Let ``work`` return."""
        self._stop.set(True)

    def work(self) -> None:
        """Bring what arrives to the host, and note what is wrong, until ``stop``; raises nothing."""
        beat_ns = MONOTONIC.now()
        while not self._stop.read():
            self._waitset.wait(_BEAT_NS)
            self._note_all(self._new_troubles)  # first: messages of another type must be known as such
            for end, bring in self._readers:
                self._take(end, bring)
            self._note_all(self._malformed)
            if MONOTONIC.now() - beat_ns >= _BEAT_NS:
                beat_ns = MONOTONIC.now()
                self._note_all(self._lasting_troubles)

    def _take(self, end: End, bring: Callable[[Any], None]) -> None:
        for _ in range(_MOST):
            try:
                samples = end.entity.take(1)  # one at a time: one that cannot be read takes no other with it
                if not samples:
                    return
                self._bring(end, bring, samples[0])
            except Exception as error:
                self.host.note("malformed", f"a message on {end.name} cannot be read: {error!r}")

    def _bring(self, end: End, bring: Callable[[Any], None], sample: Any) -> None:
        info = sample.sample_info
        if not info.valid_data:  # a writer left
            return
        wrong = self._peers.wrong.get(info.publication_handle & HANDLE)
        if wrong is not None:
            self.host.note("wrong_type", wrong)
        else:
            bring(from_idl(sample, end.message))

    def _note_all(self, look: Callable[[], Iterator[tuple[Trouble, str]]]) -> None:
        try:
            for trouble, reason in look():
                self.host.note(trouble, reason)
        except Exception as error:
            self.host.note("malformed", f"what a peer says of itself cannot be read: {error!r}")

    def _new_troubles(self) -> Iterator[tuple[Trouble, str]]:
        yield from self._peers.look()
        yield from (("duplicate", reason) for reason in self._graph.look())
        for end in self._ends:
            if end.incompatible():
                yield "qos", end.mismatch()
            if end.missed():
                yield "missed", f"nothing was published on {end.name} for longer than the deadline that is offered"

    def _malformed(self) -> Iterator[tuple[Trouble, str]]:
        for name, tap in self._taps:
            for _ in range(_MOST):
                taken = tap.take()
                if taken is None:
                    break
                handle, fault = taken
                if fault and handle not in self._peers.wrong:
                    yield "malformed", f"a message on {name} cannot be read: {fault}"

    def _lasting_troubles(self) -> Iterator[tuple[Trouble, str]]:
        yield from self._peers.troubles()
        yield from (("duplicate", reason) for reason in self._graph.troubles())


def _end(participant: DomainParticipant, topic: Topic, kind: type[DataReader[Any]] | type[DataWriter[Any]]) -> End:
    """Our reader or writer of a topic, with the statuses that wake the loop."""
    ros = ros_type(topic.message)
    made = DdsTopic(participant, f"rt{topic.name}", idl_of(ros))
    entity = kind(participant, made, policies(topic.qos, ros, offered=kind is DataWriter))
    entity.status_mask = _STATUSES[kind]
    return End(topic.name, topic.message, ros, entity)
