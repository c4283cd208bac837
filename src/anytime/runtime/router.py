"""The router: from the words of a question, how likely each of several bundles is to answer it right.

Trained by ``anytime route`` on the user's questions: a logistic regression over hashed words for each bundle, a few
kilobytes, evaluated in plain Python. RouteLLM (2406.18665) and FrugalGPT (2305.05176) route whole services this way.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from anytime.errors import BundleError

VERSION = 1
BUCKETS = 128
_WORD = re.compile(r"[^\W\d_]+|\d")


class Router(msgspec.Struct, frozen=True):
    """``weights`` has a row for each of ``bundles`` (their ids, cheapest first): a constant and one a feature."""

    bundles: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    version: int = VERSION

    def probabilities(self, question: str) -> list[float]:
        """For each bundle, that its answer after a whole thought is right."""
        terms = features(question)
        sums = [math.fsum(w * t for w, t in zip(row, terms, strict=True)) for row in self.weights]
        return [1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, z)))) for z in sums]

    def first(self, question: str, affordable: Sequence[int], sure: float) -> int:
        """The place among the ``affordable`` bundles, cheapest first, of the one to ask first."""
        likely = self.probabilities(question)
        enough = [place for place, i in enumerate(affordable) if likely[i] >= sure]
        return enough[0] if enough else max(range(len(affordable)), key=lambda place: likely[affordable[place]])


def features(question: str) -> list[float]:
    """A constant, the length, and how often each bucket of words, digits apart, occurs (on a logarithmic scale)."""
    counts = [0] * BUCKETS
    words = _WORD.findall(question.lower())
    for word in words:
        counts[zlib.crc32(word.encode()) % BUCKETS] += 1
    return [1.0, math.log1p(len(words)), *(math.log1p(n) for n in counts)]


def read_router(file: Path, bundles: Sequence[str]) -> Router:
    """A router for exactly these bundles (their ids, in this order).

    Raises:
        BundleError: it cannot be read, or is for others.
    """
    try:
        router = msgspec.json.decode(file.read_bytes(), type=Router)
    except (OSError, msgspec.DecodeError) as error:
        raise BundleError(f"{file} cannot be read ({error}): make a router with 'anytime route'") from error
    if router.version != VERSION or any(len(row) != BUCKETS + 2 for row in router.weights):
        raise BundleError(f"{file} was made by another version: make the router again with 'anytime route'")
    if router.bundles != tuple(bundles):
        raise BundleError(f"{file} routes between other bundles, or in another order: make one for these")
    return router
