"""What requests that wait for the same engine would do with its time: their stages of optional thought."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

from anytime.runtime.forecast import UNKNOWN
from anytime.runtime.job import Job, Machine
from anytime.scheduler.admission import Work, thought_ns
from anytime.scheduler.stages import hull

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.1)  # of a thought's expected length, at which its worth is asked for
_RESTS = (1.0, 2.5)  # and of what is expected to be left of it
_FINENESS = 2.0  # steps of a likelihood's logit, within which two requests are taken for alike
_MOST_KNOWN = 4_096

Stage = tuple[int, float]  # cost in ns, gain in probability


class Market:
    """Offers the stages of requests. Those of requests that are alike are worked out once."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._known: dict[tuple[object, ...], list[Stage]] = {}
        self._profile = machine.profile  # by which they were worked out

    def offers(self, jobs: Iterable[Job]) -> list[tuple[int, int, float]]:
        """``(key, cost_ns, gain)`` of every stage of these requests, in order."""
        return [(job.generation, cost, gain) for job in jobs for cost, gain in self.stages(job)]

    def stages(self, job: Job) -> list[Stage]:
        """A request's stages from where it stands: the concave hull of what its thoughts promise for their time.

        With a forecast, the worth of a thought is the probability that it ends right. Without one nothing is known but
        that more thought is worth ever less, so time is shared evenly.
        """
        first = job.bank.found[0].likelihood if job.bank.found else UNKNOWN
        likelihood = min(1.0 - 1e-6, max(1e-6, first))
        if self._profile is not self._machine.profile or len(self._known) >= _MOST_KNOWN:
            self._profile = self._machine.profile
            self._known.clear()
        # No two under way are alike.
        key: tuple[object, ...] = (job.generation, job.effort, len(job.thought), len(job.bank.found))
        if job.effort is None:
            alike = round(_FINENESS * math.log(likelihood / (1.0 - likelihood)))
            key = (alike, job.prompt_tokens // 16, job.answer.kind, job.answer.answer_steps, job.answered)
        if key not in self._known:
            self._known[key] = self._worked_out(job, likelihood)
        return self._known[key]

    def _worked_out(self, job: Job, likelihood: float) -> list[Stage]:
        forecast, codec = self._machine.forecast, self._machine.codec
        work, done = self._machine.work(job.prompt_tokens, job.answer), len(job.thought)
        if forecast is None:
            return self._even(work, done)
        efforts = codec.efforts if job.effort is None else (job.effort,)
        points = []
        for effort in efforts:
            asked = job.prompt_tokens, job.answer.kind, effort
            expected, rest = forecast.length(*asked), forecast.rest(*asked, done)
            lengths = [*(share * expected - done for share in _SHARES), *(share * rest for share in _RESTS)]
            ahead = sorted({max(0, math.ceil(length)) for length in lengths})
            promises = forecast.promises(likelihood, *asked, done, ahead)
            points += [(self._cost_ns(work, done, n), promise) for n, promise in zip(ahead, promises, strict=True)]
        found = job.bank.best()
        nothing = forecast.fresh(likelihood, job.prompt_tokens, job.answer.kind, codec.effort, 0)
        return _stages(found.confidence if found else nothing, points)

    def _even(self, work: Work, done: int) -> list[Stage]:
        room = work.max_context - work.prompt_tokens - work.close_tokens - work.answer_steps - 2 - done
        shares = (max(1, round(share * room)) for share in (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0))
        points = [(self._cost_ns(work, done, n), (done + n) / (done + n + room / 4)) for n in shares if room > 0]
        return _stages(done / (done + max(1, room) / 4), points)

    def _cost_ns(self, work: Work, done: int, tokens: int) -> int:
        """Of so many more tokens behind those that are thought, with a close."""
        behind = Work(work.prompt_tokens + done, 0, work.close_tokens, work.answer_steps, work.max_context)
        return thought_ns(behind, tokens, self._machine.profile)


def _stages(base: float, points: Iterable[Stage]) -> list[Stage]:
    """What each corner of the hull costs and gains behind the one before."""
    corners = hull((0, base), points)
    return [(after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(corners)]
