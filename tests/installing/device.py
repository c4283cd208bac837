"""A device as install.sh and uninstall.sh see it: a directory in the place of its root."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tests.deploying import HERE

TARGET = {"x86_64": "generic-x86", "aarch64": "generic-arm64"}[HERE]
Deploy: TypeAlias = Callable[[str], Path]
Done: TypeAlias = "subprocess.CompletedProcess[str]"


def run(script: Path, root: Path, *args: str, shell: tuple[str, ...] = ("sh",), **environment: str) -> Done:
    env = {**os.environ, "ANYTIME_TRUSTED": "", **environment}
    command = [*shell, str(script), "--root", str(root), *args]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def installed(directory: Path, root: Path, **environment: str) -> Done:
    done = run(directory / "install.sh", root, **environment)
    assert done.returncode == 0, done.stderr
    return done


def answer(root: Path) -> str | None:
    """What the current version answers now, with the parameters it came with; None where there is none."""
    current = root / "opt/anytime/current"
    if not current.exists():
        return None
    command = [current / "venv/bin/anytime", "node", "--json", "--params", current / "anytime.yaml"]
    with (current / "question.json").open() as question:
        done = subprocess.run(command, stdin=question, capture_output=True, text=True, check=True)
    return str(json.loads(done.stdout)["answer"])


def versions(root: Path) -> list[str]:
    folder = root / "opt/anytime/versions"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def listing(root: Path) -> dict[str, str]:
    """Every file below root but the lock, with its contents."""
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_bytes().hex()
        for path in sorted(root.rglob("*"))
        if (path.is_symlink() or path.is_file()) and path.name != "lock" and "__pycache__" not in path.parts
    }


def shim(folder: Path, name: str, script: str) -> str:
    """A command that stands before the real one of that name; the PATH to find it with."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def systemd(root: Path, tmp_path: Path, status: str) -> dict[str, str]:
    """The environment of a machine on which systemd runs, and the service says that of itself; calls are noted."""
    (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    script = f'echo "$@" >>{tmp_path}/calls\ncase $1 in show) {status} ;; esac'
    return {"PATH": shim(tmp_path / "shims", "systemctl", script)}
