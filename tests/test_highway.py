"""The closed driving loop: its traffic is highway-env's, its time simulated, and what is late does not count."""

from __future__ import annotations

import io
import itertools
import threading
from xml.etree import ElementTree

import pytest
from rich.console import Console

from anytime.errors import StepTerminated
from anytime.ext.latency import Latency
from anytime.node.messages import Scene
from anytime.runtime.engine import Burst, Row
from anytime.scheduler.clock import NS_PER_MS, NS_PER_S
from anytime.testing import MockClock, ScriptedEngine
from bench.highway.runs import simulated
from examples.highway.contenders import CONTENDERS, IDM, REFLEXES, Said, teacher
from examples.highway.episode import AtOnce, Moment, OneByOne, drive, period_of, steps_a_period
from examples.highway.live import LiveDriver
from examples.highway.lockstep import LockstepClock
from examples.highway.paced import Drawn, PacedEngine, residuals_of, slowed
from examples.highway.recording import Recorder
from examples.highway.render import svg
from examples.highway.setting import Setting, pace_for
from examples.highway.view import panel
from tests.highway_setting import PERIOD_NS, made_up, profile_of


class Late:
    """Thinks for as long as it is told to, and always decides the same."""

    def __init__(self, action: str | None, spans_ms: list[int]) -> None:
        self.asked: list[tuple[int, int]] = []
        self._action, self._spans = action, itertools.cycle(spans_ms)

    def ask(self, scene: Scene, stamped_ns: int, at_ns: int) -> Said:
        self.asked.append((stamped_ns // NS_PER_MS, at_ns // NS_PER_MS))
        return Said(stamped_ns, at_ns + next(self._spans) * NS_PER_MS, self._action)


def test_a_late_decision_lets_the_one_before_hold() -> None:
    """What takes 500 ms is in force from then on, and until then IDLE is."""
    seen: list[tuple[int, str]] = []

    def watch(moment: Moment) -> None:
        seen.append((moment.at_ns // NS_PER_MS, moment.action))

    thinker = Late("SLOWER", [500])
    episode = drive("unconstrained", 1, PERIOD_NS, OneByOne(thinker), duration_s=1.0, watch=watch)
    assert [at for at, action in seen if action == "IDLE"] == [0, 66, 133, 200, 266, 333, 400]
    assert all(action == "SLOWER" for at, action in seen if at >= 466)  # the step from there was cut in two at 500
    assert (episode.periods, episode.decisions, episode.held, episode.late) == (5, 1, 4, 1)
    # The scene of 400 ms waited, those before it were dropped.
    assert thinker.asked == [(0, 0), (400, 500)]


def test_a_decision_is_in_force_from_its_instant() -> None:
    """Not from the next step of the simulation: the later we brake within one, the faster we were."""
    speeds = []
    for span_ms in (0, 20, 40, 60):
        driver = OneByOne(Late("SLOWER", [span_ms]))
        speeds.append(drive("unconstrained", 1, PERIOD_NS, driver, duration_s=0.2).mean_speed_m_s)
    assert speeds == sorted(set(speeds))


def test_no_scene_is_shown_before_its_time() -> None:
    """Not the first one either: a node refuses stamps of the future."""
    came, offered = [], []

    class Watching(OneByOne):
        def offer(self, scene: Scene, now_ns: int) -> None:
            offered.append(now_ns)
            assert came
            assert came[-1] >= now_ns

    drive("instant", 1, PERIOD_NS, Watching(Late(None, [50])), duration_s=0.6, wait=came.append)
    assert offered == [0, PERIOD_NS, 2 * PERIOD_NS]


def test_no_decision_lets_the_one_before_hold() -> None:
    """A scene that nothing came of changes nothing, and its period counts as held."""
    episode = drive("reasoner", 1, PERIOD_NS, OneByOne(Late(None, [50])), duration_s=0.6)
    assert (episode.decisions, episode.held, episode.periods) == (0, 3, 3)
    idle = drive("idle", 1, PERIOD_NS, AtOnce(lambda scene: "IDLE"), duration_s=0.6)
    assert episode.mean_speed_m_s == idle.mean_speed_m_s


def test_a_crash_ends_the_drive() -> None:
    """Idle at 25 m/s in dense traffic crashes, which counts as no success however fast it was."""
    episode = drive("idle", 1, PERIOD_NS, AtOnce(lambda scene: "IDLE"))
    assert not episode.success
    assert episode.driven_s < 30.0
    assert episode.score == 0.0
    assert episode.mean_speed_m_s > 20.0


def test_the_period_is_half_a_whole_thought_and_at_most_200_ms() -> None:
    """And the traffic is simulated no more coarsely than highway-env does it."""
    assert period_of(26 * NS_PER_MS) == 13 * NS_PER_MS
    assert period_of(NS_PER_S) == PERIOD_NS
    assert [steps_a_period(ms * NS_PER_MS) for ms in (13, 66, 67, 100, 200)] == [1, 1, 2, 2, 3]


def test_time_passes_only_while_both_wait() -> None:
    """A deadline comes exactly between two runs of an engine, however slowly the threads run."""
    clock, order = LockstepClock(), []

    def engine() -> None:
        never = threading.Event()
        for span in (30, 30, 30, 30):
            clock.wait_until(never, clock.now() + span)
            order.append(clock.now())

    thread = threading.Thread(target=engine)
    thread.start()
    assert not clock.wait_until(threading.Event(), 100)
    assert clock.now() == 100
    assert order == [30, 60, 90]
    told = threading.Event()
    waiter = threading.Thread(target=lambda: clock.wait_until(told, 10**12))
    waiter.start()
    thread.join()
    assert order[-1] == 120
    told.set()
    waiter.join()


def test_a_terminated_run_has_not_run() -> None:
    """A run ends at once and leaves its sequence alone; a burst keeps what it had done by then."""
    profile, clock = profile_of(Latency(0.0, 0.0, 1e6, 0.0, 1e6, 1.0, 1.0)), LockstepClock()
    inner = ScriptedEngine(MockClock(), profile.latency(), lambda tokens: 7)
    engine = PacedEngine(inner, clock, Drawn(profile, residuals_of(profile), seed=1))
    seq, outcome = engine.open(), []

    def work() -> None:
        outcome.append(engine.extend([Burst(seq, 5, ())], 8, 1)[0])
        try:
            engine.run([Row(seq, [1, 2, 3])], 2)
        except StepTerminated:
            outcome.append([])

    thread = threading.Thread(target=work)
    thread.start()
    never = threading.Event()
    clock.wait_until(never, 5 * NS_PER_MS // 2)
    engine.terminate(1)
    clock.wait_until(never, 5 * NS_PER_MS // 2 + NS_PER_MS // 2)
    engine.terminate(2)
    thread.join()
    taken, ran = outcome
    assert 1 <= len(taken) <= 2
    assert ran == []
    assert seq.length == len(taken)
    engine.close_all()
    assert engine.free_rows == inner.spec.max_rows


def test_slower_is_slower_in_all_that_the_engine_does() -> None:
    """A profile at another pace predicts and measured that many times as much; a caller is woken as before."""
    profile = profile_of(Latency(2.0, 3e4, 1e5, 60.0, 7e4, 1.5, 1.2))
    slow = slowed(profile, 10.0)
    assert slow.latency().run_ns(64, 100) == pytest.approx(10 * profile.latency().run_ns(64, 100), rel=1e-6)
    assert slow.steps[0].ratios(slow.latency()) == pytest.approx(profile.steps[0].ratios(profile.latency()), rel=1e-3)
    assert slow.delivery_ns == profile.delivery_ns


def test_on_the_usual_machine_half_a_whole_thought_is_the_longest_period() -> None:
    """Where no pace is given; a machine slower than that is taken as it is."""
    assert pace_for(40 * NS_PER_MS) == 10.0
    assert pace_for(1_100 * NS_PER_MS) == 1.0
    assert period_of(10 * 40 * NS_PER_MS) == PERIOD_NS


@pytest.fixture(scope="module")
def setting() -> Setting:
    return made_up()


def test_a_drive_follows_from_its_seed(setting: Setting) -> None:
    """The same to the last bit a second time, another with another seed; how fast this machine is does not show."""
    driven = [simulated(setting, ("reasoner", seed)) for seed in (3, 3, 4)]
    assert driven[0] == driven[1]
    assert driven[0].age_ms != driven[2].age_ms
    assert 0 < driven[0].age_ms <= driven[0].oldest_ms < 200.0


@pytest.mark.parametrize("name", [name for name in CONTENDERS if name != IDM])
def test_every_contender_decides(setting: Setting, name: str) -> None:
    """At its pace; but who is given less time than a first answer takes does not come up, and decides nothing."""
    episode = simulated(setting, (name, 0))
    if name in ("reasoner-20ms", "reasoner-50ms"):
        assert episode.decisions == 0
        assert episode.held == episode.periods == 8
        return
    assert episode.decisions >= 2
    assert set(episode.actions) <= {"LANE_LEFT", "IDLE", "LANE_RIGHT", "FASTER", "SLOWER"}
    if name in REFLEXES:
        assert (episode.decisions, episode.held, episode.late) == (8, 0, 0)
    if name == "instant":
        assert set(episode.sources) == {"instant"}
    if name == "unconstrained":
        assert set(episode.sources) == {"thought"}
        assert episode.held > 0
        assert episode.oldest_ms > 200.0


def test_a_budget_as_long_as_the_period_is_no_other_contender(setting: Setting) -> None:
    """Its drives would be the same ones."""
    assert [name for name in CONTENDERS if not setting.own(name)] == ["reasoner-200ms"]


def test_idm_drives_by_itself() -> None:
    """Our car is one of highway-env's own, and brakes in dense traffic."""
    episode = drive(IDM, 0, PERIOD_NS, None, duration_s=1.6)
    assert (episode.held, episode.decisions) == (0, 0)
    assert episode.mean_speed_m_s < 25.0


def test_on_the_wall_clock(setting: Setting) -> None:
    """A node with threads of its own decides as the traffic goes on."""
    driver = LiveDriver(setting, "unconstrained", 0)  # whose budget no load of this machine exhausts
    episode = drive("unconstrained", 0, PERIOD_NS, driver, live=True, duration_s=0.6, wait=driver.wait)
    driver.close()
    assert driver.refused == ""
    assert episode.live
    assert episode.periods == 3
    assert setting.loaded.engine.free_rows == setting.loaded.engine.spec.max_rows


def test_a_drive_can_be_watched_and_drawn() -> None:
    """The view in the terminal has our car on it; the picture is well-formed, small, and begins where it is told to."""
    recorder, shown = Recorder(), []

    def watch(moment: Moment) -> None:
        recorder.watch(moment)
        shown.append(panel("teacher", moment))

    episode = drive("teacher", 0, PERIOD_NS, AtOnce(teacher), duration_s=3.0, watch=watch)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(shown[-1])
    assert "█" in console.export_text()
    picture = svg(recorder.recording(episode), 0.0, 3.0)
    root = ElementTree.fromstring(picture)
    assert root.tag.endswith("svg")
    assert picture.count('class="own"') == 1
    assert len(picture) < 60_000
    with pytest.raises(SystemExit, match="longer piece"):
        svg(recorder.recording(episode), 7.0, 9.0)
