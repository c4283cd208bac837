"""From what was measured on a GPU to figures, rows of the table and notes; nothing here measures anything."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.gpu.bandwidth import Bandwidth
from bench.gpu.child import Found, Steps
from bench.guarantee import figures as guarantee
from bench.guarantee.asking import Asked
from bench.report import Figure

MOST_RATIO = 1.5
_HALF = 2  # bytes of a weight in fp16


def floor_us(parameters: int, bytes_s: float) -> float:
    """What reading the weights of a step in fp16 takes at least: two bytes for each, over the measured bandwidth.

    All parameters of a model are read by a step where its embedding is its output matrix, too ("tied").
    """
    return _HALF * parameters / bytes_s * 1e6


def ratio(steps: Steps, parameters: int, bytes_s: float) -> float:
    """The median step over the time it takes to read the weights once."""
    return statistics.median(steps.wall_us) / floor_us(parameters, bytes_s)


def step_figures(engine: str, found: Found, measured: Bandwidth | None) -> list[Figure]:
    """One for each context; none where the weights are not fp16, or nobody knows how fast the memory is."""
    if measured is None or found.spec is None or found.spec.precision != "fp16":
        return []
    made = []
    for steps in found.steps:
        times = ratio(steps, found.parameters, measured.bytes_s)
        name = (
            f"{engine}: median step behind {steps.context} tokens over reading {found.parameters / 1e6:,.1f} M weights "
            "in fp16 at the measured bandwidth"
        )
        made.append(Figure(name, round(times, 4), f"<= {MOST_RATIO:g}", times <= MOST_RATIO))
    return made


def lateness_figures(engine: str, rows: Sequence[Asked]) -> list[Figure]:
    """None where the controls were late themselves: then the part says nothing."""
    return [guarantee.p999(engine, rows)] if rows and not guarantee.void(rows) else []


def lateness_notes(engine: str, rows: Sequence[Asked]) -> list[str]:
    above = [row for row in rows if row.budget_ms >= row.floor_ms]
    answered = f"{engine}: {sum(row.valid for row in above)} of {len(above)} requests at or above the floor"
    return [
        guarantee.lateness_note(engine, rows),
        *guarantee.void_note(engine, rows),
        f"{answered} were answered by the model, {len(rows) - len(above)} were below it",
    ]


def told_steps(steps: Steps) -> str:
    said = f"wall clock p50 {_us(steps.wall_us, 50)}, p99 {_us(steps.wall_us, 99)} µs"
    if steps.gpu_us:
        said += f"; GPU's events p50 {_us(steps.gpu_us, 50)}, p99 {_us(steps.gpu_us, 99)} µs"
    return f"{said}; {len(steps.wall_us)} steps"


def told_graphs(provider: str) -> str:
    """Whether steps are captured graphs, which the engine says of itself in the key of its profile."""
    words = [part.strip() for part in provider.split(",")]
    captured = "no" if "no graphs" in words else "yes" if "graphs" in words else "not told"
    return f"{captured} ({provider})"


def told_bandwidth(measured: Bandwidth) -> str:
    return (
        f"{measured.bytes_s / 1e9:,.1f} GB/s read and written, the best of {len(measured.copies_ms)} copies of "
        f"{measured.copied_bytes / 2**20:,.0f} MiB; {measured.memory_bytes / 2**30:.1f} GiB of memory"
    )


def told_lateness(rows: Sequence[Asked]) -> str:
    late, control = sum(guarantee.late(rows)), sum(guarantee.control_late(rows))
    latest, control_latest = max(row.lateness_ms for row in rows), max(row.control_ms for row in rows)
    void = "VOID: " if guarantee.void(rows) else ""
    return (
        f"{void}{len(rows)} requests, late {late}, by at most {latest:.2f} ms; control {control}, {control_latest:.2f}"
    )


def _us(times_us: Sequence[float], percent: int) -> str:
    return f"{statistics.quantiles(times_us, n=100, method='inclusive')[percent - 1]:,.0f}"
