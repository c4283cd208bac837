"""The graph: Optimum's ONNX export of a decoder with past keys and values, fused where its shape allows."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anytime.errors import ExportError

if TYPE_CHECKING:
    from anytime.export.fuse import Shape

OPSET = 18
_LARGEST_PROTO = 1_500_000_000  # protobuf ends at 2 GB


def export_graph(checkpoint: Path, directory: Path) -> Path:
    """Export to ``directory``; the graph's file there.

    Raises:
        ExportError: Optimum cannot export this architecture.
    """
    try:
        from optimum.exporters.onnx import main_export
    except ImportError as error:
        raise ExportError("export needs torch, transformers and Optimum: pip install 'anytime[export]'") from error
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        try:
            main_export(
                str(checkpoint),
                scratch,
                task="text-generation-with-past",
                dtype="fp32",
                opset=OPSET,
                do_validation=False,  # verify.py holds the logits to the original, with and without a past
                no_post_process=True,
                local_files_only=True,
            )
        except Exception as error:  # Optimum and torch raise whatever their layers raise
            raise ExportError(f"Optimum cannot export {checkpoint}: {error}") from error
        for file in Path(scratch).glob("model.onnx*"):
            shutil.move(file, directory / file.name)
    return directory / "model.onnx"


def fuse_graph(graph: Path, model: Any) -> str | None:
    """Fuse the attention of an exported graph in its file; None when done, else why it was left as it is."""
    import onnx

    from anytime.export.fuse import NoMatch, fuse

    proto = onnx.load(str(graph))
    try:
        fuse(proto, model.config.num_hidden_layers, _shape(model))
    except NoMatch as reason:
        return str(reason)
    data = graph.with_name(graph.name + "_data")
    for file in (graph, data):
        file.unlink(missing_ok=True)
    large = proto.ByteSize() > _LARGEST_PROTO
    onnx.save(proto, str(graph), save_as_external_data=large, location=data.name)
    return None


def _shape(model: Any) -> Shape:
    """The attention's shape and its rotations, as the model itself computes them."""
    import torch

    from anytime.export.fuse import NoMatch, Shape

    config = model.config
    rotary = getattr(model.model, "rotary_emb", None)
    kind = (getattr(config, "rope_scaling", None) or {}).get("rope_type", "default")
    if rotary is None or kind in ("dynamic", "longrope"):
        raise NoMatch(f"rotary embedding of kind {kind if rotary is not None else 'none'} depends on the input")
    positions = torch.arange(config.max_position_embeddings)[None]
    cos, sin = (table[0].numpy() for table in rotary(torch.zeros(1, 1, 1), positions))
    half = cos.shape[1] // 2
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    if 2 * half != head_dim:
        raise NoMatch(f"{2 * half} of {head_dim} channels of a head are rotated")
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return Shape(heads, kv_heads, head_dim, cos[:, :half], sin[:, :half])


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
