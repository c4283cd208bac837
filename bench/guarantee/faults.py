"""Faults, put in at random instants while requests are asked one after the other, each beside its control."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from anytime import Isolation, Reasoner
from anytime.bundle import Bundle
from anytime.runtime.engine import Burst, FloatArray, Row
from anytime.runtime.loading import find_profile, open_bundle
from anytime.runtime.questions import Question, read_questions
from bench.contenders import Request
from bench.guarantee.asking import Asked, ask, draw, floors_of, seen, waited_ns, woken_first
from bench.report import ROOT

QUESTIONS = ROOT / "data/questions/drive.test.jsonl"
REQUESTS, PIECE = 1_000, 100
BUDGETS_MS = (20.0, 100.0)
RECOVERY_S = 0.5
_BETWEEN_S = (0.6, 1.6)  # from a fault to the next: longer than a recovery
_PAUSE_S = (0.05, 0.3)
_pauses = random.Random("pauses")
_SLOWER = 50
CLOCK = "clock-set-back"

Inject = Callable[[], None]
_FIELDS = len(Asked._fields)


class Unruly:
    """The engine, but that something happens before a run once that was asked for."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.armed: Callable[[], None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        self._strike()
        return self._engine.run(rows, generation)  # type: ignore[no-any-return]

    def extend(self, bursts: Sequence[Burst], count: int, generation: int) -> list[list[int]]:
        self._strike()
        return self._engine.extend(bursts, count, generation)  # type: ignore[no-any-return]

    def _strike(self) -> None:
        armed, self.armed = self.armed, None
        if armed is not None:
            armed()


@contextlib.contextmanager
def hogs(bundle: Path) -> Iterator[tuple[Reasoner, Inject]]:
    """Other programs take every core all the time."""
    with _every_core_taken(), Reasoner.load(bundle) as reasoner:
        yield reasoner, lambda: None


@contextlib.contextmanager
def hogs_isolated(bundle: Path) -> Iterator[tuple[Reasoner, Inject]]:
    """The same, with the engine in a process of its own."""
    with _every_core_taken(), _isolated(bundle) as reasoner:
        yield reasoner, lambda: None


@contextlib.contextmanager
def hogs_outranked(bundle: Path) -> Iterator[tuple[Reasoner, Inject]]:
    """The same in one process, all of whose threads have a real-time priority, as ``chrt -f 1`` gives them."""
    with _every_core_taken(), woken_first(), Reasoner.load(bundle) as reasoner:
        yield reasoner, lambda: None


@contextlib.contextmanager
def _every_core_taken() -> Iterator[None]:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


@contextlib.contextmanager
def slow_step(bundle: Path) -> Iterator[tuple[Reasoner, Inject]]:
    """A run of the engine takes as long as fifty steps, and cannot be ended."""
    with _unruly(bundle) as (reasoner, engine):
        step_s = reasoner.profile.latency().run_ns(1, 256) / 1e9
        yield reasoner, lambda: setattr(engine, "armed", lambda: time.sleep(_SLOWER * step_s))


@contextlib.contextmanager
def no_memory(bundle: Path) -> Iterator[tuple[Reasoner, Inject]]:
    """A run of the engine gets no memory."""

    def fail() -> None:
        raise MemoryError("no memory for the run's outputs")

    with _unruly(bundle) as (reasoner, engine):
        yield reasoner, lambda: setattr(engine, "armed", fail)


@contextlib.contextmanager
def file_deleted(bundle: Path) -> Iterator[tuple[Reasoner, Inject]]:
    """The bundle's files are deleted under the running engine."""
    with Reasoner.load(bundle) as reasoner:
        yield reasoner, lambda: shutil.rmtree(bundle, ignore_errors=True)


@contextlib.contextmanager
def paused(bundle: Path) -> Iterator[tuple[Reasoner, Inject]]:
    """The engine's process is stopped for a while (SIGSTOP)."""

    def pause() -> None:
        pid = reasoner.pid
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(_pauses.uniform(*_PAUSE_S))
            os.kill(pid, signal.SIGCONT)

    with _isolated(bundle) as reasoner:
        yield reasoner, pause


@contextlib.contextmanager
def killed(bundle: Path) -> Iterator[tuple[Reasoner, Inject]]:
    """The engine's process is killed (SIGKILL)."""

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.kill(reasoner.pid, signal.SIGKILL)

    with _isolated(bundle) as reasoner:
        yield reasoner, kill


@contextlib.contextmanager
def clock_set_back(bundle: Path) -> Iterator[tuple[Reasoner, Inject]]:
    """The wall clock is set back by an hour, as far as this process can see it."""
    shift = ctypes.CDLL(None).anytime_shift_clock
    with Reasoner.load(bundle) as reasoner:
        yield reasoner, lambda: shift(-3_600)


FAULTS = {
    "hogs": hogs,
    "hogs-isolated": hogs_isolated,
    "hogs-outranked": hogs_outranked,
    "slow-step": slow_step,
    "no-memory": no_memory,
    "file-deleted": file_deleted,
    "paused": paused,
    "killed": killed,
    CLOCK: clock_set_back,
}
APART = ("hogs-isolated", "paused", "killed")  # the engine has a process of its own
FIRST = (*APART, "hogs-outranked")  # the caller has a real-time priority


@contextlib.contextmanager
def _unruly(bundle: Path) -> Iterator[tuple[Reasoner, Unruly]]:
    loaded = open_bundle(bundle)
    engine = Unruly(loaded.engine)
    with Reasoner(engine, loaded.codec, find_profile(loaded, None, False), loaded.bundle) as reasoner:
        yield reasoner, engine


@contextlib.contextmanager
def _isolated(bundle: Path) -> Iterator[Any]:
    with Reasoner.load(bundle, isolated=Isolation(standby=True)) as reasoner:
        yield reasoner


def piece(fault: str, questions: Sequence[Question], number: int, count: int) -> list[list[Any]]:
    """Requests with this fault among them: what each saw, and how long before it the last fault struck, in seconds.

    A copy of the reference reasoner is asked, so that a fault which destroys it destroys nothing else.
    """
    if fault == CLOCK and not hasattr(ctypes.CDLL(None), "anytime_shift_clock"):
        return _with_a_clock_of_its_own(number, count)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "bundle"
        shutil.copytree(Bundle.reference().path, bundle)
        with FAULTS[fault](bundle) as (reasoner, inject):
            floors_ns = floors_of(reasoner, questions)
            requests = draw(questions, count, BUDGETS_MS, floors_ns, f"{fault}/{number}")
            ask(reasoner, requests[0], "auto")  # everything is compiled and warm
            source = random.Random(f"{fault}/{number}/instants")
            with woken_first() if fault in APART else contextlib.nullcontext():
                return _struck(reasoner, requests, inject, source)


def _with_a_clock_of_its_own(number: int, count: int) -> list[list[Any]]:
    """The same in a process whose wall clock can be set."""
    with tempfile.TemporaryDirectory() as scratch:
        library = Path(scratch) / "shift_clock.so"
        source = Path(__file__).with_name("shift_clock.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
        command = [sys.executable, "-m", "bench.guarantee.faults", CLOCK, str(number), str(count)]
        environment = {**os.environ, "LD_PRELOAD": str(library)}
        run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=ROOT)
    rows: list[list[Any]] = json.loads(run.stdout)
    return rows


def _struck(reasoner: Reasoner, requests: Sequence[Request], inject: Inject, source: random.Random) -> list[list[Any]]:
    stop, struck = threading.Event(), [time.monotonic()]

    def strike() -> None:
        while not stop.wait(source.uniform(*_BETWEEN_S)):
            struck.append(time.monotonic())
            inject()

    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    found = []
    for request in requests:
        began = time.monotonic()
        control_ns = waited_ns(reasoner, request) if request.number % 2 else None
        asked_at = time.monotonic()
        outcome = ask(reasoner, request, "auto")
        left_at = time.monotonic()
        if control_ns is None:
            control_ns = waited_ns(reasoner, request)
        since = [asked_at - at for at in struck if at <= asked_at]
        hit = any(began <= at <= left_at for at in struck)
        found.append([*seen(request, *outcome, control_ns), round(min(since), 4), hit])
    stop.set()
    striker.join()
    return found


def normal_after_recovery(rows: Sequence[Sequence[Any]]) -> tuple[int, int]:
    """Requests asked half a second or more behind the last fault and not struck themselves: answered, and in all."""
    calm = [Asked(*row[:_FIELDS]) for row in rows if not _struck_or_near(row)]
    return sum(row.valid for row in calm), len(calm)


def late_by_a_fault(rows: Sequence[Sequence[Any]]) -> tuple[int, int]:
    """Late requests that a fault struck, or that came less than half a second behind one; and late ones in all."""
    late = [row for row in rows if Asked(*row[:_FIELDS]).lateness_ms > 0]
    return sum(map(_struck_or_near, late)), len(late)


def _struck_or_near(row: Sequence[Any]) -> bool:
    since_s, hit = row[_FIELDS:]
    return bool(hit) or since_s < RECOVERY_S


if __name__ == "__main__":
    _fault, _number, _count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(piece(_fault, read_questions(QUESTIONS), _number, _count)))
