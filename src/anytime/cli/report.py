"""``anytime report``: a record as a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anytime.cli.common import reported
from anytime.errors import UsageError
from anytime.node.bag import read_bag
from anytime.node.report import report as written


@reported
def report(
    bag: Annotated[Path, typer.Argument(help="A record: its directory or .mcap file.")],
    out: Annotated[Path | None, typer.Option(help="The page; default: the record's name with .html.")] = None,
) -> None:
    """Write a page about a record: slack over time, misses, confidence, each decision and how it came about.

    The page is one HTML file that needs no network.
    """
    recorded = read_bag(bag)
    page = out or Path(f"{bag.resolve().name.removesuffix('.mcap')}.html")
    try:
        page.write_text(written(recorded), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the page {page} cannot be written ({error.strerror}): give another --out") from error
    print(page)
