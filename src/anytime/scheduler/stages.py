"""Optional time as stages: from points of cost and quality to the steps of their concave hull."""

from __future__ import annotations

import itertools
from collections.abc import Iterable


def hull(points: Iterable[tuple[int, float]], base: float) -> list[tuple[int, float]]:
    """Stages ``(cost_ns, gain)`` that lead from quality ``base`` at no cost along the upper concave hull.

    ``points`` are (cost_ns, quality), in any order. Gains for the time fall from stage to stage, and none is negative:
    what costs more and promises no more is never a stage (Andrew's monotone chain, 1979, upper half).
    """
    corners: list[tuple[int, float]] = [(0, base)]
    for cost, quality in sorted(points):
        if quality <= corners[-1][1] or cost <= 0:
            continue
        while len(corners) > 1 and _slope(corners[-2], corners[-1]) <= _slope(corners[-2], (cost, quality)):
            corners.pop()
        if cost > corners[-1][0]:
            corners.append((cost, quality))
    return [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(corners)]


def _slope(a: tuple[int, float], b: tuple[int, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])
