"""Measuring a profile, on an engine whose costs are known."""

from __future__ import annotations

import pytest

from anytime.ext.latency import Latency
from anytime.runtime.measure import measure
from anytime.scheduler.clock import NS_PER_MS
from anytime.scheduler.profile import LatencyProfile
from anytime.targets import Host
from anytime.testing import MockClock, ScriptedEngine
from tests.conftest import make_profile

QUIET = Host("mock", "none", 2, 1.0, "unknown", "performance", 0.0)


def measured(latency: Latency, host: Host = QUIET, slow_every: int = 0) -> LatencyProfile:
    clock = MockClock()
    engine = ScriptedEngine(
        clock,
        latency,
        lambda tokens: 0,
        max_context=1024,
        slowdown=lambda run: 3.0 if slow_every and run % slow_every == 0 else 1.0,
    )
    return measure(engine, make_profile(latency).key, host, clock, quick=True)


def test_measuring_recovers_the_costs() -> None:
    """Fitted coefficients predict every run of an engine that keeps to the model, and need no margin."""
    true = Latency(alpha=40.0, beta=18_000.0, gamma=600_000.0, p=400.0, q=300_000.0)
    profile = measured(true)
    found = profile.latency()
    for tokens, context in ((1, 100), (1, 600), (8, 64), (100, 0), (512, 512)):
        assert found.run_ns(tokens, context) == pytest.approx(true.run_ns(tokens, context), rel=0.03)
    assert profile.fit.step_margin < 1.03
    assert profile.fit.run_margin < 1.1
    assert profile.warnings == ()


def test_slow_steps_are_in_the_margin_not_in_the_prediction() -> None:
    """An engine that stalls now and then is predicted by its typical speed; the margin covers the stalls and warns."""
    true = Latency(0.0, 20_000.0, 500_000.0, 0.0, NS_PER_MS)
    profile = measured(true, slow_every=50)
    assert profile.fit.q == pytest.approx(true.q, rel=0.03)
    assert profile.fit.step_margin == pytest.approx(3.0, rel=0.05)
    assert any("taskset" in warning for warning in profile.warnings)


def test_a_long_thought_needs_a_smaller_margin_than_a_step() -> None:
    """Stalls average out over a segment, so that the token cap need not assume one in every step."""
    profile = measured(Latency(0.0, 20_000.0, 500_000.0, 0.0, NS_PER_MS), slow_every=50)
    assert profile.segment_margin(128) < 1.2 < profile.fit.step_margin


def test_warnings_name_their_cure() -> None:
    """A slow governor, a loaded machine and a single core are each named with what helps."""
    host = Host("mock", "none", 1, 1.0, "unknown", "powersave", 3.0)
    warnings = " ".join(measured(Latency(0.0, 20_000.0, 500_000.0, 0.0, NS_PER_MS), host).warnings)
    for cure in ("cpupower frequency-set", "end other programs", "a second one"):
        assert cure in warnings
