"""The graph: Optimum's ONNX export of a decoder with past keys and values, fused where its shape allows."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import IdentityEliminationPass, LiftConstantsToInitializersPass

from anytime.errors import ExportError
from anytime.export.fuse import CHANNELS, MOST_CHANNELS, Layer, NoMatch, fuse
from anytime.export.shrink import shrink

OPSET = 18
RUNTIME = "onnxruntime>=1.23"
_LARGEST_PROTO = 1_500_000_000  # protobuf ends at 2 GB


def export_graph(checkpoint: Path, directory: Path) -> Path:
    """Export to ``directory``; the graph's file there.

    Raises:
        ExportError: Optimum cannot export this architecture.
    """
    from optimum.exporters.onnx import main_export

    with _quiet():
        try:
            main_export(
                str(checkpoint),
                str(directory),
                task="text-generation-with-past",
                dtype="fp32",
                opset=OPSET,
                do_validation=False,  # verify.py holds the logits to the original, with and without a past
                no_post_process=True,
                local_files_only=True,
            )
        except Exception as error:  # Optimum and torch raise whatever their layers raise
            raise ExportError(f"Optimum cannot export {checkpoint}: {error}") from error
    return directory / "model.onnx"


def read_graph(file: Path) -> ir.Model:
    """An exported graph whose constants are initializers, used where they are wanted."""
    model = ir.load(file)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    IdentityEliminationPass()(model)  # weights that are equal, two norms of ones, say, are one and an Identity
    return model


def write_graph(model: ir.Model, file: Path) -> None:
    """Write a graph; one that protobuf cannot hold gets its weights beside it."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    ir.save(model, file, external_data=f"{file.name}_data" if size > _LARGEST_PROTO else None)


def fused_graph(exported: Path, model: Any, max_context: int) -> ir.Model:
    """The exported graph with fused attention and packed products.

    Raises:
        NoMatch: one of its layers has a shape that cannot be fused.
    """
    graph = read_graph(exported)
    fuse(graph, _layers(model, max_context))
    shrink(graph)
    return graph


def unfused_graph(exported: Path) -> ir.Model:
    """The exported graph with packed products, its attention as it is."""
    graph = read_graph(exported)
    shrink(graph)
    return graph


def _layers(model: Any, max_context: int) -> list[Layer]:
    """Every layer's attention, with its rotations as the model itself computes them."""
    config = model.config
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    own = "rotary_emb_local" if hasattr(model.model, "rotary_emb_local") else "rotary_emb"
    everywhere, in_window = _rotation(model, "rotary_emb", max_context), _rotation(model, own, max_context)
    layers = []
    for layer in model.model.layers:
        window = getattr(layer.self_attn, "sliding_window", None)
        rotary = everywhere if window is None else in_window
        rotates = getattr(layer.self_attn, "use_rope", True)
        layers.append(Layer(heads, kv_heads, rotary if rotates else None, -1 if window is None else window))
    return layers


def _rotation(model: Any, name: str, max_context: int) -> tuple[Any, Any]:
    """Cosine and sine of every position, [positions, head_dim / 2]."""
    import torch

    config = model.config
    rotary = getattr(model.model, name, None)
    kind = (getattr(config, "rope_scaling", None) or {}).get("rope_type", "default")
    if rotary is None or kind in ("dynamic", "longrope"):
        raise NoMatch(f"rotary embedding of kind {kind if rotary is not None else 'none'} depends on the input")
    cos, sin = (table[0].numpy() for table in rotary(torch.zeros(1, 1, 1), torch.arange(max_context)[None]))
    half = cos.shape[1] // 2
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if 2 * half != head_dim or head_dim % CHANNELS or head_dim > MOST_CHANNELS:
        raise NoMatch(f"a head has {head_dim} channels, of which {2 * half} are rotated")
    return cos[:, :half], sin[:, :half]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns at every branch it cannot follow, and the comparison with the original is the real check."""
    levels = {name: logging.getLogger(name).level for name in ("optimum", "transformers", "torch.onnx")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
