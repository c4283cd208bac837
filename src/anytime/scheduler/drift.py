"""Watching how far the engine drifts from its profile, and saying when the profile should be measured anew."""

from __future__ import annotations

import math

from anytime.ext import drift
from anytime.scheduler.profile import DELTA, LatencyProfile

STEP, RUN = drift.STEP, drift.RUN  # what an action was: decode steps, or a run of several tokens

_ETA = 0.05  # what the margin rises by after an overrun
_MOST = 2.0  # times the profile's margin is what it rises to at most
_SUSTAINED = 1000  # actions
_ALIKE = 1.2  # a regime explains the pace when they differ by no more than this


class Drift(drift.Drift):
    """What the predictions of a profile must be multiplied by now, and what to keep above that.

    ``update(predicted_ns, measured_ns, kind)`` is called once for every engine action, in the order they end. From then
    on ``predicted · factor`` is what an action typically takes, and ``predicted · factor · margin`` what one in a
    hundred exceeds. Factor and margin are one for all kinds; ``kind`` is for the report.
    """

    def __init__(self, profile: LatencyProfile) -> None:
        """Begins with the margin of a step, below which it never falls, because a burst of steps is one action here
        and varies less than a step. It may rise to twice that: near a short deadline a wider one costs more thought
        than the answers that come too late without it.

        Raises:
            ValueError: the profile's margin of a step is not finite.
        """
        margin = profile.fit.step_margin
        super().__init__(margin, delta=DELTA, eta=_ETA, least=margin, most=_MOST * margin)
        self._paces = {regime.name: regime.tail.p50 for regime in profile.regimes}

    def report(self) -> str | None:
        """Why the profile should be measured anew, with the figures; None while there is no reason to."""
        found = [reason for reason in (self._pace_report(), self._overrun_report()) if reason]
        return f"{'; '.join(found)}: run 'anytime profile'" if found else None

    def _pace_report(self) -> str | None:
        """The pace has been another than predicted for many actions in a row."""
        if self.away < _SUSTAINED:
            return None
        like = self._like(self.ratio)
        return (
            f"the last {self.away:,} engine actions took {self.ratio:.2f} times what the profile predicts (on the "
            f"whole steps {self.pace(STEP):.2f}, runs {self.pace(RUN):.2f} times)"
            + (f", about as measured under {like!r}: look into that first" if like else "")
        )

    def _like(self, ratio: float) -> str | None:
        """The regime, other than the warm one, whose pace comes nearest, if any comes near."""
        near = [
            (abs(ratio - pace), name)
            for name, pace in self._paces.items()
            if name != "warm" and ratio <= _ALIKE * pace and pace <= _ALIKE * ratio
        ]
        return min(near)[1] if near else None

    def _overrun_report(self) -> str | None:
        """More actions went over the profile's margin, or even over the one kept now, than chance explains."""
        if self.actions < _SUSTAINED or not (self._too_many(self.misses) or self._too_many(self.overruns)):
            return None
        return (
            f"{self.misses / self.actions:.1%} of the last {self.actions:,.0f} engine actions overran the profile's "
            f"margin of {self.planned_margin:.2f}, {self.overruns / self.actions:.1%} the one kept now "
            f"({self.margin:.2f}), and {self.delta:.1%} should have"
        )

    def _too_many(self, count: float) -> bool:
        """Twice as many as planned, and three standard deviations above: one may come upon another."""
        planned = self.delta * self.actions
        return count > 2 * planned + 3 * math.sqrt(planned * (1 - self.delta))
