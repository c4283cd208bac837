"""Who is taken in: what bars a request whoever else there is, who gives way to it, and what it is told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from anytime.runtime.job import Job, Machine
from anytime.scheduler.admission import Refusal, Work, admit
from anytime.scheduler.clock import NS_PER_MS
from anytime.scheduler.profile import LatencyProfile

MOST_REQUESTS = 1_024

Overload: TypeAlias = Literal["degrade", "reject", "drop-oldest"]


def barred(job: Job, work: Work, now: int, machine: Machine) -> str:
    """Why a request cannot be served even alone; empty when it can."""
    left_ns = job.ready_ns - now
    if left_ns <= 0:
        return too_late(left_ns, machine.profile)
    alone = admit(work, left_ns, machine.profile)
    if isinstance(alone, Refusal):
        machine.pace.doubt()
        return alone.reason
    return ""


def too_late(left_ns: int, profile: LatencyProfile) -> str:
    """Says that an answer would have had to be ready already."""
    left_ms = (left_ns + profile.delivery_ns) / NS_PER_MS
    return f"the deadline is {left_ms:.1f} ms away, less than it takes to deliver an answer"


def expendable(job: Job, others: Iterable[Job], overload: Overload) -> list[Job]:
    """Requests that give way to this one, in that order: of lower priority, and the oldest where it says so."""
    holding = [other for other in others if not other.cancelled]
    if overload != "reject":  # then whoever has its first answer leaves all the time there is
        holding = [other for other in holding if not other.answered]
    lower = [other for other in holding if other.priority < job.priority]
    lower.sort(key=lambda other: (other.priority, -other.ready_ns))
    same = [other for other in holding if other.priority == job.priority]
    return lower + same if overload == "drop-oldest" else lower


def crowded(count: int, left_ns: int) -> str:
    """What a request is told for which so many others leave no room."""
    if count >= MOST_REQUESTS:
        return f"{MOST_REQUESTS} requests are under way already: ask less often"
    return (
        f"{count} requests are under way and leave too little of the {left_ns / NS_PER_MS:.1f} ms: "
        "ask less often, or give more time"
    )
