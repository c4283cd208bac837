"""The traffic of the closed driving loop is highway-env's, and our car is steered as is said."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from highway_env.envs.highway_env import HighwayEnv

from anytime.node.messages import Scene
from anytime.node.messages import Vehicle as Seen
from examples.highway.contenders import teacher, time_to_collision
from examples.highway.traffic import Highway, Wheel, scene_of, traffic

STEP_S = 1 / 15
ACTIONS = ("FASTER", "LANE_LEFT", "IDLE", "LANE_RIGHT", "SLOWER")


def states(kind: type[HighwayEnv], seed: int, steps: int) -> list[list[tuple[Any, ...]]]:
    """Everything about every vehicle, step by step, while our car does this and that."""
    environment, found = traffic(seed, kind), []
    for step in range(steps):
        if step % 15 == 0:
            environment.vehicle.act(ACTIONS[step // 15 % len(ACTIONS)])
        environment.road.act()
        environment.road.step(STEP_S)
        found.append(
            [
                (*v.position.tolist(), v.heading, v.speed, v.crashed, v.lane_index, v.target_lane_index)
                for v in environment.road.vehicles
            ]
        )
    return found


@pytest.mark.parametrize("seed", [0, 13])
def test_the_traffic_is_highway_env_s_to_the_last_bit(seed: int) -> None:
    """Looking up less changes no position, heading, speed, lane or crash of any vehicle."""
    ours, theirs = states(Highway, seed, 60), states(HighwayEnv, seed, 60)
    assert ours == theirs
    if seed == 13:
        assert any(crashed for *_, crashed, _, _ in theirs[-1])


def test_a_scene_is_what_the_car_sees() -> None:
    """Gaps and speeds are those of the vehicles, and lanes count from 1 at the left."""
    environment = traffic(0)
    scene = scene_of(environment)
    car, others = environment.vehicle, environment.road.vehicles
    assert (scene.lanes, scene.lane, scene.speed_m_s) == (4, car.lane_index[2] + 1, 25.0)
    nearest = min((v for v in others if v is not car), key=lambda v: abs(v.position[0] - car.position[0]))
    assert Seen(nearest.lane_index[2] + 1, nearest.position[0] - car.position[0], nearest.speed) in scene.vehicles
    assert car.position[0] not in [car.position[0] + v.gap_m for v in scene.vehicles]


class Road:
    """A car alone on the road, steered by decisions."""

    def __init__(self, lane: int) -> None:
        self.environment = traffic(0)
        self.car = self.environment.vehicle
        self.environment.road.vehicles = [self.car]
        self.car.position = np.array([100.0, 4.0 * lane])
        self.car.on_state_update()
        self.car.target_lane_index = self.car.lane_index
        self.wheel = Wheel(self.car)

    def go(self, decisions: Iterator[str], seconds: float) -> None:
        for step in range(round(seconds / STEP_S)):
            if step % 3 == 0:
                self.wheel.decide(next(decisions))
            self.wheel.act()
            self.environment.road.act()
            self.environment.road.step(STEP_S)


def test_a_lane_change_is_finished_before_the_next() -> None:
    """The same change decided five times a second crosses one lane, and the next only when that is done."""
    road = Road(lane=3)
    road.go(itertools.repeat("LANE_LEFT"), 1.0)
    assert road.car.target_lane_index[2] == 2
    road.go(itertools.repeat("LANE_LEFT"), 1.0)
    assert road.car.target_lane_index[2] == 1


def test_a_held_lane_change_is_one_change() -> None:
    """A decision that holds for long because no other comes does not start a second one."""
    road = Road(lane=3)
    road.wheel.decide("LANE_LEFT")
    for _ in range(60):
        road.wheel.act()
        road.environment.road.act()
        road.environment.road.step(STEP_S)
    assert road.car.lane_index[2] == road.car.target_lane_index[2] == 2
    assert abs(road.car.position[1] - 8.0) < 0.2


def test_faster_and_slower_hold_while_they_are_in_force() -> None:
    """Each goes on until another decision comes, within the target speeds."""
    road = Road(lane=1)
    road.go(itertools.repeat("FASTER"), 6.0)
    assert road.car.speed == pytest.approx(34.0, abs=0.5)
    road.go(itertools.repeat("IDLE"), 1.0)
    assert road.car.speed == pytest.approx(34.0, abs=0.5)
    road.go(itertools.repeat("SLOWER"), 10.0)
    assert road.car.speed == pytest.approx(10.0, abs=0.5)


def test_the_rules_decide_as_they_say() -> None:
    """The teacher's and the time-to-collision rule brake, pull out or go faster in scenes that leave no doubt."""
    jam = [Seen(lane, gap, 10.0) for lane in (1, 2, 3) for gap in (-12.0, 12.0)]
    for rule in (teacher, time_to_collision):
        assert rule(Scene(lanes=4, lane=2, speed_m_s=25.0, vehicles=jam)) == "SLOWER"
        assert rule(Scene(lanes=4, lane=2, speed_m_s=20.0, vehicles=[])) == "FASTER"
        assert rule(Scene(lanes=4, lane=1, speed_m_s=25.0, vehicles=[Seen(1, 30.0, 15.0)])) == "LANE_RIGHT"
