"""Messages that cannot be read. Cyclone drops them before a reader sees them, and tells nobody but stderr.

So each input has a second reader, of a type of the same name without fields. It is given the bytes of everything that
comes from peers which publish no XTypes description, as ROS 2 and other vendors; those with one are Cyclone's own,
whose writers send nothing malformed.
"""

from __future__ import annotations

from typing import Any

from cyclonedds.core import ReadCondition
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct, make_idl_struct
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic as DdsTopic
from rosbags.serde import SerdeError

from anytime.node.dds.graph import ANYTHING
from anytime.node.dds.qos import policies
from anytime.node.dds.types import ros_type, wire_name
from anytime.node.transport import Topic
from anytime.node.typestore import store


class Bytes:
    """The serialized message of a sample; Cyclone adds ``sample_info``."""

    sample_info: Any

    def __init__(self, data: bytes) -> None:
        self.data = data


class Tap:
    """Reads the bytes on an input topic."""

    def __init__(self, participant: DomainParticipant, topic: Topic) -> None:
        self._ros = ros_type(topic.message)
        store().get_msgdef(self._ros)  # generates code, which the first message should not wait for
        made = DdsTopic(participant, f"rt{topic.name}", _fieldless(self._ros))
        self._reader = DataReader(participant, made, policies(topic.qos, self._ros, offered=False))
        self.condition = ReadCondition(self._reader, ANYTHING)

    def take(self) -> tuple[int, str] | None:
        """The writer's handle of the next message and why it cannot be read, empty where it can; None: no message."""
        while samples := self._reader.take(1):
            info = samples[0].sample_info
            if info.valid_data:
                return info.publication_handle, self._fault(samples[0].data)
        return None

    def _fault(self, data: bytes) -> str:
        try:
            store().deserialize_cdr(data, self._ros)
        except SerdeError as error:
            return str(error)
        return ""


def _fieldless(ros: str) -> type[IdlStruct]:
    made: Any = make_idl_struct("Bytes", wire_name(ros), {})
    made.deserialize = Bytes
    made.deserialize_key = Bytes
    return made  # type: ignore[no-any-return]
