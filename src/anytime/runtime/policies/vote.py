"""Which answer several lines of thought give together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from anytime.runtime.bank import Candidate

_MOST_LOGIT = 12.0
CORRELATION = 0.3  # between lines of one model on one question; they share its misunderstandings


def final_answers(found: Sequence[Candidate]) -> list[Candidate]:
    """The latest answer of each line that had a thought; the instant answer where none had."""
    latest = {candidate.line: candidate for candidate in found if candidate.source != "instant"}
    return list(latest.values()) or [found[-1]]


def surest(candidates: Sequence[Candidate]) -> Candidate:
    """The one of the highest confidence, the later of two alike."""
    return max(reversed(candidates), key=lambda candidate: candidate.confidence)


def tally(candidates: Sequence[Candidate], weight: Callable[[Candidate], float]) -> dict[str, float]:
    """The sum of weights behind each text."""
    votes: dict[str, float] = {}
    for candidate in candidates:
        votes[candidate.text] = votes.get(candidate.text, 0.0) + weight(candidate)
    return votes


def majority(found: Sequence[Candidate]) -> Candidate:
    """Of the text that most lines ended with (self-consistency, Wang et al. 2022), the most confident candidate."""
    candidates = final_answers(found)
    votes = tally(candidates, lambda candidate: 1.0)
    return max(candidates, key=lambda candidate: (votes[candidate.text], candidate.confidence))


def weighted(found: Sequence[Candidate]) -> Candidate:
    """The text with most log-odds behind it; its confidence is what the lines together say.

    Log-odds of k lines count 1 / (1 + (k - 1) rho) each, because lines of one model are correlated.
    """
    candidates = final_answers(found)
    shrink = 1.0 / (1.0 + (len(candidates) - 1) * CORRELATION)
    votes = tally(candidates, lambda candidate: shrink * log_odds(candidate.confidence))
    winner = max(candidates, key=lambda candidate: (votes[candidate.text], candidate.confidence))
    if len(candidates) == 1:
        return winner
    others = math.fsum(math.exp(vote) for text, vote in votes.items() if text != winner.text)
    mine = math.exp(votes[winner.text])
    return msgspec.structs.replace(winner, confidence=mine / (mine + others + 1.0))


def log_odds(probability: float) -> float:
    if probability <= 0.0 or probability >= 1.0:
        return math.copysign(_MOST_LOGIT, probability - 0.5)
    return max(-_MOST_LOGIT, min(_MOST_LOGIT, math.log(probability / (1.0 - probability))))
