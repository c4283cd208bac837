"""Periodic tasks: the demand test held to simulated schedules, the sharing of thought, and what makes tasks fit."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from anytime.scheduler import demand
from anytime.scheduler.demand import Load, blocking_ns, demand_ns, demand_test, horizon_ns, utilization
from anytime.scheduler.taskset import Stage, Task, decide, grant, loads, stages_of

Job = tuple[int, int, int, list[int]]  # release, absolute deadline, place, runs left


def misses(tasks: Sequence[Load], until: int, phases: Sequence[int], dice: random.Random | None) -> bool:
    """Whether earliest deadline first misses a deadline up to ``until``, one uninterrupted run after the other.

    With dice, jobs are cut into runs of random lengths, take less than they may, and come later than they could. While
    nobody waits for an answer, a job that has its own thinks on, when that is worst: begun just before a release.
    """
    jobs = [job for place, load in enumerate(tasks) for job in released(load, place, until, phases[place], dice)]
    now, left, answered = 0, sorted(jobs), []
    while left:
        ready = [job for job in left if job[0] <= now]
        if not ready:
            now = free_again(tasks, answered, now, left[0][0], dice)
            continue
        job = min(ready, key=lambda one: (one[1], one[2]))
        now += job[3].pop()
        if not job[3]:
            if now > job[1]:
                return True
            left.remove(job)
            answered.append(job)
    return False


def free_again(
    tasks: Sequence[Load], answered: Sequence[Job], now: int, release: int, dice: random.Random | None
) -> int:
    """When a stretch of thought ends that begins before the next release, by its job's deadline; or that release."""
    at = dice.choice((release - 1, dice.randint(now, release - 1))) if dice else release - 1
    stretches = [min(tasks[place].run_ns, due - at) for _, due, place, _ in answered if due > at] or [0]
    stretch = dice.choice((max(stretches), *stretches)) if dice else max(stretches)
    return at + stretch if stretch else release


def released(load: Load, place: int, until: int, phase: int, dice: random.Random | None) -> list[Job]:
    jobs, at = [], phase
    while at + load.deadline_ns <= until:
        jobs.append((at, at + load.deadline_ns, place, runs_of(load, dice)))
        at += load.period_ns + (dice.choice((0, 0, 0, 1, 2)) if dice else 0)
    return jobs


def runs_of(load: Load, dice: random.Random | None) -> list[int]:
    """Without dice, runs of 1: as good as interruptible anywhere."""
    left = dice.choice((load.cost_ns, load.cost_ns, dice.randint(1, load.cost_ns))) if dice else load.cost_ns
    runs = []
    while left:
        longest = min(left, load.run_ns)
        runs.append(dice.choice((longest, dice.randint(1, longest))) if dice else 1)
        left -= runs[-1]
    return runs


@st.composite
def loads_drawn(draw: st.DrawFn, most: int = 4, longest_run: int = 4) -> list[Load]:
    """A few loads of small numbers, often near to full use."""
    found = []
    for _ in range(draw(st.integers(1, most))):
        period = draw(st.sampled_from((4, 5, 6, 8, 9, 10, 12, 15, 20)))
        cost = draw(st.integers(1, max(1, period // 2)))
        deadline = draw(st.integers(cost, period) | st.just(period))
        found.append(Load(period, deadline, cost, min(cost, draw(st.integers(0, longest_run)))))
    return found


def stretched(tasks: Sequence[Load], runs: Sequence[int]) -> list[Load]:
    return [msgspec.structs.replace(load, run_ns=run) for load, run in zip(tasks, runs, strict=True)]


def cycle(tasks: Sequence[Load]) -> int:
    return math.lcm(*(load.period_ns for load in tasks))


@settings(max_examples=400)
@given(loads_drawn(longest_run=0))
def test_without_blocking_the_test_is_exact(tasks: list[Load]) -> None:
    """Where work can be interrupted anywhere, the test holds exactly when the simulated schedule misses nothing."""
    assert demand_test(tasks).holds == (
        not misses(tasks, 2 * cycle(tasks) if utilization(tasks) <= 1 else 400 * cycle(tasks), [0] * len(tasks), None)
    )


@settings(max_examples=400)
@given(loads_drawn(), st.data(), st.randoms(use_true_random=False))
def test_what_the_test_admits_never_misses(tasks: list[Load], data: st.DataObject, dice: random.Random) -> None:
    """Whatever the phases, the lengths of runs, late releases, short jobs and thought meanwhile: all is on time."""
    rising = itertools.takewhile(lambda ns: demand_test(stretched(tasks, [ns] * len(tasks))).holds, range(1, 13))
    longest = max(rising, default=0)
    assume(longest)
    tasks = stretched(tasks, [data.draw(st.integers(1, longest) | st.just(longest)) for _ in tasks])
    assert demand_test(tasks).holds
    until = min(2 * cycle(tasks), 200) + 40
    assert not misses(tasks, until, [0] * len(tasks), dice)
    for _ in range(4):
        phases = [data.draw(st.integers(0, 20)) for _ in tasks]
        assert not misses(tasks, until, phases, None)
        assert not misses(tasks, until, phases, dice)


@settings(max_examples=300)
@given(loads_drawn())
def test_the_finding_is_that_of_every_instant(tasks: list[Load]) -> None:
    """Looking at every nanosecond of two hyperperiods finds the same first failure, or none."""
    assume(utilization(tasks) <= 1)
    found = demand_test(tasks)
    instants = range(min(load.deadline_ns for load in tasks), 2 * cycle(tasks) + 1)
    failing = [t for t in instants if demand_ns(tasks, t) + blocking_ns(tasks) > t]
    assert found.holds == (not failing)
    at = found.point.at_ns
    assert (found.point.demand_ns, found.blocking_ns) == (demand_ns(tasks, at), blocking_ns(tasks))
    assert (at - tasks[found.point.place].deadline_ns) % tasks[found.point.place].period_ns == 0
    if failing:
        assert at == failing[0] <= horizon_ns(tasks)


def test_full_use_passes_and_a_nanosecond_more_does_not() -> None:
    """Deadlines at the periods, no blocking: utilization 1 is schedulable (Liu and Layland 1973), and no more."""
    half, other = Load(10, 10, 5, 0), Load(20, 20, 10, 0)
    assert utilization([half, other]) == 1
    assert demand_test([half, other]).holds
    more = demand_test([half, Load(20, 20, 11, 0)])
    assert (more.outcome, more.point.at_ns, more.point.demand_ns) == ("demand", 20, 21)


def test_the_longest_stretch_counts_whoever_it_belongs_to() -> None:
    """A stretch of 5 before a deadline at 10 leaves 5 for the work due then, one of 6 does not."""
    for short, other in ((0, 5), (5, 0)):
        assert demand_test([Load(10, 10, 5, short), Load(20, 20, 4, other)]).holds
    for short, other in ((0, 6), (6, 0)):
        blocked = demand_test([Load(10, 10, 5, short), Load(20, 20, 4, other)])
        assert (blocked.outcome, blocked.point.at_ns, blocked.point.place) == ("demand", 10, 0)
        assert (blocked.point.demand_ns, blocked.blocking_ns) == (5, 6)


def test_a_load_alone_is_not_blocked() -> None:
    """Its job before has stopped when the next one comes: it may take all the time there is."""
    alone = [Load(10, 10, 10, 10)]
    assert demand_test(alone).holds
    assert not misses(alone, 100, [0], None)


def test_thought_blocks_whoever_is_due_later_too() -> None:
    """The job due first has its answer and thinks on for 8 just before the other comes, which needs 8 of its 12.

    By the classical blocking, of later deadlines only, this would pass: 1 + 1 by 10, and 1 + 8 by 12.
    """
    thinker, other = Load(20, 10, 1, 8), Load(20, 12, 8, 1)
    tasks = [thinker, other]
    for at in (10, 12, 30, 32):
        later = max((load.run_ns for load in tasks if load.deadline_ns > at), default=0)
        assert demand_ns(tasks, at) + later <= at
    assert misses(tasks, 40, [0, 3], None)
    assert not misses([msgspec.structs.replace(thinker, run_ns=0), other], 40, [0, 3], None)
    found = demand_test(tasks)
    assert (found.outcome, found.point.at_ns, found.point.demand_ns, found.blocking_ns) == ("demand", 12, 9, 8)


def test_blocking_that_shows_after_the_longest_deadline_is_found() -> None:
    """Nearly full use: a stretch of 2 fits at 10, 15 and 20, and not at the end of the hyperperiod."""
    found = demand_test([Load(10, 10, 5, 2), Load(15, 15, 7, 0)])
    assert (found.outcome, found.point.at_ns, found.point.demand_ns) == ("demand", 30, 29)
    assert demand_test([Load(10, 10, 5, 1), Load(15, 15, 7, 0)]).holds


def test_full_use_leaves_no_room_for_a_stretch() -> None:
    """At utilization 1 the least blocking fails, by the end of the hyperperiod."""
    found = demand_test([Load(4, 4, 2, 1), Load(6, 6, 3, 0)])
    assert (found.outcome, found.point.at_ns) == ("demand", 12)


def test_blocking_is_looked_for_behind_the_first_deadline() -> None:
    """Implicit deadlines, a tenth of the time free, and a run of 3 that fits before 4 and 8, but not before 10."""
    found = demand_test([Load(4, 4, 1, 0), Load(10, 10, 6, 0), Load(100, 100, 5, 3)])
    assert (found.outcome, found.point.at_ns, found.point.place) == ("demand", 10, 1)
    assert demand_test([Load(4, 4, 1, 0), Load(10, 10, 6, 0), Load(100, 100, 5, 2)]).holds


def test_a_constrained_deadline_fails_at_its_own_instant() -> None:
    """Two jobs of 3 due at 5 do not fit, however long their periods are."""
    found = demand_test([Load(100, 5, 3, 0), Load(1000, 5, 3, 0)])
    assert (found.outcome, found.point.at_ns, found.point.demand_ns) == ("demand", 5, 6)


def test_an_overload_that_shows_late_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over full use by a part in a million: beyond the deadlines that are looked at it is still an overload."""
    period = 10**6
    tasks = [Load(period, period, period // 2, 0), Load(period - 7, period - 7, period // 2, 0)]
    assert demand_test(tasks).outcome == "demand"
    monkeypatch.setattr(demand, "MOST_DEADLINES", 100)
    assert demand_test(tasks).outcome == "utilization"


def test_what_cannot_be_looked_at_to_the_end_is_not_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many deadlines are no proof, though none of those looked at fails."""
    tasks = [Load(100, 99, 50, 0), Load(1009, 1009, 504, 0)]
    assert utilization(tasks) < 1
    assert demand_test(tasks).holds
    monkeypatch.setattr(demand, "MOST_DEADLINES", 3)
    assert demand_test(tasks).outcome == "unproven"
    decision = decide([task(period_ns=load.period_ns, deadline_ns=load.deadline_ns, cost_ns=load.cost_ns)
                       for load in tasks])  # fmt: skip
    assert decision.failures[0].test == "unproven"


def test_a_day_beside_a_millisecond_is_tested_quickly() -> None:
    """With time to spare the test ends early, whatever the longest period."""
    day = 86_400 * 10**9
    tasks = [Load(2 * 10**6, 2 * 10**6, 10**6, 10**5), Load(day, day - 1, 10**9, 10**5)]
    assert demand_test(tasks).holds
    assert horizon_ns(tasks) < day // 1000


def task(**changes: object) -> Task:
    fields: dict[str, object] = {"name": "one", "period_ns": 100, "deadline_ns": 100, "cost_ns": 10, "run_ns": 0}
    return Task(**{**fields, **changes})  # type: ignore[arg-type]


STAGES = (Stage(10, 0.7, 5, "low"), Stage(20, 0.9, 9, "low"), Stage(60, 0.95, 20, "high"))


def test_a_task_alone_thinks_as_far_as_its_deadline() -> None:
    """Stages are granted in their order while they fit: 10 + 10 + 20 of 45, and 60 more of 100."""
    assert decide([task(quality=0.5, stages=STAGES, deadline_ns=45)]).granted == (2,)
    assert decide([task(quality=0.5, stages=STAGES)]).granted == (3,)
    assert decide([task(quality=0.5, stages=STAGES, deadline_ns=99)]).granted == (2,)


def test_priority_decides_before_gain() -> None:
    """Time for one stage goes to the higher priority, and among equals to where a nanosecond brings most."""
    small = task(quality=0.5, stages=(Stage(60, 0.51, 1, ""),), priority=1)
    large = task(quality=0.5, stages=(Stage(60, 0.99, 1, ""),))
    assert decide([large, small]).granted == (0, 1)
    equal = msgspec.structs.replace(small, priority=0)
    assert decide([large, equal]).granted == (1, 0)
    assert decide([equal, large]).granted == (0, 1)


def test_a_minimum_comes_before_priority() -> None:
    """What a task must get is no wish: it is granted first, and no more of it than is needed before the others."""
    must = task(quality=0.5, stages=(Stage(30, 0.8, 1, ""), Stage(30, 0.9, 2, "")), min_quality=0.8)
    wish = task(quality=0.5, stages=(Stage(60, 0.99, 1, ""),), priority=5)
    decision = decide([wish, must])
    assert decision.granted == (0, 2)
    assert not decision.failures
    less = task(quality=0.5, stages=(Stage(50, 0.99, 1, ""),), priority=5)
    assert decide([less, must]).granted == (1, 1)


def test_a_minimum_out_of_reach_is_a_failure() -> None:
    """By time: named with what would make it fit. By the bundle: named, and no device cures it."""
    slow = task(name="slow", quality=0.5, stages=STAGES, min_quality=0.9, deadline_ns=30)
    decision = decide([task(), slow])
    assert [(one.place, one.test) for one in decision.failures] == [(1, "quality")]
    assert decision.cure is not None
    assert decision.cure.speed == pytest.approx(40 / 30, abs=0.001)
    hopeless = decide([task(quality=0.5, stages=STAGES, min_quality=0.99)])
    assert [one.test for one in hopeless.failures] == ["forecast"]
    assert hopeless.cure is not None
    assert (hopeless.cure.period_ns, hopeless.cure.speed) == (None, None)


def test_a_task_without_thought_blocks_like_one_that_thinks() -> None:
    """What cannot be interrupted of a task stands before another one's deadline, whatever the task is granted."""
    quick = task(deadline_ns=20, cost_ns=10)
    thinker = task(quality=0.5, stages=(Stage(30, 0.9, 9, ""),), run_ns=11)
    assert not decide([quick, thinker]).finding.holds
    assert decide([quick, msgspec.structs.replace(thinker, run_ns=10)]).granted == (0, 1)


@settings(max_examples=200)
@given(st.data())
def test_granted_thought_never_breaks_a_schedule(data: st.DataObject) -> None:
    """With all that was granted the simulated schedule is on time, and no further stage would have passed the test."""
    bare = data.draw(loads_drawn(most=3, longest_run=0))
    assume(demand_test(bare).holds)
    tasks = [
        task(
            period_ns=load.period_ns,
            deadline_ns=load.deadline_ns,
            cost_ns=load.cost_ns,
            quality=0.5,
            stages=tuple(
                Stage(data.draw(st.integers(1, 4)), 0.6 + 0.1 * i, i, "") for i in range(data.draw(st.integers(0, 3)))
            ),
            priority=data.draw(st.integers(0, 1)),
            min_quality=data.draw(st.sampled_from((0.0, 0.6, 0.9))),
        )
        for load in bare
    ]
    granted = grant(tasks)
    assert not misses(loads(tasks, granted), 2 * cycle(bare), [0] * len(tasks), None)
    for place, one in enumerate(tasks):
        if granted[place] < len(one.stages):
            more = [stages + (i == place) for i, stages in enumerate(granted)]
            assert not demand_test(loads(tasks, more)).holds


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0.0, 1.0, width=32), st.integers(1, 9)), max_size=12))
def test_stages_are_the_upper_stages_of(points: list[tuple[int, float, int]]) -> None:
    """Each stage brings less a nanosecond than the one before, and no thought lies above them."""
    stages = stages_of(0.3, [(cost, quality, tokens, "") for cost, quality, tokens in points])
    corners = [(0, 0.3)]
    for stage in stages:
        corners.append((corners[-1][0] + stage.cost_ns, stage.quality))
    rates = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(corners)]
    assert all(rate > 0 for rate in rates)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates))
    for cost, quality, _ in points:
        reached = corners[-1][1]
        for (x0, y0), (x1, y1) in itertools.pairwise(corners):
            if x0 <= cost <= x1:
                reached = y0 + (y1 - y0) * (cost - x0) / (x1 - x0)
        assert quality <= reached + 1e-9
