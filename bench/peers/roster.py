"""Who takes part: each engine, at every precision in which it offers the same checkpoint."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bench.peers.shapes import REFERENCE

OURS = "anytime"
# Of each engine, the script in ``contenders``.
SCRIPTS = {
    OURS: "ours",
    "transformers": "hf",
    "optimum": "ort",
    "genai": "genai",
    "llama.cpp": "llama",
    "openvino": "ov",
}


@dataclass(frozen=True, slots=True)
class Contender:
    """An engine at one precision; ``bits`` of a weight, scales not counted."""

    engine: str
    precision: str
    bits: int

    @property
    def name(self) -> str:
        return f"{self.engine} {self.precision}"

    @property
    def ours(self) -> bool:
        return self.engine == OURS


CONTENDERS = (
    Contender(OURS, "int4", 4),
    Contender("genai", "int4", 4),
    Contender("llama.cpp", "q4_0", 4),
    Contender("openvino", "int4", 4),
    Contender(OURS, "int8", 8),
    Contender("genai", "int8", 8),
    Contender("llama.cpp", "q8_0", 8),
    Contender("openvino", "int8", 8),
    Contender("llama.cpp", "f16", 16),
    Contender(OURS, "fp32", 32),
    Contender("genai", "fp32", 32),
    Contender("transformers", "fp32", 32),
    Contender("optimum", "fp32", 32),
)


def groups(shape: str, engines: Collection[str]) -> list[list[Contender]]:
    """Who takes part with a shape, by who is loaded at the same time: of the large one, those of about equal bits."""
    wanted = [contender for contender in CONTENDERS if contender.engine in engines]
    if shape == REFERENCE:
        return [wanted]
    wanted = [contender for contender in wanted if contender.name != "genai fp32"]  # costs too much memory and disk
    by_bits = [[c for c in wanted if c.bits in bits] for bits in ((4,), (8,), (16, 32))]
    return [group for group in by_bits if group]
