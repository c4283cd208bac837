"""What a policy is: pure decisions about what to think next, made from what has been found so far.

A policy never sees the engine or the clock. The loop asks it after the instant answer and after every further one; it
keeps the deadline itself, so that no policy can be late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from anytime.runtime.bank import Candidate
from anytime.runtime.forecast import Forecast
from anytime.runtime.sampling import Sampling


class Plan(msgspec.Struct, frozen=True):
    """Lines of thought to begin, from the prompt.

    ``width`` of them side by side, drawn with ``sampling`` (None: as the request says, and each with a seed of its
    own). At ``limit`` tokens a thought is closed. Without ``probes`` it answers only at its end. ``draw_answers`` draws
    the answers too, instead of taking the likeliest. ``effort`` is asked of them (None: what the prompt asks for now).
    """

    width: int = 1
    sampling: Sampling | None = None
    limit: int | None = None
    probes: bool = True
    draw_answers: bool = False
    effort: str | None = None


class Extend(msgspec.Struct, frozen=True):
    """Take the end of a finished thought back, and let it go on behind this text."""

    text: str


DRAWN = Sampling(0.6)  # lines that are to differ from each other
THINK: Literal["think"] = "think"
CONCLUDE: Literal["conclude"] = "conclude"
Verdict: TypeAlias = "Literal['think', 'conclude'] | Plan | Extend"


class View(msgspec.Struct, frozen=True):
    """What a policy sees.

    The prompt asks for ``effort``, one of ``efforts``. ``found`` are the accepted answers, oldest first. ``width``
    lines are being thought, the longest ``tokens`` long; ``ended`` have ended by themselves since the plan began, the
    last one's end taken back ``extended`` times. ``room(width)``: thought tokens that so many lines can each still
    take by the request's deadline. ``spent``: tokens so far, of all thoughts and answers. ``rows`` lines at most can be
    thought side by side.
    """

    prompt_tokens: int
    kind: str  # of the answer's format: choices, grammar or text
    effort: str
    efforts: Sequence[str]
    found: Sequence[Candidate]
    width: int
    tokens: int
    ended: int
    extended: int
    rows: int
    spent: int
    room: Callable[[int], int]
    forecast: Forecast | None

    def expected(self, effort: str | None = None) -> float:
        """Predicted length of a whole thought, in tokens; only where there is a forecast."""
        assert self.forecast is not None
        return self.forecast.length(self.prompt_tokens, self.kind, self.effort if effort is None else effort)


class Policy(Protocol):
    """Frozen and without state of its own, so that one serves every request."""

    def begin(self, view: View) -> Plan | Literal["conclude"]:
        """What to think, with the instant answer found; CONCLUDE where that will do."""
        ...

    def judge(self, view: View) -> Verdict:
        """After an answer: think on, be content, begin afresh, or take an end back.

        With no line left (``view.width == 0``) thinking on and being content are the same.
        """
        ...

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        """The answer to return, of the accepted ones (at least one, oldest first)."""
        ...


def to_begin(verdict: Verdict) -> Plan | Literal["conclude"]:
    """A verdict as what to think first: to think on is to begin a line."""
    if isinstance(verdict, Plan):
        return verdict
    return CONCLUDE if verdict == CONCLUDE else Plan()


class Following:
    """For a single line of thought: a later answer rests on all that the earlier ones knew, and more."""

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        return found[-1]
