"""``anytime profile``: measure how fast a bundle is on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from rich.table import Table

from anytime.cli.common import err, measuring, out, reported
from anytime.cli.engines import EngineOption, Engines
from anytime.runtime.loading import Loaded, measure_profile, open_bundle
from anytime.scheduler.admission import BUDGETS_MS, token_caps
from anytime.scheduler.clock import NS_PER_MS
from anytime.scheduler.profile import Cell, LatencyProfile, store
from anytime.targets import Clocks, here

_PROMPTS = (32, 64, 128, 256, 512)
_QUANTILES = (0.5, 0.9, 0.99, 1.0)
_STRETCH = 128


@reported
def profile(
    bundle: Annotated[Path | None, typer.Argument(help="A bundle; default: the reference.", show_default=False)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few seconds instead of one to two minutes.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of the engine; default: all cores but one.")] = None,
    engine: EngineOption = Engines.onnxruntime,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole profile as one JSON object.")] = False,
) -> None:
    """Measure prefill and decode speed and store them as this machine's latency profile of BUNDLE."""
    loaded = open_bundle(bundle, threads, engine.value)
    for warning in _about_clocks(loaded):
        err.print(f"[yellow]warning:[/yellow] {warning}", soft_wrap=True)
    with measuring() as progress:
        measured = measure_profile(loaded, quick, progress)
    path = store(measured)
    if as_json:
        print(json.dumps({**msgspec.to_builtins(measured), "path": str(path)}))
        return
    _print_tables(loaded, measured)
    for warning in measured.warnings:
        err.print(f"[yellow]warning:[/yellow] {warning}")
    out.print(f"stored in {path}", soft_wrap=True)


def _about_clocks(loaded: Loaded) -> tuple[str, ...]:
    """What is amiss with the clocks that the engine's times depend on, before they are measured."""
    seen = here()
    return seen.warnings if seen.jetson_linux or loaded.key.gpu != "none" else ()


def _print_tables(loaded: Loaded, measured: LatencyProfile) -> None:
    times = Table(title="Milliseconds of an engine run")
    for heading in ("tokens", "context", "p50", "p90", "p99", "max", "runs"):
        times.add_column(heading, justify="right")
    for cell in [*measured.runs, *_by_stretch(measured.steps)]:
        values = np.quantile(cell.times_ns, _QUANTILES) / NS_PER_MS
        context = str(cell.context)
        times.add_row(str(cell.tokens), context, *(f"{v:.2f}" for v in values), str(len(cell.times_ns)))
    out.print(times)
    out.print(_branches(measured))
    out.print(_regimes(measured))
    if "not measured" in measured.environment:
        out.print(f"not measured by a quick profile: {measured.environment['not measured']}")
    caps = Table(title="Thought tokens that fit (token cap)")
    caps.add_column("prompt tokens", justify="right")
    for budget_ms in BUDGETS_MS:
        caps.add_column(f"{budget_ms} ms", justify="right")
    for prompt in (n for n in _PROMPTS if n < measured.key.max_context // 2 + 1):
        row = token_caps(measured, prompt, len(loaded.codec.close_ids))
        caps.add_row(str(prompt), *("below floor" if cap is None else str(cap) for cap in row.values()))
    out.print(caps)
    out.print(f"kept back for delivery: {measured.delivery_ns / NS_PER_MS:.1f} ms")
    longest_ms = measured.longest_run_ns / NS_PER_MS
    out.print(f"prompts run in chunks of {measured.chunk} tokens: no run is longer than {longest_ms:.1f} ms")


def _branches(measured: LatencyProfile) -> Table:
    """What forks and steps of several rows cost."""
    table = Table(title="Milliseconds of a fork, and of one step of several rows")
    for heading in ("rows", "context", "fork p50", "fork p99", "step p50", "step p99", "a row p50"):
        table.add_column(heading, justify="right")
    for branch in measured.branches:
        forks = [f"{v:.3f}" for v in _quantiles(branch.forks_ns)] or ["", ""]
        half, most = _quantiles(branch.steps_ns)
        cells = [f"{value:.2f}" for value in (half, most, half / branch.rows)]
        table.add_row(str(branch.rows), str(branch.context), *forks, *cells)
    return table


def _regimes(measured: LatencyProfile) -> Table:
    """How far each regime is from the prediction; docs/profiles.md explains the columns."""
    told = any(regime.clocks.mhz for regime in measured.regimes)
    table = Table(title="Measured over predicted time of a step", caption=None if told else "clocks: unknown")
    for heading in ("regime", "steps", "p50", "p99", "p99.9 [95 %]", "max", "bursts", *(["MHz"] if told else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for regime in measured.regimes:
        tail = regime.tail
        far = "too few"
        if tail.p999 is not None and tail.interval is not None:
            far = f"{tail.p999:.3g} [{tail.interval[0]:.3g}, {tail.interval[1]:.3g}]"
        figures = [f"{tail.p50:.2f}", f"{tail.p99:.2f}", far, f"{tail.most:.3g}"]
        bursts = "" if tail.burst is None else f"{tail.burst:.0%}"
        table.add_row(regime.name, str(tail.samples), *figures, bursts, *([_mhz(regime.clocks)] if told else []))
    return table


def _mhz(clocks: Clocks) -> str:
    """The slowest and the fastest core, where the machine tells."""
    return f"{min(clocks.mhz)}-{max(clocks.mhz)}" if clocks.mhz else ""


def _quantiles(times_ns: tuple[int, ...]) -> list[float]:
    """p50 and p99 in milliseconds; nothing of nothing."""
    return [float(value) / NS_PER_MS for value in np.quantile(times_ns, (0.5, 0.99))] if times_ns else []


def _by_stretch(steps: tuple[Cell, ...]) -> list[Cell]:
    """Decode steps of all passes, grouped by context."""
    grouped: dict[int, list[int]] = {}
    for cell in steps:
        for i, time_ns in enumerate(cell.times_ns):
            grouped.setdefault((cell.context + i) // _STRETCH * _STRETCH, []).append(time_ns)
    return [Cell(1, context, tuple(times)) for context, times in sorted(grouped.items())]
