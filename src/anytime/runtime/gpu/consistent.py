"""A check at start-up: the same tokens, run in several ways, must lead to the same logits."""

from __future__ import annotations

import numpy as np

from anytime.errors import EngineError
from anytime.runtime.engine import Engine, Row

_TOKENS = 20  # more than the longest run that is captured has
_TOLERANCE = 0.05  # of the largest logit; half precision rounds elsewhere in another order


def check_consistent(engine: Engine, remedy: str) -> None:
    """Run a few tokens at once, and again in short runs, a fork and single steps, and hold one to the other.

    Nothing but the numbers tells whether the cache is updated where it should be, and captured work is what was queued.
    ``remedy`` is what to do where they differ.

    Raises:
        EngineError: they differ, or are no numbers.
    """
    tokens = [i % engine.spec.vocab_size for i in range(1, _TOKENS + 1)]
    whole, pieces = engine.open(), engine.open()
    (expected,) = engine.run([Row(whole, tokens)], 0)
    expected = expected.copy()
    engine.run([Row(pieces, tokens[:3])], 0)
    engine.run([Row(pieces, tokens[3:-4])], 0)
    (fork,) = engine.fork(pieces)
    for token in tokens[-4:]:
        (got,) = engine.run([Row(fork, [token])], 0)
    for seq in (whole, pieces, fork):
        engine.close(seq)
    if not (np.isfinite(expected).all() and np.isfinite(got).all()):
        raise EngineError(
            "the model's logits are no numbers on this GPU: its values do not fit half precision; use another model, "
            "or the engine onnxruntime"
        )
    difference = float(np.abs(got - expected).max() / np.abs(expected).max())
    if difference > _TOLERANCE:
        raise EngineError(
            f"the same tokens lead to other logits in steps than at once on this GPU, by {difference:.0%} of the "
            f"largest: {remedy}"
        )
