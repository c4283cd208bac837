"""Where the bench keeps what takes long to make: environments, the 0.6b checkpoint, converted models."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def directory() -> Path:
    """``$XDG_CACHE_HOME/anytime/peers``, by default below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anytime" / "peers"


def kept(path: Path, make: Callable[[Path], object]) -> Path:
    """The file or directory at ``path``; where there is none it is made, whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.draft{os.getpid()}")
        try:
            make(draft)
            draft.rename(path)
        finally:
            remove(draft)
    return path


def remove(path: Path) -> None:
    """A file or a directory, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a directory."""
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
