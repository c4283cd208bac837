"""Record driving scenes from highway-env: ``python -m recipes.reference.record OUT.jsonl --scenes 1000 --seed 0``.

The car follows the teacher through dense four-lane traffic, except where chance decides (so that awkward situations
come up), and every decision point is written down as a question with the teacher's answer. Scenes are taken in the
order in which they come, as long as each action can still be at least ``MIN_SHARE`` of the file and no number of
vehicles is more than ``SIZE_SHARE`` of it.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from recipes.reference.drive import ACTIONS, LANES, Scene, Vehicle, decide
from recipes.reference.scenes import MAX_VEHICLES, MIN_VEHICLES, around

MIN_SHARE = 0.1
SIZE_SHARE = 0.12  # an even share of the eleven sizes would be 0.09
_CHANCE = 0.4
_LANE_WIDTH_M = 4.0
_DENSITIES = (1.0, 1.5, 2.0, 2.5)


def _environment(density: float) -> Any:
    import gymnasium
    import highway_env  # noqa: F401  registers the environments

    features = ["presence", "x", "y", "vx", "vy"]
    observation = {
        "type": "Kinematics",
        "features": features,
        "vehicles_count": 40,
        "absolute": False,
        "normalize": False,
        "see_behind": True,
        "order": "sorted",
    }
    action = {"type": "DiscreteMetaAction", "target_speeds": np.linspace(10, 34, 9)}
    config = {
        "lanes_count": LANES,
        "vehicles_count": 40,
        "vehicles_density": density,
        "duration": 30,
        "observation": observation,
        "action": action,
    }
    return gymnasium.make("highway-fast-v0", config=config)


def scene_of(observation: Any) -> Scene | None:
    """A Kinematics observation (absolute=False, normalize=False) as a scene; None when there is too little traffic."""
    own, *others = observation
    lane = int(np.clip(round(float(own[2]) / _LANE_WIDTH_M), 0, LANES - 1)) + 1
    vehicles = []
    for present, x, y, vx, _ in others:
        other_lane = round(float(own[2] + y) / _LANE_WIDTH_M) + 1
        if present and 1 <= other_lane <= LANES:
            vehicles.append(Vehicle(other_lane, round(float(x)), max(0, round(float(own[3] + vx)))))
    return around(lane, round(float(own[3])), vehicles)


def drive(seed: int) -> Iterator[Scene]:
    """Every scene of one drive, until a collision or the end of the episode."""
    rng = np.random.default_rng(seed)
    env = _environment(float(rng.choice(_DENSITIES)))
    observation, _ = env.reset(seed=seed)
    over = False
    while not over:
        scene = scene_of(observation)
        action = int(rng.integers(len(ACTIONS)))
        if scene is not None:
            yield scene
            if rng.random() > _CHANCE:
                action = ACTIONS.index(decide(scene)[0])  # highway-env numbers its meta-actions in this order
        observation, _, crashed, ended, _ = env.step(action)
        over = crashed or ended
    env.close()


def record(count: int, seed: int) -> list[dict[str, Any]]:
    """``count`` questions, each action at least ``MIN_SHARE`` of them, no scene twice."""
    quota = math.ceil(MIN_SHARE * count)
    most = math.ceil(SIZE_SHARE * count)
    kept: list[dict[str, Any]] = []
    per_action = dict.fromkeys(ACTIONS, 0)
    per_size = dict.fromkeys(range(MIN_VEHICLES, MAX_VEHICLES + 1), 0)
    seen: set[str] = set()
    with Progress() as progress:
        task = progress.add_task("recording", total=count)
        while len(kept) < count:
            for scene in drive(seed):
                question, (action, _) = scene.text(), decide(scene)
                owed = sum(max(0, quota - n) for a, n in per_action.items() if a != action)
                full = per_size[len(scene.vehicles)] == most
                if full or question in seen or len(kept) + owed >= count:
                    continue
                seen.add(question)
                per_action[action] += 1
                per_size[len(scene.vehicles)] += 1
                kept.append(_row(f"highway-{seed}-{len(kept)}", question, action, len(scene.vehicles)))
                progress.update(task, completed=len(kept))
                if len(kept) == count:
                    break
            seed += 1
    return kept


def _row(name: str, question: str, action: str, vehicles: int) -> dict[str, Any]:
    return {"id": name, "question": question, "answer": action, "choices": list(ACTIONS), "difficulty": vehicles}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="first episode seed; episodes count up from it")
    args = parser.parse_args()
    rows = record(args.scenes, args.seed)
    args.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
