"""Prompt lookup: guessing the next tokens from the last time the same two tokens stood in the text.

Verifying k guesses is one run of 1 + k tokens, which costs less than as many steps; a model that repeats parts of its
prompt so writes several tokens at once, and still exactly those that it would have written one by one (Leviathan et al.
2023, with the n-gram lookup of Saxena 2023 for a draft).
"""

from __future__ import annotations

from collections.abc import Sequence

from anytime.ext.latency import Latency

MOST_GUESSES = 7
_DECAY = 0.9  # of what earlier guesses say about the next one
_LEAST_GAIN = 1.05
_RETRY = 32  # chances passed up before one is taken regardless


class Lookup:
    """Drafts for one request. It stops guessing where, at measured costs, guessing does not pay."""

    def __init__(self, latency: Latency, tokens: Sequence[int]) -> None:
        self._latency = latency
        self._tokens: list[int] = []
        self._behind: dict[tuple[int, int], int] = {}
        self._right = self._wrong = 1.0
        self._passed_up = 0
        for token in tokens:
            self.push(token)

    def push(self, token: int) -> None:
        """Take a token of the text."""
        self._tokens.append(token)
        if len(self._tokens) > 1:
            self._behind[self._tokens[-2], token] = len(self._tokens)

    def draft(self, pending: int, context: int) -> list[int]:
        """Guesses of what follows ``pending``, which stands behind the tokens so far; none where they do not pay."""
        place = self._behind.get((self._tokens[-1], pending)) if self._tokens else None
        if place is None:
            return []
        count = self._best_count(context)
        if count == 0:
            self._passed_up += 1
            if self._passed_up < _RETRY:
                return []
            count = 1
        self._passed_up = 0
        return self._tokens[place : place + count]

    def record(self, guesses: int, right: int) -> None:
        """What became of a draft."""
        self._right = _DECAY * self._right + right
        self._wrong = _DECAY * self._wrong + (right < guesses)

    def _best_count(self, context: int) -> int:
        """Guesses with the most expected tokens for their time; 0 where a plain step is as good."""
        chance = self._right / (self._right + self._wrong)
        best, most = 0, _LEAST_GAIN / self._latency.run_ns(1, context)
        expected, likely = 1.0, 1.0
        for count in range(1, MOST_GUESSES + 1):
            likely *= chance
            expected += likely
            rate = expected / self._latency.run_ns(1 + count, context)
            if rate > most:
                best, most = count, rate
        return best
