"""Quality of service and its events, as the double of rclpy has them."""

from __future__ import annotations

import enum
from typing import Any, ClassVar


class Duration:
    def __init__(self, *, seconds: float = 0, nanoseconds: int = 0) -> None:
        self.nanoseconds = int(seconds * 10**9) + int(nanoseconds)


class HistoryPolicy(enum.IntEnum):
    SYSTEM_DEFAULT, KEEP_LAST, KEEP_ALL, UNKNOWN = range(4)


class ReliabilityPolicy(enum.IntEnum):
    SYSTEM_DEFAULT, RELIABLE, BEST_EFFORT, UNKNOWN, BEST_AVAILABLE = range(5)


class DurabilityPolicy(enum.IntEnum):
    SYSTEM_DEFAULT, TRANSIENT_LOCAL, VOLATILE, UNKNOWN, BEST_AVAILABLE = range(5)


class QoSPolicyKind(enum.IntEnum):
    INVALID, DURABILITY, DEADLINE, LIVELINESS, RELIABILITY, HISTORY, LIFESPAN = (1 << bit for bit in range(7))


def qos_policy_name_from_kind(policy_kind: int) -> str:
    return QoSPolicyKind(policy_kind).name


class QoSProfile:
    _KINDS: ClassVar[dict[str, type]] = {
        "history": HistoryPolicy,
        "depth": int,
        "reliability": ReliabilityPolicy,
        "durability": DurabilityPolicy,
        "lifespan": Duration,
        "deadline": Duration,
        "avoid_ros_namespace_conventions": bool,
    }

    def __init__(self, **given: Any) -> None:
        assert given.keys() <= self._KINDS.keys(), f"Invalid arguments passed to constructor: {given.keys()}"
        assert "depth" in given, "History set to KEEP_LAST without a depth setting."
        assert all(isinstance(value, self._KINDS[name]) for name, value in given.items())
        self.history = given.get("history", HistoryPolicy.KEEP_LAST)
        self.depth = given["depth"]
        self.reliability = given.get("reliability", ReliabilityPolicy.RELIABLE)
        self.durability = given.get("durability", DurabilityPolicy.VOLATILE)
        self.lifespan = given.get("lifespan", Duration())
        self.deadline = given.get("deadline", Duration())


class SubscriptionEventCallbacks:
    def __init__(
        self,
        *,
        deadline: Any = None,
        incompatible_qos: Any = None,
        liveliness: Any = None,
        message_lost: Any = None,
        incompatible_type: Any = None,
        matched: Any = None,
        use_default_callbacks: bool = True,
    ) -> None:
        self.deadline, self.incompatible_qos, self.incompatible_type = deadline, incompatible_qos, incompatible_type


class PublisherEventCallbacks:
    def __init__(
        self,
        *,
        deadline: Any = None,
        liveliness: Any = None,
        incompatible_qos: Any = None,
        incompatible_type: Any = None,
        matched: Any = None,
        use_default_callbacks: bool = True,
    ) -> None:
        self.deadline, self.incompatible_qos, self.incompatible_type = deadline, incompatible_qos, incompatible_type
