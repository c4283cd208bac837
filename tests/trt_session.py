"""A graph for TensorRT on ONNX Runtime, with the cache that the runtime would keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_ERRORS = 3  # ONNX Runtime warns of every copy of a cache

Ids = npt.NDArray[np.int64]


class TrtSession:
    """Rows of a cache of the full context, ``behind`` of which is what lies behind their ends at first."""

    def __init__(self, graph: Path, rows: int, behind: float = 0.0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.outputs = [node.name for node in self.session.get_outputs()]
        self.cache = {
            node.name: np.full((rows, *node.shape[1:]), behind, _TYPES[node.type])
            for node in self.session.get_inputs()
            if node.name.startswith("past_key_values")
        }

    def run(self, rows: Sequence[int], ids: Ids, past: Sequence[int], first: int = 0) -> Any:
        """Logits of tokens [row, position] behind each row's past, whose keys and values are then in the cache."""
        feed = {
            "input_ids": ids,
            "past_length": np.array(past, np.int64),
            "first_logit": np.array([first], np.int64),
            **{name: cache[list(rows)] for name, cache in self.cache.items()},
        }
        logits, *changed = self.session.run(None, feed)
        for name, values in zip(self.outputs[1:], changed, strict=True):
            kind, _, part = name.partition(".")
            cache = self.cache[f"past_key_values.{part}"]
            for index, row in enumerate(rows):
                if kind == "present":
                    cache[row] = values[index]
                else:
                    cache[row, :, past[index] : past[index] + ids.shape[1]] = values[index]
        return logits
