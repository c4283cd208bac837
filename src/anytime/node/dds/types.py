"""The messages as Cyclone DDS has them: classes made from the ``.msg`` files, the names and hashes of ROS 2, and copies
from and to the messages in plain Python.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec
from cyclonedds.idl import IdlStruct, make_idl_struct, types
from rosbags.interfaces import Nodetype

from anytime.node.messages import ROS_TYPES, Time
from anytime.node.typestore import CLOCK, store

GRAPH = "rmw_dds_common/msg/ParticipantEntitiesInfo"
_BASES: dict[str, Any] = {
    "bool": bool,
    "byte": types.byte,
    "char": types.uint8,  # what ROS 2 means by it
    "uint8": types.uint8,
    "int32": types.int32,
    "uint32": types.uint32,
    "int64": types.int64,
    "uint64": types.uint64,
    "float64": types.float64,
}


def wire_name(ros: str) -> str:
    """``anytime_msgs/msg/Question`` is ``anytime_msgs::msg::dds_::Question_`` on the wire."""
    package, kind, name = ros.split("/")
    return f"{package}::{kind}::dds_::{name}_"


def type_hash(ros: str) -> str:
    """The hash of a type's definition, REP 2011, ``RIHS01_`` and 64 digits."""
    return str(store().hash_rihs01(ros))


@functools.cache
def idl_of(ros: str) -> type[IdlStruct]:
    """Cyclone's class of a message: final extensibility, the fields in their order."""
    _, fields = store().fielddefs[ros]
    made = {name: _field(kind, inner) for name, (kind, inner) in fields}
    struct: type[IdlStruct] = make_idl_struct(ros.rpartition("/")[2], wire_name(ros), made)
    return struct


def _field(kind: Nodetype, inner: Any) -> Any:
    if kind is Nodetype.NAME:
        return idl_of(inner)
    if kind is Nodetype.BASE:
        name, longest = inner
        if name == "string":
            return types.bounded_str[longest] if longest else str
        return _BASES[name]
    (of, length) = inner
    if kind is Nodetype.ARRAY:
        return types.array[_field(*of), length]
    return types.sequence[_field(*of), length] if length else types.sequence[_field(*of)]


def ros_type(message: type[msgspec.Struct]) -> str:
    """What a topic of these messages carries; an instant travels as ``/clock`` does."""
    return CLOCK if message is Time else ROS_TYPES[message]


def to_idl(message: msgspec.Struct) -> Any:
    """A message as Cyclone's class of it."""
    made = idl_of(ROS_TYPES[type(message)])
    return made(**{name: _outward(getattr(message, name)) for name in message.__struct_fields__})


def _outward(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return to_idl(value)
    return [_outward(item) for item in value] if isinstance(value, list) else value


def from_idl(sample: Any, message: type[msgspec.Struct]) -> Any:
    """What arrived, as the message in plain Python; of a ``/clock`` its instant."""
    if message is Time and not hasattr(sample, "sec"):
        sample = sample.clock
    return message(**{name: _inward(getattr(sample, name)) for name in message.__struct_fields__})


def _inward(value: Any) -> Any:
    if isinstance(value, IdlStruct):
        return from_idl(value, _mirrors()[type(value)])
    return [_inward(item) for item in value] if isinstance(value, list) else value


@functools.cache
def _mirrors() -> dict[type[IdlStruct], type[msgspec.Struct]]:
    return {idl_of(ros): mirror for mirror, ros in ROS_TYPES.items()}
