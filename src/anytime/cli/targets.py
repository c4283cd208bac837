"""``anytime targets``: devices this version knows, what this machine is, and what a bundle would take on a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from anytime.bundle import Bundle
from anytime.cli.common import duration_s, err, out, reported
from anytime.cli.estimated import estimate_of, print_estimate, print_published, published_rows
from anytime.errors import UsageError
from anytime.targets import Condition, Target, detect, here, load_targets, target_named
from anytime.targets.jetson import Clock

REFERENCE = "reference"


@reported
def targets(
    look: Annotated[
        bool, typer.Option("--detect", help="Say which target this machine is, and what is amiss.")
    ] = False,
    estimate: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help=f"Estimate what BUNDLE ('{REFERENCE}': ours) takes.", show_default=False),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="The device to estimate for; default: this one.", show_default=False)
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="Its power mode; default: its highest clocks.", show_default=False)
    ] = None,
    prompt: Annotated[int, typer.Option(metavar="<tokens>", help="Length of the prompt.")] = 128,
    budget: Annotated[
        str | None, typer.Option(help="Time for an answer; default: 20 to 500 ms.", show_default=False)
    ] = None,
    published: Annotated[bool, typer.Option("--published", help="How far estimates are off.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the known targets and describe this machine.

    With --estimate: prefill, step and token cap of a bundle on a device that was not measured yet, from published
    figures.
    """
    asked = [
        name for name, given in (("--detect", look), ("--published", published), ("--estimate", estimate)) if given
    ]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} cannot be asked together: give one of them")
    if estimate is None and (target or mode or budget):
        raise UsageError("--target, --mode and --budget belong to --estimate: give the bundle there")
    if estimate is not None:
        bundle = Bundle.reference() if str(estimate) == REFERENCE else Bundle.load(estimate)
        found = estimate_of(bundle, _target(target), mode, prompt, None if budget is None else duration_s(budget))
        print(json.dumps(found)) if as_json else print_estimate(found)
    elif published:
        rows = published_rows()
        print(json.dumps({"published": rows})) if as_json else print_published(rows)
    elif look:
        seen = here()
        print(json.dumps(msgspec.to_builtins(seen))) if as_json else _print_condition(seen)
    else:
        _list(as_json)


def _target(name: str | None) -> Target:
    if name is not None:
        return target_named(name)
    found = here().target
    if not found:
        raise UsageError("no target describes this machine: give one with --target; 'anytime targets' lists them")
    return target_named(found)


def _list(as_json: bool) -> None:
    known, host = load_targets(), detect()
    if as_json:
        print(json.dumps({"targets": msgspec.to_builtins(known), "host": msgspec.structs.asdict(host)}))
        return
    table = Table(title="Targets")
    for heading in ("name", "device", "GB", "GB/s", "engine", "status"):
        table.add_column(heading, justify="right" if heading.startswith("GB") else "left")
    for one in known:
        figures = [f"{figure.value:g}" if figure else "" for figure in (one.memory_gb, one.bandwidth_gb_s)]
        table.add_row(one.name, one.title, *figures, one.engine, one.status)
    out.print(table)
    machine = Table(title="This machine", show_header=False)
    for name, value in msgspec.structs.asdict(host).items():
        machine.add_row(name.replace("_", " "), str(value))
    out.print(machine)


def _print_condition(seen: Condition) -> None:
    table = Table(title="This machine", show_header=False)
    for name in ("target", "gpu", "jetson_linux", "jetpack", "power_mode"):
        table.add_row(name.replace("_", " "), Text(getattr(seen, name) or "unknown"))
    table.add_row("GPU clock", _clock(seen.gpu_clock))
    table.add_row("memory clock", _clock(seen.memory_clock))
    table.add_row("held down by", Text("; ".join(seen.throttling) or "nothing that is told"))
    out.print(table)
    for warning in seen.warnings:
        err.print(Text.assemble(("warning: ", "yellow"), warning), soft_wrap=True)


def _clock(clock: Clock | None) -> str:
    if clock is None:
        return "unknown"
    bounds = f"{clock.least_mhz or '?'} to {clock.most_mhz or '?'}"
    locked = {True: "locked", False: "not locked", None: "locked or not: unknown"}[clock.locked]
    return f"{clock.mhz or '?'} MHz of {bounds}, {locked}"
