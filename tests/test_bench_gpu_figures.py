"""Figures of bench.gpu from samples with known answers."""

from __future__ import annotations

import msgspec
import pytest

from anytime.runtime.engine import EngineSpec
from bench.gpu import figures
from bench.gpu.bandwidth import GIB, Bandwidth
from bench.gpu.child import Found, Steps
from bench.guarantee.asking import Asked

SPEC = EngineSpec("tensorrt", "10.16.1", "double 1, in-place, graphs", 1, "fp16", 64, 4, 256, "Double 8.7")
COPIES = Bandwidth(8 * GIB, GIB // 2, [20.0, 10.0, 40.0])  # 100 GiB/s


def row(late: float = 0.0, control: float = 0.0, floor: float = 5.0) -> Asked:
    return Asked(0, 100.0, floor, 90.0, late, control, True, True, 0.9, "deadline", "thought", 50)


def test_the_ratio_is_the_step_over_reading_the_weights() -> None:
    """0.6 billion weights of two bytes at 1.2 TB/s take a millisecond."""
    assert figures.floor_us(600_000_000, 1.2e12) == pytest.approx(1000.0)
    assert figures.ratio(Steps(64, [2000.0, 1400.0, 1.0], []), 600_000_000, 1.2e12) == pytest.approx(1.4)


@pytest.mark.parametrize(("step_us", "holds"), [(1_490.0, True), (1_510.0, False)])
def test_a_step_is_held_to_the_bandwidth(step_us: float, holds: bool) -> None:
    """At most one and a half times what reading the weights takes, at every context."""
    parameters = round(COPIES.bytes_s * 1e-3 / 2)  # a millisecond
    found = Found("", SPEC, parameters, [Steps(64, [1_000.0], []), Steps(512, [step_us], [])])
    first, second = figures.step_figures("tensorrt", found, COPIES)
    assert (first.measured, first.holds) == (1.0, True)
    assert (second.measured, second.target, second.holds) == (step_us / 1e3, "<= 1.5", holds)


def test_a_step_of_other_weights_or_of_unknown_bandwidth_is_not_judged() -> None:
    """There is no figure where the two bytes a weight, or what they are divided by, would be guessed."""
    steps = [Steps(64, [1.0], [])]
    int4 = msgspec.structs.replace(SPEC, precision="int4")
    assert figures.step_figures("tensorrt", Found("", int4, 10**6, steps), COPIES) == []
    assert figures.step_figures("tensorrt", Found("", SPEC, 10**6, steps), None) == []


def test_lateness_is_held_to_the_control_and_void_where_that_was_late() -> None:
    """A millisecond beyond the control's 99.9th percentile; nothing is judged where more than 0.1 % of it was late."""
    calm = [row() for _ in range(1_000)]
    assert [figure.holds for figure in figures.lateness_figures("tensorrt", calm)] == [True]
    assert [figure.holds for figure in figures.lateness_figures("tensorrt", [row(late=2.0)] * 9 + calm)] == [False]
    late_control = [row(control=1.0), row(control=1.0), *calm[2:]]
    assert figures.lateness_figures("tensorrt", late_control) == []
    assert figures.told_lateness(late_control).startswith("VOID: ")
    assert "2 of 1000 controls were late" in figures.lateness_notes("tensorrt", late_control)[1]


def test_those_below_the_floor_are_counted_apart() -> None:
    """They could not be answered by the model."""
    assert (
        "1 of 1 requests at or above the floor were answered by the model, 1 were below it"
        in (figures.lateness_notes("tensorrt", [row(), row(floor=101.0)])[-1])
    )


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        ("cuda.core 1.2, in-place, graphs", "yes"),
        ("pycuda 2026.1, appended, no graphs", "no"),
        ("CUDAExecutionProvider", "not told"),
    ],
)
def test_captured_graphs_are_told(provider: str, told: str) -> None:
    """As the engine says of itself."""
    assert figures.told_graphs(provider) == f"{told} ({provider})"
