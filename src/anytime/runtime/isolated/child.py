"""One worker process: started without multiprocessing, heard when it is ready, seen when it ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from anytime.errors import AnytimeError, EngineError
from anytime.ext.slots import Slots
from anytime.runtime.isolated.messages import Failed, Ready, Start

SERVE = ("-m", "anytime.runtime.isolated.serve")
_READ_BYTES = 1 << 16


class Child:
    """A process that serves the slots. It dies with the thread that made it.

    ``command`` is run with two more arguments: the file descriptors of its start and of its first words.
    """

    def __init__(self, start: Start, slots: Slots, command: Sequence[str]) -> None:
        config = os.memfd_create("anytime-start")
        self._words, theirs = os.pipe()
        os.write(config, msgspec.msgpack.encode(start))
        os.lseek(config, 0, os.SEEK_SET)
        try:
            self._process = subprocess.Popen(
                [sys.executable, *command, str(config), str(theirs)],
                pass_fds=(config, theirs, slots.fd, *slots.bells),
                stdin=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the caller
                env={**os.environ, "PYTHONPATH": _modules(), "PYTHONSAFEPATH": "1"},
            )
            self.pid = self._process.pid
            self.pidfd = os.pidfd_open(self.pid)
        except OSError as error:  # not found, no memory, no process or file descriptor left
            os.close(self._words)
            raise EngineError(f"the isolated process cannot be started with {sys.executable!r}: {error}") from error
        finally:
            os.close(config)
            os.close(theirs)

    def first_words(self, stop: int, timeout_s: float | None) -> Ready | AnytimeError | None:
        """Whether it is ready, or why not; None when ``stop`` became readable first."""
        said = b""
        while True:
            readable = wait_readable((self._words, stop), timeout_s)
            if stop in readable:
                return None
            if not readable:
                return EngineError(f"the isolated process was not ready within {timeout_s:.0f} s")
            part = os.read(self._words, _READ_BYTES)
            said += part
            if not part:
                break
        if not said:
            return EngineError(f"the isolated process {self.end()} before it was ready: see what it printed")
        words = msgspec.msgpack.decode(said, type=Ready | Failed)
        return words.error() if isinstance(words, Failed) else words

    def go(self) -> None:
        """Have it serve the slots, once it is ready."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already, which will be seen
            self._process.stdin.write(b"g")

    def end(self) -> str:
        """Kill it if it lives, and close what belongs to it; how it ended."""
        self._process.kill()
        code = self._process.wait()
        if self.pidfd >= 0:
            assert self._process.stdin is not None
            self._process.stdin.close()
            os.close(self.pidfd)
            os.close(self._words)
            self.pidfd = self._words = -1
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _modules() -> str:
    """Where this process finds its modules, so that the other one finds the same."""
    return os.pathsep.join(os.path.abspath(place) for place in sys.path if place)


def wait_readable(files: Sequence[int], timeout_s: float | None) -> set[int]:
    """Those that can be read, within so much time."""
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    return {file for file, _ in poll.poll(None if timeout_s is None else timeout_s * 1e3)}
