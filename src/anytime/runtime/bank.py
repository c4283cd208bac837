"""The answer bank: what has been found so far, readable at any moment by the caller who is about to leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import msgspec

from anytime.runtime.answer import Source


class Candidate(msgspec.Struct, frozen=True):
    """An answer of the model, with the thought (in tokens) that it rests on.

    ``confidence`` is the calibrated probability of being right where the bundle is calibrated, else the answer's own
    likelihood, which ``likelihood`` always is. ``effort``: what the thought was asked for with. ``complete``: the
    thought ended by itself. ``agreed``: the answers just before it on its line (the number ``line``) that were the
    same.
    """

    text: str
    confidence: float
    source: Source
    thought_tokens: int
    answer_tokens: int
    likelihood: float = 0.0
    complete: bool = False
    agreed: int = 0
    line: int = 0
    effort: str = ""
    thought: list[int] = msgspec.field(default_factory=list)  # grows; this answer's is the beginning


def latest(found: Sequence[Candidate]) -> Candidate:
    return found[-1]


class AnswerBank:
    """Keeps the candidates that the caller accepts; ``choose`` picks the best of them."""

    def __init__(
        self,
        accept: Callable[[str], bool] | None = None,
        min_confidence: float = 0.0,
        choose: Callable[[Sequence[Candidate]], Candidate] = latest,
    ) -> None:
        self._accept, self._min_confidence, self._choose = accept, min_confidence, choose
        self._lock = threading.Lock()
        self.found: list[Candidate] = []
        self._best: Candidate | None = None
        self._refusal = ""

    def offer(self, candidate: Candidate) -> bool:
        """Take a candidate unless the caller's conditions refuse it; whether there is now another best one."""
        refusal = self._refuses(candidate)
        if refusal:
            with self._lock:
                self._refusal = refusal
            return False
        self.found.append(candidate)
        best = self._choose(self.found)
        with self._lock:
            changed = best is not self._best
            self._best = best
        return changed

    def _refuses(self, candidate: Candidate) -> str:
        if candidate.confidence < self._min_confidence:
            return (
                f"{candidate.text!r} has confidence {candidate.confidence:.3f}, "
                f"below min_confidence={self._min_confidence}"
            )
        try:
            accepted = self._accept is None or self._accept(candidate.text)
        except BaseException as error:  # the caller's code: a veto that fails must not let an answer through
            return f"accept({candidate.text!r}) raised {error!r}"
        return "" if accepted else f"accept({candidate.text!r}) said no"

    def best(self) -> Candidate | None:
        with self._lock:
            return self._best

    def refusal(self) -> str:
        """Why the last refused candidate was refused; empty when none was."""
        with self._lock:
            return self._refusal
