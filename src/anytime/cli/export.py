"""``anytime export``: from a Hugging Face checkpoint to a bundle."""

from __future__ import annotations

import tempfile
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from anytime.bundle import MANIFEST, Bundle
from anytime.cli.common import err, out, reported
from anytime.errors import DeviceError, UsageError
from anytime.plans import PlanOptions


class Graphs(str, Enum):
    """What ``--engine`` takes."""

    onnxruntime = "onnxruntime"
    tensorrt = "tensorrt"


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
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A checkpoint directory in Hugging Face layout, or a hub name; with --engine tensorrt also a bundle.",
        ),
    ],
    out_dir: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="Where to write the bundle; must not exist.", show_default=False),
    ] = None,
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
    engine: Annotated[
        Graphs,
        typer.Option(help="tensorrt: graphs for it in the bundle, too, and a plan where there is a GPU."),
    ] = Graphs.onnxruntime,
    rows: Annotated[int, typer.Option(help="Of a plan: sequences in a decode step, at most.")] = PlanOptions().rows,
    chunk: Annotated[int, typer.Option(help="Of a plan: tokens in a run of a prompt, at most.")] = PlanOptions().chunk,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Of a plan: later versions of TensorRT run it, too.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="Of a plan: other GPUs from Ampere on run it, too.")
    ] = False,
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="What builds measured, read and written; default: one a GPU.", show_default=False),
    ] = None,
) -> None:
    """Export CHECKPOINT through Optimum to ONNX, hold it to the original, and write a bundle, whole or not at all.

    With --engine tensorrt, 'anytime export BUNDLE' builds the plan of a bundle on the machine that will run it.
    """
    options = PlanOptions(rows, chunk, version_compatible, hardware_compatible)
    if engine == Graphs.tensorrt and (Path(checkpoint) / MANIFEST).is_file():
        if out_dir is not None:
            raise UsageError(
                f"{checkpoint} is a bundle, of which a plan is built for this machine: leave out {out_dir}"
            )
        _build(Bundle.load(checkpoint), options, timing_cache)
        return
    if out_dir is None:
        raise UsageError("OUT is missing: say where to write the bundle")
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
            engine=engine.value,
            progress=status.update,
        )
        if begin is not None:
            status.update("running the prefix")
            bundle = ship_prefix(bundle, begin, out_dir)
    _describe(bundle)
    if engine == Graphs.tensorrt:
        try:
            _build(bundle, options, timing_cache)
        except DeviceError as error:
            out.print(f"no plan was built: {error}")
            out.print(f"the graphs are in the bundle; on the device, run: anytime export {out_dir} --engine tensorrt")


def _describe(bundle: Bundle) -> None:
    manifest = bundle.manifest
    size = sum(file.size for file in manifest.files.values())
    out.print(f"{bundle.path}: {manifest.architecture}, {manifest.parameters:,} parameters, {size / 1e6:,.1f} MB")
    for graph in manifest.graphs:
        out.print(
            f"weights in {graph.precision}{f' for {graph.runtime}' if graph.update else ''}: logits differ from the "
            f"checkpoint's by up to {graph.difference:.1e} of the largest"
        )
    out.print(f"bundle id {bundle.id}")


def _build(bundle: Bundle, options: PlanOptions, timing_cache: Path | None) -> None:
    from anytime.export.plan import build_plan

    with err.status("building") as status:
        plan = build_plan(bundle, options, timing_cache, status.update)
    out.print(f"plan {plan}, {plan.stat().st_size / 1e6:,.1f} MB")


def _unescape(text: str) -> str:
    """``\\n`` typed on a command line as a line break."""
    return text.replace("\\n", "\n").replace("\\t", "\t")
