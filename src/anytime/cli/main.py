"""The ``anytime`` command."""

from __future__ import annotations

import logging
import sys

import typer

from anytime.cli.admit import admit
from anytime.cli.calibrate import calibrate
from anytime.cli.common import interrupted
from anytime.cli.deploy import deploy
from anytime.cli.export import export
from anytime.cli.node import node
from anytime.cli.profile import profile
from anytime.cli.replay import replay
from anytime.cli.report import report
from anytime.cli.route import route
from anytime.cli.run import run
from anytime.cli.serve import serve
from anytime.cli.targets import targets

_TYPER_INTERRUPTED = 130

app = typer.Typer(
    name="anytime",
    help="Ask a small reasoning language model a question and get the best answer found by the deadline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (run, profile, admit, calibrate, route, export, targets, deploy, node, serve, replay, report):
    app.command()(command)


def main() -> None:
    """Entry point of the console script."""
    try:
        logging.basicConfig(format="%(message)s", level=logging.WARNING)
        app()
    except KeyboardInterrupt:  # before a command has begun
        sys.exit(interrupted())
    except SystemExit as end:  # or while typer was parsing, which says nothing then
        if end.code == _TYPER_INTERRUPTED:
            sys.exit(interrupted())
        raise


if __name__ == "__main__":
    main()
