"""Periodic tasks on one engine: are they schedulable, what thought does each get, and what would make them fit?

Imprecise computation (Liu et al. 1991): prefill and instant answer of a job are mandatory, stages of thought optional.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from anytime.scheduler.clock import NS_PER_S
from anytime.scheduler.demand import Finding, Load, demand_test, utilization
from anytime.scheduler.stages import hull

LONGEST_PERIOD_NS = 86_400 * NS_PER_S
_PERIOD_GRAIN_NS = 1_000
_SPEED_GRAIN = 1_000  # parts of 1 in which a speed-up is told
_MOST_SPEED = 1_000


class Stage(msgspec.Struct, frozen=True):
    """A thought of ``tokens`` by this effort, instead of the one of the stage before: what that adds in time.

    ``quality``: the probability that the answer behind it is right.
    """

    cost_ns: int
    quality: float
    tokens: int
    effort: str


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A periodic task. ``cost_ns``: upper bound of the mandatory part of a job; ``run_ns``: of its longest stretch.

    That is what cannot be interrupted, of its thought too, granted or not: a job thinks on with time nobody else wants.
    ``quality``: of the answer without thought, None where nothing is known of it, and then there are no ``stages``.
    These bring the less a nanosecond, the later they are. A task with a higher ``priority`` gets its thought first.
    """

    name: str
    period_ns: int
    deadline_ns: int
    cost_ns: int
    run_ns: int
    phase_ns: int = 0
    priority: int = 0
    min_quality: float = 0.0
    quality: float | None = None
    stages: tuple[Stage, ...] = ()

    def load(self, stages: int = 0) -> Load:
        """What a job of so many stages asks of the engine."""
        cost_ns = self.cost_ns + self.thought_ns(stages)
        return Load(self.period_ns, self.deadline_ns, cost_ns, self.run_ns)

    def thought_ns(self, stages: int) -> int:
        """The time of so many stages."""
        return sum(stage.cost_ns for stage in self.stages[:stages])

    def quality_of(self, stages: int) -> float | None:
        """The quality behind so many stages."""
        return self.stages[stages - 1].quality if stages else self.quality

    def falls_short(self, stages: int) -> bool:
        """Whether that is less than the task must get."""
        return (self.quality_of(stages) or 0.0) < self.min_quality

    def needed(self) -> int | None:
        """Stages without which it falls short; None where all of them are not enough."""
        return next((n for n in range(len(self.stages) + 1) if not self.falls_short(n)), None)


class Failure(msgspec.Struct, frozen=True):
    """Which task fails, and how; ``demand``, ``utilization`` and ``unproven`` as in ``Finding``.

    ``quality``: there is no time for the thought that its minimum needs; ``forecast``: no thought reaches it.
    """

    place: int
    test: Literal["demand", "utilization", "unproven", "quality", "forecast"]


class Cure(msgspec.Struct, frozen=True):
    """What would make the tasks fit, minimum qualities and all; None where that alone does not.

    ``period_ns``: the least period of the task that fails, the others as they are; its deadline goes with it where it
    is the period. ``speed``: how many times as fast everything would have to be.
    """

    period_ns: int | None
    speed: float | None


class Decision(msgspec.Struct, frozen=True):
    """``finding`` is of the mandatory parts alone, ``thinking`` of them with the stages granted, a number each task."""

    finding: Finding
    thinking: Finding
    granted: tuple[int, ...]
    failures: tuple[Failure, ...]
    cure: Cure | None


def decide(tasks: Sequence[Task]) -> Decision:
    """Test one or more tasks, and share what time is left among their thoughts."""
    finding = demand_test([task.load() for task in tasks])
    if finding.holds:
        granted = grant(tasks)
        thinking = demand_test(loads(tasks, granted))
        failures = _short(tasks, granted)
    else:
        granted, thinking = [0] * len(tasks), finding
        failures = [_failure(tasks, finding)]
    return Decision(finding, thinking, tuple(granted), tuple(failures), cure(tasks, failures[0]) if failures else None)


def loads(tasks: Sequence[Task], granted: Iterable[int]) -> list[Load]:
    """What the tasks ask of the engine, with so many stages each."""
    return [task.load(stages) for task, stages in zip(tasks, granted, strict=True)]


def grant(tasks: Sequence[Task]) -> list[int]:
    """Stages for each of some schedulable tasks: one after the other, while all deadlines are met.

    First for whoever is below its minimum, then by priority, then to where a nanosecond brings most. A task whose next
    stage does not fit gets no more.
    """
    granted = [0] * len(tasks)
    wanting = {place for place, task in enumerate(tasks) if task.stages}

    def rank(place: int) -> tuple[bool, int, float, int]:
        task, stages = tasks[place], granted[place]
        stage = task.stages[stages]
        gain = stage.quality - (task.quality_of(stages) or 0.0)
        return task.falls_short(stages), task.priority, gain / stage.cost_ns, -place

    while wanting:
        place = max(wanting, key=rank)
        granted[place] += 1
        if not demand_test(loads(tasks, granted)).holds:
            granted[place] -= 1
            wanting.remove(place)
        elif granted[place] == len(tasks[place].stages):
            wanting.remove(place)
    return granted


def _failure(tasks: Sequence[Task], finding: Finding) -> Failure:
    """The first task, in the order of deadlines, with whose release the test fails, or with which there is no proof."""
    if finding.outcome == "demand":
        return Failure(finding.point.place, "demand")
    order = sorted(range(len(tasks)), key=lambda place: tasks[place].deadline_ns)
    for count, place in enumerate(order, 1):
        if utilization([tasks[i].load() for i in order[:count]]) > 1:
            return Failure(place, "utilization")
    return Failure(order[-1], "unproven")


def _short(tasks: Sequence[Task], granted: Sequence[int]) -> list[Failure]:
    """The tasks below their minimum, in the order of deadlines."""
    order = sorted(range(len(tasks)), key=lambda place: tasks[place].deadline_ns)
    return [
        Failure(place, "forecast" if tasks[place].needed() is None else "quality")
        for place in order
        if tasks[place].falls_short(granted[place])
    ]


def cure(tasks: Sequence[Task], failure: Failure) -> Cure:
    """Binary searches for what would make the tasks fit; no more time cures a quality that no thought reaches."""
    if failure.test == "forecast":
        return Cure(None, None)
    needed = [task.load(task.needed() or 0) for task in tasks]

    def fits_period(grains: int) -> bool:
        load, period_ns = needed[failure.place], grains * _PERIOD_GRAIN_NS
        deadline_ns = period_ns if load.deadline_ns == load.period_ns else load.deadline_ns
        slower = Load(period_ns, deadline_ns, load.cost_ns, load.run_ns)
        return demand_test([*needed[: failure.place], slower, *needed[failure.place + 1 :]]).holds

    def fits_speed(grains: int) -> bool:
        return demand_test([_faster(load, grains) for load in needed]).holds

    now = max(1, needed[failure.place].period_ns // _PERIOD_GRAIN_NS)
    period = _least(fits_period, now, LONGEST_PERIOD_NS // _PERIOD_GRAIN_NS)
    speed = _least(fits_speed, _SPEED_GRAIN, _MOST_SPEED * _SPEED_GRAIN)
    return Cure(period and period * _PERIOD_GRAIN_NS, speed and speed / _SPEED_GRAIN)


def _faster(load: Load, grains: int) -> Load:
    cost_ns, run_ns = (-(-ns * _SPEED_GRAIN // grains) for ns in (load.cost_ns, load.run_ns))
    return Load(load.period_ns, load.deadline_ns, cost_ns, run_ns)


def _least(fits: Callable[[int], bool], fails: int, most: int) -> int | None:
    """The least number over ``fails`` that fits, at most ``most``, where all larger ones fit too; None where none."""
    low, high = fails, min(2 * fails, most)
    while high <= low or not fits(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def stages_of(quality: float, thoughts: Iterable[tuple[int, float, int, str]]) -> tuple[Stage, ...]:
    """Stages from thoughts (cost in ns, quality, tokens, effort), that start from a quality without any."""
    corners = hull((0, quality, 0, ""), thoughts)
    return tuple(
        Stage(after[0] - before[0], after[1], after[2], after[3]) for before, after in itertools.pairwise(corners)
    )
