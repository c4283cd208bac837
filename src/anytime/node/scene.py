"""A driving scene as text, the way the reference reasoner was taught to read it, and what makes a scene none.

Whole metres and metres per second; our own lane and those beside it; the nearest vehicles, lane by lane: ours, the
left, the right, in each those ahead, then those behind, nearest first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from anytime.errors import InputError
from anytime.node.messages import Scene, Vehicle

MOST_LISTED = 12
VIEW_AHEAD_M, VIEW_BEHIND_M = 110, 70
_FASTEST_M_S = 150.0


class Placed(Protocol):
    """A vehicle in whole metres: lane from the left, signed gap along the road, speed."""

    @property
    def lane(self) -> int: ...

    @property
    def gap_m(self) -> float: ...

    @property
    def speed_m_s(self) -> float: ...


P = TypeVar("P", bound=Placed)


def listed(lane: int, vehicles: Iterable[P]) -> list[P]:
    """Those vehicles around a vehicle in this lane that a scene's text names, in their order."""
    near = [v for v in vehicles if abs(v.lane - lane) <= 1 and -VIEW_BEHIND_M <= v.gap_m <= VIEW_AHEAD_M]
    nearest = sorted(near, key=lambda v: (abs(v.gap_m), v.lane))[:MOST_LISTED]
    order = (lane, lane - 1, lane + 1)
    return sorted(nearest, key=lambda v: (order.index(v.lane), v.gap_m < 0, abs(v.gap_m)))


def written(lane: int, lanes: int, speed_m_s: int, vehicles: Sequence[Placed]) -> str:
    """The text of a scene whose vehicles are ``listed`` and in whole numbers."""
    lines = [f"lane {lane} of {lanes} at {speed_m_s} m/s"]
    for v in vehicles:
        side = "ahead" if v.gap_m >= 0 else "behind"
        lines.append(f"lane {v.lane} {side} {abs(v.gap_m)} m {v.speed_m_s} m/s")
    return "\n".join(lines)


def scene_text(scene: Scene) -> str:
    """A scene that was checked, as the model reads it. A vehicle that rolls back is written as standing."""
    whole = [Vehicle(v.lane, round(v.gap_m), max(0, round(v.speed_m_s))) for v in scene.vehicles]
    return written(scene.lane, scene.lanes, max(0, round(scene.speed_m_s)), listed(scene.lane, whole))


def check_scene(scene: Scene, max_vehicles: int) -> None:
    """Refuse a scene that there cannot be.

    Raises:
        InputError: ``too_large``, or ``malformed``: a number that is none, a lane that is not there.
    """
    if len(scene.vehicles) > max_vehicles:
        raise InputError("too_large", f"the scene has {len(scene.vehicles)} vehicles, and max_vehicles={max_vehicles}")
    _check_place("our own vehicle", scene.lane, 0.0, scene.speed_m_s, scene.lanes)
    for i, v in enumerate(scene.vehicles):
        _check_place(f"vehicle {i}", v.lane, v.gap_m, v.speed_m_s, scene.lanes)


def _check_place(who: str, lane: int, gap_m: float, speed_m_s: float, lanes: int) -> None:
    if not math.isfinite(gap_m):
        raise InputError("malformed", f"gap_m of {who} is {gap_m}: positions must be finite")
    if not abs(speed_m_s) <= _FASTEST_M_S:
        raise InputError("malformed", f"speed_m_s of {who} is {speed_m_s}: give m/s, at most {_FASTEST_M_S:.0f}")
    if not 1 <= lane <= lanes:
        raise InputError("malformed", f"{who} is in lane {lane} of {lanes}: lanes count from 1 at the left")


def crowded(n: int = 0) -> str:
    """The text of a scene of ``MOST_LISTED`` vehicles, the longest there is; another for each ``n`` below 30."""
    around = [Vehicle(2 + i % 3 - 1, 15 + 20 * (i // 3), 20 + i) for i in range(MOST_LISTED)]
    return written(2, 4, 10 + n % 30, listed(2, around))
