"""Optional time as stages: the points of cost and quality that are worth going to, one behind the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

Point = TypeVar("Point", bound="tuple[Any, ...]")  # cost in ns, quality, and whatever belongs to it


def hull(base: Point, points: Iterable[Point]) -> list[Point]:
    """The corners of the upper concave hull while it rises, from ``base`` on, which comes first.

    From corner to corner quality is gained ever more slowly; what is left out costs more than a mixture of others for
    the same, or promises no more (Andrew's monotone chain, 1979, upper half).
    """
    corners = [base]
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if point[1] <= corners[-1][1] or point[0] <= base[0]:
            continue
        while len(corners) > 1 and _rate(corners[-2], corners[-1]) <= _rate(corners[-1], point):
            corners.pop()
        corners.append(point)
    return corners


def _rate(before: tuple[Any, ...], after: tuple[Any, ...]) -> float:
    return float((after[1] - before[1]) / (after[0] - before[0]))
