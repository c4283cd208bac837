"""A rosbag2 directory being written: one MCAP file in small chunks, and ``metadata.yaml`` at the end.

Version 9 of rosbag2's format, with the definitions of all types and their RIHS01 hashes, so that a reader needs nothing
of ours. What is on the disk up to the last whole chunk can be read whatever happens later.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from mcap.writer import Writer
from ruamel.yaml import YAML

from anytime.node.cdr import Cdr
from anytime.node.messages import ROS_TYPES, Kept, Time
from anytime.node.stamps import ns_of
from anytime.node.transport import Qos, Topic
from anytime.node.typestore import CLOCK
from anytime.scheduler.clock import NS_PER_S

_CHUNK = 16_384  # bytes: no more than that is lost with the process
_FOREVER = {"sec": 9_223_372_036, "nsec": 854_775_807}  # what ROS writes for an infinite time
_VERSION = 9

OpenFile = Callable[[Path], BinaryIO]


def open_new(file: Path) -> BinaryIO:
    """A file that must not be there yet, without a buffer of ours."""
    return file.open("xb", buffering=0)


class BagFile:
    """Writes messages to ``directory``/``directory``.mcap."""

    def __init__(self, directory: Path, open_file: OpenFile = open_new) -> None:
        """Make the directory.

        Raises:
            OSError: the disk does not let us.
        """
        directory.mkdir(parents=True)
        self._directory, self._name = directory, f"{directory.name}.mcap"
        self._cdr = Cdr()
        self._disk = _Disk(open_file(directory / self._name))
        self._writer = Writer(self._disk, chunk_size=_CHUNK)  # type: ignore[arg-type]
        self._writer.start("ros2", "anytime")
        self._disk.keep()
        self._channels: dict[str, int] = {}
        self._topics: list[dict[str, Any]] = []
        self._first_ns, self._last_ns = 0, 0
        self.count = self.written = 0  # messages, and those of them that are in whole chunks on the disk

    def write(self, topic: Topic, message: Kept, stamp: Time) -> None:
        """Add a message.

        Raises:
            OSError: the disk is full, or gone.
        """
        channel = self._channels.get(topic.name) or self._channel(topic, message)
        at_ns = ns_of(stamp)
        self._writer.add_message(channel, at_ns, self._cdr.encode(message), at_ns)
        self._first_ns = min(self._first_ns, at_ns) if self.count else at_ns
        self._last_ns = max(self._last_ns, at_ns)
        self.count += 1
        if self._disk.keep():
            self.written = self.count
        self._topics[channel - 1]["message_count"] += 1

    def _channel(self, topic: Topic, message: Kept) -> int:
        kind = CLOCK if isinstance(message, Time) else ROS_TYPES[type(message)]
        definition, _ = self._cdr.store.generate_msgdef(kind, ros_version=2)
        digest, qos = self._cdr.store.hash_rihs01(kind), [_qos(topic.qos)]
        schema = self._writer.register_schema(kind, "ros2msg", definition.encode())
        channel = self._writer.register_channel(
            topic.name, "cdr", schema, {"offered_qos_profiles": _yaml(qos).strip(), "topic_type_hash": digest}
        )
        self._channels[topic.name] = channel
        about = {
            "name": topic.name,
            "type": kind,
            "serialization_format": "cdr",
            "offered_qos_profiles": qos,
            "type_description_hash": digest,
        }
        self._topics.append({"topic_metadata": about, "message_count": 0})
        return channel

    def close(self) -> None:
        """Write the index, and what rosbag2 wants to know.

        Raises:
            OSError: the disk is full, or gone.
        """
        self._writer.finish()  # type: ignore[no-untyped-call]
        self._disk.close()
        (self._directory / "metadata.yaml").write_text(_yaml(self._metadata()), encoding="utf-8")

    def give_up(self) -> None:
        """Leave the file with what is whole in it."""
        with contextlib.suppress(OSError):
            self._disk.cut()
        with contextlib.suppress(OSError):
            self._disk.close()

    def _metadata(self) -> dict[str, Any]:
        times = {
            "starting_time": {"nanoseconds_since_epoch": self._first_ns},
            "duration": {"nanoseconds": self._last_ns - self._first_ns},
            "message_count": self.count,
        }
        return {
            "rosbag2_bagfile_information": {
                "version": _VERSION,
                "storage_identifier": "mcap",
                "relative_file_paths": [self._name],
                **times,
                "topics_with_message_count": self._topics,
                "compression_format": "",
                "compression_mode": "",
                "files": [{"path": self._name, **times}],
                "custom_data": None,
                "ros_distro": "anytime",
            }
        }


class _Disk:
    """A file that writes all or raises, and knows how far it is whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._kept = file, 0

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        return len(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def keep(self) -> bool:
        """All that was written so far is whole; whether that is more than before."""
        before, self._kept = self._kept, self._file.tell()
        return self._kept > before

    def cut(self) -> None:
        """Take back what is not."""
        self._file.truncate(self._kept)

    def close(self) -> None:
        self._file.close()


def _qos(qos: Qos) -> dict[str, Any]:
    return {
        "history": "keep_last",
        "depth": qos.depth,
        "reliability": "reliable" if qos.reliable else "best_effort",
        "durability": "volatile",
        "deadline": _duration(qos.deadline_ns),
        "lifespan": _duration(qos.lifespan_ns),
        "liveliness": "automatic",
        "liveliness_lease_duration": _FOREVER,
        "avoid_ros_namespace_conventions": False,
    }


def _duration(span_ns: int | None) -> dict[str, int]:
    if span_ns is None:
        return dict(_FOREVER)
    seconds, nanoseconds = divmod(span_ns, NS_PER_S)
    return {"sec": seconds, "nsec": nanoseconds}


def _yaml(value: object) -> str:
    writer, text = YAML(typ="safe"), io.StringIO()
    writer.default_flow_style = False
    writer.representer.ignore_aliases = lambda data: True
    writer.dump(value, text)
    return text.getvalue()
