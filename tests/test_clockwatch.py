"""Clocks that drop shrink the token cap at once, and whatever happens to their source disturbs nobody."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from anytime.errors import TargetError
from anytime.runtime import clockwatch
from anytime.runtime.answer import Answer
from anytime.runtime.clockwatch import ClockWatch, NvmlSource, find_source
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.pace import Pace
from anytime.scheduler.profile import LatencyProfile, Regime
from anytime.scheduler.tail import summarize
from anytime.targets import Clocks, Reading
from anytime.targets.nvml import Nvml
from anytime.testing import MockClock
from tests.conftest import MS, MakeReasoner, turns_at
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S, PassingClock
from tests.doubles_nvml import FakeNvml, NVMLError
from tests.test_tegrastats import REST, program

FULL, SLOW = Reading(1020, 3199, True), Reading(1020, 1600, True)


class Readings:
    """A source that says what it is given, and waits in between; ``taken`` is when everything was looked at."""

    def __init__(self) -> None:
        self._given: queue.Queue[Reading | Exception | None] = queue.Queue()
        self.closed = False

    def say(self, *readings: Reading | Exception) -> None:
        for reading in readings:
            self._given.put(reading)
        self._given.join()

    def __iter__(self) -> Iterator[Reading]:
        while True:
            said = self._given.get()
            if not isinstance(said, Reading):
                self._given.task_done()
                if said is None:
                    return
                raise said
            yield said
            self._given.task_done()

    def close(self) -> None:
        self.closed = True
        self._given.put(None)


def ask(reasoner: Reasoner) -> Answer:
    return reasoner.answer("what", budget=0.15, answer=LEFT_OR_RIGHT)


def test_a_drop_shrinks_caps_at_once_and_a_recovery_restores_them(make_reasoner: MakeReasoner) -> None:
    """Half the memory clock, told while the engine has run not one slow step: half the thought, until it is back."""
    reasoner, _, _ = make_reasoner(turns_at(0))
    source = Readings()
    assert reasoner.watch_clocks(source)
    source.say(FULL)
    before = ask(reasoner)
    source.say(SLOW)
    assert reasoner._machine.pace.factor == pytest.approx(3199 / 1600)
    during = ask(reasoner)
    source.say(FULL)
    after = ask(reasoner)
    assert during.token_cap <= 0.55 * before.token_cap
    assert during.stopped == "deadline"
    assert after.token_cap >= 0.97 * before.token_cap
    assert not any(answer.late for answer in (before, during, after))


def test_the_plan_holds_on_an_engine_that_really_slowed(make_reasoner: MakeReasoner) -> None:
    """Told by the clocks, the cap is what the slower engine then thinks, though no step had shown that yet."""
    slowed = threading.Event()
    reasoner, _, _ = make_reasoner(turns_at(0), slowdown=lambda run: 2.0 if slowed.is_set() else 1.0)
    source = Readings()
    reasoner.watch_clocks(source)
    source.say(FULL)
    ask(reasoner)
    slowed.set()
    source.say(Reading(510, 1599, True))
    answer = ask(reasoner)
    assert (answer.source, answer.stopped, answer.late) == ("thought", "deadline", False)
    assert answer.token_cap == pytest.approx(answer.tokens.thought, rel=0.1)


def noted(profile: LatencyProfile, *readings: Reading, measured_at: Reading = FULL, **options: bool) -> Pace:
    """The pace after a watch was shown readings, one by one."""
    pace = Pace(profile)
    engine_busy = options.pop("engine_busy", True)
    watch = ClockWatch(Readings(), pace, measured_at, lambda: engine_busy, **options)
    for reading in readings:
        watch.note(reading)
    return pace


@pytest.mark.parametrize(
    ("reading", "factor"),
    [
        (FULL, 1.0),
        (Reading(510, 3199, True), 2.0),
        (Reading(1000, 3199, True), 1.0),
        (Reading(510, 3199, False), 1.0),
        (Reading(510, 3199, None), 2.0),
        (Reading(None, None, True), 1.0),
        (Reading(2040, 6398, True), 1.0),
    ],
)
def test_only_drops_of_a_working_gpu_count(profile: LatencyProfile, reading: Reading, factor: float) -> None:
    """Not a step or two, not an idle GPU, not a clock that is not told, and never a faster engine than measured."""
    assert noted(profile, reading).factor == pytest.approx(factor)


def test_an_idle_engine_s_clocks_say_nothing(profile: LatencyProfile) -> None:
    """Where a reading does not tell the load, what counts is whether the engine has a request."""
    assert noted(profile, Reading(306, 665, None), engine_busy=False).factor == 1.0


def test_without_a_gpu_only_memory_counts(profile: LatencyProfile) -> None:
    """An engine on the processor does not wait for the GPU's clock."""
    assert noted(profile, Reading(306, 3199, True), gpu=False).factor == 1.0
    assert noted(profile, Reading(1020, 1600, True), gpu=False).factor == pytest.approx(3199 / 1600)


def test_without_measured_clocks_the_highest_seen_count(profile: LatencyProfile) -> None:
    """A profile that was made where nobody told clocks."""
    assert noted(profile, SLOW, measured_at=Reading()).factor == 1.0
    assert noted(profile, FULL, SLOW, measured_at=Reading()).factor == pytest.approx(3199 / 1600)


def test_only_a_drop_deeper_than_any_before_is_a_warning(
    profile: LatencyProfile, caplog: pytest.LogCaptureFixture
) -> None:
    """Clocks that go up and down with every question do not fill the log."""
    with caplog.at_level(logging.DEBUG, "anytime"):
        noted(profile, SLOW, FULL, SLOW, FULL, SLOW, Reading(1020, 800, True, ("software power cap",)))
    assert [found.levelname for found in caplog.records] == ["WARNING", "DEBUG", "DEBUG", "WARNING"]
    assert "memory 800 MHz (software power cap) instead of GPU 1020 MHz and memory 3199 MHz" in caplog.text


def test_a_drop_is_told_once_and_again_when_it_deepens(profile: LatencyProfile) -> None:
    """In between, what steps take corrects it: the same reading does not raise the factor anew."""
    pace = noted(profile)
    watch = ClockWatch(Readings(), pace, FULL, lambda: True)
    watch.note(SLOW)
    for _ in range(400):
        pace.ran(1, 100, 1, round(1.2 * profile.latency().run_ns(1, 100)))
    settled = pace.factor
    assert settled < 1.5
    watch.note(SLOW)
    assert pace.factor == settled
    watch.note(Reading(1020, 800, True))
    assert pace.factor == pytest.approx(3199 / 800)


def test_the_profile_s_own_clocks_are_what_counts(make_reasoner: MakeReasoner) -> None:
    """A profile measured at low clocks is not slowed down by them."""
    reasoner, _, _ = make_reasoner(turns_at(0))
    warm = Regime("warm", Clocks("15W", "performance", (), (), 612, 2133), (), summarize([1.0]))
    reasoner.profile = msgspec.structs.replace(reasoner.profile, regimes=(warm,))
    source = Readings()
    reasoner.watch_clocks(source)
    source.say(Reading(612, 2133, True))
    assert reasoner._machine.pace.factor == 1.0
    source.say(Reading(306, 2133, True))
    assert reasoner._machine.pace.factor == 1.0  # its engine runs on no GPU, by its key
    source.say(Reading(612, 1066, True))
    assert reasoner._machine.pace.factor == pytest.approx(2133 / 1066)


@pytest.mark.parametrize("error", [TargetError("tegrastats ended by itself"), RuntimeError("surprise")])
def test_a_source_that_fails_is_logged_and_the_service_goes_on(
    make_reasoner: MakeReasoner, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """Expected or not: a line in the log, and answers as ever."""
    reasoner, _, _ = make_reasoner(turns_at(0))
    source = Readings()
    reasoner.watch_clocks(source)
    with caplog.at_level(logging.WARNING, "anytime"):
        source.say(error)
        assert reasoner._clocks is not None
        reasoner._clocks._thread.join(PATIENCE_S)
    assert "tegrastats ended" in caplog.text or "no longer watched" in caplog.text
    assert ask(reasoner).source == "thought"


def test_closing_ends_the_watch(make_reasoner: MakeReasoner) -> None:
    """``close`` closes the source too, and a second watch takes the place of the first."""
    reasoner, _, _ = make_reasoner(turns_at(0))
    first, second = Readings(), Readings()
    reasoner.watch_clocks(first)
    reasoner.watch_clocks(second)
    assert (first.closed, second.closed) == (True, False)
    reasoner.close()
    assert second.closed


def test_a_drop_is_seen_from_the_child_to_the_cap(
    make_reasoner: MakeReasoner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: a program named tegrastats on the search path prints a slower memory, and the next cap is less."""
    fifo = tmp_path / "lines"
    os.mkfifo(fifo)
    program(tmp_path, f"exec cat {fifo}")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    reasoner, _, _ = make_reasoner(turns_at(0))
    before = ask(reasoner)
    told = threading.Event()
    expect = reasoner._machine.pace.expect
    monkeypatch.setattr(reasoner._machine.pace, "expect", lambda slower: (expect(slower), told.set()))
    assert reasoner.watch_clocks()
    with fifo.open("w", encoding="utf-8") as lines:
        for mhz in (3199, 1066):
            print(f"{REST} EMC_FREQ 40%@{mhz} GR3D_FREQ 90%@[1020]", file=lines, flush=True)
        assert told.wait(PATIENCE_S)
        assert ask(reasoner).token_cap <= 0.4 * before.token_cap
        reasoner.close()


def test_a_gpu_is_read_five_times_a_second() -> None:
    """By the clock that the Reasoner keeps its deadlines by; a GPU that is lost ends it with an error."""
    module, clock = FakeNvml(clock={1: 990, 2: 3201}), PassingClock()
    readings = iter(NvmlSource(Nvml(module=module), clock))
    assert [next(readings) for _ in range(3)] == [Reading(990, 3201)] * 3
    assert clock.now() == 600 * MS
    module.answers["clock"] = NVMLError("GPU is lost")
    with pytest.raises(TargetError, match="no clocks"):
        next(readings)
    assert module.open == 0


def test_a_closed_gpu_source_ends_quietly() -> None:
    """And lets the library go."""
    module = FakeNvml()
    source = NvmlSource(Nvml(module=module), MockClock())
    source.close()
    assert list(source) == []
    assert module.open == 0


def test_a_machine_that_tells_no_clocks_is_not_watched(
    make_reasoner: MakeReasoner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tegrastats and no GPU in the profile: nothing is started, and nothing is said."""
    monkeypatch.setenv("PATH", str(tmp_path))
    reasoner, _, _ = make_reasoner(turns_at(0))
    assert not reasoner.watch_clocks()
    assert reasoner._clocks is None


def test_a_gpu_without_the_library_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine on a GPU, and no nvidia-ml-py: a warning with the remedy, and no watch."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    with caplog.at_level(logging.WARNING, "anytime"):
        assert find_source("NVIDIA H200", MockClock()) is None
    assert "anytime[nvml]" in caplog.text


def test_a_tegrastats_that_cannot_be_started_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Found, and yet not to be started: a warning, and no watch."""
    from anytime.targets import tegrastats

    def refuse() -> None:
        raise TargetError("tegrastats cannot be started")

    monkeypatch.setattr(tegrastats, "available", lambda: True)
    monkeypatch.setattr(tegrastats, "Tegrastats", refuse)
    with caplog.at_level(logging.WARNING, "anytime"):
        assert find_source(clockwatch.NO_GPU, MockClock()) is None
    assert "cannot be started" in caplog.text
