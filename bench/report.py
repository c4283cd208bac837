"""What every bench shares: its options, a record of where it ran, its figures, and its exit code."""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from anytime.scheduler.clock import utc_stamp
from anytime.targets import detect

ROOT = Path(__file__).resolve().parent.parent
NOT_OBSERVED = "not observed"
_PACKAGES = ("anytime", "onnxruntime", "numpy", "tokenizers", "torch", "transformers")
_WIDTH_IN_A_PIPE = 120


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing the bench was asked to reach."""

    name: str
    measured: float | str
    target: str
    holds: bool

    def line(self) -> str:
        measured = self.measured if isinstance(self.measured, str) else f"{self.measured:.4g}"
        return f"{self.name}: measured {measured}, target {self.target}: {'holds' if self.holds else 'MISSED'}"


def parser(bench: str, description: str) -> argparse.ArgumentParser:
    """The options that every bench has."""
    options = argparse.ArgumentParser(prog=f"python -m bench.{bench}", description=description)
    options.add_argument("--quick", action="store_true", help="the same with fewer samples, within a minute")
    options.add_argument("--json", type=Path, metavar="FILE", help="write environment, figures and raw samples here")
    return options


def environment() -> dict[str, Any]:
    """The machine and the software, as they are now."""
    host = detect()
    return {
        "date": utc_stamp(),
        "processor": host.processor,
        "architecture": host.architecture,
        "cores": host.cores,
        "memory_gib": host.memory_gib,
        "governor": host.governor,
        "power_mode": host.power_mode,
        "load": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def progress() -> Progress:
    """A bar on stderr, drawn only when it is told to: a thread that redraws it would disturb what is measured."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)


@dataclass(slots=True)
class Report:
    """One run of a bench; made before anything is measured, because the environment is recorded then."""

    bench: str
    json_file: Path | None = None
    environment: dict[str, Any] = field(default_factory=environment)

    def finish(
        self, figures: Sequence[Figure], samples: Any, table: Table | None = None, notes: Sequence[str] = ()
    ) -> int:
        """Print the table, the notes and a line for each figure, write the JSON; 1 when a figure was missed, else 0."""
        console = Console()
        if not console.is_terminal:
            console.width = _WIDTH_IN_A_PIPE
        if table is not None:
            console.print(table)
        for line in (*notes, *(figure.line() for figure in figures)):
            console.print(line, soft_wrap=True, markup=False, highlight=False)
        if self.json_file is not None:
            self._write(self.json_file, figures, samples, _plain(table), notes)
        return 0 if all(figure.holds for figure in figures) else 1

    def _write(self, file: Path, figures: Sequence[Figure], samples: Any, table: str, notes: Sequence[str]) -> None:
        record = {
            "bench": self.bench,
            "command": shlex.join(["python", "-m", f"bench.{self.bench}", *sys.argv[1:]]),
            "environment": self.environment,
            "figures": [asdict(figure) for figure in figures],
            "table": table,
            "notes": list(notes),
            "samples": samples,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record, allow_nan=False) + "\n", encoding="utf-8")


def _plain(table: Table | None) -> str:
    """The table as text, for pages that quote it."""
    text = io.StringIO()
    if table is not None:
        Console(file=text, width=_WIDTH_IN_A_PIPE).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
