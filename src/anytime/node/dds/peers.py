"""The endpoints of others on our topics: whether they mean the same type, and whether they match.

Cyclone tells of every endpoint that it discovers on its built-in topics, those that do not match too.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import msgspec
from cyclonedds.builtin import (
    BuiltinDataReader,
    BuiltinTopicDcpsPublication,
    BuiltinTopicDcpsSubscription,
    DcpsEndpoint,
)
from cyclonedds.core import InstanceState, ReadCondition
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy
from cyclonedds.sub import DataReader

from anytime.node.dds.graph import ANYTHING
from anytime.node.dds.qos import POLICIES, hash_in
from anytime.node.dds.types import type_hash, wire_name
from anytime.node.transport import Trouble

HANDLE = (1 << 64) - 1  # Cyclone's Python has handles with a sign in some places
_MOST = 100  # samples at a time


class End(msgspec.Struct):
    """One of our own endpoints, and what was last found wrong with its partners' quality of service."""

    name: str
    message: type[msgspec.Struct]
    ros: str
    entity: DataReader | DataWriter
    policy: str = ""

    def matched(self) -> set[int]:
        """The handles of those it is matched with."""
        entity = self.entity
        handles = entity.matched_pub if isinstance(entity, DataReader) else entity.matched_sub
        return {handle & HANDLE for handle in handles}

    def incompatible(self) -> bool:
        """Whether a new peer did not match; keeps over what."""
        entity = self.entity
        if isinstance(entity, DataReader):
            status = entity.get_requested_incompatible_qos_status()
        else:
            status = entity.get_offered_incompatible_qos_status()
        if status.total_count_change:
            self.policy = POLICIES.get(status.last_policy_id, f"policy {status.last_policy_id}")
        return bool(status.total_count_change)

    def missed(self) -> bool:
        """Whether the deadline that is offered passed without a message."""
        entity = self.entity
        return isinstance(entity, DataWriter) and entity.get_offered_deadline_missed_status().total_count_change > 0

    def mismatch(self) -> str:
        return f"a peer on {self.name} does not match: another quality of service ({self.policy or 'or type'})"


class Peers:
    """Watches who is on the topics of our endpoints. ``wrong``: handles of writers whose messages mean another type."""

    def __init__(self, participant: DomainParticipant, ends: list[End]) -> None:
        self._own = participant.guid
        self._watched = []
        for topic, kind in ((BuiltinTopicDcpsPublication, DataReader), (BuiltinTopicDcpsSubscription, DataWriter)):
            found = {f"rt{end.name}": end for end in ends if isinstance(end.entity, kind)}
            self._watched.append((BuiltinDataReader(participant, topic), found))
        self.conditions = [ReadCondition(reader, ANYTHING) for reader, _ in self._watched]
        self.wrong: dict[int, str] = {}
        self._right: dict[int, End] = {}

    def look(self) -> Iterator[tuple[Trouble, str]]:
        """Take in what changed; the troubles that are new."""
        for reader, ends in self._watched:
            while samples := reader.take(_MOST):
                for sample in samples:
                    yield from self._changed(sample, ends)

    def _changed(self, sample: DcpsEndpoint, ends: dict[str, End]) -> Iterator[tuple[Trouble, str]]:
        handle = sample.sample_info.instance_handle & HANDLE
        if sample.sample_info.instance_state != InstanceState.Alive:
            self.wrong.pop(handle, None)
            self._right.pop(handle, None)
            return
        end = ends.get(sample.topic_name)
        if end is None or sample.participant_key == self._own:
            return
        if found := _difference(sample, end):
            who: uuid.UUID = sample.participant_key
            self.wrong[handle] = f"a peer on {end.name} has {found}, participant {who}: build both from one definition"
            yield "wrong_type", self.wrong[handle]
        else:
            self._right[handle] = end

    def troubles(self) -> Iterator[tuple[Trouble, str]]:
        """Those that last."""
        for reason in self.wrong.values():
            yield "wrong_type", reason
        matched = {id(end): end.matched() for end in self._right.values()}
        for handle, end in self._right.items():
            if handle not in matched[id(end)]:
                yield "qos", end.mismatch()


def _difference(sample: DcpsEndpoint, end: End) -> str:
    """What is wrong with an endpoint's type; one that tells no hash is believed."""
    if sample.type_name != wire_name(end.ros):
        return f"the type {sample.type_name}, not {wire_name(end.ros)}"
    data = sample.qos[Policy.Userdata]
    told, ours = hash_in(bytes(data.data)) if data is not None else "", type_hash(end.ros)
    return f"the type hash {told}, not {ours}" if told and told != ours else ""
