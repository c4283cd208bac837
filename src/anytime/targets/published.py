"""Figures that others published, which the roofline estimate is fitted to and checked against.

TensorRT-Edge-LLM by NVIDIA, batch of one. Of a table only what its text states is known; what had to be assumed:

- 4-bit weights in groups of 128 with a 16-bit scale, as AWQ makes them, and the output layer in 16 bits;
- a decode step stands behind as many tokens as the row's prompt has;
- the power mode is one with the highest clocks, but for rows of Orin Nano, which are held to both of its targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from anytime.targets.roofline import ORIN_INT4, Efficiency, Shape, peaks, roofline
from anytime.targets.target import target_named

V10 = "https://nvidia.github.io/TensorRT-Edge-LLM/0.10.0/user_guide/performance/performance-benchmarks.html"
V4 = "https://nvidia.github.io/TensorRT-Edge-LLM/user_guide/performance/performance-benchmarks.html (0.4.0)"
FITTED_TO = "agx-orin-64"
_AWQ_BITS, _HEAD_BITS = 4.125, 16.0


def _qwen3(hidden: int, inner: int, layers: int, heads: int, kv_heads: int) -> Shape:
    """A Qwen3 with 4-bit weights: sizes as in its ``config.json``, heads of 128 channels."""
    attention = hidden * 128 * (heads + 2 * kv_heads) + heads * 128 * hidden
    body = layers * (attention + 3 * hidden * inner)
    head = hidden * 151_936
    return Shape(
        weight_bytes=(body * _AWQ_BITS + head * _HEAD_BITS) / 8.0,
        parameters=float(body),
        head_parameters=float(head),
        layers=layers,
        kv_heads=kv_heads,
        query_heads=heads,
        head_dim=128,
    )


MODELS = {
    "Qwen3-0.6B": _qwen3(1024, 3072, 28, 16, 8),
    "Qwen3-1.7B": _qwen3(2048, 6144, 28, 16, 8),
    "Qwen3-4B": _qwen3(2560, 9728, 36, 32, 8),
}


class Published(msgspec.Struct, frozen=True):
    """One row: tokens a second while decoding, and milliseconds of a prompt of so many tokens."""

    target: str
    model: str
    prompt_tokens: int
    tokens_s: float
    prefill_ms: float
    source: str


PUBLISHED = (
    Published("agx-orin-64", "Qwen3-0.6B", 2048, 162.5, 118.5, V10),
    Published("agx-orin-64", "Qwen3-1.7B", 2048, 89.5, 308.0, V10),
    Published("orin-nx-16", "Qwen3-0.6B", 2048, 98.9, 269.0, V10),
    Published("orin-nx-16", "Qwen3-1.7B", 2048, 52.2, 674.0, V10),
    Published("orin-nano", "Qwen3-0.6B", 2048, 61.0, 445.0, V10),
    Published("orin-nano", "Qwen3-1.7B", 2048, 32.3, 1021.0, V10),
    Published("orin-nano-super", "Qwen3-0.6B", 2048, 61.0, 445.0, V10),
    Published("orin-nano-super", "Qwen3-1.7B", 2048, 32.3, 1021.0, V10),
    Published("thor", "Qwen3-0.6B", 366, 270.2, 21.0, V4),
    Published("thor", "Qwen3-4B", 364, 76.4, 116.2, V4),
)


class Check(msgspec.Struct, frozen=True):
    """An estimate beside what was published; errors are those of times, estimated over published less 1."""

    published: Published
    tokens_s: float
    prefill_ms: float

    @property
    def fitted(self) -> bool:
        """Whether the constants were fitted to this row."""
        return self.published.target == FITTED_TO

    @property
    def step_error(self) -> float:
        return self.published.tokens_s / self.tokens_s - 1.0

    @property
    def prefill_error(self) -> float:
        return self.prefill_ms / self.published.prefill_ms - 1.0


def checks(rows: Sequence[Published] = PUBLISHED, efficiency: Efficiency = ORIN_INT4) -> list[Check]:
    """The estimate for every published row."""
    found = []
    for row in rows:
        estimate = roofline(MODELS[row.model], peaks(target_named(row.target)), efficiency)
        found.append(Check(row, 1.0 / estimate.step_s(row.prompt_tokens), 1e3 * estimate.run_s(row.prompt_tokens, 0)))
    return found


def fitted(rows: Sequence[Published]) -> Efficiency:
    """The constants that two rows of one target determine.

    The two steps give the share of the bandwidth and the time that every run takes besides; the share of the arithmetic
    peak is the geometric mean of what the two prompts need.
    """
    small, large = rows
    best = peaks(target_named(small.target))
    read = [MODELS[row.model].weight_bytes + MODELS[row.model].kv_bytes * row.prompt_tokens for row in (small, large)]
    steps_s = [1.0 / row.tokens_s for row in (small, large)]
    bytes_s = (read[1] - read[0]) / (steps_s[1] - steps_s[0])
    overhead_s = steps_s[0] - read[0] / bytes_s
    shares = []
    for row in (small, large):
        shape, n = MODELS[row.model], row.prompt_tokens
        flops = 2.0 * (shape.parameters * n + shape.head_parameters) + shape.attention_flops * n * n / 2
        left_s = row.prefill_ms / 1e3 - overhead_s - shape.weight_bytes / bytes_s
        shares.append(flops / left_s / best.flops_s)
    return Efficiency(bytes_s / best.bytes_s, math.sqrt(shares[0] * shares[1]), overhead_s)
