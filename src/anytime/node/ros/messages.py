"""Messages of ``anytime.node.messages`` as the classes that rosidl generates, and back."""

from __future__ import annotations

import functools
import importlib
from typing import Any, TypeVar

import msgspec

from anytime.errors import NodeError
from anytime.node.messages import ROS_TYPES, DiagnosticStatus

S = TypeVar("S", bound=msgspec.Struct)


@functools.cache
def ros_class(name: str) -> Any:
    """The class of a ROS type like ``std_msgs/msg/Header``.

    Raises:
        NodeError: its package is not installed.
    """
    package, kind, message = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), message)
    except ImportError as error:
        raise NodeError(
            f"the ROS type {name} cannot be imported ({error}): build ros/anytime_msgs with colcon, and source the "
            "workspace's install/setup.bash"
        ) from error


def to_ros(message: msgspec.Struct) -> Any:
    """A message as rclpy publishes it."""
    made = {field: _value(getattr(message, field)) for field in message.__struct_fields__}
    if isinstance(message, DiagnosticStatus):
        made["level"] = bytes([message.level])  # rosidl has a byte as bytes of length 1
    return ros_class(ROS_TYPES[type(message)])(**made)


def _value(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return to_ros(value)
    return [_value(item) for item in value] if isinstance(value, list) else value


def from_ros(kind: type[S], message: Any) -> S:
    """A message that rclpy took.

    Raises:
        msgspec.ValidationError: it is of another type.
    """
    return msgspec.convert(message, kind, from_attributes=True)
