"""Samples that outlast a run that is broken off: each piece is measured once and then read from a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Sequence[Any]]


class Kept:
    """A file of one JSON line a piece, under a key; without a file everything is measured anew.

    ``identity`` says what was measured (bundle, profile, machine). A file of another identity is refused.
    """

    def __init__(self, file: Path | None, identity: str) -> None:
        self._file, self._identity = file, identity
        self._pieces: dict[str, Rows] = {}
        if file is not None and file.exists():
            self._read(file)

    def _read(self, file: Path) -> None:
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                piece = json.loads(line)
            except json.JSONDecodeError:
                continue  # the last line of a run that was broken off while writing it
            if piece["identity"] != self._identity:
                raise SystemExit(f"{file} is of {piece['identity']}, this is {self._identity}: move it away")
            self._pieces[piece["key"]] = piece["rows"]

    def piece(self, key: str, measure: Callable[[], Rows]) -> Rows:
        """The rows of a piece, measured now unless they are there already."""
        if key not in self._pieces:
            self._pieces[key] = measure()
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                record = {"identity": self._identity, "key": key, "rows": self._pieces[key]}
                with self._file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(record) + "\n")
        return self._pieces[key]
