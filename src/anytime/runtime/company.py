"""Who runs beside the request whose turn it is: others whose next steps are steps of a greedy thought, as its own.

A step of several rows takes less than as many steps of one, but each request's own takes longer. So others come along
where no deadline suffers by it (``ext.agenda.Agenda.affords``), earliest deadlines first, as many as that allows.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from anytime.ext.agenda import Agenda
from anytime.runtime.job import Ahead, Job, Machine
from anytime.scheduler.batching import Batch, Member, batch, unhurried


class Company(msgspec.Struct, frozen=True):
    """Requests that run together, the first because it is its turn, and what each would run by itself."""

    jobs: tuple[Job, ...]
    ahead: tuple[Ahead, ...]
    batch: Batch


def company(job: Job, others: Iterable[Job], machine: Machine, agenda: Agenda, now: int) -> Company | None:
    """The largest company that pays; None where the request is to run alone.

    ``others`` come in the order of their deadlines.
    """
    first = _member(job, job.until_ns - now)
    if first is None:
        return None
    close, most_ns, alone = len(machine.codec.close_ids), machine.profile.longest_run_ns, machine.latency
    found = [first]
    for other in others:
        member = _member(other, other.ready_ns - now) if other is not job else None
        if member is not None and unhurried(member[2], alone, close, most_ns):
            found.append(member)
    found = found[: machine.engine.spec.max_rows]
    while len(found) > 1:
        jobs, ahead, members = zip(*found, strict=True)
        if span := machine.engine.span([one.burst.seq for one in ahead]):
            plan = batch(members, alone, machine.latency_of(span), close, most_ns)
            keys = [other.generation for other in jobs[1:]]
            if plan and agenda.affords(now, job.generation, keys, plan.alone_ns, plan.together_ns):
                return Company(jobs, ahead, plan)
        found = found[: len(found) // 2]
    return None


def _member(job: Job, left_ns: int) -> tuple[Job, Ahead, Member] | None:
    ahead = job.look_ahead() if job.look_ahead is not None else None
    if ahead is None:
        return None
    return job, ahead, Member(ahead.burst.seq.length, ahead.count, left_ns, job.answer.answer_steps)
