"""The engine's thread: of all requests under way, runs one step of the one whose turn it is, then looks again.

Who is next, for how long, and who fits at all is arithmetic over deadlines (``ext.agenda``). A request that is not next
stands still between two of its steps; its row of the engine keeps what it has thought.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from anytime.errors import AnytimeError, StepTerminated, UsageError
from anytime.ext.agenda import Agenda
from anytime.runtime.answer import Stopped
from anytime.runtime.decode import decode
from anytime.runtime.engine import Health
from anytime.runtime.intake import MOST_REQUESTS, Overload, barred, crowded, expendable
from anytime.runtime.job import Job, Machine
from anytime.runtime.market import Market
from anytime.runtime.taping import Tapes
from anytime.runtime.turn import Turn, together, worth_sharing
from anytime.scheduler.admission import (
    MOST_STEPS,
    ThoughtLimits,
    Work,
    conclude_ns,
    instant_ns,
    longest_stretch_ns,
)
from anytime.scheduler.clock import NS_PER_S

LOST_AFTER_S = 10  # a step that has run for so long is taken for lost
_MOST_SHARING = 32  # requests, those with the earliest deadlines, among which optional time is shared out


class Worker:
    """Owns the engine while it lives. Callers' threads bring requests and take them back; all else is its own."""

    def __init__(self, machine: Machine, overload: Overload = "degrade") -> None:
        self.machine = machine
        self._overload = overload
        self.tapes: Tapes | None = None
        self._agenda = Agenda(MOST_REQUESTS)
        self._market = Market(machine)
        self._jobs: dict[int, Job] = {}
        self._changed = threading.Condition()
        self._unshared = False  # optional time must be shared out anew
        self._scarce = False  # somebody would use more time than there is
        self._called_off: list[Job] = []  # begun, and still holding their rows
        self._current: tuple[Job, ...] = ()  # whose step runs, and who runs beside it
        self._stepped_ns = 0  # when the step that runs was begun
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="anytime-engine", daemon=True)
        self._thread.start()

    # -- callers' threads

    def submit(self, job: Job) -> None:
        """Take a request in, or reject it when it cannot be served.

        Raises:
            UsageError: one with this id is under way.
        """
        machine = self.machine
        now = machine.clock.now()
        work = machine.work(job.prompt_tokens, job.answer, machine.prefixes.known(job.prompt))
        with self._changed:
            if any(other.request_id == job.request_id for other in self._jobs.values()):
                raise UsageError(f"a request with the id {job.request_id!r} is under way: give each its own")
            self._supersede(job)
            if self.tapes is not None:
                self.tapes.come(job, now, work.cached_tokens, self._current[0] if self._current else None)
            reason = self._refusal(job, now, work)
            if reason:
                job.stopped, job.reason = "rejected", reason
                if self.tapes is not None:
                    self.tapes.end(job)
                job.end()
                return
            self._jobs[job.generation] = job
            self._agenda.add(job.generation, job.ready_ns, instant_ns(work, machine.profile), job.priority)
            self._unshared = True
            self._changed.notify()

    def _supersede(self, job: Job) -> None:
        """The newest question of a topic is the only one that counts."""
        if job.topic is not None:
            for other in [other for other in self._jobs.values() if other.topic == job.topic]:
                self.cancel(other, "stale", f"a newer question of the topic {job.topic!r} took its place")

    def _refusal(self, job: Job, now: int, work: Work) -> str:
        """Why a request cannot be taken in; empty when it can, those that had to give way to it dropped."""
        if self._stopping:
            return "the Reasoner is closed"
        if self.health() is Health.LOST:
            ending = "was lost in" if self._broken else "does not come back from"
            return f"the engine {ending} an earlier step: load a new Reasoner"
        if reason := barred(job, work, now, self.machine):
            return reason
        mandatory_ns = instant_ns(work, self.machine.profile)
        for other in expendable(job, self._jobs.values(), self._overload):
            if self._fits(job, now, mandatory_ns):
                return ""
            self.cancel(other, "rejected", "dropped under overload, for a newer request or one of higher priority")
        return "" if self._fits(job, now, mandatory_ns) else crowded(len(self._jobs), job.ready_ns - now)

    def _fits(self, job: Job, now: int, mandatory_ns: int) -> bool:
        if len(self._jobs) >= MOST_REQUESTS:
            return False
        keep = self._overload == "reject"
        return not self._jobs or self._leaves(now, job.ready_ns, mandatory_ns, keep)

    def _leaves(self, now: int, ready_ns: int, needs_ns: int, keep_grants: bool = False, without: int = -1) -> bool:
        """Whether those under way leave so much time until then, as things stood when the step that runs was begun."""
        if not self._current:
            return self._agenda.fits(now, ready_ns, needs_ns, 0, keep_grants, without)
        began_ns, running = self._stepped_ns, self._current[0].generation
        blocking_ns = max(self._blocking_ns, now - began_ns)
        return self._agenda.fits(began_ns, ready_ns, needs_ns, blocking_ns, keep_grants, without, running)

    @property
    def _blocking_ns(self) -> int:
        """What may pass, from the beginning of the step that runs, before the engine looks up again."""
        return self._stretch_ns(self._current[0]) if self._current else 0

    def _stretch_ns(self, job: Job) -> int:
        """An upper bound of one step of a request, however far it is, and of one that others run beside it."""
        machine, most = self.machine, job.thought_tokens + MOST_STEPS
        forks = machine.rows - 1 + job.lines - 1  # those that are closed leave their rows to a plan behind them
        limits = ThoughtLimits(most, machine.codec.reframings(job.prompt_tokens), job.lines, forks)
        return longest_stretch_ns(machine.work(job.prompt_tokens, job.answer), machine.profile, limits)

    def cancel(self, job: Job, stopped: Stopped = "cancelled", reason: str = "") -> None:
        """Nobody waits for more of a request: it ends at once where no step of it runs, else behind that step."""
        with self._changed:
            if job.done.is_set():
                return
            job.called_off, job.reason = stopped, reason or job.reason
            if job in self._current:
                self.machine.engine.terminate(job.generation)
            elif job.started and job.generation in self._jobs:
                self._agenda.answer(job.generation)  # it needs nothing any more
                self._called_off.append(job)
                self._changed.notify()
            else:
                self._retire(job)

    def hurry(self, job: Job) -> None:
        """Let a request answer where it stands, before all others."""
        with self._changed:
            if job.generation in self._jobs:
                job.hurried = True
                work = self.machine.work(job.prompt_tokens, job.answer)
                wait_ns = conclude_ns(work, len(job.thought), self.machine.profile, self._blocking_ns)
                self._agenda.move(job.generation, min(job.ready_ns, self.machine.clock.now() + wait_ns))

    def move(self, job: Job, ready_ns: int) -> bool:
        """Give a request another deadline; False, and nothing is changed, where others leave too little time."""
        with self._changed:
            if job.generation not in self._jobs:
                return False
            now, key = self.machine.clock.now(), job.generation
            needs_ns = self._agenda.mandatory_ns(key)
            fits = ready_ns > now and self._leaves(now, ready_ns, needs_ns, without=key)
            if fits:
                job.ready_ns, self._unshared = ready_ns, True
                self._agenda.move(key, ready_ns)
        return fits

    @property
    def _broken(self) -> bool:
        """Whether the engine itself says that it is lost."""
        return self.machine.engine.health() is Health.LOST

    def health(self) -> Health:
        if self._broken:
            return Health.LOST
        if not self._current:
            return Health.READY
        running_ns = self.machine.clock.now() - self._stepped_ns
        return Health.LOST if running_ns > LOST_AFTER_S * NS_PER_S else Health.BUSY

    def running(self, job: Job) -> bool:
        """Whether a step of this request runs now."""
        return job in self._current

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            for job in list(self._jobs.values()):
                self.cancel(job, "cancelled" if job.started else "rejected", "the Reasoner was closed")
            self._changed.notify()
        self._thread.join(timeout=1.0)

    # -- the engine's thread

    def _work(self) -> None:
        while (turn := self._next()) is not None:
            over = self._run(turn)
            with self._changed:
                self._current = ()
                took_ns = turn.of_each(self.machine.clock.now() - self._stepped_ns)
                for job, ended in zip(turn.jobs, over, strict=True):
                    if ended or job.cancelled:
                        self._retire(job)
                    elif job.answered and self._agenda.answer(job.generation):
                        self._unshared = True  # what more thought is worth is known better now
                    else:
                        self._agenda.spend(job.generation, took_ns)
                    if job.resume_ns and job.generation in self._jobs:
                        self._agenda.suspend(job.generation, job.resume_ns)

    def _next(self) -> Turn | None:
        """The request whose turn it is, once there is one, and who runs beside it; None when the Reasoner is closed."""
        with self._changed:
            while True:
                while self._called_off:
                    self._retire(self._called_off.pop())
                if self._stopping:
                    return None
                if self._jobs:
                    break
                self._changed.wait()
            now = self.machine.clock.now()
            if self._unshared:
                self._share(now)
            job, leaving = self._picked(now)
            seated = self._agenda.seated(job.generation)
            sharing = seated and self._scarce and worth_sharing(job, self.machine)
            if sharing:
                job = self._newcomer(job, now) or job
            if not job.started:
                job.started = True
                job.steps = (decode if self.tapes is None else self.tapes.decode)(job, self.machine)
            self._agenda.seat(job.generation)
            if leaving is not None:
                self._agenda.leave(leaving.generation)
            # Who was hurried only closes its thought, and does so even where that comes later than was planned.
            job.until_ns = job.ready_ns if job.hurried else self._agenda.until(job.generation, now)
            turn = self._together(job, now) if sharing else None
            turn = turn or Turn((job,), leaving=leaving)
            self._current, self._stepped_ns = turn.jobs, now
            return turn

    def _newcomer(self, job: Job, now: int) -> Job | None:
        """Who is to begin a thought, and can then run beside this request's, which can wait for that."""
        for other in self._jobs.values():
            key = other.generation
            if other.answered and other.effort is None and not other.cancelled and self._agenda.seated(key):
                most_ns = self._stretch_ns(other)
                if self._agenda.granted_ns(key) and self._agenda.affords(now, job.generation, [key], most_ns, most_ns):
                    return other
        return None

    def _together(self, job: Job, now: int) -> Turn | None:
        keys = [key for key in self._agenda.keys() if key != job.generation and self._agenda.seated(key)]  # noqa: SIM118
        others = [self._jobs[key] for key in keys]
        return together(job, others, self._stretch_ns(job), self.machine, self._agenda, now)

    def _picked(self, now: int) -> tuple[Job, Job | None]:
        """Whose turn it is, and who gives up its row for that: the least urgent, to one that can wait no longer.

        Who has used up its time does so at once.
        """
        free, agenda = self.machine.free_rows, self._agenda
        key, first = agenda.pick(free), self._jobs[agenda.pick(1)]
        if free or agenda.seated(first.generation):
            return self._jobs[key], None
        seated = [job for job in self._jobs.values() if job.answered and agenda.seated(job.generation)]
        leaving = max(seated, key=lambda job: (job.resume_ns > 0, -job.priority, job.ready_ns), default=None)
        if leaving is None:
            return first if key < 0 else self._jobs[key], None  # who will say that there is no row
        needs_ns = agenda.mandatory_ns(first.generation) + agenda.granted_ns(first.generation)
        if not leaving.resume_ns and first.ready_ns - now - needs_ns >= self._stretch_ns(self._jobs[key]):
            return self._jobs[key], None
        if self._can_leave(leaving):
            return first, leaving
        leaving.stopped, leaving.reason = "deadline", "its row of the engine was needed for a more urgent request"
        self._retire(leaving)
        return first, None

    def _can_leave(self, job: Job) -> bool:
        """Whether a request can go on later in another row. There is memory for as many as have rows."""
        aside = sum(other.aside is not None for other in self._jobs.values())
        return job.lines == 1 and aside < self.machine.engine.spec.max_rows

    def _retire(self, job: Job) -> None:
        """Let go of a request, and wake its caller."""
        if job.steps is not None:
            try:
                job.steps.close()
            except Exception as error:  # its row may be lost; the thread that serves the others must not
                job.reason = job.reason or f"unexpected {error!r}"
        if self._jobs.pop(job.generation, None) is not None:
            self._agenda.remove(job.generation)
            self._unshared = True
            if self.tapes is not None:
                self.tapes.end(job)
        job.end()

    def _share(self, now: int) -> None:
        self._unshared = self._scarce = False
        if len(self._jobs) > 1:
            keys = self._agenda.keys()[:_MOST_SHARING]
            try:
                offers = self._market.offers(self._jobs[key] for key in keys)
            except Exception:  # nobody is promised anything then, and everybody still has what others leave
                import logging  # takes longer to import than a request has to wait

                logging.getLogger("anytime").exception("what thought is worth could not be worked out")
                offers = []
            self._scarce = not self._agenda.grant(now, offers)

    def _run(self, turn: Turn) -> list[bool]:
        """Take the step of a turn; of which of its requests that was the last."""
        first, *others = turn.jobs
        if turn.batch is None:
            try:
                self.machine.seat(first, turn.leaving)
            except Exception as failed:
                return [take_step(first, error=failed)]
            return [take_step(first)]
        try:
            taken = self.machine.extend([ahead.burst for ahead in turn.ahead], turn.batch.steps, first.generation)
        except StepTerminated as told:
            return [take_step(first, error=told), *(False for _ in others)]
        except Exception as failed:
            return [take_step(job, error=failed) for job in turn.jobs]
        return [take_step(job, tokens) for job, tokens in zip(turn.jobs, taken, strict=True)]


def take_step(job: Job, taken: Sequence[int] | None = None, error: Exception | None = None) -> bool:
    """Let a request take a step, or tell it what was run for it; whether that was its last."""
    assert job.steps is not None
    try:
        job.look_ahead = job.steps.throw(error) if error is not None else job.steps.send(taken)
    except StopIteration:
        return True
    except AnytimeError as failed:
        job.stopped, job.reason = "error", str(failed)
        return True
    except Exception as failed:  # a request may fail; the thread that serves the next one must not
        job.stopped, job.reason = "error", f"unexpected {failed!r}"
        return True
    return False
