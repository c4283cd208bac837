"""The recorder: what comes in, what goes out and how it came about, to a bag, on a thread of its own.

The node hands messages over and goes on: only the writer's thread waits for the disk, and what the disk does is for
``trouble`` to tell.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from anytime.errors import NodeError
from anytime.node.messages import Kept, Time
from anytime.node.parameters import Parameters
from anytime.node.transport import Recorder, Topic, Topics

if TYPE_CHECKING:
    from anytime.node.bagfile import BagFile

_MOST_WAITING = 1_000  # messages
_CLOSING_S = 5.0


def open_recorder(parameters: Parameters, topics: Topics) -> Recorder:
    """What writes to the parameter ``record``.

    Raises:
        NodeError: a package that it takes is missing.
    """
    try:
        import anytime.node.bagfile  # noqa: F401
    except ImportError as error:
        raise NodeError(f"recording takes {error.name}: pip install 'anytime[record]'") from error
    return BagRecorder(Path(parameters.record))


class BagRecorder:
    """Writes to a rosbag2 directory; where there is one already, to another with a number behind its name."""

    def __init__(self, path: Path, open_bag: Callable[[Path], BagFile] | None = None) -> None:
        """``open_bag`` makes the bag."""
        self._path, self._open_bag = path, open_bag or _opened
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Topic, Kept, Time]] = deque()
        self._closing = False
        self._lost = 0  # messages
        self._failure = ""
        self._writer = threading.Thread(target=self._write, name="anytime-record", daemon=True)
        self._writer.start()

    def record(self, topic: Topic, message: Kept, stamp: Time) -> None:
        """Have a message written; without a place to wait for that, it is lost."""
        with self._changed:
            if self._failure or self._closing or len(self._waiting) >= _MOST_WAITING:
                self._lost += 1
                return
            self._waiting.append((topic, message, stamp))
            self._changed.notify()

    def trouble(self) -> str:
        """Why messages are lost; empty as long as none is."""
        with self._changed:
            if self._failure:
                return f"{self._failure}; {self._lost} messages since were not recorded"
            return f"the disk is too slow: {self._lost} messages were not recorded" if self._lost else ""

    def close(self) -> None:
        """Write what waits, and close; a disk that does not come back within five seconds is left alone."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._writer.join(_CLOSING_S)

    def _write(self) -> None:
        bag: BagFile | None = None
        try:
            bag = self._open_bag(self._path)
            while (entry := self._next()) is not None:
                bag.write(*entry)
            bag.close()
        except Exception as error:  # whatever the disk does, the node decides on
            self._fail(error, bag)

    def _next(self) -> tuple[Topic, Kept, Time] | None:
        """What is to be written next; None once there is nothing more to come."""
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return None
                self._changed.wait()
            return self._waiting.popleft()

    def _fail(self, error: Exception, bag: BagFile | None) -> None:
        said = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        written, given = (bag.written, bag.count) if bag is not None else (0, 0)
        with self._changed:
            self._failure = f"the recording to {self._path} ended after {written} messages ({said})"
            self._lost += given - written + len(self._waiting) + 1
            self._waiting.clear()
        if bag is not None:
            bag.give_up()


def _opened(path: Path) -> BagFile:
    """A bag in a directory that is not there yet."""
    from anytime.node.bagfile import BagFile

    free, number = path, 0
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}_{number}")
    return BagFile(free)
