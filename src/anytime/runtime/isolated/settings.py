"""What the worker's process asks of the operating system, and what it was granted."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path

from anytime.ext.process import lock_memory
from anytime.runtime.isolation import Isolation

_CAP_IPC_LOCK = 14
_NOT_ASKED = "not asked for"


def pin(isolation: Isolation) -> str:
    """Choose processors, before there are threads that would have to be moved; what became of it."""
    if isolation.cpus is None:
        return _NOT_ASKED
    cpus = isolation.cpus
    wanted = ",".join(map(str, cpus))
    return _tried(lambda: os.sched_setaffinity(0, cpus), wanted, f"this machine may not have all of {wanted}")


def settle(isolation: Isolation) -> dict[str, str]:
    """The other settings, once everything is loaded; what became of each.

    What is loaded stays for good: the garbage collector need not look at it again, nor run while there is a request.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    return {"fifo": _fifo(isolation.fifo_priority), "memory": _locked() if isolation.lock_memory else _NOT_ASKED}


def _fifo(priority: int | None) -> str:
    if priority is None:
        return _NOT_ASKED
    threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]

    def apply() -> None:
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))

    return _tried(apply, str(priority), "give it CAP_SYS_NICE or set LimitRTPRIO")


def _locked() -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit != resource.RLIM_INFINITY and not _may_lock():  # later allocations would fail, once the limit is reached
        return f"refused: at most {limit} bytes may be locked; give it CAP_IPC_LOCK or set LimitMEMLOCK=infinity"
    return _tried(lock_memory, "locked", "free some memory")


def _may_lock() -> bool:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> _CAP_IPC_LOCK & 1)
    return False


def _tried(setting: Callable[[], None], granted: str, remedy: str) -> str:
    try:
        setting()
    except OSError as error:
        return f"refused: {error.strerror}; {remedy}"
    return granted
