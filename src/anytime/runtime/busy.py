"""Load: a process for every core that does nothing but run, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from anytime.errors import ProfileError

# Looks at its parent every few milliseconds: even where ours is killed without a word, no core stays busy for ever.
_BUSY = "import os, sys\nwhile os.getppid() == int(sys.argv[1]): sum(range(100_000))"


@contextlib.contextmanager
def busy_cores(cores: int) -> Iterator[None]:
    """So many busy processes while the block runs; however it ends, none is left.

    Raises:
        ProfileError: one of them ended before the block did, so there was less load than was meant.
    """
    command = [sys.executable, "-I", "-S", "-c", _BUSY, str(os.getpid())]
    nothing = subprocess.DEVNULL
    with contextlib.ExitStack() as ends:
        processes = []
        for _ in range(cores):
            processes.append(subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing))
            ends.callback(_end, processes[-1])
        yield
        for process in processes:
            if process.poll() is not None:
                raise ProfileError(
                    f"a busy process ended by itself (exit code {process.returncode}): profile again, or without load "
                    "by 'anytime profile --quick'"
                )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
