"""The Reasoner: ask a question, say when, and have the best answer found by then.

Two threads: the caller's, which waits no longer than its deadline whatever the engine is doing, and the engine's
(``worker``), which works through requests in the order in which they came.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypedDict

import msgspec

from anytime.bundle import Bundle
from anytime.errors import BudgetError, EngineError, UsageError
from anytime.runtime.answer import Answer
from anytime.runtime.answers.compiling import compile_format
from anytime.runtime.answers.cursors import Compiled
from anytime.runtime.answers.formats import AnswerFormat, Text
from anytime.runtime.bank import AnswerBank
from anytime.runtime.engine import Engine, Health
from anytime.runtime.isolation import Isolation
from anytime.runtime.job import Job, Machine
from anytime.runtime.loading import find_profile, forecast_of, open_bundle, shipped_prefix
from anytime.runtime.pending import Fallback, Pending
from anytime.runtime.policies.named import policy_named
from anytime.runtime.policies.policy import Policy
from anytime.runtime.prefixes import Prefixes
from anytime.runtime.prompt import Codec
from anytime.runtime.sampling import Sampling
from anytime.runtime.worker import MAX_WAITING, Worker
from anytime.scheduler.admission import Work, floor_ns, thought_ns
from anytime.scheduler.clock import MONOTONIC, NS_PER_S, Clock, seconds_to_ns
from anytime.scheduler.profile import LatencyProfile

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from typing_extensions import Unpack

DEFAULT_FORMAT = Text()
_LONGEST_BUDGET_S = 86_400.0
_MOST_FORMATS = 256
_FARTHEST_S = 1e15  # beyond, arithmetic in nanoseconds may overflow


class Request(TypedDict, total=False):
    """The keyword arguments of a request; see ``Reasoner.answer``."""

    budget: float
    deadline: float
    answer: AnswerFormat
    fallback: Fallback
    accept: Callable[[str], bool] | None
    min_confidence: float
    sampling: Sampling | None
    policy: Policy | str
    request_id: str | None


class Costs(msgspec.Struct, frozen=True):
    """Seconds from asking: to the first answer of the model (the floor), and to one behind a whole thought.

    The latter by the bundle's own effort, as far as can be expected; None where the bundle is not calibrated.
    """

    floor_s: float
    thought_s: float | None


class Reasoner:
    """A loaded bundle that answers by the deadline.

    ``Reasoner.load()`` opens the reference reasoner; give a bundle directory for another. Safe to use from several
    threads: requests queue, and waiting counts in their budgets.
    """

    def __init__(
        self,
        engine: Engine,
        codec: Codec,
        profile: LatencyProfile,
        bundle: Bundle,
        clock: Clock = MONOTONIC,
        speculate: bool = False,
    ) -> None:
        prefixes = Prefixes(engine, shipped_prefix(bundle))
        forecast = forecast_of(bundle)
        machine = Machine(engine, codec, profile, profile.latency(), clock, prefixes, forecast, speculate)
        self._set_up(bundle, machine)
        self._worker = Worker(machine)

    def _set_up(self, bundle: Bundle, machine: Machine) -> None:
        """What asking takes, whichever process the engine is in."""
        self.bundle, self.profile, self._machine = bundle, machine.profile, machine
        self._formats: dict[AnswerFormat, Compiled] = {}
        self._policies: dict[str, Policy] = {}
        self._waiters: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self._serials = itertools.count(1)  # next() is atomic, so no two requests share a generation
        defaults = bundle.manifest.sampling
        self._sampling = Sampling(defaults.temperature, defaults.top_p)

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | None = None,
        *,
        threads: int | None = None,
        profile: str | os.PathLike[str] | None = None,
        estimate: bool = False,
        speculate: bool = False,
        isolated: bool | Isolation = False,
    ) -> Reasoner:
        """Open a bundle (default: the reference) with its latency profile on this machine.

        Without a stored profile one is measured first, quickly, which takes some seconds. ``profile`` names a profile
        file instead; with ``estimate``, one measured under another key will do. ``speculate`` lets a greedy thought
        guess ahead from what it and the prompt already said; it writes the same tokens, sooner where guesses are right,
        and stops guessing where they are not. With ``isolated`` all that thinks runs in a process of its own, which an
        ``Isolation`` says more about (see ``docs/isolation.md``); the outcome is an ``Isolated``.

        Raises:
            BundleError, ProfileError, EngineError: see their texts for the remedy.
        """
        if isolated:  # by name, for it is made of Reasoners
            client = import_module("anytime.runtime.isolated.client")
            made: Reasoner = client.Isolated.load(
                bundle, threads=threads, profile=profile, estimate=estimate, speculate=speculate, isolated=isolated
            )
            return made
        loaded = open_bundle(bundle, threads)
        measured = find_profile(loaded, Path(profile) if profile is not None else None, estimate)
        return cls(loaded.engine, loaded.codec, measured, loaded.bundle, speculate=speculate)

    def prepare(self, answer: AnswerFormat) -> None:
        """Compile an answer format now, so that the first request with it does not pay for that.

        Raises:
            AnswerFormatError: nothing can match it, or its length is not bounded.
        """
        self._compiled(answer)

    def floor(self, prompt: str, answer: AnswerFormat = DEFAULT_FORMAT) -> float:
        """The least budget, in seconds, in which this prompt gets an answer of the model when nothing else is waiting.

        Raises:
            PromptError, AnswerFormatError: as ``answer`` would.
        """
        return self.costs(prompt, answer).floor_s

    def costs(self, prompt: str, answer: AnswerFormat = DEFAULT_FORMAT) -> Costs:
        """What this prompt takes when nothing else is waiting.

        Raises:
            PromptError, AnswerFormatError: as ``answer`` would.
        """
        codec, forecast = self._machine.codec, self._machine.forecast
        codec.check(prompt)
        format_ = self._compiled(answer)
        max_context = self._machine.engine.spec.max_context
        work = Work(len(codec.encode(prompt)), 0, len(codec.close_ids), format_.answer_steps, max_context)
        least_ns = floor_ns(work, self.profile)
        if forecast is None:
            return Costs(least_ns / NS_PER_S, None)
        tokens = forecast.length(work.prompt_tokens, format_.kind, codec.effort)
        return Costs(least_ns / NS_PER_S, (least_ns + thought_ns(work, tokens, self.profile)) / NS_PER_S)

    @property
    def clock(self) -> Clock:
        """By which deadlines are kept."""
        return self._machine.clock

    @property
    def calibrated(self) -> bool:
        """Whether confidences are probabilities."""
        return self._machine.forecast is not None

    def _compiled(self, answer: AnswerFormat) -> Compiled:
        if not isinstance(answer, Hashable):  # nor one of the formats, which compile_format says
            return compile_format(answer, self._machine.codec)
        compiled = self._formats.get(answer)
        if compiled is None:
            if len(self._formats) >= _MOST_FORMATS:
                self._formats.clear()
            compiled = self._formats[answer] = compile_format(answer, self._machine.codec)
        return compiled

    def _policy(self, name: str) -> Policy:
        policy = self._policies.get(name)
        if policy is None:
            policy = self._policies[name] = policy_named(
                name, self._machine.forecast is not None, self._machine.codec.efforts
            )
        return policy

    def submit(
        self,
        prompt: str,
        *,
        budget: float | None = None,
        deadline: float | None = None,
        answer: AnswerFormat = DEFAULT_FORMAT,
        fallback: Fallback = "",
        accept: Callable[[str], bool] | None = None,
        min_confidence: float = 0.0,
        sampling: Sampling | None = None,
        policy: Policy | str = "auto",
        request_id: str | None = None,
    ) -> Pending:
        """Ask without waiting. The arguments are those of ``answer``."""
        received_ns = self._machine.clock.now()
        if os.getpid() != self._process:
            raise EngineError("this Reasoner was loaded before a fork: load one in the child process")
        deadline_ns = deadline_of(received_ns, budget, deadline)
        if not 0.0 <= min_confidence <= 1.0:
            raise UsageError(f"min_confidence is {min_confidence}: it must be between 0 and 1")
        self._machine.codec.check(prompt)
        serial = next(self._serials)
        chosen = self._policy(policy) if isinstance(policy, str) else policy
        job = Job(
            generation=serial,
            prompt=prompt,
            ready_ns=deadline_ns - self.profile.delivery_ns,
            answer=self._compiled(answer),
            sampling=sampling or self._sampling,
            policy=chosen,
            bank=AnswerBank(accept, min_confidence, chosen.choose),
        )
        pending = Pending(
            job,
            self._machine,
            request_id or f"{self.bundle.id[:8]}-{serial}",
            self.bundle.id,
            received_ns,
            deadline_ns,
            fallback,
        )
        self._worker.submit(job)
        return pending

    def answer(self, prompt: str, **request: Unpack[Request]) -> Answer:
        """The best answer found by the deadline; returns at once when the thought is complete earlier.

        Args:
            prompt: the question.
            budget: seconds from this call on, or
            deadline: an absolute instant, seconds of ``time.monotonic()``. Exactly one of the two.
            answer: what an answer looks like: ``Choices``, ``Regex``, ``JsonSchema`` or ``Text``.
            fallback: the answer, or what makes it, when the model has none that is accepted.
            accept: vetoes an answer of the model by returning False. Runs on the engine's thread, within the budget.
            min_confidence: answers below it are not returned.
            sampling: how the thought is drawn; the bundle's default, usually greedy.
            policy: how the time is spent, by name, like ``"deer:threshold=0.9"`` (see ``docs/policies.md``), or one of
                your own. ``auto`` thinks until the deadline where the bundle is not calibrated.
            request_id: comes back in the answer.

        A valid request always gets an Answer, never an exception.

        Raises:
            UsageError: the request itself is wrong (``BudgetError``, ``PromptError``, ``AnswerFormatError``).
        """
        return self.submit(prompt, **request).result()

    async def answer_async(self, prompt: str, **request: Unpack[Request]) -> Answer:
        """``answer`` without blocking the event loop; cancelling the task stops the thinking."""
        answers = [answer async for answer in self.stream_async(prompt, **request)]
        return answers[-1]

    def stream(self, prompt: str, **request: Unpack[Request]) -> Iterator[Answer]:
        """Each better answer as it is found, the final one last. A slow consumer sees the latest and delays nobody.

        The time counts from this call, not from the first answer taken.
        """
        return _follow(self.submit(prompt, **request))

    async def stream_async(self, prompt: str, **request: Unpack[Request]) -> AsyncIterator[Answer]:
        """``stream`` for asyncio."""
        pending = self.submit(prompt, **request)
        import asyncio  # takes as long to import as everything else here
        from concurrent.futures import ThreadPoolExecutor

        if self._waiters is None:  # a thread for each request in the queue or the engine: no wait waits for another
            self._waiters = ThreadPoolExecutor(MAX_WAITING + 1, thread_name_prefix="anytime-wait")
        loop = asyncio.get_running_loop()
        try:
            while await loop.run_in_executor(self._waiters, pending.wait_for_news):
                yield pending.best()
            yield pending.leave()
        finally:
            pending.cancel()

    def health(self) -> Health:
        """READY, BUSY with a request, or LOST: a step that was told to end has not come back."""
        return self._worker.health()

    def close(self) -> None:
        """End the engine's thread; waiting requests return their fallbacks at their deadlines."""
        self._worker.stop()
        if self._waiters is not None:
            self._waiters.shutdown(wait=False)

    def __enter__(self) -> Reasoner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _follow(pending: Pending) -> Iterator[Answer]:
    """The answers of a request under way; whoever stops listening stops the thinking."""
    try:
        while pending.wait_for_news():
            yield pending.best()
        yield pending.leave()
    finally:
        pending.cancel()


def deadline_of(received_ns: int, budget: float | None, deadline: float | None) -> int:
    """The absolute deadline. A budget that is zero or negative is no error: the answer is then a refusal."""
    if (budget is None) == (deadline is None):
        given = "both budget and deadline" if budget is not None else "neither budget nor deadline"
        raise BudgetError(f"{given} given: give exactly one, in seconds")
    name, value = ("budget", budget) if budget is not None else ("deadline", deadline)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _FARTHEST_S:
        raise BudgetError(f"{name} is {value!r}: it must be a finite number of seconds")
    instant_ns = seconds_to_ns(value) if name == "deadline" else received_ns + seconds_to_ns(value)
    if instant_ns - received_ns > _LONGEST_BUDGET_S * NS_PER_S:
        raise BudgetError(f"{name} is {value!r}, more than a day ahead: it must be in seconds")
    return instant_ns
