"""What would make a set of tasks fit is told, and is enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings

from anytime.scheduler import demand
from anytime.scheduler.demand import Load, demand_test
from anytime.scheduler.taskset import Stage, Task, cure, decide
from tests.test_taskset import loads_drawn, task


@settings(max_examples=200)
@given(loads_drawn())
def test_the_cures_cure_and_nothing_less_does(tasks: list[Load]) -> None:
    """The least period and the least speed-up make the tasks fit; a grain less does not."""
    scaled = [
        task(
            period_ns=load.period_ns * 10**5,
            deadline_ns=load.deadline_ns * 10**5,
            cost_ns=load.cost_ns * 10**5,
            run_ns=load.run_ns * 10**5,
        )
        for load in tasks
    ]
    decision = decide(scaled)
    assume(decision.failures)
    assert decision.cure is not None
    place, found = decision.failures[0].place, decision.cure
    if found.period_ns is not None:
        assert demand_test(with_period(scaled, place, found.period_ns)).holds
        assert not demand_test(with_period(scaled, place, found.period_ns - 1000)).holds
    assert found.speed is not None
    assert demand_test(faster(scaled, found.speed)).holds
    assert not demand_test(faster(scaled, found.speed - 0.001)).holds


def with_period(tasks: Sequence[Task], place: int, period_ns: int) -> list[Load]:
    changed = []
    for i, one in enumerate(tasks):
        follows = one.deadline_ns == one.period_ns
        load = one.load()
        if i == place:
            load = Load(period_ns, period_ns if follows else one.deadline_ns, one.cost_ns, one.run_ns)
        changed.append(load)
    return changed


def faster(tasks: Sequence[Task], speed: float) -> list[Load]:
    by = Fraction(round(speed * 1000), 1000)
    return [
        Load(one.period_ns, one.deadline_ns, math.ceil(one.cost_ns / by), math.ceil(one.run_ns / by)) for one in tasks
    ]


def test_a_deadline_too_short_is_cured_by_no_period() -> None:
    """Asking more rarely does not make one job shorter; a faster device does."""
    decision = decide([task(deadline_ns=9, name="hasty"), task(period_ns=10**6, deadline_ns=10**6)])
    assert (decision.failures[0].place, decision.failures[0].test) == (0, "demand")
    assert decision.cure is not None
    assert decision.cure.period_ns is None
    assert decision.cure.speed == pytest.approx(10 / 9, abs=0.001)


def test_an_overload_names_the_task_with_which_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of deadlines, the first that there is no time for."""
    monkeypatch.setattr(demand, "MOST_DEADLINES", 1)
    tasks = [task(period_ns=900, deadline_ns=900, cost_ns=300), task(cost_ns=50), task(deadline_ns=90, cost_ns=49)]
    decision = decide(tasks)
    assert (decision.failures[0].place, decision.failures[0].test) == (0, "utilization")


def test_cure_of_a_quality_leaves_room_for_the_thought() -> None:
    """The period that is told fits the stages that the minimum needs, not just the mandatory part."""
    tasks = [
        task(period_ns=100_000, deadline_ns=100_000, cost_ns=60_000),
        task(
            period_ns=200_000,
            deadline_ns=200_000,
            cost_ns=60_000,
            quality=0.5,
            stages=(Stage(60_000, 0.9, 5, ""),),
            min_quality=0.9,
        ),
    ]
    decision = decide(tasks)
    assert [(one.place, one.test) for one in decision.failures] == [(1, "quality")]
    assert decision.cure is not None
    assert decision.cure.period_ns == 300_000  # 0.6 is taken: 120 µs of every 300
    assert cure(tasks, decision.failures[0]) == decision.cure
