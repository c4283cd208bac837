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
    return measure(engine, make_profile(latency, spec=engine.spec).key, host, clock, quick=True)


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


def test_rows_and_forks_are_in_the_profile() -> None:
    """The cost of one step of 1, 2, 4 and 8 rows is measured at two contexts, and so is a fork."""
    true = Latency(40.0, 18_000.0, 600_000.0, 400.0, 300_000.0)
    profile = measured(true)
    assert [rows for rows, _, _ in profile.fit.widths] == [1, 2, 4, 8]
    assert {(branch.rows, branch.context) for branch in profile.branches} == {
        (rows, context) for rows in (1, 2, 4, 8) for context in (64, 512)
    }
    for rows in (1, 3, 8):  # the scripted engine runs rows side by side for the price of one
        assert profile.rows_ns(rows, 300) == pytest.approx(true.run_ns(1, 300), rel=0.03)
    assert profile.fork_ns(100) >= 0


def test_chunks_keep_the_longest_run_in_bounds() -> None:
    """No run of a prefill takes longer than the profile states, wherever in the context it is."""
    profile = measured(Latency(40.0, 18_000.0, 600_000.0, 400.0, 300_000.0))
    latency = profile.latency()
    for tokens in (1, 15, 16, 17, 300, 1000):
        context = 0
        for size in profile.chunks(tokens, 2):
            assert latency.upper_ns(size, context) <= profile.longest_run_ns
            context += size
        assert context == tokens
