"""From the checkpoint to what each contender loads, with the contender's own converter, once."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from bench.peers import cache
from bench.peers.commands import run
from bench.peers.environments import PINS
from bench.peers.roster import OURS, Contender
from bench.peers.shapes import Shape
from bench.report import ROOT

_FIRST_BYTES = 1 << 22  # of the weights: all of the reference's, enough to know the large ones by


def model_of(contender: Contender, shape: Shape, python: Path) -> Path:
    """The file or directory that the contender loads.

    Raises:
        ContenderError: it cannot be converted.
    """
    if contender.engine == "transformers":
        return shape.checkpoint
    kind = f"{contender.engine}-{contender.precision}"
    home = cache.directory() / "models" / f"{shape.name}-{_weights(shape.checkpoint)}"
    model = home / f"{kind}-{_converter(contender.engine)}"
    for outdated in home.glob(f"{kind}-*"):
        if outdated != model:  # gigabytes for every change of our exporter, otherwise
            cache.remove(outdated)

    def convert(out: Path) -> None:
        run([str(python), "-m", *command_of(contender, str(shape.checkpoint), str(out))])

    return cache.kept(model, convert)


def command_of(contender: Contender, checkpoint: str, out: str) -> list[str]:
    """The module that converts, and what it is given."""
    precision = contender.precision
    if contender.engine == OURS:
        chosen = [] if precision == "fp32" else ["--precision", precision]
        return ["anytime.cli.main", "export", checkpoint, out, *chosen]
    if contender.engine == "optimum":
        return ["optimum.exporters.onnx", "--model", checkpoint, "--task", "text-generation-with-past", out]
    if contender.engine == "genai":
        return ["onnxruntime_genai.models.builder", "-i", checkpoint, "-o", out, "-p", precision, "-e", "cpu"]
    if contender.engine == "llama.cpp":
        return ["bench.peers.to_gguf", checkpoint, out, precision]
    groups = ["--group-size", "64"] if precision == "int4" else []  # the default, 128, does not divide 192
    task = ["--task", "text-generation-with-past", "--weight-format", precision]
    return ["optimum.commands.optimum_cli", "export", "openvino", "-m", checkpoint, *task, *groups, out]


def _weights(checkpoint: Path) -> str:
    """What tells one checkpoint's conversions from another's."""
    digest = hashlib.sha256((checkpoint / "config.json").read_bytes())
    with (checkpoint / "model.safetensors").open("rb") as stream:
        digest.update(stream.read(_FIRST_BYTES))
    return digest.hexdigest()[:12]


def _converter(engine: str) -> str:
    """What tells one converter's output from another's: its versions, or our exporter's sources."""
    digest = hashlib.sha256(f"{PINS.get(engine)} {sys.version_info[:2]}".encode())
    sources = ROOT / "src" / "anytime"
    if engine == OURS:
        for file in sorted([sources / "bundle.py", *(sources / "export").glob("*.py")]):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
