"""Messages as CDR bytes and back, by the .msg files that the package ships (rosbags' type store)."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import numpy as np

from anytime.node.messages import ROS_TYPES, Kept, Time
from anytime.node.typestore import CLOCK, store

M = TypeVar("M", bound=msgspec.Struct)


class Cdr:
    """Our messages and the few of ROS 2 around them, in little endian."""

    def __init__(self) -> None:
        self.store = store()

    def encode(self, message: Kept) -> bytes:
        """A message's bytes; a Time goes as a Clock, the only topic that carries one."""
        if isinstance(message, Time):
            clock = self.store.types[CLOCK](clock=self._ros(message))
            return bytes(self.store.serialize_cdr(clock, CLOCK))
        return bytes(self.store.serialize_cdr(self._ros(message), ROS_TYPES[type(message)]))

    def decode(self, data: bytes, kind: type[M]) -> M:
        """The message of these bytes.

        Raises:
            ValueError: they are no such message.
        """
        name = CLOCK if kind is Time else ROS_TYPES[kind]
        try:
            ros = self.store.deserialize_cdr(data, name)
            made = _plain(ros)
            return msgspec.convert(made["clock"] if kind is Time else made, kind)
        except Exception as error:  # rosbags raises whatever its parser does
            raise ValueError(f"{len(data)} bytes are no {name}: {error!r}") from error

    def _ros(self, message: msgspec.Struct) -> Any:
        name = ROS_TYPES[type(message)]
        fields = dict(self.store.fielddefs[name][1])
        values = {key: self._value(getattr(message, key), kind) for key, kind in fields.items()}
        return self.store.types[name](**values)

    def _value(self, value: Any, kind: Any) -> Any:
        if isinstance(value, msgspec.Struct):
            return self._ros(value)
        if not isinstance(value, list):
            return value
        inner, (item, *_) = kind[1][0]
        if inner.name == "BASE" and item != "string":
            return np.array(value, dtype="float64" if item == "float64" else item)
        return [self._value(element, None) for element in value]


def _plain(ros: Any) -> Any:
    """rosbags' objects as dictionaries and lists."""
    if isinstance(ros, np.ndarray):
        return ros.tolist()
    if isinstance(ros, list):
        return [_plain(element) for element in ros]
    if hasattr(ros, "__dataclass_fields__"):
        return {name: _plain(getattr(ros, name)) for name in ros.__dataclass_fields__ if not name.startswith("__")}
    return ros
