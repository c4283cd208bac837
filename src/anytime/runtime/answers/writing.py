"""Writing the answers of several lines of thought side by side, each behind its close tag."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from anytime.ext.logits import pick
from anytime.runtime.answers.cursors import Compiled, Cursor
from anytime.runtime.engine import FloatArray, Row, Seq
from anytime.runtime.sampling import Sampler

Run = Callable[[Sequence[Row]], Sequence[FloatArray]]  # of an engine


class Written(msgspec.Struct, frozen=True):
    """An answer; ``text`` is None where what was written is none, ``fault`` where the logits were no numbers."""

    text: str | None
    likelihood: float
    tokens: int
    fault: bool


def write_answers(
    run: Run,
    seqs: Sequence[Seq],
    logits: Sequence[FloatArray],
    answer: Compiled,
    samplers: Sequence[Sampler] | None = None,
) -> list[Written]:
    """Write an answer behind each sequence, its first token from ``logits``; drawn where there are ``samplers``."""
    cursors = [answer.start() for _ in seqs]
    probabilities: list[list[float]] = [[] for _ in seqs]
    now = dict(enumerate(logits))
    faulty: set[int] = set()
    while now:
        tokens: dict[int, int] = {}
        for i, row in now.items():
            token, probability = _next(row, cursors[i], samplers[i] if samplers else None)
            if token < 0:
                faulty.add(i)
                continue
            cursors[i].push(token)
            probabilities[i].append(probability)
            if not cursors[i].done:
                tokens[i] = token
        found = run([Row(seqs[i], [token]) for i, token in tokens.items()]) if tokens else []
        now = {i: rows[0] for i, rows in zip(tokens, found, strict=True)}
    return [
        Written(None, 0.0, len(tried), True)
        if i in faulty
        else Written(cursor.text, cursor.confidence(tried), len(tried), False)
        for i, (cursor, tried) in enumerate(zip(cursors, probabilities, strict=True))
    ]


def _next(logits: FloatArray, cursor: Cursor, sampler: Sampler | None) -> tuple[int, float]:
    allowed = cursor.allowed()
    token, probability = pick(logits, allowed)
    if token >= 0 and sampler is not None:
        token = sampler.among(logits, allowed)
    return token, probability


def run_each(
    run: Run, seqs: Sequence[Seq], tokens: Sequence[Sequence[int]]
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Run as many tokens for every sequence; the logits at the first and at the last of them.

    The last ones are valid until the next run.
    """
    if len(seqs) == 1:
        (logits,) = run([Row(seqs[0], tokens[0], len(tokens[0]))])
        return [logits[0]], [logits[-1]]
    first: list[FloatArray] = []
    last: list[FloatArray] = []
    for column in zip(*tokens, strict=True):
        found = run([Row(seq, [token]) for seq, token in zip(seqs, column, strict=True)])
        last = [logits[0] for logits in found]
        first = first or [logits.copy() for logits in last]
    return first, last
