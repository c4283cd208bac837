"""Watching a Jetson's clocks through ``tegrastats``, which prints a line each interval.

What it prints differs between releases: ``GR3D_FREQ 45%@318`` (JetPack 5), ``GR3D_FREQ 0%@[0,0]`` (6, a clock for each
part of the GPU), ``GR3D_FREQ @[314,314,314]`` (Thor, without the load), and ``EMC_FREQ 0%@3199``, ``EMC_FREQ @4266`` or
``EMC_FREQ 0%`` without privilege. See the Jetson Linux Developer Guide, Tegrastats Utility.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from anytime.errors import TargetError
from anytime.targets.reading import Reading

COMMAND = ("tegrastats", "--interval", "200")
_GPU = re.compile(r"\bGR3D_FREQ\s+(?:(\d+)%)?(?:@(?:\[([^\]]*)\]|(\d+)))?")
_EMC = re.compile(r"\bEMC_FREQ\s+(?:\d+%)?(?:@(\d+))?")
_MOST_UNREADABLE = 50  # lines in a row, after which there is no use in reading on
_PATIENCE_S = 2.0


def parse(line: str) -> Reading | None:
    """The clocks in a line; None where it tells none."""
    gpu, emc = _GPU.search(line), _EMC.search(line)
    load = int(gpu[1]) if gpu and gpu[1] else None
    clocks = [int(mhz) for mhz in re.findall(r"\d+", gpu[2] or gpu[3] or "")] if gpu else []
    running = [mhz for mhz in clocks if mhz > 0]  # a part that is switched off stands at 0
    memory = int(emc[1]) if emc and emc[1] and int(emc[1]) > 0 else None
    if load is None and not clocks and memory is None:
        return None
    busy = load > 0 if load is not None else None
    return Reading(min(running) if running else None, memory, False if clocks and not running else busy)


class Tegrastats:
    """Readings of a ``tegrastats`` of its own, which ends with ``close`` or with this process."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """
        Raises:
            TargetError: it cannot be started.
        """
        import subprocess  # only who watches needs it

        self._closed = False
        try:
            self._child = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise TargetError(
                f"{command[0]} cannot be started ({error.strerror}): clocks are not watched; it comes with JetPack"
            ) from error

    def __iter__(self) -> Iterator[Reading]:
        """Each line's clocks, until ``close``.

        Raises:
            TargetError: it ended by itself, or prints nothing that can be read.
        """
        assert self._child.stdout is not None
        unreadable = 0
        with self._child.stdout as lines:
            for raw in lines:
                line = raw.decode("utf-8", "replace")
                reading = parse(line)
                unreadable = 0 if reading else unreadable + 1
                if reading:
                    yield reading
                elif unreadable >= _MOST_UNREADABLE:
                    self.close()
                    raise TargetError(
                        f"tegrastats prints no clocks ({line.strip()[:80]!r}): clocks are no longer watched; see what "
                        "'tegrastats' prints, and whether it needs root here"
                    )
        if not self._closed:
            raise TargetError(
                f"tegrastats ended by itself (exit code {self._child.wait()}): clocks are no longer watched; see what "
                "'tegrastats' prints, and load again"
            )

    def close(self) -> None:
        """End it; from any thread, and as often as one likes."""
        import subprocess

        self._closed = True
        self._child.terminate()
        try:
            self._child.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def available() -> bool:
    """Whether there is a ``tegrastats`` to be started."""
    return any(os.access(os.path.join(folder, COMMAND[0]), os.X_OK) for folder in os.get_exec_path())
