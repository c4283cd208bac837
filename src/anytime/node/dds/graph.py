"""The ROS graph: our node in ``ros_discovery_info``, and whether another node has its name.

Its messages are those of ``rmw_dds_common`` from Iron on, whose Gid has 16 bytes; Humble's has 24.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsParticipant
from cyclonedds.core import Entity, InstanceState, ReadCondition, SampleState, ViewState
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from anytime.node.dds.qos import graph_policies
from anytime.node.dds.types import GRAPH, idl_of

ANYTHING = SampleState.Any | ViewState.Any | InstanceState.Any
_MOST = 100  # samples at a time


class Graph:
    """Announces the node of this full name with its endpoints, and keeps who else has the name."""

    def __init__(
        self, participant: DomainParticipant, name: str, readers: Iterable[Entity], writers: Iterable[Entity]
    ) -> None:
        self._own, self._name = participant.guid, name
        self._others: dict[uuid.UUID, str] = {}
        topic = Topic(participant, "ros_discovery_info", idl_of(GRAPH))
        self._heard = DataReader(participant, topic, graph_policies(GRAPH, offered=False))
        self._participants = BuiltinDataReader(participant, BuiltinTopicDcpsParticipant)
        self.conditions = [ReadCondition(reader, ANYTHING) for reader in (self._heard, self._participants)]
        self._announcing = DataWriter(participant, topic, graph_policies(GRAPH, offered=True))
        self._announcing.write(_announcement(participant, name, readers, writers))

    def look(self) -> Iterator[str]:
        """Take in what changed; the troubles that are new."""
        while samples := self._heard.take(1):  # one at a time: one that cannot be read takes no other with it
            sample = samples[0]
            if not sample.sample_info.valid_data:
                continue
            who = uuid.UUID(bytes=bytes(sample.gid.data))
            names = {_full(node.node_namespace, node.node_name) for node in sample.node_entities_info_seq}
            if who == self._own or self._name not in names:
                self._others.pop(who, None)
            elif who not in self._others:
                self._others[who] = f"another node is called {self._name}, participant {who}: give each its own name"
                yield self._others[who]
        for participant in self._participants.take(_MOST):
            if participant.sample_info.instance_state != InstanceState.Alive:
                self._others.pop(participant.key, None)

    def troubles(self) -> Iterator[str]:
        """Those that last."""
        yield from self._others.values()


def _announcement(
    participant: DomainParticipant, name: str, readers: Iterable[Entity], writers: Iterable[Entity]
) -> object:
    namespace, _, base = name.rpartition("/")
    gid = idl_of("rmw_dds_common/msg/Gid")
    node = idl_of("rmw_dds_common/msg/NodeEntitiesInfo")(
        node_namespace=namespace or "/",
        node_name=base,
        reader_gid_seq=[gid(data=list(reader.guid.bytes)) for reader in readers],
        writer_gid_seq=[gid(data=list(writer.guid.bytes)) for writer in writers],
    )
    return idl_of(GRAPH)(gid=gid(data=list(participant.guid.bytes)), node_entities_info_seq=[node])


def _full(namespace: str, name: str) -> str:
    return f"{namespace.rstrip('/')}/{name}"
