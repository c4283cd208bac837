"""The tape of a request: what the clock said, what the engine did and what the policy wanted meanwhile.

Beside the model, its prompt and what the requests before it left in the engine, an answer depends on the time alone. So
whoever has the tapes of a Reasoner can run its requests again and gets the same tokens (``anytime replay``).

A tape keeps instants as what passed since the one before: ``waits_ns``, without what the engine took, which each action
has itself. Who changes how long an action took shifts all that comes behind it.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from anytime.runtime.answers.formats import AnswerFormat


class Kind(IntEnum):
    """What an action was."""

    PREFILL = 1  # tokens of the prompt; the last has the close tag behind it, for the first answer
    THINK = 2  # steps in a row, each taking the likeliest token
    STEP = 3  # one token a line
    CHUNK = 4  # several tokens behind the prompt: a close tag, a guess, words of the policy's


class Outcome(IntEnum):
    """How an action ended."""

    DONE = 0
    CUT = 1  # the caller had left; the tokens of a THINK were taken, of another action none
    FAILED = 2


class Action(msgspec.Struct):
    """Something that the engine did: ``tokens`` on each of ``width`` lines behind ``context`` others."""

    kind: Kind
    tokens: int
    context: int
    width: int
    took_ns: int
    outcome: Outcome
    reading: int  # how many readings of the clock came before it


class Turn(msgspec.Struct):
    """The engine was this request's, up to its next yield."""

    position: int  # among all that happened to the Reasoner's requests
    until_ns: int  # granted: others need the engine from then on


class Left(msgspec.Struct):
    """What the caller saw on leaving.

    ``cut``: it left before the end, with this in ``stopped``; after so many readings of the engine's clock, when there
    were so many accepted answers and tokens.
    """

    cut: str
    readings: int
    found: int
    thought_tokens: int
    answer_tokens: int
    at_ns: int


class Tape(msgspec.Struct, kw_only=True):
    """One request. Instants are those of the machine's clock."""

    request_id: str
    prompt: list[int]
    format: AnswerFormat
    policy: str
    min_confidence: float
    fallback: str  # empty where a function makes it
    ready_ns: int
    submitted_ns: int = 0
    position: int = 0  # of its coming; as a turn's
    during: int = 0  # readings of the clock that the request had made by then whose turn it was
    cached: int = 0  # tokens of the prompt that were known then
    ended: int = 0  # of its end
    called_off: str = ""  # how others ended it, before it came to an end of its own
    reason: str = ""  # what was said of that
    failure: str = ""  # of the engine
    turns: list[Turn] = []
    waits_ns: list[int] = []
    actions: list[Action] = []
    plans: list[str] = []  # verdicts of the policy, as JSON
    plans_at: list[int] = []  # how many actions came before each
    left: Left | None = None
    over: bool = False  # it came to an end of its own
    parted: int = 0  # how many of the two, caller and engine, are done with it


def kind_of(tokens: int, context: int, prompt_tokens: int) -> Kind:
    """What a run is, of so many tokens a line behind a context."""
    if context < prompt_tokens:
        return Kind.PREFILL
    return Kind.STEP if tokens == 1 else Kind.CHUNK
