"""The bytes of messages on DDS: what ROS 2's tools and others make of the same message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cyclonedds", reason="cyclonedds has no wheel for this machine: build it, docs/node.md says how")

from anytime.node.dds.types import GRAPH, from_idl, idl_of, ros_type, to_idl, type_hash, wire_name
from anytime.node.messages import ROS_TYPES, Time
from anytime.node.typestore import CLOCK, store
from tests.interop.parts import Foxglove, as_foxglove

RANGES = {
    "uint8": (0, 255),
    "byte": (0, 3),  # a level
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
MESSAGES = list(ROS_TYPES)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def values(kind: Any, inner: Any) -> st.SearchStrategy[Any]:
    """Values of a ROS field."""
    if kind.name == "NAME":
        mirror = next(mirror for mirror, ros in ROS_TYPES.items() if ros == inner)
        return messages(mirror)
    if kind.name == "SEQUENCE":
        return st.lists(values(*inner[0]), max_size=4)
    name = inner[0]
    if name in RANGES:
        return st.integers(*RANGES[name])
    return {"string": TEXT, "bool": st.booleans(), "float64": st.floats()}[name]


def messages(mirror: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Messages of a type with any values that its .msg file allows."""
    _, fields = store().fielddefs[ROS_TYPES[mirror]]
    return st.builds(mirror, **{name: values(*field) for name, field in fields})


def rosbags_of(value: Any) -> Any:
    """A message as rosbags' own class."""
    if isinstance(value, list):
        return [rosbags_of(item) for item in value]
    if not isinstance(value, msgspec.Struct):
        return value
    ros = ROS_TYPES[type(value)]
    made = {}
    for name, (_, inner) in store().fielddefs[ros][1]:
        field = getattr(value, name)
        of_numbers = isinstance(field, list) and (inner[0][1][0] in RANGES or inner[0][1][0] == "float64")
        made[name] = np.array(field, dtype=inner[0][1][0]) if of_numbers else rosbags_of(field)
    return store().types[ros](**made)


@pytest.fixture(scope="module")
def foxglove() -> Iterator[Foxglove]:
    made = Foxglove()
    yield made
    made.close()


@pytest.mark.parametrize("mirror", MESSAGES, ids=lambda mirror: mirror.__name__)
@given(data=st.data())
def test_bytes_are_those_of_rosbags(mirror: type[msgspec.Struct], data: st.DataObject) -> None:
    """Whatever the values: Cyclone's bytes are rosbags' bytes, and both lead back to the message."""
    message = data.draw(messages(mirror))
    ours = to_idl(message).serialize(use_version_2=False)
    theirs = bytes(store().serialize_cdr(rosbags_of(message), ROS_TYPES[mirror], little_endian=True))
    assert ours == theirs
    back = from_idl(idl_of(ROS_TYPES[mirror]).deserialize(theirs), mirror)
    assert msgspec.json.encode(back) == msgspec.json.encode(message)  # in which NaN equals itself


@pytest.mark.parametrize("mirror", MESSAGES, ids=lambda mirror: mirror.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_foxglove_reads_and_writes_the_same(
    foxglove: Foxglove, mirror: type[msgspec.Struct], data: st.DataObject
) -> None:
    """Whatever the values it reads what was written; it writes the same bytes where they hold ASCII (of other text it
    writes a wrong length)."""
    message = data.draw(messages(mirror))
    ours = to_idl(message).serialize(use_version_2=False)
    definition, _ = store().generate_msgdef(ROS_TYPES[mirror], ros_version=2)
    value, theirs = foxglove.read_and_write(definition, ours)
    assert value == as_foxglove(message)
    assert theirs == ours or not msgspec.json.encode(message).isascii()


def test_names_on_the_wire() -> None:
    """As rosidl writes them for DDS."""
    assert wire_name("anytime_msgs/msg/Question") == "anytime_msgs::msg::dds_::Question_"
    question: Any = idl_of("anytime_msgs/msg/Question")
    assert question.__idl__.idl_transformed_typename == "anytime_msgs::msg::dds_::Question_"


def test_hashes_are_ros_2_s() -> None:
    """That of a message which every ROS 2 system has, as ``ros2 topic info --verbose`` prints it there."""
    assert type_hash("std_msgs/msg/String") == "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"


def test_an_instant_travels_as_the_clock() -> None:
    """``/clock`` wraps it, and it is taken out."""
    assert ros_type(Time) == CLOCK
    assert ros_type(MESSAGES[0]) == CLOCK
    clock = idl_of(CLOCK)(clock=to_idl(Time(5, 6)))
    assert from_idl(idl_of(CLOCK).deserialize(clock.serialize()), Time) == Time(5, 6)


def test_the_graph_s_message_is_jazzy_s() -> None:
    """Its Gid has 16 bytes, and its bytes are those that rosbags writes."""
    types = store().types
    gid = list(range(16))
    node = idl_of("rmw_dds_common/msg/NodeEntitiesInfo")
    ours_gid = idl_of("rmw_dds_common/msg/Gid")(data=gid)
    ours = idl_of(GRAPH)(
        gid=ours_gid,
        node_entities_info_seq=[node(node_namespace="/", node_name="a", reader_gid_seq=[ours_gid], writer_gid_seq=[])],
    )
    theirs_gid = types["rmw_dds_common/msg/Gid"](data=np.arange(16, dtype=np.uint8))
    theirs_node = types["rmw_dds_common/msg/NodeEntitiesInfo"]("/", "a", [theirs_gid], [])
    theirs = store().serialize_cdr(types[GRAPH](theirs_gid, [theirs_node]), GRAPH, little_endian=True)
    assert ours.serialize(use_version_2=False) == bytes(theirs)
