"""The bench's side of the protocol: a contender's process, asked one thing at a time."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Sequence
from typing import Any

from bench.report import ROOT

_LIMIT_S = 600.0
_LEAVING_S = 5.0


class ContenderError(Exception):
    """Why a contender cannot be measured."""


class Child:
    """A process that answers; ``close`` it."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, op: str, limit_s: float = _LIMIT_S, **given: Any) -> Any:
        """The value replied.

        Raises:
            ContenderError: it failed, ended, or took longer than the limit.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps({"op": op, **given}), file=self._process.stdin, flush=True)
        except OSError:
            raise ContenderError(f"its process ended before it was asked to {op}{self._status()}") from None
        if not select.select([self._process.stdout], [], [], limit_s)[0]:
            self._process.kill()
            raise ContenderError(f"no reply to {op} within {limit_s:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise ContenderError(f"its process ended when asked to {op}{self._status()}")
        reply = json.loads(line)
        if "error" in reply:
            raise ContenderError(f"{op}: {reply['error']}")
        return reply["value"]

    def _status(self) -> str:
        try:
            return f" (exit status {self._process.wait(_LEAVING_S)})"
        except subprocess.TimeoutExpired:
            return ""

    def close(self) -> None:
        """End the process, politely first."""
        try:
            self._process.communicate(timeout=_LEAVING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
