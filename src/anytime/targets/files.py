"""Reading what the kernel tells in files; whatever cannot be read is empty."""

from __future__ import annotations

from pathlib import Path


def read(path: str | Path) -> str:
    """The text of a file without the white space around it; empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def words(path: str | Path) -> tuple[str, ...]:
    """The words of a device tree's property, which end with a NUL each."""
    return tuple(word for word in read(path).split("\0") if word)


def number(path: str | Path) -> int | None:
    """The whole number in a file; None where there is none."""
    text = read(path)
    return int(text) if text.isdecimal() else None
