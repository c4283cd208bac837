"""How a worker ends and forks, and what real-time settings it is granted."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anytime import (
    EngineError,
    Isolation,
    UsageError,
)
from anytime.runtime.isolated import settings
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S
from tests.isolated.conftest import ASK, Make, alive, gone, until


def test_a_closed_one_rejects_and_leaves_nothing(make: Make) -> None:
    """What was under way keeps its best, at once; a later request is a fallback; the process and its files are gone."""
    before = len(os.listdir("/proc/self/fd"))
    isolated = make()
    pid = alive(isolated)
    held = isolated.submit("hold", budget=PATIENCE_S, **ASK)
    assert held.wait_for_news()
    isolated.close()
    got = held.result()
    assert (got.text, got.stopped, got.reason) == ("left", "cancelled", "the Reasoner was closed")
    assert isolated.answer("what", budget=1.0, **ASK).reason == "the Reasoner is closed"
    assert gone(pid)
    assert len(os.listdir("/proc/self/fd")) == before
    isolated.close()


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit"])
def test_the_worker_ends_with_its_parent(profile: Path, end: str) -> None:
    """However the caller's process ends, and whichever thread loaded the reasoner, the worker does not stay behind."""
    code = f"""
import os, signal, threading
from anytime import Reasoner
made = []
loader = threading.Thread(target=lambda: made.append(
    Reasoner.load(profile={str(profile)!r}, estimate=True, isolated=True)))
loader.start()
loader.join()
assert made[0].answer("lane 2 of 4 at 27 m/s", budget=20).valid
print(made[0].pid, flush=True)
input()
{end}
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        worker = os.pidfd_open(int(parent.stdout.readline()))
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert select.select([worker], [], [], PATIENCE_S)[0]
        os.close(worker)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 warns of forks with threads
def test_use_after_a_fork_is_refused_in_the_child(make: Make) -> None:
    """The child is told, and closing there does nothing to the parent's worker."""
    isolated = make()
    pid = alive(isolated)
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE_S)
        code = 1
        try:
            isolated.close()
            isolated.answer("what", budget=0.1, **ASK)
        except EngineError as error:
            code = 42 if "load one in the child process" in str(error) else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert alive(isolated) == pid


def test_settings_are_granted_or_the_refusal_is_said(make: Make) -> None:
    """What the report says of processors, scheduling and memory is what the system says; the caller is left alone."""
    cpu, mine = max(os.sched_getaffinity(0)), os.sched_getaffinity(0)
    isolated = make(isolation=Isolation(cpus=(cpu,), fifo_priority=1, lock_memory=True))
    pid = alive(isolated)
    report = isolated.realtime
    assert report["affinity"] == str(cpu)
    assert os.sched_getaffinity(pid) == {cpu}
    assert os.sched_getaffinity(0) == mine
    threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    if report["fifo"] == "1":
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_FIFO}
    else:
        assert report["fifo"].startswith("refused: ")
        assert "CAP_SYS_NICE" in report["fifo"]
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}
    (locked,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmLck"))
    assert (locked.split()[1] != "0") == (report["memory"] == "locked")
    assert report["memory"] == "locked" or report["memory"].startswith("refused: ")


def test_a_refusal_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rights nothing is changed, and what would grant them is said."""

    def denied(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", denied)
    assert settings._fifo(10) == "refused: Operation not permitted; give it CAP_SYS_NICE or set LimitRTPRIO"
    monkeypatch.setattr(settings, "lock_memory", denied)
    monkeypatch.setattr(settings, "_may_lock", lambda: True)
    assert settings._locked() == "refused: Operation not permitted; free some memory"
    monkeypatch.setattr(settings, "_may_lock", lambda: False)
    monkeypatch.setattr(settings.resource, "getrlimit", lambda what: (65536, 65536))
    assert settings._locked() == (
        "refused: at most 65536 bytes may be locked; give it CAP_IPC_LOCK or set LimitMEMLOCK=infinity"
    )


def test_what_is_not_asked_for_or_not_there_is_said(make: Make) -> None:
    """No setting, no change; a processor that there is not is refused, and the worker runs all the same."""
    isolated = make()
    assert set(isolated.realtime.values()) == {"not asked for"}
    refused = make(isolation=Isolation(cpus=(100_000,)))
    assert refused.realtime["affinity"].startswith("refused: ")
    alive(refused)


@pytest.mark.parametrize(
    "wrong", [{"cpus": ()}, {"cpus": (-1,)}, {"cpus": ("0",)}, {"fifo_priority": 0}, {"fifo_priority": 100}]
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """With the value and what would be right."""
    with pytest.raises(UsageError, match=r"give the numbers|between 1 and 99"):
        Isolation(**wrong)


def test_a_standby_takes_over(make: Make) -> None:
    """Loaded before it is needed: the next worker is a process that was there when the first one died."""
    isolated = make(isolation=Isolation(standby=True))
    first = alive(isolated)
    children = Path(f"/proc/self/task/{isolated._supervisor._thread.native_id}/children")
    until(lambda: len(children.read_text().split()) == 2)
    (spare,) = {int(pid) for pid in children.read_text().split()} - {first}
    os.kill(first, signal.SIGKILL)
    assert gone(first)
    assert alive(isolated) == spare
    isolated.close()
    assert gone(spare)


def test_formats_are_compiled_again_before_a_new_worker_is_ready(make: Make) -> None:
    """What was prepared stays so, and an answer without preparation is compiled by the worker as well."""
    isolated = make()
    isolated.prepare(LEFT_OR_RIGHT)
    assert isolated._supervisor._start.formats == (["Choices", "left", "right"],)
    os.kill(alive(isolated), signal.SIGKILL)
    alive(isolated)
    isolated.close()
    with pytest.raises(EngineError, match="did not compile"):
        isolated.prepare(LEFT_OR_RIGHT)


def test_the_worker_answers_while_the_caller_holds_the_gil(make: Make) -> None:
    """In a call that keeps the GIL from beginning to end, the caller sees the bell of its slot ring."""

    class PollFd(ctypes.Structure):
        _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))

    isolated = make()
    pending = isolated.submit("what", budget=PATIENCE_S, **ASK)
    bell = PollFd(isolated._slots.bells[1 + pending.slot], select.POLLIN, 0)
    assert ctypes.PyDLL(None).poll(ctypes.byref(bell), 1, PATIENCE_S * 1000) == 1
    assert pending.result().text == "right"
