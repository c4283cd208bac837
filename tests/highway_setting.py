"""The reference reasoner on a made-up machine, for tests of drives."""

from __future__ import annotations

from anytime.ext.latency import Latency
from anytime.runtime.loading import open_bundle
from anytime.scheduler.clock import NS_PER_MS
from anytime.scheduler.profile import Cell, LatencyProfile
from examples.highway.paced import residuals_of
from examples.highway.setting import Setting
from tests.conftest import make_profile

PERIOD_NS = 200 * NS_PER_MS


def profile_of(latency: Latency, bundle_id: str = "0" * 64) -> LatencyProfile:
    """A profile whose measurements were 1.0 to 1.5 times what it predicts."""
    steps = Cell(1, 8, tuple(round(latency.run_ns(1, 8 + i) * (1.0 + 0.1 * (i % 6))) for i in range(60)))
    runs = tuple(Cell(n, 0, (latency.run_ns(n, 0), round(1.5 * latency.run_ns(n, 0)))) for n in (8, 64))
    made: LatencyProfile = make_profile(latency, bundle_id)
    return LatencyProfile(**{**{f: getattr(made, f) for f in made.__struct_fields__}, "steps": (steps,), "runs": runs})


def made_up(duration_s: float = 1.6) -> Setting:
    """As fast as a machine on which a whole thought takes about half a second."""
    loaded = open_bundle(None, 1)
    profile = profile_of(Latency(500.0, 2.5e5, 1.4e6, 700.0, 8e5, 1.7, 1.4), loaded.bundle.id)
    return Setting(loaded, profile, residuals_of(profile), 12.0, 500 * NS_PER_MS, PERIOD_NS, duration_s)
