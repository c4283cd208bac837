"""The profile as it holds now: what was measured, times how far the engine has drifted from that."""

from __future__ import annotations

import msgspec

from anytime.ext.latency import Latency
from anytime.scheduler.drift import RUN, STEP, Drift
from anytime.scheduler.profile import LatencyProfile

_NOTICED = 1.02  # a smaller change of pace or margin is not worth new coefficients


class Pace:
    """Shown what every action of the engine took, it slows the profile down while the engine is slow.

    ``profile`` and ``latency`` are those to plan with: predictions times the factor of ``Drift``. They are never faster
    than what was measured. Margins that have risen as that of ``Drift`` are for the next action, in ``latency`` alone:
    added up over all of a request they would turn away what could be answered.
    """

    def __init__(self, measured: LatencyProfile) -> None:
        self.measured = self.profile = measured
        self._drift = Drift(measured)
        self._plain = {1: measured.latency()}
        self._latencies = dict(self._plain)
        self._factor, self._margin = 1.0, self._drift.margin

    @property
    def factor(self) -> float:
        """What predictions to plan with are multiplied by now."""
        return self._factor

    def latency(self, width: int = 1) -> Latency:
        """Costs of one sequence, or of so many side by side, as things are."""
        found = self._latencies.get(width)
        return found or self._latencies.setdefault(width, self._wary().latency(width))

    def _wary(self) -> LatencyProfile:
        """The profile with margins as they are now."""
        fit, wider = self.profile.fit, self._margin / self._drift.planned_margin
        margins = {"run_margin": fit.run_margin * wider, "step_margin": fit.step_margin * wider}
        return msgspec.structs.replace(self.profile, fit=msgspec.structs.replace(fit, **margins))

    def ran(self, tokens: int, context: int, width: int, took_ns: int) -> None:
        """Sequences of this width each ran so many tokens at once behind a context."""
        plain = self._measured(width)
        self._drift.update(max(1, plain.run_ns(tokens, context)), max(0, took_ns), STEP if tokens == 1 else RUN)
        self._follow()

    def stepped(self, steps: int, context: int, width: int, took_ns: int) -> None:
        """So many sequences side by side, on average behind such a context, took so many steps in a row.

        They count for half as many actions: a stall within them must not look like eight slow steps, and eight slow
        steps are half of the window after which a slower engine is noticed.
        """
        plain = self._measured(width)
        predicted_ns = sum(plain.run_ns(1, context + i) for i in range(steps))
        for _ in range((steps + 1) // 2):
            self._drift.update(max(1, predicted_ns), max(0, took_ns), STEP)
        self._follow()

    def _measured(self, width: int) -> Latency:
        return self._plain.get(width) or self._plain.setdefault(width, self.measured.latency(width))

    def doubt(self) -> None:
        """A request was refused for want of time: half of the slowness is forgotten, so that it is tried again.

        An engine that is asked nothing shows no pace, and would be taken for slow for ever.
        """
        self._drift.doubt()
        self._follow()

    def expect(self, slowdown: float) -> None:
        """Plan at once for an engine so many times as slow, as its clocks tell; what actions take then corrects that.

        Raises:
            ValueError: it is less than 1, or not finite.
        """
        self._drift.expect(slowdown)
        self._follow()

    def recover(self) -> None:
        """The clocks are what they were: plan at the pace that the last actions show."""
        self._drift.recover()
        self._follow()

    def report(self) -> str | None:
        """Why the profile should be measured anew; None while there is no reason to."""
        return self._drift.report()

    def _follow(self) -> None:
        factor, margin = self._drift.factor, self._drift.margin
        if max(factor / self._factor, self._factor / factor, margin / self._margin, self._margin / margin) < _NOTICED:
            return
        self._factor, self._margin = factor, margin
        self.profile = slowed(self.measured, factor)
        self._latencies = {}


def slowed(profile: LatencyProfile, factor: float) -> LatencyProfile:
    """The profile of an engine whose every run takes ``factor`` times as long."""
    fit = profile.fit
    times = {name: getattr(fit, name) * factor for name in ("alpha", "beta", "gamma", "p", "q")}
    widths = tuple((width, p * factor, q * factor) for width, p, q in fit.widths)
    return msgspec.structs.replace(profile, fit=msgspec.structs.replace(fit, **times, widths=widths))
