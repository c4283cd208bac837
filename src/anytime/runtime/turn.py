"""A turn of the engine: one request's step, or steps in a row of several that each think on greedily.

A step of several rows takes less than as many steps of one, but each request's own takes longer. So others come along
where no deadline suffers by it (``ext.agenda.Agenda.affords``), earliest deadlines first, as many as that allows.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from anytime.ext.agenda import Agenda
from anytime.runtime.job import Ahead, Job, Machine
from anytime.scheduler.batching import Batch, Member, batch, pays, unhurried


class Turn(msgspec.Struct, frozen=True):
    """The request whose turn it is, and those that run beside it: ``batch`` steps of what is ``ahead`` of each.

    ``leaving`` gives its row up for the first.
    """

    jobs: tuple[Job, ...]
    ahead: tuple[Ahead, ...] = ()
    batch: Batch | None = None
    leaving: Job | None = None

    def of_each(self, took_ns: int) -> int:
        """What each of them would have taken alone for what is now done: of a step that took so long."""
        return took_ns if self.batch is None else took_ns * self.batch.alone_ns // self.batch.together_ns


def worth_sharing(job: Job, machine: Machine) -> bool:
    """Whether a request that thinks could run beside another."""
    if job.look_ahead is None or machine.widest < 2:
        return False
    return pays(machine.latency, machine.latency_of(2), job.prompt_tokens + len(job.thought))


def together(job: Job, others: Iterable[Job], most_ns: int, machine: Machine, agenda: Agenda, now: int) -> Turn | None:
    """The most that can run beside a request, for ``most_ns`` at most; None where it is to run alone.

    ``others`` come in the order of their deadlines.
    """
    first = _member(job, job.until_ns - now)
    if first is None:
        return None
    close, alone = len(machine.codec.close_ids), machine.latency
    rest = [member for member in (_member(other, other.ready_ns - now) for other in others) if member is not None]
    found = [first, *(member for member in rest if unhurried(member[2], alone, close, most_ns))][: machine.widest]
    while len(found) > 1:
        jobs, ahead, members = zip(*found, strict=True)
        span = machine.engine.span([one.burst.seq for one in ahead])
        if span is not None and span <= machine.widest:
            plan = batch(members, alone, machine.latency_of(span), close, most_ns)
            keys = [one.generation for one in jobs]
            if plan and agenda.affords(now, job.generation, keys, plan.alone_ns, plan.together_ns):
                return Turn(jobs, ahead, plan)
        found.pop()
    return None


def _member(job: Job, left_ns: int) -> tuple[Job, Ahead, Member] | None:
    ahead = job.look_ahead() if job.look_ahead is not None else None
    if ahead is None:
        return None
    return job, ahead, Member(ahead.burst.seq.length, ahead.count, left_ns, job.answer.answer_steps)
