"""A target: a device we deploy to, described by a TOML file in this folder."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec


class Target(msgspec.Struct, frozen=True):
    """A device. ``status`` says what has been done on it: measured here, or only described.

    ``python`` is the version its system has, like ``3.10``; empty where that is not the device's to say.
    """

    name: str
    title: str
    architecture: str
    engine: str
    status: str
    python: str = ""


def load_targets() -> list[Target]:
    """Every target this version knows, by name."""
    if sys.version_info >= (3, 11):  # here, because who loads a bundle reads no targets
        import tomllib
    else:
        import tomli as tomllib

    files = sorted(Path(__file__).parent.glob("*.toml"))
    return [Target(name=file.stem, **tomllib.loads(file.read_text(encoding="utf-8"))) for file in files]
