"""What every request runs on, and one request on its way."""

from __future__ import annotations

import threading

import msgspec

from anytime.ext.latency import Latency
from anytime.runtime.answer import Stopped
from anytime.runtime.answers.cursors import Compiled
from anytime.runtime.bank import AnswerBank
from anytime.runtime.engine import Engine
from anytime.runtime.forecast import Forecast
from anytime.runtime.policies.policy import Policy
from anytime.runtime.prefixes import Prefixes
from anytime.runtime.prompt import Codec
from anytime.runtime.sampling import Sampling
from anytime.scheduler.clock import Clock
from anytime.scheduler.profile import LatencyProfile


class Machine(msgspec.Struct, frozen=True):
    """An engine, its tokens, its measured speeds and a clock.

    ``prefixes`` is what is prefilled already, ``forecast`` what a calibrated bundle knows of its own answers.
    ``speculate`` lets a greedy thought guess ahead (``lookup``).
    """

    engine: Engine
    codec: Codec
    profile: LatencyProfile
    latency: Latency
    clock: Clock
    prefixes: Prefixes
    forecast: Forecast | None = None
    speculate: bool = False
    wide: dict[int, Latency] = msgspec.field(default_factory=dict)  # of several lines, made when first asked for

    @property
    def rows(self) -> int:
        """Lines that can be thought side by side: as many as the engine has rows for, and the profile a measure."""
        widest, *_ = self.profile.fit.widths[-1]
        return min(self.engine.spec.max_rows - self.prefixes.kept, widest)

    def latency_of(self, width: int) -> Latency:
        """Costs of so many lines side by side."""
        if width <= 1:
            return self.latency
        return self.wide.get(width) or self.wide.setdefault(width, self.profile.latency(width))


class Job(msgspec.Struct):
    """One request. The engine's thread writes the second part, the caller reads it."""

    generation: int
    prompt: str
    ready_ns: int  # the answer must be in the bank by now
    answer: Compiled
    sampling: Sampling
    policy: Policy
    bank: AnswerBank
    cancelled: bool = False

    done: threading.Event = msgspec.field(default_factory=threading.Event)
    news: threading.Event = msgspec.field(default_factory=threading.Event)
    started: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, which an earlier request had run
    thought: list[int] = msgspec.field(default_factory=list)  # as far as the (first) line of thought has come
    thought_tokens: int = 0  # of all lines of thought
    answer_tokens: int = 0  # of all answers
    token_cap: int = 0
    faults: int = 0  # lines of thought dropped because the model's logits were no numbers
    stopped: Stopped = "deadline"
    reason: str = ""
    failure: Exception | None = None
