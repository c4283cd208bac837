"""Estimates before anything is measured: the arithmetic, what it was fitted to, and how far it is off."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime.bundle import Bundle, Graph, KvLayout
from anytime.errors import ProfileError, TargetError, UsageError
from anytime.scheduler.admission import Grant, Refusal, Work, admit, token_caps
from anytime.scheduler.estimate import (
    FITTED_RUN_MARGIN,
    RUN_MARGIN,
    STEP_MARGIN,
    estimated_profile,
    is_estimated,
    run_margin,
)
from anytime.scheduler.profile import LatencyProfile, read
from anytime.targets import load_targets, target_named
from anytime.targets.published import FITTED_TO, PUBLISHED, checks, fitted
from anytime.targets.roofline import ORIN_INT4, Efficiency, Peaks, Shape, peaks, roofline, shape_of
from tests.conftest import MS, write_bundle

IDEAL = Efficiency(memory=1.0, compute=1.0, overhead_s=0.0)
ORINS = {"agx-orin-32", "agx-orin-64", "orin-nano", "orin-nano-super", "orin-nx-16"}
QWEN = {
    "parameters": 596_000_000,
    "max_context": 4096,
    "graphs": (Graph("model.onnx", "int4", 18, "onnxruntime>=1.23", 0.0),),
    "kv": KvLayout(28, 8, 128, "float16", "shared"),
}


@pytest.fixture
def qwen(tmp_path: Path) -> Bundle:
    """A bundle that says it is Qwen3-0.6B in int4; an estimate reads nothing but what it says."""
    return write_bundle(tmp_path / "qwen", **QWEN)


def test_a_step_reads_weights_and_cache_once() -> None:
    """At 100 GB/s, 1 GB of weights take 10 ms, and 1000 tokens of a 4 kB cache 0.04 ms more."""
    shape = Shape(1e9, 5e8, 0.0, layers=1, kv_heads=1, query_heads=1, head_dim=1000)
    estimate = roofline(shape, Peaks(100e9, 1e15), IDEAL)
    assert shape.kv_bytes == 4000
    assert estimate.step_s(0) == pytest.approx(10e-3)
    assert estimate.step_s(1000) == pytest.approx(10.04e-3)


def test_a_prompt_computes_for_every_token_and_reads_once() -> None:
    """2 · 0.5 G operations a token at 10 TFLOPS are 0.1 ms; the weights' 10 ms are paid once."""
    shape = Shape(1e9, 5e8, 0.0, layers=0, kv_heads=0, query_heads=0, head_dim=0)
    estimate = roofline(shape, Peaks(100e9, 10e12), IDEAL)
    assert estimate.run_s(100, 0) == pytest.approx(10e-3 + 100 * 0.1e-3)


def test_attention_grows_with_the_context() -> None:
    """Four operations a layer, head and channel for each pair of tokens."""
    shape = Shape(0.0, 0.0, 0.0, layers=2, kv_heads=1, query_heads=4, head_dim=8)
    estimate = roofline(shape, Peaks(1e9, 256e9), IDEAL)
    assert estimate.run_s(10, 90) == pytest.approx(10 * 95 * 4 * 2 * 4 * 8 / 256e9)


@given(st.floats(1e6, 1e11), st.floats(1e6, 1e11), st.floats(1e10, 1e13), st.floats(1e11, 1e15), st.integers(2, 4096))
def test_the_sum_is_between_the_roof_and_twice_the_roof(
    weight_bytes: float, parameters: float, bytes_s: float, flops_s: float, tokens: int
) -> None:
    """Never less than the slower of reading and computing, which is what cannot be beaten."""
    shape = Shape(weight_bytes, parameters, 0.0, layers=0, kv_heads=0, query_heads=0, head_dim=0)
    roof_s = max(weight_bytes / bytes_s, 2 * parameters * tokens / flops_s)
    found_s = roofline(shape, Peaks(bytes_s, flops_s), IDEAL).run_s(tokens, 0)
    assert roof_s * (1 - 1e-9) <= found_s <= 2 * roof_s * (1 + 1e-9)


@pytest.mark.parametrize(
    ("name", "mode", "memory", "compute"),
    [
        ("orin-nano-super", None, 1.0, 1.0),
        ("orin-nano-super", "MAXN_SUPER", 1.0, 1.0),
        ("orin-nano-super", "25W", 1.0, 918 / 1020),
        ("orin-nano-super", "15W", 2133 / 3199, 612 / 1020),
        ("agx-orin-64", "MODE_30W", 1.0, 612 / 1300 * 4 / 8),
        ("agx-orin-64", "MODE_15W", 2133 / 3200, 408 / 1300 * 3 / 8),
        ("thor", "120W", 1.0, 1.0),
    ],
)
def test_a_power_mode_scales_the_peaks(name: str, mode: str | None, memory: float, compute: float) -> None:
    """Memory by its clock; arithmetic by the GPU's clock and the parts of it that stay on."""
    target = target_named(name)
    most, found = peaks(target), peaks(target, mode)
    assert found.bytes_s == pytest.approx(memory * most.bytes_s)
    assert found.flops_s == pytest.approx(compute * most.flops_s)


def test_the_constants_are_those_of_agx_orin_alone() -> None:
    """Fitted to its four figures, rounded; no other row has any part in them."""
    rows = [row for row in PUBLISHED if row.target == FITTED_TO]
    found = fitted(rows)
    assert ORIN_INT4.memory == pytest.approx(found.memory, rel=1e-3)
    assert ORIN_INT4.compute == pytest.approx(found.compute, rel=1e-3)
    assert ORIN_INT4.overhead_s == pytest.approx(found.overhead_s, rel=1e-3)


@pytest.mark.parametrize(
    ("target", "step", "prefill"),
    [
        ("agx-orin-64", (-0.01, 0.01), (-0.03, 0.03)),
        ("orin-nx-16", (0.08, 0.10), (-0.06, 0.03)),
        ("orin-nano", (-0.04, 0.0), (0.08, 0.30)),
        ("orin-nano-super", (-0.34, -0.31), (-0.35, -0.22)),
        ("thor", (0.06, 0.10), (-0.70, -0.68)),
    ],
)
def test_errors_are_as_the_documentation_states(
    target: str, step: tuple[float, float], prefill: tuple[float, float]
) -> None:
    """Of steps and prompts, on the targets that were not fitted as on the one that was."""
    found = [check for check in checks() if check.published.target == target]
    assert len(found) == 2
    for check in found:
        assert step[0] <= check.step_error <= step[1]
        assert prefill[0] <= check.prefill_error <= prefill[1]
        assert check.fitted == (target == "agx-orin-64")


def test_what_200_ms_buy_behind_2048_tokens_is_as_published() -> None:
    """Of Qwen3-0.6B: some ten tokens on AGX Orin, and not even the prompt on Orin NX and Nano."""
    for check in checks():
        row = check.published
        if row.prompt_tokens == 2048 and row.model == "Qwen3-0.6B" and row.target != "thor":
            bought = max(0.0, (200.0 - row.prefill_ms) / 1e3 * row.tokens_s)
            estimated = max(0.0, (200.0 - check.prefill_ms) / 1e3 * check.tokens_s)
            assert estimated == pytest.approx(bought, abs=1.0)
            assert (bought > 10) == (row.target == "agx-orin-64")


def test_no_published_figure_exceeds_its_upper_bound() -> None:
    """The margins of an estimated profile cover the worst of the estimates, and not by much."""
    worst = max(check.tokens_s / check.published.tokens_s for check in checks())
    assert worst <= STEP_MARGIN <= 1.05 * worst
    for margin in (FITTED_RUN_MARGIN, RUN_MARGIN):
        rows = [check for check in checks() if run_margin(target_named(check.published.target)) == margin]
        worst = max(check.published.prefill_ms / check.prefill_ms for check in rows)
        assert worst <= margin <= 1.05 * worst
    assert {target.name for target in load_targets() if run_margin(target) == FITTED_RUN_MARGIN} == ORINS


def test_every_gpu_target_has_an_estimate_and_no_other(qwen: Bundle) -> None:
    """Engines on processors are refused, with what to do instead."""
    for target in load_targets():
        if target.engine == "tensorrt":
            assert is_estimated(estimated_profile(qwen, target))
        else:
            with pytest.raises(TargetError, match=r"fitted to GPUs.*anytime profile"):
                estimated_profile(qwen, target)


@pytest.mark.parametrize(("field", "word"), [("bandwidth_gb_s", "bandwidth"), ("fp16_tflops", "arithmetic")])
def test_a_figure_without_a_source_makes_no_estimate(qwen: Bundle, field: str, word: str) -> None:
    """What is not published is not guessed."""
    target = msgspec.structs.replace(target_named("thor"), **{field: None})
    with pytest.raises(TargetError, match=f"{word}.*no public source"):
        estimated_profile(qwen, target)


def test_what_a_target_does_not_run_is_refused(qwen: Bundle, tmp_path: Path) -> None:
    """A precision it has not, one that an estimate does not know, and a mode it has not."""
    target = target_named("orin-nx-16")
    only = msgspec.structs.replace(target, precisions=("fp16",))
    with pytest.raises(TargetError, match=r"int4.*runs fp16"):
        estimated_profile(qwen, only)
    with pytest.raises(TargetError, match="'int3'"):
        shape_of(1000, "int3", 1, 1, 1)
    with pytest.raises(UsageError, match="40W"):
        estimated_profile(qwen, target, "60W")


def test_an_estimated_profile_plans_as_a_measured_one(qwen: Bundle) -> None:
    """Its token caps grow with the budget and fall with the clocks; below the floor nothing is granted."""
    target = target_named("orin-nano-super")
    fast, slow = estimated_profile(qwen, target), estimated_profile(qwen, target, "15W")
    caps = [cap or 0 for cap in token_caps(fast, 128, 1).values()]
    assert caps == sorted(caps)
    assert caps[-1] > 20
    assert (token_caps(slow, 128, 1)[500] or 0) < 0.75 * caps[-1]
    work = Work(2048, 0, 1, 0, 4096)
    assert isinstance(admit(work, 200 * MS, fast), Refusal)  # the prompt alone takes longer, as published
    assert isinstance(admit(work, 200 * MS, estimated_profile(qwen, target_named("h200"))), Grant)


def test_an_estimate_is_refused_as_a_measurement(qwen: Bundle, profile: LatencyProfile, tmp_path: Path) -> None:
    """Its key names no engine there is, so that it must be asked for; its warning says what it is."""
    estimate = estimated_profile(qwen, target_named("thor"))
    assert "not measured" in estimate.warnings[0]
    file = tmp_path / "profile.json"
    file.write_bytes(msgspec.json.encode(estimate))
    with pytest.raises(ProfileError, match=r"estimated.*--estimate"):
        read(file, profile.key)
    assert is_estimated(read(file, profile.key, estimate=True))
    assert not is_estimated(profile)
