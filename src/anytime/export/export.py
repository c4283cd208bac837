"""Export: checkpoint → ONNX graph (Optimum) → held to the original → bundle, written whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from anytime.bundle import TOKENIZER, Bundle, Chat, Graph, KvLayout, Manifest, SamplingDefaults, seal, staging
from anytime.errors import ExportError
from anytime.export.checkpoint import Checkpoint, chat_of, load_model, open_checkpoint
from anytime.export.graph import OPSET, export_graph, fuse_graph
from anytime.export.verify import TOLERANCE, verify

_RUNTIME = "onnxruntime>=1.23"
_log = logging.getLogger("anytime")

Progress = Callable[[str], None]


def export_checkpoint(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    think: str = "<think>",
    close: str = "</think>",
    progress: Progress = lambda step: None,
) -> Bundle:
    """Export a decoder-only checkpoint directory to a bundle at ``out``.

    ``think`` and ``close`` are the model's tags around a thought, with any white space it puts around them; the
    opening one is left out where the chat template already writes it.

    Raises:
        ExportError: the checkpoint cannot be exported, or the graph's logits differ from the original's.
        BundleError: ``out`` exists or cannot be written.
    """
    if not close.strip():
        raise ExportError("the closing tag is empty: give the text with which the model ends its thought (--close)")
    progress("reading the checkpoint")
    source = open_checkpoint(Path(checkpoint))
    chat = chat_of(source, think, close)
    with staging(out) as scratch:
        progress("exporting the graph through Optimum")
        graph = export_graph(source.path, scratch)
        model = load_model(source.path)
        progress("fusing attention")
        unfused = fuse_graph(graph, model)
        if unfused is not None:
            _log.warning("attention is exported unfused, steps will take several times as long: %s", unfused)
        progress("holding its logits to the original's")
        difference = verify(model, graph)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"the exported graph's logits differ from the checkpoint's by {difference:.1e} (relative), more than "
                f"{TOLERANCE:.0e}: this architecture does not survive the export; please report it"
            )
        progress("writing the bundle")
        shutil.copyfile(source.path / TOKENIZER, scratch / TOKENIZER)
        seal(scratch, _manifest(source, chat, graph.name, "growing" if unfused else "shared"))
    return Bundle.load(out)


def _manifest(source: Checkpoint, chat: Chat, graph: str, layout: Literal["shared", "growing"]) -> Manifest:
    config = source.config
    heads = config.num_attention_heads
    return Manifest(
        name=source.path.resolve().name,
        architecture=config.architectures[0],
        parameters=source.parameters,
        made_by=f"anytime {version('anytime')}",
        vocab_size=config.vocab_size,
        max_context=config.max_position_embeddings,
        graphs=(Graph(file=graph, precision="fp32", opset=OPSET, runtime=_RUNTIME),),
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
