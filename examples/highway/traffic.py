"""The road: highway-env's traffic, bit for bit, but several times faster; what our car sees, and how it is steered.

highway-env 1.12.1 asks every vehicle for its place in every lane with small matrix products, and compares every pair of
vehicles for every collision. On straight lanes along x those products are subtractions; within one round of decisions
nobody moves, so that who is in which lane is worked out once; only neighbours along the road can collide, and not those
side by side in lanes of their own; whoever keeps to the middle of a lane need not steer, and stays; and numbers are
clipped without arrays. A test holds the trajectories to those of ``highway-v0``, to the last bit.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
from highway_env.envs.highway_env import HighwayEnv
from highway_env.road.lane import StraightLane
from highway_env.road.road import Road, RoadNetwork
from highway_env.utils import not_zero
from highway_env.vehicle.behavior import IDMVehicle
from highway_env.vehicle.kinematics import Vehicle as Moving

from anytime.node.messages import Scene, Vehicle
from anytime.node.scene import VIEW_AHEAD_M, VIEW_BEHIND_M

LANES, DENSITY, VEHICLES = 4, 2.0, 50
EGO_SPACING = 4
LANE_WIDTH_M = 4.0
LIMIT_M_S = 30.0
_CENTRED_M = 0.5  # so near the middle of a lane a change is over
_BESIDE_M = 3.0  # half a lane, and the margin of a metre that highway-env adds
_APART_M = 2.1  # between the middles of two that head straight on and are 2 m wide
_LENGTH_M = 10_000.0
_TWO_PI = 2 * np.pi


class _Lane(StraightLane):
    """A straight lane along x: products with its direction are differences."""

    def local_coordinates(self, position: Any) -> tuple[float, float]:
        x, y = position.tolist()
        return x - self.x, y - self.y

    @classmethod
    def of(cls, lane: StraightLane) -> _Lane:
        made: _Lane = cls.__new__(cls)
        made.__dict__.update(lane.__dict__)
        made.x, made.y = lane.start.tolist()
        made.length, made.heading = float(lane.length), float(lane.heading)
        assert (lane.direction == (1.0, 0.0)).all()
        assert made.heading == 0.0
        return made


class _Network(RoadNetwork):
    """One road of parallel lanes."""

    def __init__(self, network: RoadNetwork) -> None:
        super().__init__()
        ((self.begin, ends),) = network.graph.items()
        ((self.end, lanes),) = ends.items()
        self.lanes = [_Lane.of(lane) for lane in lanes]
        self.graph = {self.begin: {self.end: self.lanes}}
        self.indexes = [(self.begin, self.end, i) for i in range(len(lanes))]

    def get_lane(self, index: Any) -> _Lane:
        return self.lanes[index[2]]

    def get_closest_lane_index(self, position: Any, heading: float | None = None) -> Any:
        x, y = position.tolist()
        angle = 0.0 if heading is None else abs((float(heading) + np.pi) % _TWO_PI - np.pi)
        best, least = 0, float("inf")
        for i, lane in enumerate(self.lanes):
            along = x - lane.x
            distance = abs(y - lane.y) + max(along - lane.length, 0) + max(0 - along, 0) + angle
            if distance < least:
                best, least = i, distance
        return self.indexes[best]


class _Road(Road):
    """A road that looks up neighbours while nobody moves, and collisions among neighbours alone."""

    _beside: list[tuple[list[float], list[Any]]] | None = None

    def act(self) -> None:
        self._beside = self._lanes_now()
        for vehicle in self.vehicles:
            vehicle.act()
        self._beside = None

    def _lanes_now(self) -> list[tuple[list[float], list[Any]]]:
        """Who counts as being in each lane, by how far along it, ties in the order of ``vehicles``."""
        places = sorted(((*v.position.tolist(), v) for v in self.vehicles), key=lambda place: place[0])
        found = []
        for lane in self.network.lanes:
            first, last = -lane.VEHICLE_LENGTH, lane.length + lane.VEHICLE_LENGTH
            here = [
                (x - lane.x, v) for x, y, v in places if abs(y - lane.y) <= _BESIDE_M and first <= x - lane.x < last
            ]
            found.append(([along for along, _ in here], [v for _, v in here]))
        return found

    def neighbour_vehicles(self, vehicle: Any, lane_index: Any = None) -> tuple[Any, Any]:
        if self._beside is None:
            return super().neighbour_vehicles(vehicle, lane_index)  # type: ignore[no-any-return]
        index = (lane_index or vehicle.lane_index)[2]
        places, vehicles = self._beside[index]
        own = vehicle.position.tolist()[0] - self.network.lanes[index].x
        ahead = bisect_left(places, own)  # the first that is not behind
        front = rear = nearest = None
        for i in range(ahead, len(places)):
            if vehicles[i] is vehicle:
                continue
            if front is not None and places[i] != nearest:
                break
            front, nearest = vehicles[i], places[i]  # of several at one place the last counts
        if ahead:
            rear = vehicles[bisect_left(places, places[ahead - 1])]  # and behind us the first
        return front, rear

    def step(self, dt: float) -> None:
        for vehicle in self.vehicles:
            vehicle.step(dt)
        for i, j in sorted(self._near(dt)):
            one, other = self.vehicles[i], self.vehicles[j]
            straight = one.heading == 0.0 == other.heading
            if not straight or abs(one.position[1] - other.position[1]) < _APART_M:
                one.handle_collisions(other, dt)

    def _near(self, dt: float) -> list[tuple[int, int]]:
        """Pairs of vehicles that are not too far apart along the road to touch before the next step."""
        vehicles = self.vehicles
        reach = vehicles[0].diagonal + dt * max(abs(v.speed) for v in vehicles) + 1.0
        places = sorted((v.position.tolist()[0], i) for i, v in enumerate(vehicles))
        xs = [x for x, _ in places]
        pairs = []
        for k, (x, i) in enumerate(places):
            for _, j in places[k + 1 : bisect_right(xs, x + reach)]:
                pairs.append((i, j) if i < j else (j, i))
        return pairs


def _clipped(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)


class Other(IDMVehicle):  # type: ignore[misc]
    """A vehicle of the traffic. While it and whoever is ahead head straight on, sines are 0 and cosines 1."""

    def act(self, action: Any = None) -> None:
        if self.crashed:
            return
        self.follow_road()
        self.change_lane_policy()
        steering = self.steering_control(self.target_lane_index)
        acceleration = self._behind_others(self.lane_index)
        if self.lane_index != self.target_lane_index:
            acceleration = min(acceleration, self._behind_others(self.target_lane_index))
        self.action = {
            "steering": _clipped(steering, -self.MAX_STEERING_ANGLE, self.MAX_STEERING_ANGLE),
            "acceleration": _clipped(acceleration, -self.ACC_MAX, self.ACC_MAX),
        }

    def _behind_others(self, lane_index: Any) -> float:
        return self.acceleration(self, *self.road.neighbour_vehicles(self, lane_index))

    def acceleration(self, ego_vehicle: Any, front_vehicle: Any = None, rear_vehicle: Any = None) -> float:
        """By the intelligent driver model (Treiber, Hennecke and Helbing, 2000)."""
        if not isinstance(ego_vehicle, Moving):
            return 0.0
        wanted = _clipped(ego_vehicle.target_speed, 0, ego_vehicle.lane.speed_limit)
        free = 1 - np.power(max(ego_vehicle.speed, 0) / abs(not_zero(wanted)), self.DELTA)
        acceleration = self.COMFORT_ACC_MAX * free
        if front_vehicle:
            gap = not_zero(ego_vehicle.lane_distance_to(front_vehicle))
            acceleration -= self.COMFORT_ACC_MAX * np.power(self.desired_gap(ego_vehicle, front_vehicle) / gap, 2)
        return float(acceleration)

    def steering_control(self, target_lane_index: Any) -> float:
        if self.heading == 0.0 and self.position[1] == self.road.network.get_lane(target_lane_index).y:
            return 0.0
        return super().steering_control(target_lane_index)  # type: ignore[no-any-return]

    def desired_gap(self, ego_vehicle: Any, front_vehicle: Any = None, projected: bool = True) -> float:
        straight = ego_vehicle.heading == 0.0 == front_vehicle.heading
        return super().desired_gap(ego_vehicle, front_vehicle, projected and not straight)  # type: ignore[no-any-return]

    def step(self, dt: float) -> None:
        if self.heading != 0.0 or self.action["steering"] != 0.0 or self.crashed or self.impact is not None:
            super().step(dt)
            return
        self.timer += dt
        self.clip_actions()
        self.position[0] += self.speed * dt
        self.speed += self.action["acceleration"] * dt


class Highway(HighwayEnv):
    """``highway-v0`` on a road that looks up less; the same traffic to the last bit."""

    @classmethod
    def default_config(cls) -> dict[str, Any]:
        return {**super().default_config(), "other_vehicles_type": f"{__name__}.{Other.__name__}"}

    def _create_road(self) -> None:
        super()._create_road()
        self.road = _Road(_Network(self.road.network), np_random=self.np_random)


def traffic(seed: int, kind: type[HighwayEnv] = Highway) -> Any:
    """An episode's traffic at its start: four lanes at density 2.0, 50 vehicles and ours (``.vehicle``).

    Target speeds are those with which the scenes of the reference reasoner were recorded.
    """
    config = {
        "lanes_count": LANES,
        "vehicles_density": DENSITY,
        "vehicles_count": VEHICLES,
        "ego_spacing": EGO_SPACING,
        "action": {"type": "DiscreteMetaAction", "target_speeds": np.linspace(10, 34, 9)},
        "observation": {"type": "Kinematics"},
    }
    environment = kind(config=config)
    environment.reset(seed=seed)
    return environment


def driven_by_idm(environment: Any) -> Any:
    """Put highway-env's own driver, IDM and MOBIL, into our car; it wants to drive at the limit."""
    car = IDMVehicle.create_from(environment.vehicle)
    car.target_speed = LIMIT_M_S
    vehicles = environment.road.vehicles
    vehicles[vehicles.index(environment.vehicle)] = car
    environment.vehicle = car
    return car


def scene_of(environment: Any, **fields: Any) -> Scene:
    """What our car sees, as a message of the node; ``fields`` are its others."""
    car = environment.vehicle
    x, y = car.position.tolist()
    vehicles = []
    for other in environment.road.vehicles:
        other_x, other_y = other.position.tolist()
        lane = _lane(other_y)
        if other is not car and 1 <= lane <= LANES and -VIEW_BEHIND_M - 1 <= other_x - x <= VIEW_AHEAD_M + 1:
            vehicles.append(Vehicle(lane, other_x - x, float(other.velocity[0])))
    lane = min(max(_lane(y), 1), LANES)
    return Scene(lanes=LANES, lane=lane, speed_m_s=float(car.velocity[0]), vehicles=vehicles, **fields)


def _lane(y: float) -> int:
    return round(y / LANE_WIDTH_M) + 1


class Wheel:
    """Carries out the decision in force on our car, at every step of the simulation.

    FASTER and SLOWER aim one of the target speeds above or below the speed of now. A decision to change lanes starts
    one change; while one is under way others are not taken up, or a decision repeated every period would cross the
    road.
    """

    def __init__(self, car: Any) -> None:
        self._car = car
        self._taken = False
        self.action = "IDLE"

    def decide(self, action: str) -> None:
        """From now on this decision is in force."""
        self.action, self._taken = action, False

    def act(self) -> None:
        if self.action.startswith("LANE"):
            if self._taken or self._changing():
                self._taken = True
                return
            self._taken = True
        self._car.act(self.action)

    def _changing(self) -> bool:
        wanted = self._car.target_lane_index[2] * LANE_WIDTH_M
        return bool(abs(self._car.position[1] - wanted) > _CENTRED_M)
