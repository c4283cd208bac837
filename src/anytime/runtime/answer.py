"""What a caller gets back."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from anytime.scheduler.clock import NS_PER_MS, NS_PER_S

Stopped: TypeAlias = Literal["complete", "early", "deadline", "cancelled", "rejected", "stale", "error"]
Source: TypeAlias = Literal["thought", "probe", "instant", "fallback"]


class Tokens(msgspec.Struct, frozen=True):
    """Token counts; ``thought`` is the thought behind the returned answer, ``probe`` the answers not returned.

    ``discarded`` were thought behind that thought, or on other lines.
    ``cached`` of the prompt were known from an earlier request, or from the bundle, and not run again.
    """

    prompt: int = 0
    cached: int = 0
    thought: int = 0
    discarded: int = 0
    probe: int = 0
    answer: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The best answer found by the deadline.

    ``stopped`` says why thinking ended, ``source`` where the answer came from: after the whole thought or as much of it
    as time allowed (``thought``), part-way (``probe``), before any (``instant``), or from the caller's own
    ``fallback``, which is on time but not the model's. ``effort`` is what its thought was asked for with. ``late``
    means delivered after the deadline; ``overrun``, that a step ran past its plan and the caller left without waiting
    for it. ``faults`` counts lines of thought and answers that were dropped because the model's logits were no numbers.
    Instants are nanoseconds of the monotonic clock.
    """

    text: str
    stopped: Stopped
    source: Source
    effort: str
    confidence: float
    calibrated: bool
    reason: str
    thought: str
    tokens: Tokens
    token_cap: int
    faults: int
    late: bool
    overrun: bool
    received_ns: int
    deadline_ns: int
    delivered_ns: int
    request_id: str
    bundle_id: str

    @property
    def budget_s(self) -> float:
        return (self.deadline_ns - self.received_ns) / NS_PER_S

    @property
    def elapsed_s(self) -> float:
        return (self.delivered_ns - self.received_ns) / NS_PER_S

    @property
    def slack_s(self) -> float:
        """Time left at delivery; negative when late."""
        return (self.deadline_ns - self.delivered_ns) / NS_PER_S

    @property
    def valid(self) -> bool:
        """Produced by the model in the asked format; a fallback is not."""
        return self.source != "fallback"

    def record(self) -> dict[str, object]:
        """The flat form that ``--json`` prints, times in milliseconds."""
        return {
            "id": self.request_id,
            "answer": self.text,
            "stopped": self.stopped,
            "source": self.source,
            "late": self.late,
            "overrun": self.overrun,
            "confidence": round(self.confidence, 6),
            "calibrated": self.calibrated,
            "reason": self.reason,
            "budget_ms": (self.deadline_ns - self.received_ns) / NS_PER_MS,
            "elapsed_ms": (self.delivered_ns - self.received_ns) / NS_PER_MS,
            "slack_ms": (self.deadline_ns - self.delivered_ns) / NS_PER_MS,
            "token_cap": self.token_cap,
            "faults": self.faults,
            "tokens": msgspec.to_builtins(self.tokens),
            "thought": self.thought,
            "bundle": self.bundle_id,
        }
