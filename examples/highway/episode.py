"""One drive: traffic and driver in lock-step simulated time.

Every period the driver gets the scene. Who thinks is shown the newest when the thought before is over; what was decided
is in force from that instant, between two steps of the simulation if need be, until something else is. At first that is
IDLE.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from anytime.node.messages import Scene
from anytime.scheduler.clock import NS_PER_MS, NS_PER_S
from examples.highway.contenders import IDM, Reflex, Said
from examples.highway.traffic import Wheel, driven_by_idm, scene_of, traffic

LONGEST_PERIOD_NS = 200 * NS_PER_MS
LEAST_HZ = 15  # what highway-env simulates with
DURATION_S = 30.0


class Driver(Protocol):
    """Who is shown scenes and decides. Instants are ns since the episode began."""

    def offer(self, scene: Scene, now_ns: int) -> None:
        """A new scene, of now."""
        ...

    def until(self, now_ns: int) -> Iterable[Said]:
        """What was decided by now and not told yet, in order."""
        ...


class Episode(msgspec.Struct, frozen=True):
    """What came of a drive: a line of the file of finished ones.

    ``held`` counts periods in which no new decision came, so that the one before held; ``late``, decisions that came
    behind the period of their scene. ``age_ms`` and ``oldest_ms`` are how old the scene of a decision was when it came:
    the median, and the most. ``refused`` says why the node did not come up, where it did not.
    """

    contender: str
    seed: int
    pace: float
    period_ms: float
    live: bool
    success: bool
    mean_speed_m_s: float
    driven_s: float
    periods: int
    decisions: int
    held: int
    late: int
    age_ms: float
    oldest_ms: float
    sources: dict[str, int]
    actions: dict[str, int]
    refused: str = ""

    @property
    def score(self) -> float:
        """Success times speed, m/s."""
        return self.mean_speed_m_s if self.success else 0.0


def period_of(thought_ns: float) -> int:
    """How often the driver is asked, ns: 200 ms, or half the median time of a whole thought if that is less."""
    return min(LONGEST_PERIOD_NS, round(thought_ns / 2))


def steps_a_period(period_ns: int) -> int:
    """The fewest steps of the simulation with which it is no coarser than highway-env's own."""
    return max(1, math.ceil(LEAST_HZ * period_ns / NS_PER_S - 1e-9))


class Moment(msgspec.Struct, frozen=True):
    """A step of the simulation, for whoever watches."""

    at_ns: int
    environment: Any
    action: str
    latest: Said | None


class AtOnce:
    """A reflex: its decision is there with the scene."""

    def __init__(self, decide: Reflex) -> None:
        self._decide = decide
        self._said: list[Said] = []

    def offer(self, scene: Scene, now_ns: int) -> None:
        self._said = [Said(now_ns, now_ns, self._decide(scene))]

    def until(self, now_ns: int) -> Iterable[Said]:
        said, self._said = self._said, []
        return said


class Thinking(Protocol):
    """Thinks about one scene at a time, in simulated time."""

    def ask(self, scene: Scene, stamped_ns: int, at_ns: int) -> Said:
        """A scene of ``stamped_ns``, begun with at ``at_ns``."""
        ...


class OneByOne:
    """Shows a thinker one scene at a time, and the newest waits, as a node does it."""

    def __init__(self, thinker: Thinking) -> None:
        self._thinker = thinker
        self._waiting: tuple[int, Scene] | None = None
        self._said: Said | None = None

    def offer(self, scene: Scene, now_ns: int) -> None:
        self._waiting = now_ns, scene
        if self._said is None:
            self._begin(now_ns)

    def until(self, now_ns: int) -> Iterable[Said]:
        while self._said is not None and self._said.over_ns <= now_ns:
            said, self._said = self._said, None
            self._begin(said.over_ns)
            yield said

    def _begin(self, at_ns: int) -> None:
        if self._waiting is not None:
            (stamped_ns, scene), self._waiting = self._waiting, None
            self._said = self._thinker.ask(scene, stamped_ns, at_ns)


def at_once(now_ns: int) -> None:
    """Simulated time waits for nobody."""


def drive(
    contender: str,
    seed: int,
    period_ns: int,
    driver: Driver | None,
    *,
    pace: float = 1.0,
    live: bool = False,
    duration_s: float = DURATION_S,
    wait: Callable[[int], None] = at_once,
    watch: Callable[[Moment], None] = lambda moment: None,
) -> Episode:
    """Drive until the end or a crash.

    Args:
        contender: who drives, by name.
        seed: of the traffic.
        period_ns: how often there is a scene.
        driver: who decides; None: highway-env's own driver.
        pace: for the record only, as is
        live: whether it was on the wall clock.
        duration_s: in the traffic's time.
        wait: returns when the traffic's time may come to an instant.
        watch: shown every step.
    """
    trip = Trip(seed, period_ns, by_itself=driver is None)
    a_period = steps_a_period(period_ns)
    step_ns = period_ns / a_period
    wait(0)
    for step in range(round(duration_s * NS_PER_S / step_ns)):
        now_ns, next_ns = round(step * step_ns), round((step + 1) * step_ns)
        if driver is not None and step % a_period == 0:
            driver.offer(scene_of(trip.environment), now_ns)
        wait(next_ns)
        if driver is not None:
            for said in driver.until(next_ns - 1):  # what comes with the next scene belongs to the next step
                trip.go_on(said.over_ns)
                trip.log.take(said, trip.wheel)
        trip.go_on(next_ns)
        watch(Moment(now_ns, trip.environment, trip.wheel.action, trip.log.latest))
        if trip.crashed:
            break
    return trip.log.episode(contender, seed, pace, trip.crashed, live)


class Trip:
    """Our car in its traffic, and the log of that; ``by_itself``: highway-env's own driver drives it."""

    def __init__(self, seed: int, period_ns: int, by_itself: bool) -> None:
        self.environment = traffic(seed)
        self._steered = not by_itself
        if by_itself:
            driven_by_idm(self.environment)
        self.wheel, self.log = Wheel(self.environment.vehicle), Log(period_ns)

    @property
    def crashed(self) -> bool:
        return bool(self.environment.vehicle.crashed)

    def go_on(self, to_ns: int) -> None:
        """A step of the simulation, with what is in force, unless we are there already or have crashed."""
        span_ns = to_ns - self.log.driven_ns
        if span_ns <= 0 or self.crashed:
            return
        if self._steered:
            self.wheel.act()
        self.environment.road.act()
        self.environment.road.step(span_ns / NS_PER_S)
        self.log.moved(float(self.environment.vehicle.speed), span_ns)


class Log:
    """What is counted on the way."""

    def __init__(self, period_ns: int) -> None:
        self.period_ns = period_ns
        self.driven_ns = 0
        self._speeds_ns = 0.0  # each times how long it lasted
        self.latest: Said | None = None
        self._ages_ms: list[float] = []
        self._fresh: set[int] = set()
        self._late = 0
        self._sources: dict[str, int] = {}
        self._actions: dict[str, int] = {}

    def moved(self, speed_m_s: float, span_ns: int) -> None:
        """A step of the simulation is done, and so fast we are behind it."""
        self.driven_ns += span_ns
        self._speeds_ns += speed_m_s * span_ns

    def take(self, said: Said, wheel: Wheel) -> None:
        """A driver is done with a scene: what it decided is in force from now on."""
        self.latest = said
        if said.decision is not None:
            source = said.decision.source
            self._sources[source] = self._sources.get(source, 0) + 1
        if said.action is None:
            return
        wheel.decide(said.action)
        self._actions[said.action] = self._actions.get(said.action, 0) + 1
        self._fresh.add(said.over_ns // self.period_ns)
        age_ns = said.over_ns - said.stamped_ns
        self._late += age_ns > self.period_ns
        self._ages_ms.append(round(age_ns / NS_PER_MS, 3))

    def episode(self, contender: str, seed: int, pace: float, crashed: bool, live: bool) -> Episode:
        """The drive as it ended."""
        periods = math.ceil(self.driven_ns / self.period_ns)
        return Episode(
            contender=contender,
            seed=seed,
            pace=pace,
            period_ms=self.period_ns / NS_PER_MS,
            live=live,
            success=not crashed,
            mean_speed_m_s=self._speeds_ns / self.driven_ns,
            driven_s=self.driven_ns / NS_PER_S,
            periods=periods,
            decisions=len(self._ages_ms),
            held=0 if contender == IDM else periods - len({k for k in self._fresh if k < periods}),
            late=self._late,
            age_ms=statistics.median(self._ages_ms) if self._ages_ms else 0.0,
            oldest_ms=max(self._ages_ms, default=0.0),
            sources=self._sources,
            actions=self._actions,
        )
