"""An isolated reasoner whose worker does what prompts say, one of the reference, and looks at their processes."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from anytime import (
    Choices,
    DecisionLog,
    Isolated,
    Reasoner,
)
from anytime.bundle import Bundle
from anytime.ext.latency import Latency
from anytime.runtime.isolated.messages import Start
from anytime.runtime.isolated.pending import IsolatedPending
from anytime.runtime.isolated.seats import make_slots
from tests.conftest import make_profile
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S

ROOT = Path(__file__).parents[2]
WORKER = (str(Path(__file__).with_name("worker.py")),)
ASK: dict[str, Any] = {"answer": LEFT_OR_RIGHT, "fallback": "wait"}
SCENE = "lane 2 of 4 at 27 m/s\nlane 2 ahead 14 m 18 m/s\nlane 3 behind 30 m 25 m/s"
ACTIONS = Choices("LANE_LEFT", "IDLE", "LANE_RIGHT", "FASTER", "SLOWER")

Make = Callable[..., Isolated]


@pytest.fixture
def make(bundle: Bundle, latency: Latency) -> Iterator[Make]:
    """``make()``: an isolated reasoner whose worker does what prompts say (``isolated_worker``)."""
    made: list[Isolated] = []

    def make(
        command: tuple[str, ...] = WORKER, count: int = 4, log: DecisionLog | None = None, **start: Any
    ) -> Isolated:
        slots = make_slots(count)
        given = {"bundle": str(bundle.path), "profile": make_profile(latency, bundle.id), **start}
        begin = Start(parent=os.getpid(), memory=slots.fd, bells=slots.bells, **given)
        made.append(Isolated(slots, begin, command, log))
        return made[-1]

    yield make
    for isolated in made:
        isolated.close()


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile file for the reference, so that none needs to be measured."""
    file = tmp_path_factory.mktemp("profile") / "profile.json"
    latency = Latency(alpha=1.0, beta=20_000.0, gamma=1_000_000.0, p=100.0, q=1_000_000.0)
    file.write_bytes(msgspec.json.encode(make_profile(latency, Bundle.reference().id)))
    return file


@pytest.fixture(scope="module")
def reference(profile: Path) -> Iterator[Isolated]:
    with Reasoner.load(profile=profile, estimate=True, isolated=True) as isolated:
        assert isinstance(isolated, Isolated)
        yield isolated


def gone(pid: int) -> bool:
    """Whether a process ends, soon."""
    try:
        file = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended = select.select([file], [], [], PATIENCE_S)[0]
    os.close(file)
    return bool(ended)


def until(holds: Callable[[], bool]) -> None:
    """Look until it holds; nothing announces it."""
    end_ns = time.monotonic_ns() + PATIENCE_S * 10**9
    while not holds():
        assert time.monotonic_ns() < end_ns


def alive(isolated: Isolated) -> int:
    """The worker's process, once there is one."""
    assert isolated.answer("what", budget=PATIENCE_S, **ASK).text == "right"
    assert isolated.pid is not None
    return isolated.pid


def served(isolated: Isolated, prompt: str) -> IsolatedPending:
    """A request that has found a slot, as soon as there is one."""
    while True:
        pending = isolated.submit(prompt, budget=PATIENCE_S, **ASK)
        if pending.slot >= 0:
            return pending
