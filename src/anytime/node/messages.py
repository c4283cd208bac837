"""The messages in plain Python: what ``anytime_msgs`` and the few ROS 2 types around it look like here.

Fields have the names, the order and the units of the ``.msg`` files, where each is explained; a test holds the two to
each other. A transport turns them into its own kind, field by field.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import msgspec

from anytime.runtime.answer import Answer, Source, Stopped
from anytime.scheduler.clock import NS_PER_S

THINKING = 0
STATUS: dict[Stopped, int] = {
    "complete": 1,
    "early": 2,
    "deadline": 3,
    "cancelled": 4,
    "rejected": 5,
    "stale": 6,
    "error": 7,
}
OK, WARN, ERROR = 0, 1, 2  # levels of DiagnosticStatus


class Time(msgspec.Struct, frozen=True, order=True):
    """``builtin_interfaces/msg/Time``: an instant of ROS time, be it the system's or simulated."""

    sec: int = 0
    nanosec: int = 0


class Header(msgspec.Struct, frozen=True):
    """``std_msgs/msg/Header``."""

    stamp: Time = Time()
    frame_id: str = ""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """``anytime_msgs/msg/Question``."""

    header: Header = Header()
    request_id: str = ""
    trace_id: str = ""
    text: str
    choices: list[str] = []
    budget_s: float = 0.0


class Vehicle(msgspec.Struct, frozen=True):
    """``anytime_msgs/msg/Vehicle``."""

    lane: int
    gap_m: float
    speed_m_s: float


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """``anytime_msgs/msg/Scene``."""

    header: Header = Header()
    request_id: str = ""
    trace_id: str = ""
    budget_s: float = 0.0
    lanes: int
    lane: int
    speed_m_s: float
    vehicles: list[Vehicle] = []


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """``anytime_msgs/msg/Decision``."""

    header: Header
    input_stamp: Time
    request_id: str
    trace_id: str
    bundle_id: str
    status: int
    source: str
    answer: str
    confidence: float
    calibrated: bool
    late: bool
    budget_s: float
    elapsed_s: float
    slack_s: float
    tokens_used: int
    tokens_planned: int
    reason: str


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """``anytime_msgs/msg/Trace``."""

    header: Header
    input_stamp: Time
    request_id: str
    trace_id: str
    bundle_id: str
    published: bool
    stopped: Stopped
    source: Source
    prompt: str
    thought: str
    effort: str
    answer: str
    confidence: float
    reason: str
    budget_s: float
    slack_s: float
    answers: list[str]
    answers_confidence: list[float]
    answers_s: list[float]
    tokens_prompt: int
    tokens_cached: int
    tokens_thought: int
    tokens_discarded: int
    tokens_probe: int
    tokens_answer: int
    tokens_planned: int
    queued_s: float
    reasoner_s: float


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """``anytime_msgs/msg/Session``."""

    header: Header
    version: str
    node: str
    bundle_id: str
    parameters: str
    profile: str


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """``anytime_msgs/msg/Steps``: a ``runtime.tape.Tape`` in columns."""

    header: Header
    request_id: str
    prompt: list[int]
    format: str
    policy: str
    min_confidence: float
    fallback: str
    submitted_ns: int
    ready_ns: int
    position: int
    during: int
    cached: int
    ended: int
    called_off: str
    reason: str
    failure: str
    turns: list[int]
    turns_until_ns: list[int]
    waits_ns: list[int]
    actions: list[int]
    actions_tokens: list[int]
    actions_context: list[int]
    actions_width: list[int]
    actions_took_ns: list[int]
    actions_outcome: list[int]
    actions_reading: list[int]
    plans: list[str]
    plans_action: list[int]
    left_cut: str
    left_readings: int
    left_found: int
    left_thought: int
    left_answer: int
    left_ns: int


class KeyValue(msgspec.Struct, frozen=True):
    """``diagnostic_msgs/msg/KeyValue``."""

    key: str
    value: str


class DiagnosticStatus(msgspec.Struct, frozen=True):
    """``diagnostic_msgs/msg/DiagnosticStatus``; ``level`` is OK, WARN or ERROR."""

    level: int
    name: str
    message: str
    hardware_id: str
    values: list[KeyValue]


class DiagnosticArray(msgspec.Struct, frozen=True):
    """``diagnostic_msgs/msg/DiagnosticArray``."""

    header: Header
    status: list[DiagnosticStatus]


Input: TypeAlias = "Question | Scene"
Output: TypeAlias = "Decision | Trace | DiagnosticArray"
Kept: TypeAlias = "Input | Output | Time | Session | Steps"  # what a record has

ROS_TYPES: dict[type[msgspec.Struct], str] = {
    Time: "builtin_interfaces/msg/Time",
    Header: "std_msgs/msg/Header",
    Question: "anytime_msgs/msg/Question",
    Vehicle: "anytime_msgs/msg/Vehicle",
    Scene: "anytime_msgs/msg/Scene",
    Decision: "anytime_msgs/msg/Decision",
    Trace: "anytime_msgs/msg/Trace",
    Session: "anytime_msgs/msg/Session",
    Steps: "anytime_msgs/msg/Steps",
    KeyValue: "diagnostic_msgs/msg/KeyValue",
    DiagnosticStatus: "diagnostic_msgs/msg/DiagnosticStatus",
    DiagnosticArray: "diagnostic_msgs/msg/DiagnosticArray",
}


class Asked(msgspec.Struct, frozen=True):
    """An input that was checked and taken in, with its stamp and its deadline on the steady clock."""

    message: Input
    stamped_ns: int
    deadline_ns: int
    min_confidence: float | None = None  # a goal's own


def decision_of(answer: Answer, asked: Asked, stamp: Time, now_ns: int, thinking: bool = False) -> Decision:
    """An answer as a message.

    Args:
        answer: what the reasoner found.
        asked: the input it belongs to.
        stamp: now in ROS time, and
        now_ns: on the steady clock.
        thinking: it is the best so far, and thinking goes on.
    """
    message = asked.message
    return Decision(
        header=Header(stamp, message.header.frame_id),
        input_stamp=message.header.stamp,
        request_id=answer.request_id,
        trace_id=message.trace_id,
        bundle_id=answer.bundle_id,
        status=THINKING if thinking else STATUS[answer.stopped],
        source=answer.source,
        answer=answer.text,
        confidence=answer.confidence if answer.valid else math.nan,
        calibrated=answer.calibrated,
        late=now_ns > asked.deadline_ns,
        budget_s=(asked.deadline_ns - asked.stamped_ns) / NS_PER_S,
        elapsed_s=(now_ns - asked.stamped_ns) / NS_PER_S,
        slack_s=(asked.deadline_ns - now_ns) / NS_PER_S,
        tokens_used=answer.tokens.thought + answer.tokens.discarded,
        tokens_planned=answer.token_cap,
        reason=answer.reason,
    )
