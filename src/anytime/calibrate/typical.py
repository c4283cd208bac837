"""What is typical of a machine, by the decode passes of its latency profile: how fast it is, and what it plans with."""

from __future__ import annotations

import statistics

from anytime.scheduler.admission import MOST_STEPS
from anytime.scheduler.pace import Pace
from anytime.scheduler.profile import LatencyProfile


def pace_of(profile: LatencyProfile) -> float:
    """Mean measured time of decode steps over what is predicted, which is their median: the share that stalls add."""
    latency = profile.latency()
    measured = sum(sum(cell.times_ns) for cell in profile.steps)
    predicted = sum(sum(cell.predicted_ns(latency)) for cell in profile.steps)
    return measured / predicted


def factor_of(profile: LatencyProfile) -> float:
    """What predictions are multiplied by on average, by a ``Pace`` that is shown these steps in rows, as in the loop.

    It is more than their pace: what slow steps raise falls by half only in 200 actions.
    """
    pace, factors = Pace(profile), []
    for cell in profile.steps:
        for start in range(0, len(cell.times_ns), MOST_STEPS):
            taken = cell.times_ns[start : start + MOST_STEPS]
            pace.stepped(len(taken), cell.context + start, 1, sum(taken))
            factors.append(pace.factor)
    return statistics.fmean(factors)
