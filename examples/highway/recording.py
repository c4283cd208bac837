"""What happened in a drive, as ``render`` draws it."""

from __future__ import annotations

import msgspec

from examples.highway.episode import Episode, Moment

FRAMES_HZ = 5


class Frame(msgspec.Struct, frozen=True):
    """Places of all vehicles (x, y, heading), ours first, m and rad; the decision in force and where it came from."""

    at_s: float
    places: list[tuple[float, float, float]]
    speed_m_s: float
    action: str
    source: str
    confidence: float | None
    age_ms: float


class Recording(msgspec.Struct, frozen=True):
    """A drive."""

    episode: Episode
    frames: list[Frame]


class Recorder:
    """Takes a frame a fifth of a second."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []

    def watch(self, moment: Moment) -> None:
        """Of a moment of a drive."""
        if moment.at_ns * FRAMES_HZ < len(self._frames) * 1_000_000_000:
            return
        car, said = moment.environment.vehicle, moment.latest
        others = [v for v in moment.environment.road.vehicles if v is not car]
        decision = said.decision if said is not None else None
        answered = decision is not None and decision.source != "fallback"
        self._frames.append(
            Frame(
                at_s=moment.at_ns / 1e9,
                places=[
                    (round(float(v.position[0]), 2), round(float(v.position[1]), 2), round(float(v.heading), 3))
                    for v in (car, *others)
                ],
                speed_m_s=round(float(car.speed), 2),
                action=moment.action,
                source=decision.source if decision is not None else "",
                confidence=round(decision.confidence, 3) if decision is not None and answered else None,
                age_ms=round((said.over_ns - said.stamped_ns) / 1e6, 1) if said is not None else 0.0,
            )
        )

    def recording(self, episode: Episode) -> Recording:
        """Of a drive that has ended like this."""
        return Recording(episode, self._frames)
