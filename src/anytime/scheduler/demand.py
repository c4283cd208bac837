"""The processor-demand test: do periodic loads meet all deadlines, earliest deadline first? Exact integer arithmetic.

For sporadic tasks with deadlines up to their periods, run one stretch after the other: schedulable when the utilization
is at most 1 and, at every absolute deadline t of a release of all at once, demand(t) + blocking <= t. Demand: Baruah,
Rosier and Howell 1990. Blocking by what cannot be interrupted: Jeffay, Stanat and Martel 1991, Baruah 2005. There only
jobs due beyond t stand in the way. Here jobs that have their answer think on, in stretches that are in no demand, and
one of any job may have just begun when the work due by t comes: the longest blocks at every t. Only one does, where no
such stretch begins while work that is in demand waits. Whatever the phases, and for jobs that come later or take less.
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

    ``run_ns``: the longest stretch of its engine runs that, once begun, ends before another job can begin; of its
    optional runs too, in ``cost_ns`` or not, which end by the job's deadline.
    """

    period_ns: int
    deadline_ns: int
    cost_ns: int
    run_ns: int


class Point(msgspec.Struct, frozen=True):
    """An absolute deadline, that of the load in this place, and the work due by it."""

    at_ns: int
    place: int
    demand_ns: int


class Finding(msgspec.Struct, frozen=True):
    """What the test says. ``point``: the first deadline at which it fails, else the one at which least is left.

    ``blocking_ns``: what may stand before the work due by then, as by every other deadline.
    ``utilization``: there is more work than time, though no deadline that was looked at shows it. ``unproven``: none
    fails of the first ``MOST_DEADLINES``, but that is no proof yet; so near to full use, say so and promise nothing.
    """

    outcome: Literal["holds", "demand", "utilization", "unproven"]
    point: Point
    blocking_ns: int

    @property
    def holds(self) -> bool:
        return self.outcome == "holds"


def utilization(loads: Sequence[Load]) -> Fraction:
    """The share of the engine's time that is asked for."""
    return sum((Fraction(load.cost_ns, load.period_ns) for load in loads), Fraction(0))


def demand_ns(loads: Sequence[Load], at_ns: int) -> int:
    """Work that is released from 0 on and due by ``at_ns``, when all loads are released at 0 and then periodically."""
    return sum(max(0, (at_ns - load.deadline_ns) // load.period_ns + 1) * load.cost_ns for load in loads)


def blocking_ns(loads: Sequence[Load]) -> int:
    """The longest stretch that may have begun just before: of any load, as a job with its answer thinks on.

    A load alone is not blocked: its job before has stopped by its own deadline, at the next release at the latest.
    """
    return max(load.run_ns for load in loads) if len(loads) > 1 else 0


def demand_test(loads: Sequence[Load]) -> Finding:
    """Test one or more loads, deadline after deadline, up to the one by which a failure must have shown."""
    blocking = blocking_ns(loads)
    full = utilization(loads) > 1
    end_ns = None if full else horizon_ns(loads)
    tightest: Point | None = None
    for point in itertools.islice(_deadlines(loads), MOST_DEADLINES):
        work_ns = point.demand_ns + blocking
        if work_ns > point.at_ns:
            return Finding("demand", point, blocking)
        if tightest is not None and end_ns is not None and point.at_ns > end_ns:
            return Finding("holds", tightest, blocking)
        if tightest is None or work_ns * tightest.at_ns > (tightest.demand_ns + blocking) * point.at_ns:
            tightest = point
    assert tightest is not None, "there is always a deadline"
    return Finding("utilization" if full else "unproven", tightest, blocking)


def horizon_ns(loads: Sequence[Load]) -> int:
    """Where the test may end, for a utilization U of at most 1: no deadline after it fails unless one before it does.

    The least of three bounds, with B for the blocking. Slack (Baruah, Rosier and Howell 1990): demand(t) <= U·t +
    spread, so what fails lies before (spread + B) / (1 - U). Hyperperiod H: demand(t + H) = demand(t) + U·H, at most
    demand(t) + H, and deadlines repeat, so what fails at t + H fails at t. First busy period (Ripoll, Crespo and Mok
    1996), L long with B before it: what is released before L is done by L, so demand(t) + B <= L + demand(t - L), and
    what fails at t > L fails at the last deadline up to t - L too.
    """
    blocking, slack = blocking_ns(loads), 1 - utilization(loads)
    spread = sum(Fraction(load.cost_ns * (load.period_ns - load.deadline_ns), load.period_ns) for load in loads)
    end_ns = math.lcm(*(load.period_ns for load in loads))
    if slack > 0:
        end_ns = min(end_ns, math.floor((spread + blocking) / slack))
    return min(end_ns, _busy_ns(loads, blocking, end_ns))


def _busy_ns(loads: Sequence[Load], blocking: int, most_ns: int) -> int:
    """When all work is first done, released at once behind what blocks; ``most_ns`` where that is later or never."""
    busy_ns = blocking + sum(load.cost_ns for load in loads)
    for _ in range(_MOST_ROUNDS):
        due_ns = blocking + sum(-(-busy_ns // load.period_ns) * load.cost_ns for load in loads)
        if due_ns == busy_ns or due_ns > most_ns:
            return min(due_ns, most_ns)
        busy_ns = due_ns
    return most_ns


def _deadlines(loads: Sequence[Load]) -> Iterator[Point]:
    """All absolute deadlines in their order, each once, with the work due by then."""
    due = [(load.deadline_ns, place) for place, load in enumerate(loads)]
    heapq.heapify(due)
    demand = 0
    while True:
        at_ns, first = due[0]
        while due[0][0] == at_ns:
            place = due[0][1]
            demand += loads[place].cost_ns
            heapq.heapreplace(due, (at_ns + loads[place].period_ns, place))
        yield Point(at_ns, first, demand)
