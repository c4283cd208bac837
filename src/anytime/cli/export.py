"""``anytime export``: from a Hugging Face checkpoint to a bundle."""

from __future__ import annotations

import tempfile
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from anytime.cli.common import err, out, reported
from anytime.errors import UsageError


class Weights(str, Enum):
    """What ``--precision`` takes."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"
    int4 = "int4"


def _efforts(given: list[str]) -> dict[str, str]:
    parted = [text.partition("=") for text in given]
    if unclear := [name for name, _, text in parted if not name or not text]:
        raise UsageError(
            f"--effort {unclear[0]!r} is not NAME=TEXT: name the effort and give the text that asks for it"
        )
    return {name: text for name, _, text in parted}


@reported
def export(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint directory in Hugging Face layout, or a hub name.")
    ],
    out_dir: Annotated[Path, typer.Argument(metavar="OUT", help="Where to write the bundle; must not exist.")],
    precision: Annotated[Weights, typer.Option(help="Of the weights.")] = Weights.fp32,
    max_context: Annotated[
        int | None, typer.Option(help="Tokens of a sequence; default: the model's, at most 4096.", show_default=False)
    ] = None,
    prefix: Annotated[
        Path | None,
        typer.Option(help="A file with the text that prompts begin with, to be shipped prefilled.", show_default=False),
    ] = None,
    think: Annotated[str, typer.Option(help="The tag that begins a thought.")] = "<think>",
    close: Annotated[str, typer.Option(help="The tag that ends it, with the white space around it.")] = "</think>",
    packs: Annotated[int, typer.Option(help="Questions in one prompt that the model was trained to answer.")] = 1,
    effort: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TEXT",
            help="A text behind the question that asks for more or less thought.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Export CHECKPOINT through Optimum to ONNX, hold it to the original, and write a bundle, whole or not at all."""
    from anytime.export import export_checkpoint
    from anytime.runtime.shipping import ship_prefix

    begin = prefix.read_text(encoding="utf-8") if prefix is not None else None
    with err.status("exporting") as status, tempfile.TemporaryDirectory() as scratch:
        bundle = export_checkpoint(
            checkpoint,
            out_dir if begin is None else Path(scratch) / "bundle",
            precision=precision.value,
            max_context=max_context,
            think=_unescape(think),
            close=_unescape(close),
            efforts=_efforts(effort or []),
            packs=packs,
            progress=status.update,
        )
        if begin is not None:
            status.update("running the prefix")
            bundle = ship_prefix(bundle, begin, out_dir)
    manifest = bundle.manifest
    size = sum(file.size for file in manifest.files.values())
    out.print(f"{out_dir}: {manifest.architecture}, {manifest.parameters:,} parameters, {size / 1e6:,.1f} MB")
    out.print(
        f"weights in {precision.value}: logits differ from the checkpoint's by up to "
        f"{manifest.graphs[0].difference:.1e} of the largest"
    )
    out.print(f"bundle id {bundle.id}")


def _unescape(text: str) -> str:
    """``\\n`` typed on a command line as a line break."""
    return text.replace("\\n", "\n").replace("\\t", "\t")
