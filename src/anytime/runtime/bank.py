"""The answer bank: what has been found so far, readable at any moment by the caller who is about to leave."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from anytime.runtime.answer import Source


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer of the model, with the thought (in tokens) that it rests on."""

    text: str
    confidence: float
    source: Source
    thought_tokens: int
    answer_tokens: int


class AnswerBank:
    """Keeps the best candidate that the caller accepts.

    A later candidate replaces an earlier one: its thought extends the other's, so it rests on everything the earlier
    one knew and more. ``docs/architecture.md`` has the measurement against keeping the most confident one.
    """

    def __init__(self, accept: Callable[[str], bool] | None = None, min_confidence: float = 0.0) -> None:
        self._accept, self._min_confidence = accept, min_confidence
        self._lock = threading.Lock()
        self._best: Candidate | None = None
        self._refusal = ""

    def offer(self, candidate: Candidate) -> bool:
        """Take a candidate unless the caller's conditions refuse it; whether it is now the best."""
        refusal = self._refuses(candidate)
        with self._lock:
            if refusal:
                self._refusal = refusal
                return False
            self._best = candidate
            return True

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
