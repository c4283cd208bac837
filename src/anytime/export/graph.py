"""The graph: Optimum's ONNX export of a decoder with past keys and values."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from anytime.errors import ExportError

OPSET = 18


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
