"""Waiting at a slot ends with news, the end or the instant, for everybody who waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from anytime.ext.slots import FINAL, Slots
from tests.doubles import PATIENCE_S
from tests.test_slots_kernel import FAR_NS, make


@pytest.fixture
def slots() -> Iterator[Slots]:
    made = make()
    yield made
    made.close()


def test_waiting_ends_with_news_the_end_or_the_instant(slots: Slots) -> None:
    """A better answer, the final one, a lost worker: each wakes who waits for it; otherwise the instant does."""
    assert not slots.wait(0, 1, 0, False, 0)
    slots.publish(0, 1, 0.5, 0, b"a", b"")
    assert slots.wait(0, 1, 0, False, FAR_NS)
    assert not slots.wait(0, 1, 1, False, time.monotonic_ns() + 10**6)  # that one is known already
    assert not slots.wait(0, 1, 0, True, time.monotonic_ns() + 10**6)  # it is not the final one
    slots.publish(0, 1, 0.5, FINAL, b"b", b"")
    assert slots.wait(0, 1, 2, True, FAR_NS)
    assert not slots.wait(0, 2, 0, True, 0)  # the final one of another request
    slots.lose(0, 2)
    assert slots.wait(0, 2, 0, True, FAR_NS)


def test_ringing_and_waking_are_stamped(slots: Slots) -> None:
    """The ring for a request's first answer, and a waiter's waking up by a ring or by its instant."""
    assert (slots.first_rung_ns(1), slots.woken_ns(1)) == (0, 0)
    slots.publish(1, 1, 0.5, 0, b"a", b"")
    published_ns = (slots.read(1, 1) or (0, 0, FAR_NS))[2]
    rung_ns = slots.first_rung_ns(1)
    assert published_ns <= rung_ns <= time.monotonic_ns()
    slots.publish(1, 1, 0.5, FINAL, b"b", b"")
    assert slots.first_rung_ns(1) == rung_ns
    assert slots.wait(1, 1, 0, True, FAR_NS)
    woken_ns = slots.woken_ns(1)
    assert rung_ns <= woken_ns <= time.monotonic_ns()
    slots.publish(1, 2, 0.5, 0, b"c", b"")
    assert woken_ns <= slots.first_rung_ns(1)
    until_ns = time.monotonic_ns() + 10**6
    assert not slots.wait(1, 2, 0, True, until_ns)
    assert until_ns <= slots.woken_ns(1) <= time.monotonic_ns()
    assert (slots.first_rung_ns(0), slots.woken_ns(0)) == (0, 0)


def test_waiting_lets_other_threads_run_and_wakes_all_who_wait(slots: Slots) -> None:
    """Two threads wait for one answer, which a third, that needs the GIL, publishes."""
    woken: list[bool] = []
    waiters = [threading.Thread(target=lambda: woken.append(slots.wait(0, 1, 0, True, FAR_NS))) for _ in range(2)]
    for waiter in waiters:
        waiter.start()
    slots.publish(0, 1, 0.5, 0, b"not yet", b"")
    slots.publish(0, 1, 0.5, FINAL, b"now", b"")
    for waiter in waiters:
        waiter.join(PATIENCE_S)
    assert woken == [True, True]


def test_who_waits_for_the_end_takes_no_news_from_others(slots: Slots) -> None:
    """One thread waits for the final answer, another for each better one: each of them is woken every time."""
    seen: list[int] = []

    def follow() -> None:
        while len(seen) < 200:
            assert slots.wait(0, 1, seen[-1] if seen else 0, False, time.monotonic_ns() + PATIENCE_S * 10**9)
            seen.append((slots.read(0, 1) or (0,))[0])
            followed.set()

    followed = threading.Event()
    ender = threading.Thread(target=slots.wait, args=(0, 1, 0, True, FAR_NS))
    follower = threading.Thread(target=follow)
    ender.start()
    follower.start()
    for _ in range(200):
        followed.clear()
        slots.publish(0, 1, 0.5, 0, b"better", b"")
        assert followed.wait(PATIENCE_S)
    slots.publish(0, 1, 0.5, FINAL, b"best", b"")
    for thread in (ender, follower):
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert seen == list(range(1, 201))


def test_ctrl_c_ends_the_waiting(slots: Slots) -> None:
    """A signal's handler runs at once, and what it raises reaches the caller."""
    code = f"import os; os.kill({os.getpid()}, {signal.SIGINT:d})"
    until_ns = time.monotonic_ns() + PATIENCE_S * 10**9
    with subprocess.Popen([sys.executable, "-c", code]), pytest.raises(KeyboardInterrupt):
        slots.wait(0, 1, 0, True, until_ns)
    assert time.monotonic_ns() < until_ns


def test_closing_waits_for_who_waits() -> None:
    """The file descriptors stay open until the last waiter has been woken, then all are closed; reading goes on."""
    before = len(os.listdir("/proc/self/fd"))
    slots = make()
    slots.publish(0, 1, 0.5, 0, b"best so far", b"")
    waiter = threading.Thread(target=slots.wait, args=(0, 1, 0, True, FAR_NS))
    waiter.start()
    slots.lose(0, 1)
    slots.close()
    waiter.join(PATIENCE_S)
    assert not waiter.is_alive()
    assert len(os.listdir("/proc/self/fd")) == before
    assert (slots.read(0, 1) or (0,))[0] == 1
    assert slots.wait(0, 1, 0, True, FAR_NS)
