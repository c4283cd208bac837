"""Holding an exported graph to the checkpoint it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anytime.ext import attention

TOLERANCE = 1e-4  # relative to the largest logit
_PREFILL = 24
_BEHIND = (1, 1, 6, 1, 1)  # steps, a longer run behind a past, steps
_BEYOND_WINDOW = 8
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_ERRORS = 3  # ONNX Runtime warns of every copy of a cache


def verify(model: Any, graph: Path, max_context: int) -> float:
    """The largest difference of logits over runs with and without a past, relative to the largest logit."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(attention.__file__)
    options.log_severity_level = _ERRORS
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    counts = (_prefill_tokens(model.config, max_context), *_BEHIND)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (1, sum(counts)))
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)).logits.numpy()
    past = _empty_past(session, max_context)
    parts, done = [], 0
    for count in counts:
        logits, past = _run(session, ids[:, done : done + count], done, past)
        parts.append(logits)
        done += count
    return float(np.abs(np.concatenate(parts, axis=1) - expected).max() / np.abs(expected).max())


def _prefill_tokens(config: Any, max_context: int) -> int:
    """Tokens enough to leave a window behind, where layers have one."""
    beyond = (getattr(config, "sliding_window", None) or 0) + _BEYOND_WINDOW
    return min(max(_PREFILL, beyond), max_context - sum(_BEHIND))


def _empty_past(session: Any, max_context: int) -> dict[str, Any]:
    """A cache without a position, or of the full context where the graph has it fixed."""
    nodes = [node for node in session.get_inputs() if node.name.startswith("past_key_values")]
    length = max_context if _fixed(session) else 0
    return {node.name: np.zeros((1, node.shape[1], length, node.shape[3]), _TYPES[node.type]) for node in nodes}


def _fixed(session: Any) -> bool:
    return any(node.name in ("seqlens_k", "past_length") for node in session.get_inputs())


def _run(session: Any, ids: Any, before: int, past: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    total = before + ids.shape[1]
    every = {
        "input_ids": ids,
        "attention_mask": np.ones((1, total), dtype=np.int64),
        "position_ids": np.arange(before, total)[None],
        "seqlens_k": np.array([total - 1], dtype=np.int32),
        "past_length": np.array([before]),
        "first_logit": np.zeros(1, dtype=np.int64),
        **past,
    }
    names = {node.name for node in session.get_inputs()}
    logits, *caches = session.run(None, {name: value for name, value in every.items() if name in names})
    for node, cache in zip(session.get_outputs()[1:], caches, strict=True):
        kind, _, part = node.name.partition(".")
        name = f"past_key_values.{part}"
        if kind == "present":
            past[name] = cache
        else:  # only what is new
            past[name][:, :, before:total] = cache
    return logits, past
