"""A target: a device we deploy to, described by a TOML file in this folder.

Every figure in such a file names its public source. What has none is left out; what could not be read on the page named
is marked ``unverified``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from anytime.errors import TargetError, UsageError

_FIGURES = ("memory_gb", "bandwidth_gb_s", "fp16_tflops", "gpu_mhz", "emc_mhz", "tpcs", "compute_capability")

Precision: TypeAlias = Literal["fp32", "fp16", "fp8", "fp4", "int8", "int4"]


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number with the key of its source in ``Target.sources``, and how it follows from that where it does."""

    value: float
    source: str
    note: str = ""
    unverified: bool = False


class PowerMode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mode of nvpmodel by its name, for numbers differ from board to board.

    Highest GPU and memory clock, MHz, and texture processing clusters that stay on; None: not limited by the mode.
    """

    name: str
    source: str
    gpu_mhz: float | None = None
    emc_mhz: float | None = None
    tpcs: int | None = None
    default: bool = False
    unverified: bool = False


class JetPack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A release of JetPack, with what comes in it."""

    version: str
    python: str
    tensorrt: str
    cuda: str
    source: str
    unverified: bool = False


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device. ``status`` says what has been done on it: measured here, or only described.

    ``recognized_by``: words of its device tree's ``compatible``, or its GPU's whole name. ``fp16_tflops`` is the dense
    peak of the GPU at ``gpu_mhz`` with all its ``tpcs``; ``bandwidth_gb_s`` holds at ``emc_mhz`` where that is stated.
    """

    name: str
    title: str
    architecture: str
    engine: Literal["onnxruntime", "tensorrt"]
    status: str
    recognized_by: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = ()
    precisions_source: str = ""
    memory_gb: Figure | None = None
    bandwidth_gb_s: Figure | None = None
    fp16_tflops: Figure | None = None
    gpu_mhz: Figure | None = None
    emc_mhz: Figure | None = None
    tpcs: Figure | None = None
    compute_capability: Figure | None = None
    power_modes: tuple[PowerMode, ...] = ()
    jetpacks: tuple[JetPack, ...] = ()
    sources: dict[str, str] = {}

    @property
    def python(self) -> tuple[str, ...]:
        """Versions of Python that its JetPacks bring, oldest first."""
        return tuple(dict.fromkeys(jetpack.python for jetpack in self.jetpacks))

    @property
    def tensorrt(self) -> tuple[str, ...]:
        """Versions of TensorRT that its JetPacks bring, oldest first."""
        return tuple(dict.fromkeys(jetpack.tensorrt for jetpack in self.jetpacks))

    def figures(self) -> Iterator[tuple[str, Figure | PowerMode | JetPack]]:
        """Everything that has a source, by name."""
        for name in _FIGURES:
            figure: Figure | None = getattr(self, name)
            if figure is not None:
                yield name, figure
        yield from ((f"power mode {mode.name}", mode) for mode in self.power_modes)
        yield from ((f"JetPack {jetpack.version}", jetpack) for jetpack in self.jetpacks)

    def mode(self, name: str) -> PowerMode:
        """The power mode of this name.

        Raises:
            UsageError: there is none.
        """
        for mode in self.power_modes:
            if mode.name == name:
                return mode
        known = ", ".join(mode.name for mode in self.power_modes) or "none is known"
        raise UsageError(f"{self.name!r} has no power mode {name!r}: choose one of {known}, or leave it out")


def load_targets() -> list[Target]:
    """Every target this version knows, by name.

    Raises:
        TargetError: a file does not describe one.
    """
    return [read_target(file) for file in sorted(Path(__file__).parent.glob("*.toml"), key=lambda file: file.stem)]


def read_target(file: Path) -> Target:
    """The target that a file describes; its name is the file's.

    Raises:
        TargetError: it cannot be read, is no TOML, has an unknown field, or a figure without a source.
    """
    if sys.version_info >= (3, 11):  # here, because who loads a bundle reads no targets
        import tomllib
    else:
        import tomli as tomllib

    try:
        found: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        target = msgspec.convert({"name": file.stem, **found}, Target)
    except OSError as error:
        raise TargetError(f"the target {file} cannot be read ({error.strerror}): install anytime again") from error
    except ValueError as error:  # not TOML, not UTF-8, or not a target
        raise TargetError(f"the target {file} is malformed ({error}): correct it or take it away") from error
    for name, figure in target.figures():
        if figure.source not in target.sources:
            raise TargetError(f"the target {file}: {name} names the source {figure.source!r}, which [sources] has not")
    if target.precisions and target.precisions_source not in target.sources:
        raise TargetError(f"the target {file}: precisions need a precisions_source that stands in [sources]")
    return target


def target_named(name: str) -> Target:
    """The target of this name.

    Raises:
        UsageError: there is none.
    """
    known = {target.name: target for target in load_targets()}
    if name not in known:
        raise UsageError(f"no target is named {name!r}: choose one of {', '.join(known)}")
    return known[name]
