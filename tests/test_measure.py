"""Measuring a profile, on an engine whose costs are known."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from anytime.errors import EngineError, ProfileError
from anytime.ext.latency import Latency
from anytime.runtime.busy import busy_cores
from anytime.runtime.engine import FloatArray, Row
from anytime.runtime.measure import delivery_ns, measure
from anytime.runtime.ort.engine import LEAST_ROWS
from anytime.scheduler.clock import NS_PER_MS
from anytime.scheduler.profile import LatencyProfile, read, store
from anytime.scheduler.tail import summarize
from anytime.targets import Host, host
from anytime.testing import MockClock, ScriptedEngine
from tests.conftest import make_profile
from tests.doubles import PATIENCE_S, PassingClock

QUIET = Host("mock", "none", 2, 1.0, "unknown", "performance", 0.0)
STEADY = Latency(0.0, 20_000.0, 500_000.0, 0.0, NS_PER_MS)
SLOW_STEPS = Latency(0.0, 1_000_000.0, 10_000_000.0, 0.0, 20.0 * NS_PER_MS)  # a whole profile has not so many of them
IDLE = ("idle 1 ms", "idle 10 ms", "idle 100 ms")


class MoodyEngine(ScriptedEngine):
    """Its runs take ``mood(idle time before, runs before)`` times what they should."""

    def __init__(self, clock: MockClock, latency: Latency, mood: Callable[[int, int], float]) -> None:
        self._ended_ns = clock.now()
        super().__init__(
            clock,
            latency,
            lambda tokens: 0,
            max_context=1024,
            slowdown=lambda run: mood(clock.now() - self._ended_ns, run),
        )

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        logits = super().run(rows, generation)
        self._ended_ns = self._clock.now()
        return logits


def profiled(
    latency: Latency, mood: Callable[[int, int], float] = lambda idle_ns, run: 1.0, quick: bool = True, at: Host = QUIET
) -> LatencyProfile:
    clock = PassingClock()
    engine = MoodyEngine(clock, latency, mood)
    return measure(engine, make_profile(latency, spec=engine.spec).key, at, clock, quick)


def measured(latency: Latency, host: Host = QUIET, slow_every: int = 0) -> LatencyProfile:
    return profiled(latency, lambda _, run: 3.0 if slow_every and run % slow_every == 0 else 1.0, at=host)


def p50s(profile: LatencyProfile) -> dict[str, float]:
    return {regime.name: regime.tail.p50 for regime in profile.regimes}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Every process that is started, in order."""
    found = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            found.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return found


def test_measuring_recovers_the_costs() -> None:
    """Fitted coefficients predict every run of an engine that keeps to the model, and need no margin."""
    true = Latency(alpha=40.0, beta=18_000.0, gamma=600_000.0, p=400.0, q=300_000.0)
    profile = measured(true)
    found = profile.latency()
    for tokens, context in ((1, 100), (1, 600), (8, 64), (100, 0), (512, 512)):
        assert found.run_ns(tokens, context) == pytest.approx(true.run_ns(tokens, context), rel=0.03)
    assert profile.fit.step_margin < 1.03
    assert profile.fit.run_margin < 1.1
    assert profile.warnings == ()


def test_slow_steps_are_in_the_margin_not_in_the_prediction() -> None:
    """An engine that stalls now and then is predicted by its typical speed; the margin covers the stalls and warns."""
    true = Latency(0.0, 20_000.0, 500_000.0, 0.0, NS_PER_MS)
    profile = measured(true, slow_every=50)
    assert profile.fit.q == pytest.approx(true.q, rel=0.03)
    assert profile.fit.step_margin == pytest.approx(3.0, rel=0.05)
    assert any("taskset" in warning for warning in profile.warnings)


def test_a_long_thought_needs_a_smaller_margin_than_a_step() -> None:
    """Stalls average out over a segment, so that the token cap need not assume one in every step."""
    profile = measured(Latency(0.0, 20_000.0, 500_000.0, 0.0, NS_PER_MS), slow_every=50)
    assert profile.segment_margin(128) < 1.2 < profile.fit.step_margin


def test_warnings_name_their_cure() -> None:
    """A slow governor, a loaded machine and a single core are each named with what helps."""
    host = Host("mock", "none", 1, 1.0, "unknown", "powersave", 3.0)
    warnings = " ".join(measured(Latency(0.0, 20_000.0, 500_000.0, 0.0, NS_PER_MS), host).warnings)
    for cure in ("cpupower frequency-set", "end other programs", "a second one"):
        assert cure in warnings


def test_rows_and_forks_are_in_the_profile() -> None:
    """The cost of one step of 1, 2, 4 and 8 rows is measured at two contexts, and so is a fork."""
    true = Latency(40.0, 18_000.0, 600_000.0, 400.0, 300_000.0)
    profile = measured(true)
    assert [rows for rows, _, _ in profile.fit.widths] == [1, 2, 4, 8]
    assert {(branch.rows, branch.context) for branch in profile.branches} == {
        (rows, context) for rows in (1, 2, 4, 8) for context in (64, 512)
    }
    for rows in (1, 3, 8):  # the scripted engine runs rows side by side for the price of one
        assert profile.rows_ns(rows, 300) == pytest.approx(true.run_ns(1, 300), rel=0.03)
    assert profile.fork_ns(100) >= 0


def test_a_large_model_s_few_rows_are_enough_to_measure_it() -> None:
    """An engine with the fewest rows that a cache is made with can be profiled."""
    clock = PassingClock()
    engine = ScriptedEngine(clock, STEADY, lambda tokens: 0, max_context=1024, max_rows=LEAST_ROWS)
    profile = measure(engine, make_profile(STEADY, spec=engine.spec).key, QUIET, clock, True)
    assert profile.fit.widths[-1][0] == 2


def test_chunks_keep_the_longest_run_in_bounds() -> None:
    """No run of a prefill takes longer than the profile states, wherever in the context it is."""
    profile = measured(Latency(40.0, 18_000.0, 600_000.0, 400.0, 300_000.0))
    latency = profile.latency()
    for tokens in (1, 15, 16, 17, 300, 1000):
        context = 0
        for size in profile.chunks(tokens, 2):
            assert latency.upper_ns(size, context) <= profile.longest_run_ns
            context += size
        assert context == tokens


def test_a_steady_engine_is_alike_in_every_regime(started: list[subprocess.Popen[bytes]]) -> None:
    """First, warm, idle and loaded: an engine that minds none of them takes what is predicted in each."""
    profile = profiled(SLOW_STEPS, quick=False)
    assert [regime.name for regime in profile.regimes] == ["first", "warm", *IDLE, "loaded"]
    assert list(p50s(profile).values()) == pytest.approx([1.0] * 6, rel=0.01)
    assert profile.warnings == ()
    assert "not measured" not in profile.environment


def test_a_quick_profile_says_that_it_leaves_out_load(started: list[subprocess.Popen[bytes]]) -> None:
    """Quickly, no process is started, and the profile states what is missing."""
    profile = profiled(STEADY)
    assert started == []
    assert profile.regime("loaded") is None
    assert profile.environment["not measured"] == "loaded"


def test_a_cold_start_is_in_the_first_regime_only() -> None:
    """Slow first runs are seen before the warm-up, kept apart from the margins, and warned about with the cure."""
    profile = profiled(STEADY, lambda _, run: 6.0 if run <= 9 else 1.0)
    first = profile.regime("first")
    assert first is not None
    assert first.tail.most == pytest.approx(6.0, rel=0.02)
    assert [cell.tokens for cell in first.cells] == [64, 1]
    assert [profile.regime(name).tail.most for name in ("warm", *IDLE)] == pytest.approx([1.0] * 4, rel=0.01)  # type: ignore[union-attr]
    assert profile.fit.step_margin < 1.01
    (warning,) = profile.warnings
    assert "ask one question before traffic" in warning


def test_a_penalty_of_idling_is_in_the_regimes_of_long_gaps_only() -> None:
    """Steps that are slow behind 5 ms of rest are slow in the regimes of 10 and 100 ms, and the warning says how."""
    profile = profiled(STEADY, lambda idle_ns, run: 2.5 if run > 1 and idle_ns >= 5 * NS_PER_MS else 1.0)
    found = p50s(profile)
    assert [found[name] for name in ("first", "warm", *IDLE)] == pytest.approx([1.0, 1.0, 1.0, 2.5, 2.5], rel=0.02)
    assert profile.fit.step_margin < 1.01
    (warning,) = profile.warnings
    for text in ("ms of idling takes 2.5 times", "C-states", "governor"):
        assert text in warning


def test_slow_steps_under_load_are_in_the_loaded_regime_only(started: list[subprocess.Popen[bytes]]) -> None:
    """One busy process a core runs while, and only while, that regime is measured; all are ended, and it is warned."""

    def mood(idle_ns: int, run: int) -> float:
        return 4.0 if any(process.returncode is None for process in started) else 1.0

    profile = profiled(SLOW_STEPS, mood, quick=False)
    found = p50s(profile)
    assert found.pop("loaded") == pytest.approx(4.0, rel=0.01)
    assert list(found.values()) == pytest.approx([1.0] * 5, rel=0.01)
    assert profile.fit.step_margin < 1.01
    assert len(started) == QUIET.cores
    assert all(process.returncode is not None for process in started)
    (warning,) = profile.warnings
    assert "taskset" in warning
    assert "isolcpus" in warning


@pytest.mark.parametrize("error", [EngineError("the backend fell over"), KeyboardInterrupt()])
def test_no_busy_process_outlives_a_measurement_that_fails(
    started: list[subprocess.Popen[bytes]], error: BaseException
) -> None:
    """An engine that fails under load, or Ctrl-C there, ends the busy processes too."""

    def mood(idle_ns: int, run: int) -> float:
        if started:
            raise error
        return 1.0

    with pytest.raises(type(error)):
        profiled(SLOW_STEPS, mood, quick=False)
    assert len(started) == QUIET.cores
    assert all(process.returncode is not None for process in started)


def test_busy_processes_are_ended_where_one_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second process is refused the first does not stay behind."""
    real, started = subprocess.Popen, []

    def only_one(*args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        if started:
            raise OSError("no more processes")
        started.append(real(*args, **kwargs))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", only_one)
    with pytest.raises(OSError, match="no more"), busy_cores(2):
        pytest.fail("the block ran")
    assert started[0].returncode is not None


def test_busy_processes_end_with_their_parent() -> None:
    """Even a parent that is killed without a word leaves no busy process behind."""
    code = (
        "import subprocess, time; from anytime.runtime.busy import busy_cores\n"
        "with busy_cores(1): print('busy', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "busy\n"
        (busy,) = (
            pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if stat(pid)[1] == str(parent.pid)
        )
        parent.kill()
    assert wait_for(lambda: stat(busy)[0] in ("", "Z"))


def test_busy_processes_are_busy(started: list[subprocess.Popen[bytes]]) -> None:
    """Each of them uses up its core: its processor time goes up."""
    with busy_cores(2):
        assert len(started) == 2
        for process in started:
            assert wait_for(lambda pid=process.pid: int(stat(pid)[11]) >= 5)  # type: ignore[misc]


def test_load_that_ends_by_itself_is_an_error(started: list[subprocess.Popen[bytes]]) -> None:
    """A busy process that somebody else ended is reported: what was measured was not under load."""

    def mood(idle_ns: int, run: int) -> float:
        if started:
            started[0].kill()
            started[0].wait()
        return 1.0

    with pytest.raises(ProfileError, match="--quick"):
        profiled(SLOW_STEPS, mood, quick=False)
    assert all(process.returncode is not None for process in started)


def stat(pid: int) -> list[str]:
    """State, parent and so on of a process, as proc(5) numbers them from 3; of none, no state."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ["", ""]


def wait_for(what: Callable[[], bool]) -> bool:
    """Another process is waited for in real time; where the promise holds, for some milliseconds."""
    never = threading.Event()
    for _ in range(PATIENCE_S * 100):
        if what():
            return True
        never.wait(0.01)
    return False


def test_margins_do_not_depend_on_other_regimes() -> None:
    """A cold start and idle gaps ever so slow leave the fit as it is without them."""
    calm = profiled(STEADY)
    moody = profiled(STEADY, lambda idle_ns, run: 9.0 if run <= 9 or idle_ns > NS_PER_MS // 2 else 1.0)
    assert moody.fit.run_margin == calm.fit.run_margin
    assert moody.fit.step_margin == calm.fit.step_margin
    assert moody.fit.segments == calm.fit.segments


def test_summaries_can_be_had_from_the_samples() -> None:
    """Every regime keeps its times in the order measured; those of the warm one are the profile's steps."""
    profile = measured(STEADY, slow_every=50)
    for regime in profile.regimes:
        cells = regime.cells if regime.name != "warm" else profile.steps
        assert cells
        assert summarize([ratio for cell in cells for ratio in cell.ratios(profile.latency())]) == regime.tail


def test_regimes_state_clocks_and_power_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine tells of its clocks is kept with every regime."""
    files = {
        "scaling_governor": "schedutil",
        "scaling_cur_freq": "1200000",
        "scaling_max_freq": "2400000",
        "status": "MAXN",
    }
    monkeypatch.setattr(host, "_read", lambda path: files.get(path.rpartition("/")[2], ""))
    for regime in profiled(STEADY).regimes:
        assert (regime.clocks.governor, regime.clocks.power_mode) == ("schedutil", "MAXN")
        assert set(regime.clocks.mhz) == {1200}
        assert set(regime.clocks.most_mhz) == {2400}


def test_a_profile_with_regimes_is_stored_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured comes back equal; a profile stored before there were regimes is read as having none."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    profile = profiled(STEADY)
    path = store(profile)
    assert read(path, profile.key) == profile
    older = msgspec.json.decode(path.read_bytes())
    del older["regimes"]
    path.write_bytes(msgspec.json.encode(older))
    found = read(path, profile.key)
    assert found == msgspec.structs.replace(profile, regimes=())
    assert found.regime("warm") is None


@pytest.mark.parametrize(
    ("latest_ms", "kept_back_ms"),
    [(0.01, 0.3), (0.9, 1.0), (40.0, 2.0)],
)
def test_the_delivery_margin_covers_the_latest_wake_up_within_limits(latest_ms: float, kept_back_ms: float) -> None:
    """One late wake-up of three thousand counts; the stalls of a crowded machine do not."""
    lateness_ns = [20_000] * 2_999 + [round(latest_ms * NS_PER_MS)]
    assert delivery_ns(lateness_ns) == round(kept_back_ms * NS_PER_MS)
