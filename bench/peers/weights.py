"""Reading a safetensors file's header; nothing but the standard library, for the converters' environments."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def header(file: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """Each tensor's ``dtype``, ``shape`` and ``data_offsets``, and where in the file the offsets begin."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        tensors = json.loads(stream.read(length))
    tensors.pop("__metadata__", None)
    return tensors, 8 + length


def parameters(checkpoint: Path) -> int:
    """How many numbers a checkpoint holds, tied ones once."""
    tensors, _ = header(checkpoint / "model.safetensors")
    return sum(math.prod(tensor["shape"]) for tensor in tensors.values())
