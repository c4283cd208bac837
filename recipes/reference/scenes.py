"""Training scenes: a fast vectorised generator of dense multi-lane traffic around us.

It draws what highway-env's Kinematics observation shows (own and neighbouring lanes, whole metres and metres per
second) without simulating it, thousands of scenes a second. Evaluation scenes are recorded from highway-env itself,
see ``record.py``; nothing of theirs is used here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from anytime.node.scene import MOST_LISTED, VIEW_AHEAD_M, VIEW_BEHIND_M, listed
from recipes.reference.drive import ACTIONS, LANES, Scene, Vehicle, decide

MIN_VEHICLES, MAX_VEHICLES = 2, MOST_LISTED
_BODY_M = 6


def around(lane: int, speed_m_s: int, vehicles: list[Vehicle]) -> Scene | None:
    """The scene of the nearest vehicles in our own and the neighbouring lanes; None when fewer than two are left.

    They are in the order of ``anytime.node.scene.listed``.
    """
    named = listed(lane, vehicles)
    return Scene(lane, speed_m_s, tuple(named)) if len(named) >= MIN_VEHICLES else None


def _draw(rng: np.random.Generator, count: int) -> Iterator[Scene]:
    """``count`` raw draws; those left with too few vehicles are skipped."""
    width = 2 * MAX_VEHICLES
    lane = rng.integers(1, LANES + 1, count)
    speed = rng.integers(10, 35, count)
    density = rng.uniform(0.1, 0.75, (count, 1))
    lanes = lane[:, None] + rng.integers(-1, 2, (count, width))
    gaps = rng.integers(-VIEW_BEHIND_M, VIEW_AHEAD_M + 1, (count, width))
    flow = rng.normal(-3, 5, (count, 1))
    lane_flow = rng.normal(0, 3, (count, LANES + 2))
    spread = rng.uniform(1, 5, (count, 1)) * rng.normal(0, 1, (count, width))
    speeds = speed[:, None] + flow + np.take_along_axis(lane_flow, lanes, axis=1) + spread
    speeds = np.clip(np.rint(speeds), 0, 40).astype(int)
    keep = (rng.random((count, width)) < density) & (lanes >= 1) & (lanes <= LANES)
    keep &= ~((lanes == lane[:, None]) & (np.abs(gaps) < _BODY_M))
    for row in range(count):
        vehicles: list[Vehicle] = []
        for i in np.flatnonzero(keep[row]):
            v = Vehicle(int(lanes[row, i]), int(gaps[row, i]), int(speeds[row, i]))
            if all(v.lane != o.lane or abs(v.gap_m - o.gap_m) >= _BODY_M for o in vehicles):
                vehicles.append(v)
        scene = around(int(lane[row]), int(speed[row]), vehicles)
        if scene is not None:
            yield scene


def scenes(seed: int, batch: int = 512) -> Iterator[Scene]:
    """An endless stream of scenes, thinned so that no action is rare.

    A scene is kept with probability inversely proportional to how often its action has come up, which brings the five
    actions near a fifth each.
    """
    rng = np.random.default_rng(seed)
    seen = dict.fromkeys(ACTIONS, 1.0)
    while True:
        for scene in _draw(rng, batch):
            action, _ = decide(scene)
            seen[action] += 1
            if rng.random() < min(seen.values()) / seen[action] * 1.6:
                yield scene
