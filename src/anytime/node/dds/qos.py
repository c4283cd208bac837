"""Quality of service as Cyclone DDS has it."""

from __future__ import annotations

from cyclonedds.qos import Policy
from cyclonedds.qos import Qos as Policies

from anytime.node.dds.types import type_hash
from anytime.node.transport import Qos

# DDS's numbers of the policies on which writers and readers may disagree.
POLICIES = {
    2: "durability",
    3: "presentation",
    4: "deadline",
    5: "latency budget",
    6: "ownership",
    8: "liveliness",
    11: "reliability",
    12: "destination order",
    23: "data representation",
    24: "type consistency",
}


def policies(qos: Qos, ros: str, offered: bool) -> Policies:
    """The policies of a writer, where ``offered``, or a reader of messages of a ROS type."""
    found = [
        # A full writer gives up at once: Cyclone's Python would hold the GIL while it waits.
        Policy.Reliability.Reliable(max_blocking_time=0) if qos.reliable else Policy.Reliability.BestEffort,
        Policy.Durability.Volatile,
        Policy.History.KeepLast(qos.depth),
        *described(ros),
    ]
    if qos.deadline_ns is not None:
        found.append(Policy.Deadline(qos.deadline_ns))
    if offered and qos.lifespan_ns is not None:
        found.append(Policy.Lifespan(qos.lifespan_ns))
    return Policies(*found)


def graph_policies(ros: str, offered: bool) -> Policies:
    """Those of ``ros_discovery_info``: who comes later is told, and nobody's message is lost."""
    return Policies(
        Policy.Reliability.Reliable(max_blocking_time=0),
        Policy.Durability.TransientLocal,
        Policy.History.KeepLast(1) if offered else Policy.History.KeepAll,
        *described(ros),
    )


def described(ros: str) -> list[Policy]:
    """What every endpoint of ROS 2 says of its type: plain CDR, and in USER_DATA its hash (REP 2016)."""
    return [
        Policy.DataRepresentation(use_cdrv0_representation=True),
        Policy.Userdata(f"typehash={type_hash(ros)};".encode()),
    ]


def hash_in(user_data: bytes) -> str:
    """The type hash that an endpoint's USER_DATA has; empty where it has none."""
    for pair in user_data.split(b";"):
        key, _, value = pair.partition(b"=")
        if key == b"typehash":
            return value.decode("ascii", errors="replace")
    return ""
