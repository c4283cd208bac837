"""``anytime route``: learn which of several bundles to ask, from questions with known answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.progress import Progress
from rich.table import Table

from anytime.cli.common import err, out, reported, with_answers
from anytime.errors import UsageError
from anytime.runtime.loading import open_bundle


@reported
def route(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE", help="Two or more bundles, the cheapest first.")],
    questions: Annotated[list[Path], typer.Option(help="A .jsonl file of questions with answers; may be repeated.")],
    output: Annotated[Path, typer.Option("--out", help="The router's file, to be written.")],
    sure: Annotated[float, typer.Option(help="The probability of being right that is enough.")] = 0.95,
    threads: Annotated[int | None, typer.Option(help="Threads of the engine; default: all cores but one.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A malformed line is an error.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as one JSON object.")] = False,
) -> None:
    """Train a router for anytime.Cascade: from a question's words, which bundle to ask first.

    Use questions like those that will be asked, and never the ones it is tested with.
    """
    from anytime.calibrate.route import right_of, routed, train

    if len(bundles) < 2:
        raise UsageError("one bundle needs no router: give two or more, the cheapest first")
    if output.exists():
        raise UsageError(f"{output} already exists: choose another file")
    asked = [question for file in questions for question in with_answers(file, strict)]
    ids, right = [], []
    for path in bundles:
        loaded = open_bundle(path, threads)
        ids.append(loaded.bundle.id)
        with Progress(console=err, transient=True) as bar:
            right.append(right_of(loaded, bar.track(asked, description=f"asking {path.name}")))
    router = train(asked, ids, right)
    accuracy, shares = routed(asked, ids, right, sure)
    output.write_bytes(msgspec.json.encode(router))
    alone = [sum(one) / len(one) for one in right]
    if as_json:
        print(json.dumps({"accuracy": accuracy, "shares": shares, "alone": alone, "bundles": ids, "path": str(output)}))
        return
    table = Table(
        title=f"{len(asked)} questions; routed, each by a router that had not seen it: {100 * accuracy:.1f} % right"
    )
    for heading in ("bundle", "alone, right", "routed to it"):
        table.add_column(heading, justify="left" if heading == "bundle" else "right")
    for path, one, share in zip(bundles, alone, shares, strict=True):
        table.add_row(path.name, f"{100 * one:.1f} %", f"{100 * share:.0f} %")
    out.print(table)
    out.print(f"wrote {output}", soft_wrap=True)
