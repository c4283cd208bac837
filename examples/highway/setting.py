"""What every drive of a comparison has in common: the model, how fast it thinks, and how often it is asked."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from anytime.runtime.loading import Loaded, find_profile, open_bundle
from anytime.scheduler.clock import NS_PER_S
from anytime.scheduler.profile import LatencyProfile
from examples.highway.contenders import THINKERS, Thinker, teacher
from examples.highway.episode import DURATION_S, LONGEST_PERIOD_NS, AtOnce, Moment, drive, period_of
from examples.highway.paced import Residuals, residuals_of, slowed
from examples.highway.thinking import SimulatedDriver
from examples.highway.traffic import scene_of

_SEEDS = range(1_000_000, 1_000_003)  # of no comparison
_SCENES = 60
THOUGHT_NS = 2 * LONGEST_PERIOD_NS  # where half a whole thought and the longest period are the same


class Setting(msgspec.Struct, frozen=True):
    """``pace``: how many times slower than this machine the simulated one is; ``thought_ns``: the median time of a
    whole thought on it, which the period follows from; ``duration_s``: of a drive without a crash.

    Sent to another process, it opens its bundle anew there.
    """

    loaded: Loaded
    profile: LatencyProfile
    residuals: Residuals
    pace: float
    thought_ns: int
    period_ns: int
    duration_s: float = DURATION_S

    @property
    def identity(self) -> str:
        """What results depend on, besides contender, seed and code."""
        profile = self.profile
        return (
            f"bundle {profile.key.bundle[:16]}, profile {profile.key.id()} of {profile.created}, pace {self.pace:g}, "
            f"period {self.period_ns} ns"
        )

    def __reduce__(self) -> tuple[Callable[..., Setting], tuple[Any, ...]]:
        return _reopened, (self.profile, self.pace, self.thought_ns, self.period_ns, self.duration_s)

    def own(self, name: str) -> bool:
        """Whether a contender is another than the one whose budget is the period."""
        return name not in THINKERS or THINKERS[name].budget_s != self.period_ns / NS_PER_S

    def driver(self, thinker: Thinker, seed: int) -> SimulatedDriver:
        """The reasoner at the wheel, in simulated time."""
        return SimulatedDriver(self.loaded, self.profile, self.residuals, thinker, self.period_ns / NS_PER_S, seed)


def open_setting(pace: float | None = None, profile: Path | None = None) -> Setting:
    """The reference reasoner with its profile on this machine, slowed down, and the period for that.

    Without a pace, by as much as makes a whole thought take two of the longest periods.

    Raises:
        BundleError, EngineError, ProfileError: as ``Reasoner.load``.
    """
    loaded = open_bundle(None)
    measured = find_profile(loaded, profile, estimate=profile is not None)
    if pace is None:
        pace = pace_for(_at_pace(loaded, measured, 1.0).thought_ns)
    return _at_pace(loaded, measured, pace)


def _reopened(profile: LatencyProfile, *rest: Any) -> Setting:
    return Setting(open_bundle(None), profile, residuals_of(profile), *rest)


def pace_for(thought_ns: int) -> float:
    """How many times slower a machine must be for a whole thought to take ``THOUGHT_NS``."""
    return max(1.0, math.ceil(10 * THOUGHT_NS / thought_ns) / 10)


def _at_pace(loaded: Loaded, measured: LatencyProfile, pace: float) -> Setting:
    profile = slowed(measured, pace)
    first = Setting(loaded, profile, residuals_of(profile), pace, 0, LONGEST_PERIOD_NS)
    thought_ns = _whole_thought_ns(first)
    return msgspec.structs.replace(first, thought_ns=thought_ns, period_ns=period_of(thought_ns))


def _whole_thought_ns(setting: Setting) -> int:
    """The median time from a scene to the answer behind a whole thought, over scenes that the teacher meets."""
    scenes = []

    def keep(moment: Moment) -> None:
        if moment.at_ns % NS_PER_S == 0:
            scenes.append(scene_of(moment.environment))

    for seed in _SEEDS:
        drive("teacher", seed, LONGEST_PERIOD_NS, AtOnce(teacher), watch=keep)
    driver = setting.driver(THINKERS["unconstrained"], 0)
    now_ns, times = 0, []
    for scene in random.Random(0).sample(scenes, min(_SCENES, len(scenes))):
        said = driver.ask(scene, now_ns, now_ns)
        times.append(said.over_ns - now_ns)
        now_ns = said.over_ns + NS_PER_S
    driver.close()
    return round(statistics.median(times))
