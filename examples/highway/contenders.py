"""Who drives: each is shown a scene and says what to do, at once or when it has thought."""

from __future__ import annotations

import random
from typing import Protocol

import msgspec

from anytime.node.messages import Decision, Scene
from anytime.node.parameters import ACTIONS
from anytime.node.scene import listed
from recipes.reference import drive

AMPLE_S = 60.0
WHOLE_THOUGHT = "fixed:tokens=100000"
INSTANT = "fixed:tokens=0"
WHEN_IN_DOUBT = "auto:sure=0.95"  # a car goes on meanwhile: what is right already is worth more soon than surer later


class Thinker(msgspec.Struct, frozen=True):
    """A contender that is the reasoner: its policy, and its budget in seconds (None: the period)."""

    policy: str
    budget_s: float | None


THINKERS = {
    "reasoner": Thinker(WHEN_IN_DOUBT, None),
    "reasoner-20ms": Thinker(WHEN_IN_DOUBT, 0.02),
    "reasoner-50ms": Thinker(WHEN_IN_DOUBT, 0.05),
    "reasoner-100ms": Thinker(WHEN_IN_DOUBT, 0.1),
    "reasoner-200ms": Thinker(WHEN_IN_DOUBT, 0.2),
    "unconstrained": Thinker(WHOLE_THOUGHT, AMPLE_S),
    "instant": Thinker(INSTANT, None),
}


class Reflex(Protocol):
    """Decides at once."""

    def __call__(self, scene: Scene) -> str: ...


def teacher(scene: Scene) -> str:
    """The rule that labelled the scenes which the reference reasoner learned from."""
    return drive.decide(_as_taught(scene))[0]


def _as_taught(scene: Scene) -> drive.Scene:
    """In whole numbers and as far as a scene's text tells."""
    whole = [drive.Vehicle(v.lane, round(v.gap_m), max(0, round(v.speed_m_s))) for v in scene.vehicles]
    return drive.Scene(scene.lane, max(0, round(scene.speed_m_s)), tuple(listed(scene.lane, whole)))


_BODY_M = 5.0
_SOON_S, _GAP_S, _FREE_S = 4.0, 1.0, 8.0
_ABREAST_M = 10.0


def time_to_collision(scene: Scene) -> str:
    """Brake or pull out when contact with the one ahead is near, go faster when it is far.

    A lane is open when whoever is ahead in it is no nearer in time than that, and whoever is behind is not about to
    reach us.
    """
    ahead = _ahead_s(scene, scene.lane)
    if ahead > _SOON_S:
        return "FASTER" if ahead > _FREE_S else "IDLE"
    for lane, action in ((scene.lane - 1, "LANE_LEFT"), (scene.lane + 1, "LANE_RIGHT")):
        if 1 <= lane <= scene.lanes and _open(scene, lane):
            return action
    return "SLOWER"


def _ahead_s(scene: Scene, lane: int) -> float:
    """Seconds until contact with those ahead in a lane at the speeds of now; below a gap of a second, none."""
    soonest = float("inf")
    for v in scene.vehicles:
        if v.lane == lane and v.gap_m >= 0:
            gap = v.gap_m - _BODY_M
            closing = scene.speed_m_s - v.speed_m_s
            if gap < _GAP_S * scene.speed_m_s:
                return 0.0
            soonest = min(soonest, gap / closing if closing > 0 else float("inf"))
    return soonest


def _open(scene: Scene, lane: int) -> bool:
    for v in scene.vehicles:
        if v.lane == lane and v.gap_m < 0:
            gap, closing = -v.gap_m - _BODY_M, v.speed_m_s - scene.speed_m_s
            if gap < _GAP_S * v.speed_m_s / 2 or (closing > 0 and gap / closing < _SOON_S):
                return False
        elif v.lane == lane and v.gap_m < _ABREAST_M:
            return False
    return _ahead_s(scene, lane) > _SOON_S


def slower(scene: Scene) -> str:
    """Always brakes: it never gets anywhere, and hardly ever crashes."""
    return "SLOWER"


def chance(seed: int) -> Reflex:
    """Any action, each as likely as the others."""
    drawn = random.Random(seed)
    return lambda scene: drawn.choice(ACTIONS)


def reflex(name: str, seed: int) -> Reflex:
    """The contender of this name that does not think."""
    if name == "random":
        return chance(seed)
    return {"teacher": teacher, "ttc": time_to_collision, "slower": slower}[name]


IDM = "idm"  # drives by itself, see ``traffic.driven_by_idm``
REFLEXES = ("teacher", "ttc", "slower", "random")
CONTENDERS = (*THINKERS, IDM, *REFLEXES)


class Said(msgspec.Struct, frozen=True):
    """What came of a scene: when it was over, and the decision, None where there was none to act upon."""

    stamped_ns: int
    over_ns: int
    action: str | None
    decision: Decision | None = None
    thought: str = ""
