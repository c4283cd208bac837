"""``anytime replay``: a record thought about again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from anytime.cli.common import FAILURE, err, reported
from anytime.node.bag import read_bag
from anytime.node.rerun import rerun


@reported
def replay(
    bag: Annotated[Path, typer.Argument(help="A record of 'anytime node --record': its directory or .mcap file.")],
    bundle: Annotated[Path | None, typer.Option(help="The bundle; default: where the node had it.")] = None,
) -> None:
    """Think again about what was recorded, and say what comes out otherwise.

    The model runs again, in the time that was recorded. Exits with 1 if a decision differs, or cannot be replayed.
    """
    recorded = read_bag(bag)
    if not recorded.whole:
        print(f"warning: {recorded.file} ends in the middle: what is there is replayed", file=sys.stderr)
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("thinking again", total=1.0)
        found = rerun(recorded, bundle, lambda done: progress.update(task, completed=done))
    for warning in found.warnings:
        print(f"warning: {warning}: its numbers may differ", file=sys.stderr)
    for difference in found.differences:
        print(difference)
    for request_id in found.missing:
        print(f"{request_id}: the record has no steps of it")
    wrong = len({difference.request_id for difference in found.differences}) + len(found.missing)
    ours = f"{found.decisions} decisions, and {found.others} requests of the node's own,"
    print(f"{ours} were thought about again: {f'{wrong} differ' if wrong else 'all the same'}")
    if wrong:
        raise typer.Exit(FAILURE)
