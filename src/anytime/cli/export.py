"""``anytime export``: from a Hugging Face checkpoint to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anytime.cli.common import err, out, reported


@reported
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint directory in Hugging Face layout.")],
    out_dir: Annotated[Path, typer.Argument(metavar="OUT", help="Where to write the bundle; must not exist.")],
    think: Annotated[str, typer.Option(help="The tag that begins a thought.")] = "<think>",
    close: Annotated[str, typer.Option(help="The tag that ends it, with the white space around it.")] = "</think>",
) -> None:
    """Export CHECKPOINT through Optimum to ONNX, hold it to the original, and write a bundle, whole or not at all."""
    from anytime.export import export_checkpoint

    with err.status("exporting") as status:
        bundle = export_checkpoint(
            checkpoint, out_dir, think=_unescape(think), close=_unescape(close), progress=status.update
        )
    out.print(f"{out_dir}: {bundle.manifest.architecture}, {bundle.manifest.parameters:,} parameters")
    out.print(f"bundle id {bundle.id}")


def _unescape(text: str) -> str:
    """``\\n`` typed on a command line as a line break."""
    return text.replace("\\n", "\n").replace("\\t", "\t")
