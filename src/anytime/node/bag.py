"""Reading a record back: a rosbag2 directory or an MCAP file, also one that ends in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from anytime.errors import RecordError
from anytime.node.messages import ROS_TYPES, Kept, Time

_LONGEST_RECORD = 2**28  # bytes; a longer one, in a shorter file, is nonsense
M = TypeVar("M", bound=msgspec.Struct)


class Entry(msgspec.Struct, frozen=True):
    """A message as it was recorded."""

    topic: str
    at_ns: int  # of the system's clock, or simulated time
    message: Kept


class Bag(msgspec.Struct, frozen=True):
    """A record in its order. ``whole`` is False where it ends without an end: the process or the disk gave out."""

    file: Path
    entries: list[Entry]
    whole: bool

    def all(self, kind: type[M]) -> list[M]:
        """Its messages of a kind."""
        return [entry.message for entry in self.entries if isinstance(entry.message, kind)]


def read_bag(path: Path) -> Bag:
    """The messages that we know of a record; those of other types are left out.

    Raises:
        RecordError: there is none, it is no MCAP file, or a message of it cannot be read.
    """
    file = _file(path)
    try:
        from mcap.records import Channel, Footer, Message, Schema
        from mcap.stream_reader import StreamReader

        from anytime.node.cdr import Cdr
        from anytime.node.typestore import CLOCK
    except ImportError as error:
        raise RecordError(f"reading a record takes {error.name}: pip install 'anytime[record]'") from error
    kinds: dict[str, type[msgspec.Struct]] = {ros: ours for ours, ros in ROS_TYPES.items() if ours is not Time}
    kinds[CLOCK] = Time
    cdr, entries, whole = Cdr(), list[Entry](), False
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    try:
        with file.open("rb") as stream:
            size = file.stat().st_size
            try:
                for record in StreamReader(stream, record_size_limit=max(_LONGEST_RECORD, size)).records:
                    if isinstance(record, Schema):
                        schemas[record.id] = record
                    elif isinstance(record, Channel):
                        channels[record.id] = record
                    elif isinstance(record, Message):
                        channel = channels[record.channel_id]
                        kind = kinds.get(schemas[channel.schema_id].name)
                        if kind is not None:
                            message: Any = cdr.decode(record.data, kind)
                            entries.append(Entry(channel.topic, record.log_time, message))
                    whole = isinstance(record, Footer)
            except Exception:  # of many kinds
                if stream.tell() < size:
                    raise
                # The process or the disk gave out in this record; all before it has been read.
    except Exception as error:
        raise RecordError(f"the record {file} cannot be read: {error!r}") from error
    return Bag(file, entries, whole)


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.mcap"))
    if len(found) != 1:
        raise RecordError(f"there are {len(found)} .mcap files in {path}: name the one to read")
    return found[0]
