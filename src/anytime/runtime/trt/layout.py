"""What a plan was built for, held to what export gives its graphs."""

from __future__ import annotations

from typing import TypeAlias

from anytime.bundle import Manifest
from anytime.errors import EngineError
from anytime.plans import LEAST_ROWS, MOST_ROWS
from anytime.runtime.gpu.device import ALIGNMENT, UNIT
from anytime.runtime.gpu.memory import HALF, Layout, aligned
from anytime.runtime.trt.adapter import Model

_Signature: TypeAlias = tuple[str, tuple[int, ...], bool]  # type, shape, whether it is an output


def layout_of(model: Model, manifest: Manifest, update: str | None) -> Layout:
    """What a plan was built for, held to the bundle's manifest.

    Raises:
        EngineError: it has other tensors than export gives them.
    """
    kv, context = manifest.kv, manifest.max_context
    appended = update == "appended"
    present = "new" if appended else "present"
    cache = (-1, kv.heads, context, kv.head_dim)
    outputs = (-1, kv.heads, -1, kv.head_dim) if appended else cache
    expected: dict[str, _Signature] = {
        "input_ids": ("INT64", (-1, -1), False),
        "past_length": ("INT64", (-1,), False),
        "first_logit": ("INT64", (1,), False),
        "logits": ("FLOAT", (-1, -1, manifest.vocab_size), True),
    }
    for name in _parts(kv.layers):
        expected[f"past_key_values.{name}"] = ("HALF", cache, False)
        expected[f"{present}.{name}"] = ("HALF", outputs, True)
    found = {name: (tensor.dtype, tensor.shape, tensor.output) for name, tensor in model.tensors.items()}
    wrong = [name for name in {**expected, **found} if not _alike(found.get(name), expected.get(name))]
    if wrong or model.profiles != 2:
        name = wrong[0] if wrong else "optimization profiles"
        seen = found.get(name) if wrong else model.profiles
        raise EngineError(
            f"the plan is not one that this anytime builds: {name} is {seen}, expected {expected.get(name, 2)}; "
            "build it again with 'anytime export --engine tensorrt'"
        )
    if update == "in-place":
        _check_aliases(model, kv.layers)
    layout = Layout(
        rows=model.largest("input_ids", 0)[0],
        chunk=model.largest("input_ids", 1)[1],
        layers=kv.layers,
        heads=kv.heads,
        context=context,
        channels=kv.head_dim,
        vocab=manifest.vocab_size,
        appended=appended,
        scratch_bytes=aligned(model.scratch_bytes),
    )
    if not LEAST_ROWS <= layout.rows <= MOST_ROWS:
        raise EngineError(f"the plan is for {layout.rows} rows: build one with --rows {LEAST_ROWS} to {MOST_ROWS}")
    if layout.row_bytes % ALIGNMENT or layout.channels * HALF % UNIT:
        raise EngineError(
            f"the plan's rows have {layout.row_bytes} bytes for each layer's keys, which must be a multiple of "
            f"{ALIGNMENT}: export with --max-context as a multiple of 128"
        )
    return layout


def _alike(found: _Signature | None, expected: _Signature | None) -> bool:
    """Whether a tensor is as expected; of an output's sizes TensorRT need not know all before it runs."""
    if found is None or expected is None or len(found[1]) != len(expected[1]):
        return False
    unknown = expected[2]
    sizes = all(a == b or (unknown and a == -1) for a, b in zip(found[1], expected[1], strict=True))
    return sizes and (found[0], found[2]) == (expected[0], expected[2])


def _parts(layers: int) -> list[str]:
    return [f"{i}.{part}" for i in range(layers) for part in ("key", "value")]


def _check_aliases(model: Model, layers: int) -> None:
    """A cache that is said to be updated in place, and is not, would lose every token."""
    for name in _parts(layers):
        alias = model.alias(f"present.{name}")
        if alias not in (f"past_key_values.{name}", None):
            raise EngineError(
                f"the plan does not update its cache in place: present.{name} shares the memory of "
                f"{alias or 'nothing'}; build it again with 'anytime export --engine tensorrt'"
            )
