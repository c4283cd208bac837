"""A roofline estimate of what a model takes on a target, before anything was measured there.

After Williams, Waterman and Patterson (2009): a run takes as long as the bytes it reads at memory speed, or the
operations it does at arithmetic speed. Here both are added, which is never less than the larger one and at most twice
it, because the model of time that plans are made with is linear (``ext.latency``).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from anytime.errors import TargetError
from anytime.targets.target import Target

_NS_PER_S = 1e9
_GB, _TERA = 1e9, 1e12
_HEAD_GROUP = 2  # query heads for each head of keys and values, where nothing says; Qwen3's

BITS: Mapping[str, float] = MappingProxyType({"fp32": 32.0, "fp16": 16.0, "int8": 8.5, "int4": 4.5})
"""Of a weight, with a 16-bit scale for each block of 32 where weights are integers."""


class Shape(msgspec.Struct, frozen=True):
    """What a model reads and computes.

    ``weight_bytes`` are read by every run, ``parameters`` take a multiplication and an addition for every token;
    ``head_parameters`` do so only where logits are wanted, once a run.
    """

    weight_bytes: float
    parameters: float
    head_parameters: float
    layers: int
    kv_heads: int
    query_heads: int
    head_dim: int

    @property
    def kv_bytes(self) -> float:
        """Of keys and values, a token of context, in 16 bits."""
        return 2.0 * self.layers * self.kv_heads * self.head_dim * 2.0

    @property
    def attention_flops(self) -> float:
        """A query token and a token of its context: a product with the key and one with the value."""
        return 4.0 * self.layers * self.query_heads * self.head_dim


class Efficiency(msgspec.Struct, frozen=True):
    """How far an engine gets: shares of the published peaks, and seconds that every run takes besides."""

    memory: float
    compute: float
    overhead_s: float


# Fitted to the four figures of AGX Orin 64 GB alone (``published.fitted``, which a test holds these to).
FITTED_CAPABILITY = 8.7
ORIN_INT4 = Efficiency(memory=0.789, compute=0.483, overhead_s=1.367e-3)


class Roofline(msgspec.Struct, frozen=True):
    """Coefficients of ``ext.latency``, ns and tokens: a run of n tokens at context N takes
    alpha·n·(N + n/2) + beta·n + gamma, a decode step p·N + q."""

    alpha: float
    beta: float
    gamma: float
    p: float
    q: float

    def run_s(self, tokens: int, context: int) -> float:
        """Seconds of a run of several tokens."""
        ns = self.alpha * tokens * (context + tokens / 2) + self.beta * tokens + self.gamma
        return ns / _NS_PER_S

    def step_s(self, context: int) -> float:
        """Seconds of a decode step."""
        return (self.p * context + self.q) / _NS_PER_S


class Peaks(msgspec.Struct, frozen=True):
    """What a target could do at best in a power mode: bytes and dense 16-bit operations a second."""

    bytes_s: float
    flops_s: float


def peaks(target: Target, mode: str | None = None) -> Peaks:
    """Published peaks of a target, scaled to the clocks of a power mode; without one, the highest there are.

    Raises:
        TargetError: a figure that is needed has no public source.
        UsageError: there is no such mode.
    """
    if target.engine != "tensorrt":
        raise TargetError(
            f"there is no estimate for {target.name!r}: how far an engine gets was fitted to GPUs, and it runs on its "
            "processor; run 'anytime profile' there"
        )
    bandwidth, flops = target.bandwidth_gb_s, target.fp16_tflops
    if bandwidth is None or flops is None:
        missing = "memory bandwidth" if bandwidth is None else "arithmetic peak"
        raise TargetError(
            f"there is no estimate for {target.name!r}: its {missing} has no public source; run 'anytime profile' there"
        )
    memory, compute = 1.0, 1.0
    if mode is not None:
        limits = target.mode(mode)
        memory = _share(limits.emc_mhz, target.emc_mhz.value if target.emc_mhz else None)
        compute = _share(limits.gpu_mhz, target.gpu_mhz.value if target.gpu_mhz else None)
        compute *= _share(limits.tpcs, target.tpcs.value if target.tpcs else None)
    return Peaks(bandwidth.value * _GB * memory, flops.value * _TERA * compute)


def _share(limit: float | None, most: float | None) -> float:
    """What is left of the most where a mode limits it; no limit leaves everything."""
    return min(1.0, limit / most) if limit is not None and most is not None else 1.0


def roofline(shape: Shape, best: Peaks, efficiency: Efficiency = ORIN_INT4) -> Roofline:
    """The estimate: weights once a run and the cache once a token at memory speed, operations at arithmetic speed."""
    bytes_s, flops_s = best.bytes_s * efficiency.memory, best.flops_s * efficiency.compute
    a_run_s = shape.weight_bytes / bytes_s + efficiency.overhead_s
    head_s = 2.0 * shape.head_parameters / flops_s
    return Roofline(
        alpha=shape.attention_flops / flops_s * _NS_PER_S,
        beta=2.0 * shape.parameters / flops_s * _NS_PER_S,
        gamma=(a_run_s + head_s) * _NS_PER_S,
        p=shape.kv_bytes / bytes_s * _NS_PER_S,
        q=a_run_s * _NS_PER_S,
    )


def shape_of(
    parameters: int, precision: str, layers: int, kv_heads: int, head_dim: int, query_heads: int | None = None
) -> Shape:
    """The shape of a model whose every parameter is read by a run and used for every token.

    The table of embeddings is counted like that too: where it is the output layer as well, as in small models, that is
    right for a step and a little too much for a prompt.

    Raises:
        TargetError: weights of an unknown precision.
    """
    if precision not in BITS:
        raise TargetError(f"the weights' precision is {precision!r}, and an estimate knows {', '.join(BITS)}")
    return Shape(
        weight_bytes=parameters * BITS[precision] / 8.0,
        parameters=float(parameters),
        head_parameters=0.0,
        layers=layers,
        kv_heads=kv_heads,
        query_heads=query_heads or _HEAD_GROUP * kv_heads,
        head_dim=head_dim,
    )
