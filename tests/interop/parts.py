"""The parts that nobody here wrote: whether they are there, and what to install where they are not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from tests.test_imports import ROOT

_NO_JSON = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity", "-0.0": "-0"}
FOXGLOVE = ROOT / "tests" / "interop" / "foxglove"


def absent(reason: str) -> NoReturn:
    """Skip, or fail where the parts are required, as they are where .ci/run could install them."""
    if os.environ.get("ANYTIME_INTEROP") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


class Foxglove:
    """Foxglove's reader and writer of CDR, in a process of Node's. ``close`` it."""

    def __init__(self) -> None:
        if shutil.which("npm") is None or shutil.which("node") is None:
            absent("there is no Node.js: apt-get install nodejs npm")
        self._process = subprocess.Popen(
            ["node", str(FOXGLOVE / "cdr.js")],
            env={**os.environ, "NODE_PATH": str(_modules())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read_and_write(self, definition: str, message: bytes) -> tuple[Any, bytes]:
        """What it reads in a message, and the message as it writes that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"definition": definition, "hex": message.hex()}), file=self._process.stdin, flush=True)
        said = json.loads(self._process.stdout.readline(), parse_int=float)  # JavaScript has no others
        return said["value"], bytes.fromhex(said["hex"])

    def close(self) -> None:
        self._process.communicate(timeout=10)


def _modules() -> Path:
    """The packages of the lock file, installed below build/ unless they are."""
    scratch = ROOT / "build" / "foxglove"
    lock = (FOXGLOVE / "package-lock.json").read_bytes()
    done = scratch / "node_modules" / ".installed"
    if not done.exists() or done.read_bytes() != lock:
        scratch.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(FOXGLOVE / name, scratch)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        ended = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if ended.returncode:
            absent(f"npm ci cannot install Foxglove's packages: {ended.stderr[-500:]}")
        done.write_bytes(lock)
    return scratch / "node_modules"


def as_foxglove(value: Any) -> Any:
    """A message in plain Python as the JSON that ``cdr.js`` makes of it."""
    if isinstance(value, msgspec.Struct):
        return {name: as_foxglove(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, list):
        return [as_foxglove(item) for item in value]
    if isinstance(value, int) and abs(value) >= 2**53:
        return str(value)
    return _NO_JSON.get(str(value), value) if isinstance(value, float) else value
