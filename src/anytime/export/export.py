"""Export: checkpoint → ONNX graph (Optimum) → fused, shrunk, quantized → held to the original → bundle."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

from anytime.bundle import (
    TOKENIZER,
    Bundle,
    Chat,
    Graph,
    KvLayout,
    Manifest,
    Precision,
    SamplingDefaults,
    seal,
    staging,
)
from anytime.errors import ExportError
from anytime.export.checkpoint import Checkpoint, chat_of, load_model, open_checkpoint

GRAPH = "model.onnx"
MOST_CONTEXT = 4096  # taken unless asked for more, since a cache is paid for in full
_LEAST_CONTEXT = 64
_log = logging.getLogger("anytime")

Layout: TypeAlias = Literal["shared", "growing"]
Engine: TypeAlias = Literal["onnxruntime", "tensorrt"]
Progress = Callable[[str], None]


def export_checkpoint(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    precision: Precision = "fp32",
    max_context: int | None = None,
    think: str = "<think>",
    close: str = "</think>",
    efforts: Mapping[str, str] | None = None,
    packs: int = 1,
    engine: Engine = "onnxruntime",
    progress: Progress = lambda step: None,
) -> Bundle:
    """Export a decoder-only checkpoint directory to a bundle at ``out``.

    Args:
        checkpoint: a directory in Hugging Face layout, or a hub name where there is a network.
        out: the bundle's directory, which must not exist.
        precision: of the weights; ``anytime.export.quantize`` says what each means.
        max_context: tokens that a sequence can have; by default the model's own, at most 4,096.
        think, close: the model's tags around a thought, with any white space it puts around them; the opening one is
            left out where the chat template already writes it.
        efforts: further efforts beside those that the template has, by name: a text behind the question that asks for
            more or less thought ("Think in a few words.").
        packs: how many questions in one prompt the model was trained to answer (see ``runtime.packing``).
        engine: "tensorrt" adds graphs for TensorRT, with weights of ``precision``, or fp16 where that is fp32. ONNX
            Runtime's graph is in every bundle.
        progress: told what is being done.

    Raises:
        ExportError: the checkpoint cannot be exported, or the graph's logits differ from the original's.
        BundleError: ``out`` exists or cannot be written.
    """
    if not close.strip():
        raise ExportError("the closing tag is empty: give the text with which the model ends its thought (--close)")
    if packs < 1:
        raise ExportError(f"packs is {packs}: a prompt has at least one question")
    progress("reading the checkpoint")
    source = open_checkpoint(checkpoint)
    context = _context(source, max_context)
    chat = chat_of(source, think, close, efforts or {}, packs)
    with staging(out) as scratch:
        layout, graphs = _write_graphs(source, scratch / GRAPH, precision, context, engine, progress)
        progress("writing the bundle")
        shutil.copyfile(source.path / TOKENIZER, scratch / TOKENIZER)
        seal(scratch, _manifest(source, chat, context, layout, graphs))
    return Bundle.load(out)


def _context(source: Checkpoint, asked: int | None) -> int:
    own: int | None = getattr(source.config, "max_position_embeddings", None)
    if own is None:
        raise ExportError(
            f"{source.path} holds a {source.config.architectures[0]}, which has no context of a fixed length: "
            "only decoders with attention can be exported"
        )
    if asked is None:
        return min(own, MOST_CONTEXT)
    if not _LEAST_CONTEXT <= asked <= own:
        raise ExportError(f"max_context is {asked}: this model takes {_LEAST_CONTEXT} to {own} tokens")
    return asked


def _write_graphs(
    source: Checkpoint, file: Path, precision: Precision, context: int, engine: Engine, progress: Progress
) -> tuple[Layout, tuple[Graph, ...]]:
    """The graph in its file, with those for TensorRT beside it, and how it keeps its cache."""
    from anytime.export.graph import OPSET, RUNTIME, export_graph, read_graph, write_graph
    from anytime.export.quantize import quantize
    from anytime.export.verify import verify

    with tempfile.TemporaryDirectory(dir=file.parent) as work:
        progress("exporting the graph through Optimum")
        exported = export_graph(source.path, Path(work) / "optimum")
        model = load_model(source.path)
        progress("fusing attention, holding its logits to the original's")
        exact = Path(work) / "exact" / GRAPH
        exact.parent.mkdir()
        layout, difference = _exact_graph(exported, exact, model, context)
        progress(f"writing weights as {precision}")
        graph = quantize(read_graph(exact), precision)
        write_graph(graph, file)
        if precision != "fp32":
            difference = verify(model, file, context)
        graphs = [Graph(file.name, precision, OPSET, RUNTIME, difference)]
        if engine == "tensorrt":
            graphs += _tensorrt_graphs(exact, file.parent, model, precision, context, layout, progress)
    return layout, tuple(graphs)


def _tensorrt_graphs(
    exact: Path, folder: Path, model: Any, precision: Precision, context: int, layout: Layout, progress: Progress
) -> tuple[Graph, ...]:
    from anytime.export.variants import write_variants

    if layout == "growing":
        raise ExportError(
            "the attention of this model could not be fused, and so not be written for TensorRT either: "
            "export it without --engine tensorrt"
        )
    return write_variants(exact, folder, model, precision, context, progress)


def _exact_graph(exported: Path, file: Path, model: Any, context: int) -> tuple[Layout, float]:
    """The graph in fp32: fused if that gives the original's logits, else as it was exported."""
    from anytime.export.fuse import NoMatch
    from anytime.export.graph import fused_graph, unfused_graph, write_graph
    from anytime.export.verify import TOLERANCE, verify

    try:
        write_graph(fused_graph(exported, model, context), file)
        difference = verify(model, file, context)
        if difference <= TOLERANCE:
            return "shared", difference
        reason = f"fused, its logits differ by {difference:.1e} (relative)"
    except NoMatch as found:
        reason = str(found)
    _log.warning("attention is exported unfused, steps will take several times as long: %s", reason)
    write_graph(unfused_graph(exported), file)
    difference = verify(model, file, context)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"the exported graph's logits differ from the checkpoint's by {difference:.1e} (relative), more than "
            f"{TOLERANCE:.0e}: this architecture does not survive the export; please report it"
        )
    return "growing", difference


def _manifest(
    source: Checkpoint,
    chat: Chat,
    context: int,
    layout: Layout,
    graphs: tuple[Graph, ...],
) -> Manifest:
    config = source.config
    heads = config.num_attention_heads
    return Manifest(
        name=source.path.resolve().name,
        architecture=config.architectures[0],
        parameters=source.parameters,
        made_by=f"anytime {version('anytime')}",
        vocab_size=config.vocab_size,
        max_context=context,
        graphs=graphs,
        kv=KvLayout(
            layers=config.num_hidden_layers,
            heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            dtype="float32",
            layout=layout,
        ),
        chat=chat,
        sampling=SamplingDefaults(),
    )
