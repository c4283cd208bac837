"""Holding an exported graph to the checkpoint it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-4  # relative to the largest logit
_PROMPT, _STEPS = 24, 4


def verify(checkpoint: Path, graph: Path) -> float:
    """The largest difference of logits over a prefill and some steps with a past, relative to the largest logit."""
    import onnxruntime
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (1, _PROMPT + _STEPS))
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)).logits.numpy()
    got, past = _run(session, ids[:, :_PROMPT], {}, model.config)
    parts = [got]
    for i in range(_PROMPT, _PROMPT + _STEPS):
        got, past = _run(session, ids[:, i : i + 1], past, model.config)
        parts.append(got)
    actual = np.concatenate(parts, axis=1)
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def _run(session: Any, ids: Any, past: dict[str, Any], config: Any) -> tuple[Any, dict[str, Any]]:
    names = [node.name for node in session.get_inputs()]
    before = next(iter(past.values())).shape[2] if past else 0
    feeds: dict[str, Any] = {"input_ids": ids, **past}
    if "attention_mask" in names:
        feeds["attention_mask"] = np.ones((1, before + ids.shape[1]), dtype=np.int64)
    if "position_ids" in names:
        feeds["position_ids"] = np.arange(before, before + ids.shape[1])[None]
    for node in session.get_inputs():
        if node.name.startswith("past_key_values") and node.name not in feeds:
            feeds[node.name] = np.zeros((1, node.shape[1], 0, node.shape[3]), dtype=np.float32)
    logits, *present = session.run(None, feeds)
    outputs = [node.name.replace("present", "past_key_values") for node in session.get_outputs()[1:]]
    return logits, dict(zip(outputs, present, strict=True))
