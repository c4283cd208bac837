"""The *drive* domain: a scene, the rule that decides it, and the rule's working written out as a thought.

The teacher is transparent on purpose: every number in the thought is a quantity of the rule, so a wrong answer can
be traced to the line where it went wrong. Constant-speed prediction over a short horizon with a minimum spacing kept
between followers is the textbook baseline for manoeuvre selection (compare Treiber and Kesting, *Traffic Flow
Dynamics*, ch. 14); the thresholds are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from anytime.node.scene import written

ACTIONS = ("LANE_LEFT", "IDLE", "LANE_RIGHT", "FASTER", "SLOWER")

LANES = 4
HORIZON_S = 4
SPACING_M = 8  # a follower comes no nearer than this, so a jam ahead pushes back through everyone behind it
ROOM_CAP_M = 60
CLEAR_BEHIND_M = 10
CLEAR_TTC_S = 3
CHANGE_COST_M = 10
PRESSED_COST_M = 6
FASTER_FROM_M = 50
SLOWER_BELOW_M = 25


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A vehicle around us: lane number from the left (1 is leftmost), signed gap in metres, speed in m/s."""

    lane: int
    gap_m: int
    speed_m_s: int


@dataclass(frozen=True, slots=True)
class Scene:
    """Our own lane and speed and the vehicles in it and in the lanes beside it."""

    lane: int
    speed_m_s: int
    vehicles: tuple[Vehicle, ...]

    def text(self) -> str:
        """The scene as the model reads it."""
        return written(self.lane, LANES, self.speed_m_s, self.vehicles)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of working: in full, in numbers alone, and the same where it changes the outlook (else none)."""

    high: str
    medium: str
    low: str


@dataclass(slots=True)
class Outlook:
    """What is known so far: how much room each lane will have, which are closed, whether somebody presses us."""

    room: dict[str, int]
    closed: set[str]
    pressed: bool = False

    def matter(self, side: str) -> tuple[object, ...]:
        """What the choice may depend on: no room of a lane that is closed."""
        room = None if side in self.closed else self.room[side]
        return room, side in self.closed, self.room["own"], self.pressed


def decide(scene: Scene) -> tuple[str, list[Step]]:
    """The action of the rule and its working, line by line.

    For our own lane and those beside it, everyone is moved ``HORIZON_S`` ahead at constant speed. *Room* is how far we
    could then see, where the k-th vehicle ahead also needs k times ``SPACING_M``. A lane beside us is *closed* when
    somebody is next to us or comes too near from behind. Whoever beside us will be too close to the one before *cuts
    in*, and takes our room. The lane with the best room, less what changing costs, wins; in our own, room sets the
    speed.
    """
    outlook, steps = _look(scene)
    return _choose(outlook, steps)


def outlook_of(scene: Scene) -> Outlook:
    """What the rule finds out about the lanes before it chooses."""
    return _look(scene)[0]


def _look(scene: Scene) -> tuple[Outlook, list[Step]]:
    steps: list[Step] = []
    outlook = Outlook({}, set())
    for side, lane in _lane_order(scene):
        here = [v for v in scene.vehicles if v.lane == lane]
        outlook.room[side] = ROOM_CAP_M
        steps.append(Step(f"{side} lane {lane}", side, side))
        steps += _fronts(sorted((v for v in here if v.gap_m >= 0), key=_distance), side, scene.speed_m_s, outlook)
        steps += _rears(sorted((v for v in here if v.gap_m < 0), key=_distance), side, scene.speed_m_s, outlook)
    return outlook, steps


def _lane_order(scene: Scene) -> list[tuple[str, int]]:
    """Own lane first (the most urgent), then left, then right, as far as they exist."""
    sides = [("own", scene.lane), ("left", scene.lane - 1), ("right", scene.lane + 1)]
    return [(side, lane) for side, lane in sides if 1 <= lane <= LANES]


def _distance(v: Vehicle) -> int:
    return abs(v.gap_m)


def _ttc_s(distance_m: int, closing_m_s: int) -> int | None:
    """Whole seconds until contact at constant speeds; None when the gap does not shrink."""
    return distance_m // closing_m_s if closing_m_s > 0 else None


def _fronts(vehicles: list[Vehicle], side: str, own_m_s: int, outlook: Outlook) -> Iterator[Step]:
    before_m = 0
    for k, v in enumerate(vehicles):
        known = outlook.matter(side)
        closing = own_m_s - v.speed_m_s
        then = v.gap_m - HORIZON_S * closing
        working, numbers = _moved("ahead", v, own_m_s, v.speed_m_s), _numbers(v, closing)
        reach = then - k * SPACING_M
        if k:
            working += f", {then} - {k * SPACING_M} = {reach}"
            numbers += f", {k * SPACING_M}, {reach}"
        outlook.room[side] = max(0, min(outlook.room[side], reach))
        tail = f"room {outlook.room[side]}"
        if side != "own" and v.gap_m < SPACING_M:
            outlook.closed.add(side)
            tail += " closed"
        if side != "own" and k:
            gap = then - before_m
            working += f", gap {then} - {before_m} = {gap}" if before_m >= 0 else ", passed"
            numbers += f", gap {gap}" if before_m >= 0 else ", passed"
            if before_m >= 0 and gap < SPACING_M:
                outlook.room["own"] = min(outlook.room["own"], before_m)
                tail += f", cuts in, own {outlook.room['own']}"
        before_m = then
        brief = f"{numbers}, {tail}"
        yield Step(f"{working}, {tail}", brief, brief if outlook.matter(side) != known else "")


def _rears(vehicles: list[Vehicle], side: str, own_m_s: int, outlook: Outlook) -> Iterator[Step]:
    for v in vehicles:
        known = outlook.matter(side)
        distance, closing = -v.gap_m, v.speed_m_s - own_m_s
        ttc_s = _ttc_s(distance, closing)
        clear = distance >= SPACING_M and distance - HORIZON_S * closing >= CLEAR_BEHIND_M
        clear = clear and (ttc_s is None or ttc_s > CLEAR_TTC_S)
        if not clear and side == "own":
            outlook.pressed = True
        elif not clear:
            outlook.closed.add(side)
        tail = "clear" if clear else "close"
        brief = f"{_numbers(v, closing)}, {tail}"
        working = _moved("behind", v, v.speed_m_s, own_m_s)
        yield Step(f"{working}, {tail}", brief, brief if outlook.matter(side) != known else "")


def _numbers(v: Vehicle, closing_m_s: int) -> str:
    """``_moved`` without words, operations, and the time to collision, which the distance at the horizon implies."""
    d, moved = abs(v.gap_m), HORIZON_S * closing_m_s
    return f"{d} {v.speed_m_s}: {closing_m_s}, {abs(moved)}, {d - moved}"


def _moved(where: str, v: Vehicle, follower_m_s: int, leader_m_s: int) -> str:
    """A vehicle, the speed at which the distance shrinks, the time to collision, and the distance at the horizon."""
    d, closing = abs(v.gap_m), follower_m_s - leader_m_s
    ttc_s = _ttc_s(d, closing)
    ttc = "none" if ttc_s is None else f"{d} / {closing} = {ttc_s}"
    sign = "-" if closing >= 0 else "+"
    then = f"{d} {sign} {HORIZON_S * abs(closing)} = {d - HORIZON_S * closing}"
    return f"{where} {d} m {v.speed_m_s} m/s: {follower_m_s} - {leader_m_s} = {closing}, ttc {ttc}, {then}"


def _choose(outlook: Outlook, steps: list[Step]) -> tuple[str, list[Step]]:
    scores: dict[str, int] = {}
    for side, room in outlook.room.items():
        cost = CHANGE_COST_M if side != "own" else PRESSED_COST_M if outlook.pressed else 0
        if side in outlook.closed:
            steps.append(Step(f"{side} closed", f"{side} closed", f"{side} closed"))
            continue
        scores[side] = room - cost
        working = f"{side} {room} - {cost} = {room - cost}" if cost else f"{side} {room}"
        steps.append(Step(working, f"{side} {room - cost}", f"{side} {room - cost}"))
    best = max(scores, key=lambda side: scores[side])  # ties stay in the own lane, then go left
    end = f"best {best} {scores[best]}"
    steps.append(Step(end, end, end))
    if best != "own":
        return f"LANE_{best.upper()}", steps
    speed_up, slow_down = scores["own"] >= FASTER_FROM_M, scores["own"] < SLOWER_BELOW_M
    return "FASTER" if speed_up else "SLOWER" if slow_down else "IDLE", steps
