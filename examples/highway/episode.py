"""One drive: traffic and driver in lock-step simulated time.

Every period the driver gets the scene. Who thinks is shown the newest when the thought before is over; what was decided
is in force from the next step of the simulation until something else is. At first that is IDLE.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from anytime.node.messages import Scene
from anytime.scheduler.clock import NS_PER_MS, NS_PER_S
from examples.highway.contenders import IDM, Reflex, Said, reflex
from examples.highway.traffic import Wheel, driven_by_idm, scene_of, traffic

LONGEST_PERIOD_NS = 200 * NS_PER_MS
LEAST_HZ = 15  # what highway-env simulates with
DURATION_S = 30.0


class Driver(Protocol):
    """Who thinks about scenes, one after the other."""

    def ask(self, scene: Scene, stamped_ns: int, at_ns: int) -> Said: ...


class Episode(msgspec.Struct, frozen=True):
    """What came of a drive: a line of the file of finished ones.

    ``held`` counts periods in which no new decision came, so that the one before held; ``ages_ms`` are how old the
    scene of each decision was when it came.
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
    ages_ms: list[float]
    sources: dict[str, int]
    actions: dict[str, int]

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
    environment: object
    action: str
    latest: Said | None


class Asking:
    """Who is shown which scene when: one at a time, and the newest waits."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._waiting: tuple[int, Scene] | None = None
        self._said: Said | None = None
        self._free_ns = 0

    def until(self, now_ns: int) -> Iterator[Said]:
        """What was over by now, in order; whatever waited when it was is begun then."""
        while self._said is not None and self._said.over_ns <= now_ns:
            said, self._said = self._said, None
            self._free_ns = said.over_ns
            self._begin()
            yield said

    def offer(self, scene: Scene, now_ns: int) -> None:
        """A new scene; another one that still waits is dropped."""
        self._waiting = now_ns, scene
        if self._said is None:
            self._free_ns = now_ns
            self._begin()

    def _begin(self) -> None:
        if self._waiting is not None:
            stamped_ns, scene = self._waiting
            self._waiting = None
            self._said = self._driver.ask(scene, stamped_ns, max(stamped_ns, self._free_ns))


class AtOnce:
    """A reflex as a driver."""

    def __init__(self, decide: Reflex) -> None:
        self._decide = decide

    def ask(self, scene: Scene, stamped_ns: int, at_ns: int) -> Said:
        return Said(stamped_ns, at_ns, self._decide(scene))


def drive(
    contender: str,
    seed: int,
    period_ns: int,
    pace: float = 1.0,
    driver: Driver | None = None,
    duration_s: float = DURATION_S,
    watch: Callable[[Moment], None] = lambda moment: None,
) -> Episode:
    """Drive until the end or a crash.

    Args:
        contender: who drives; ``driver`` is the one who thinks, for those who do.
        seed: of the traffic, and of chance.
        period_ns: how often the driver is asked.
        pace: noted only.
        driver: who thinks.
        duration_s: in simulated time.
        watch: shown every step.
    """
    environment = traffic(seed)
    a_period = steps_a_period(period_ns)
    step_ns = period_ns / a_period
    if contender == IDM:
        driven_by_idm(environment)
    asking = Asking(driver or AtOnce(reflex(contender, seed))) if contender != IDM else None
    car, log = environment.vehicle, Log(period_ns)
    wheel = Wheel(car)
    for step in range(round(duration_s * NS_PER_S / step_ns)):
        now_ns = round(step * step_ns)
        if asking is not None:
            if step % a_period == 0:
                # What is over at this very instant makes room for the scene of now, not for the one that waited.
                for said in asking.until(now_ns - 1):
                    log.take(said, wheel)
                asking.offer(scene_of(environment), now_ns)
            for said in asking.until(now_ns):
                log.take(said, wheel)
            wheel.act()
        environment.road.act()
        environment.road.step(step_ns / NS_PER_S)
        log.speeds_m_s.append(float(car.speed))
        watch(Moment(now_ns, environment, wheel.action, log.latest))
        if car.crashed:
            break
    return log.episode(contender, seed, pace, bool(car.crashed), step_ns)


class Log:
    """What is counted on the way."""

    def __init__(self, period_ns: int) -> None:
        self.period_ns = period_ns
        self.speeds_m_s: list[float] = []
        self.latest: Said | None = None
        self._ages_ms: list[float] = []
        self._fresh: set[int] = set()
        self._late = 0
        self._sources: dict[str, int] = {}
        self._actions: dict[str, int] = {}

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

    def episode(
        self, contender: str, seed: int, pace: float, crashed: bool, step_ns: float, live: bool = False
    ) -> Episode:
        """The drive as it ended."""
        driven_s = len(self.speeds_m_s) * step_ns / NS_PER_S
        periods = math.ceil(driven_s * NS_PER_S / self.period_ns - 1e-9)
        return Episode(
            contender=contender,
            seed=seed,
            pace=pace,
            period_ms=self.period_ns / NS_PER_MS,
            live=live,
            success=not crashed,
            mean_speed_m_s=math.fsum(self.speeds_m_s) / len(self.speeds_m_s),
            driven_s=round(driven_s, 6),
            periods=periods,
            decisions=len(self._ages_ms),
            held=0 if contender == IDM else periods - len({k for k in self._fresh if k < periods}),
            late=self._late,
            ages_ms=self._ages_ms,
            sources=self._sources,
            actions=self._actions,
        )
