"""On time whatever becomes of the worker's process: it dies, hangs, writes anywhere, or does not start."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from anytime import (
    BundleError,
    EngineError,
    Health,
    Isolation,
    Reasoner,
    UsageError,
)
from anytime.bundle import Bundle
from anytime.ext.slots import FINISHED, TAKEN
from anytime.runtime.isolated import supervisor
from anytime.runtime.isolated.seats import make_slots, under_way
from anytime.runtime.isolated.supervisor import HANG_NS, PREPARING_NS, hangs
from tests.conftest import MS
from tests.doubles import PATIENCE_S
from tests.isolated.conftest import ASK, ROOT, Make, alive, gone, served, until


def test_a_worker_that_dies_leaves_the_best_so_far(make: Make) -> None:
    """Killed behind its first answer: that is returned at once, with the reason; the next request is normal."""
    isolated = make()
    got = isolated.answer("kill", budget=PATIENCE_S, **ASK)
    assert (got.text, got.source, got.stopped) == ("left", "instant", "error")
    assert got.reason == "the isolated process was killed by SIGKILL"
    assert got.elapsed_s < PATIENCE_S / 2
    alive(isolated)
    assert isolated.restarts == 1


def test_a_worker_whose_gpu_is_lost_is_replaced(make: Make) -> None:
    """The request has its best answer so far, with the reason; the next one is normal, on a new engine."""
    isolated = make()
    got = isolated.answer("gpu", budget=PATIENCE_S, **ASK)
    assert (got.text, got.source, got.stopped) == ("left", "instant", "error")
    assert got.reason == "the GPU was lost"
    alive(isolated)
    assert isolated.restarts == 1


def test_a_worker_that_dies_with_nothing_found_leaves_the_fallback(make: Make) -> None:
    """Killed in its first run; the request is not tried again, for it may be what kills."""
    isolated = make()
    got = isolated.answer("x", budget=PATIENCE_S, **ASK)
    assert (got.text, got.source, got.stopped) == ("wait", "fallback", "error")
    alive(isolated)
    assert isolated.restarts == 1


def test_requests_meanwhile_are_served_by_the_next_worker(make: Make) -> None:
    """Asked while there is no worker: they wait in their slots, and are answered."""
    isolated = make()
    os.kill(alive(isolated), signal.SIGKILL)
    asked = [isolated.submit("what", budget=PATIENCE_S, **ASK) for _ in range(3)]
    assert [pending.result().text for pending in asked] == ["right"] * 3
    assert isolated.restarts == 1


@pytest.mark.parametrize("prompt", ["stop", "deaf"])
def test_a_worker_that_hangs_is_replaced(make: Make, prompt: str) -> None:
    """Stopped as a whole, or in a run that never returns: the caller leaves on time, and the next request is normal."""
    isolated = make()
    got = isolated.answer(prompt, budget=1.0, **ASK)
    assert (got.text, got.source, got.stopped) == ("left", "instant", "deadline")
    assert got.elapsed_s < PATIENCE_S / 2
    alive(isolated)
    assert isolated.restarts == 1


def test_a_worker_that_hangs_while_idle_is_replaced(make: Make) -> None:
    """The first request that it leaves alone gives it away; that one gets its fallback in time."""
    isolated = make()
    os.kill(alive(isolated), signal.SIGSTOP)
    got = isolated.answer("what", budget=0.1, **ASK)
    assert (got.text, got.stopped) == ("wait", "deadline")
    assert got.reason == "the request was still waiting for the isolated process"
    alive(isolated)
    assert isolated.restarts == 1


def test_when_a_worker_hangs() -> None:
    """Late by more than the patience; not before, not while a format is compiled, not before it was there itself."""
    slots = make_slots(2)
    assert not hangs(slots, 0, 10**18, HANG_NS)
    slots.ask(0, 1, 100 * MS, b"")
    assert list(under_way(slots)) == [(0, 1, 0)]
    assert not hangs(slots, 0, 100 * MS + HANG_NS, HANG_NS)
    assert hangs(slots, 0, 101 * MS + HANG_NS, HANG_NS)
    assert not hangs(slots, 2 * MS + HANG_NS, 101 * MS + HANG_NS, HANG_NS)
    slots.ask(1, 2, 100 * MS, b"")
    slots.mark(1, 2, TAKEN)
    assert not hangs(slots, 0, 100 * MS + PREPARING_NS, HANG_NS)
    assert hangs(slots, 0, 101 * MS + PREPARING_NS, HANG_NS)
    slots.mark(1, 2, FINISHED)
    slots.lose(0, 1)
    assert list(under_way(slots)) == []
    assert not hangs(slots, 0, 10**18, HANG_NS)
    slots.close()


def test_damage_in_memory_costs_an_answer_not_a_wrong_one(make: Make) -> None:
    """The only answer so far is damaged: the fallback, never what the damage made of it."""
    isolated = make()
    pending = isolated.submit("hold", budget=PATIENCE_S, **ASK)
    assert pending.wait_for_news()
    start = 64 + 128 + isolated._slots.request_bytes  # of the first slot's buffers
    second = start + 64 + isolated._slots.answer_bytes  # the first answer's
    text = os.pread(isolated._slots.fd, 4, second + 64)
    assert text == b"left"
    os.pwrite(isolated._slots.fd, b"LEFT", second + 64)
    got = pending.leave()
    assert (got.text, got.source) == ("wait", "fallback")


def test_a_worker_that_writes_everywhere_costs_answers_no_more(make: Make) -> None:
    """All of the shared memory is overwritten before it dies: the fallback, and a worker that serves as before."""
    isolated = make()
    pid = alive(isolated)
    pending = isolated.submit("hold", budget=PATIENCE_S, **ASK)
    assert pending.wait_for_news()
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)  # it has stopped: what follows is as if it had done so itself, last of all
    size = os.fstat(isolated._slots.fd).st_size
    os.pwrite(isolated._slots.fd, random.Random(0).randbytes(size), 0)
    assert (pending.best().text, pending.best().source) == ("wait", "fallback")
    os.kill(pid, signal.SIGKILL)
    assert pending.result().stopped == "error"
    alive(isolated)
    assert isolated.restarts == 1


@pytest.mark.parametrize("standby", [False, True])
def test_twenty_restarts_leave_nothing_behind(make: Make, monkeypatch: pytest.MonkeyPatch, standby: bool) -> None:
    """No file descriptor, thread or process is left over, nor does the next worker come later each time."""
    monkeypatch.setattr(supervisor, "_LONGEST_PAUSE_S", 10.0 * PATIENCE_S)  # a pause that grew would be noticed
    isolated = make(isolation=Isolation(standby=standby))

    def held() -> tuple[int, int, int]:
        alive(isolated)
        children = Path(f"/proc/self/task/{isolated._supervisor._thread.native_id}/children").read_text().split()
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(children)

    until(lambda: held()[2] == 1 + standby)
    before, pids = held(), set()
    for _ in range(20 if not standby else 5):
        pid = alive(isolated)
        pids.add(pid)
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        until(lambda: held() == before)
    assert len(pids) == isolated.restarts


def test_a_worker_that_cannot_start_again_is_said_at_once(make: Make, bundle: Bundle) -> None:
    """The bundle is gone: requests are rejected with the reason instead of waiting; with it back, all is normal."""
    isolated = make()
    pid = alive(isolated)
    away = bundle.path.rename(bundle.path.with_name("away"))
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    while not (got := isolated.answer("what", budget=0.05, **ASK)).reason.startswith("the isolated process cannot"):
        assert got.text == "wait"
    assert (got.stopped, isolated.health()) == ("rejected", Health.LOST)
    assert "no bundle at" in got.reason
    away.rename(bundle.path)
    while (got := isolated.answer("what", budget=PATIENCE_S, **ASK)).stopped == "rejected":
        pass
    assert got.text == "right"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise SystemExit(3)", "ended with exit code 3 before it was ready"),
        ("1/0", "ended with exit code 1 before it was ready"),
        ("import os, sys; os.write(int(sys.argv[2]), b'\\x85')", "ended with exit code 0 before it was ready"),
        ("import os; os.kill(os.getpid(), 35)", "was killed by signal 35 before it was ready"),
    ],
)
def test_a_worker_that_never_gets_ready_is_an_error(make: Make, code: str, why: str) -> None:
    """Loading fails with what there is to say, and leaves nothing open."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(EngineError, match=why):
        make(command=("-c", code))
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_the_worker_raises_while_loading_is_raised_here(bundle: Bundle, tmp_path: Path) -> None:
    """With the same class and text as in one process."""
    with pytest.raises(BundleError, match="ONNX Runtime cannot open") as here:
        Reasoner.load(bundle.path)
    with pytest.raises(BundleError) as there:
        Reasoner.load(bundle.path, isolated=True)
    assert str(there.value) == str(here.value)
    with pytest.raises(UsageError, match="threads is 0"):
        Reasoner.load(threads=0, isolated=True)
    with pytest.raises(UsageError, match="overload is 'never'"):
        Reasoner.load(overload="never", isolated=True)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="no bundle at"):
        Reasoner.load(tmp_path / "nothing", isolated=True)


def test_more_requests_than_slots_are_rejected(make: Make) -> None:
    """Two slots, two requests under way: the third gets its fallback at once; slots are used again."""
    isolated = make(count=2)
    held = [isolated.submit("hold", budget=PATIENCE_S, **ASK) for _ in range(2)]
    got = isolated.answer("what", budget=PATIENCE_S, **ASK)
    assert (got.text, got.stopped, got.reason) == ("wait", "rejected", "2 requests are under way already")
    for pending in held:
        pending.cancel()
        pending.result()
    assert served(isolated, "what").result().text == "right"


def test_an_answer_outlives_its_slot(make: Make) -> None:
    """Whoever looks late finds its own answer, though the slot has served others since."""
    isolated = make(count=1)
    pending = isolated.submit("kill", budget=PATIENCE_S, **ASK)
    later = served(isolated, "what")
    got = pending.result()
    assert (got.text, got.stopped, got.reason) == ("left", "error", "the isolated process was killed by SIGKILL")
    assert served(isolated, "hold").wait_for_news()
    assert (later.result().text, later.wait_for_news()) == ("right", False)


def test_a_controller_in_c_reads_what_the_reasoner_found(make: Make, compiler: str, tmp_path: Path) -> None:
    """The example in C, given the reasoner's path, prints the best answer so far of the request under way."""
    isolated = make()
    include, source = ROOT / "src" / "anytime" / "ext", ROOT / "examples" / "c" / "read_answers.c"
    subprocess.run([compiler, "-std=c99", f"-I{include}", source, "-o", tmp_path / "read"], check=True)
    pending = isolated.submit("hold", budget=PATIENCE_S, **ASK)
    assert pending.wait_for_news()
    done = subprocess.run([tmp_path / "read", isolated.slots_path], capture_output=True, text=True, check=True)
    assert f"slot {pending.slot} request {pending.serial} valid so-far " in done.stdout
    assert f" deadline {pending.deadline_ns} text left\n" in done.stdout
