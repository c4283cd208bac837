"""The processor-demand test: do periodic loads meet all deadlines, earliest deadline first? Exact integer arithmetic.

For sporadic tasks with deadlines up to their periods, run one engine run after the other: schedulable when the
utilization is at most 1 and, at every absolute deadline t of a release of all at once, demand(t) + blocking(t) <= t.
Demand: Baruah, Rosier and Howell 1990. Blocking by runs that cannot be interrupted: Jeffay, Stanat and Martel 1991,
Baruah 2005. Whatever the phases, and for jobs that come later or take less, too.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal

import msgspec

MOST_DEADLINES = 200_000  # that a test looks at
_MOST_ROUNDS = 10_000  # in search of the end of a busy period


class Load(msgspec.Struct, frozen=True):
    """What one task asks of the engine, ns: at most ``cost_ns`` for each release, ``deadline_ns`` <= ``period_ns``.

    ``run_ns``: the longest stretch of its engine runs that, once begun, ends before another job can begin.
    """

    period_ns: int
    deadline_ns: int
    cost_ns: int
    run_ns: int


class Point(msgspec.Struct, frozen=True):
    """An absolute deadline, that of the load in this place, and what must be done by it."""

    at_ns: int
    place: int
    demand_ns: int
    blocking_ns: int


class Finding(msgspec.Struct, frozen=True):
    """What the test says. ``point``: the first deadline at which it fails, else the one at which least is left.

    ``utilization``: there is more work than time, though no deadline that was looked at shows it. ``unproven``: none
    fails of the first ``MOST_DEADLINES``, but that is no proof yet; so near to full use, say so and promise nothing.
    """

    outcome: Literal["holds", "demand", "utilization", "unproven"]
    point: Point

    @property
    def holds(self) -> bool:
        return self.outcome == "holds"


def utilization(loads: Sequence[Load]) -> Fraction:
    """The share of the engine's time that is asked for."""
    return sum((Fraction(load.cost_ns, load.period_ns) for load in loads), Fraction(0))


def demand_ns(loads: Sequence[Load], at_ns: int) -> int:
    """Work that is released from 0 on and due by ``at_ns``, when all loads are released at 0 and then periodically."""
    return sum(max(0, (at_ns - load.deadline_ns) // load.period_ns + 1) * load.cost_ns for load in loads)


def blocking_ns(loads: Sequence[Load], at_ns: int) -> int:
    """The longest run that may have begun just before, for a job whose deadline lies beyond ``at_ns``."""
    return max((load.run_ns for load in loads if load.deadline_ns > at_ns), default=0)


def demand_test(loads: Sequence[Load]) -> Finding:
    """Test one or more loads, deadline after deadline, up to the one by which a failure must have shown."""
    full = utilization(loads) > 1
    end_ns = None if full else horizon_ns(loads)
    tightest: Point | None = None
    for point in itertools.islice(_deadlines(loads), MOST_DEADLINES):
        work_ns = point.demand_ns + point.blocking_ns
        if work_ns > point.at_ns:
            return Finding("demand", point)
        if tightest is not None and end_ns is not None and point.at_ns > end_ns:
            return Finding("holds", tightest)
        if tightest is None or work_ns * tightest.at_ns > (tightest.demand_ns + tightest.blocking_ns) * point.at_ns:
            tightest = point
    assert tightest is not None, "there is always a deadline"
    return Finding("utilization" if full else "unproven", tightest)


def horizon_ns(loads: Sequence[Load]) -> int:
    """Where the test may end, for a utilization of at most 1: no deadline after it fails unless one before it does.

    The least of the usual bounds. demand(t) <= U·t + spread, so nothing fails where (1 − U)·t is at least the spread
    and the longest run. From the longest relative deadline on nothing blocks; what fails there fails in the first busy
    period (Ripoll, Crespo and Mok 1996), and in the first hyperperiod, after which demand repeats.
    """
    slack = 1 - utilization(loads)
    spread = sum(Fraction(load.cost_ns * (load.period_ns - load.deadline_ns), load.period_ns) for load in loads)
    longest_ns = max(load.deadline_ns for load in loads)
    end_ns = max(longest_ns, math.lcm(*(load.period_ns for load in loads))) if spread else longest_ns
    if slack > 0:
        end_ns = min(end_ns, math.floor((spread + max(load.run_ns for load in loads)) / slack))
    return min(end_ns, max(longest_ns, _busy_ns(loads, end_ns)))


def _busy_ns(loads: Sequence[Load], most_ns: int) -> int:
    """The first time that all work is done after all loads were released at once; ``most_ns`` where that is later."""
    busy_ns = sum(load.cost_ns for load in loads)
    for _ in range(_MOST_ROUNDS):
        due_ns = sum(-(-busy_ns // load.period_ns) * load.cost_ns for load in loads)
        if due_ns == busy_ns or due_ns > most_ns:
            return min(due_ns, most_ns)
        busy_ns = due_ns
    return most_ns


def _deadlines(loads: Sequence[Load]) -> Iterator[Point]:
    """All absolute deadlines in their order, each once, with the work due by then."""
    due = [(load.deadline_ns, place) for place, load in enumerate(loads)]
    heapq.heapify(due)
    longest_ns = max(load.deadline_ns for load in loads)
    demand = 0
    while True:
        at_ns, first = due[0]
        while due[0][0] == at_ns:
            place = due[0][1]
            demand += loads[place].cost_ns
            heapq.heapreplace(due, (at_ns + loads[place].period_ns, place))
        yield Point(at_ns, first, demand, blocking_ns(loads, at_ns) if at_ns < longest_ns else 0)
