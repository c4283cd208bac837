"""The Reasoner: ask a question, say when, and have the best answer found by then.

Two threads: the caller's, which waits no longer than its deadline whatever the engine is doing, and the engine's
(``worker``), which works through requests in the order in which they came.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, get_args

from anytime.bundle import Bundle
from anytime.errors import EngineError, PromptError, UsageError
from anytime.runtime.answer import Answer
from anytime.runtime.answers.compiling import compile_format
from anytime.runtime.answers.cursors import Compiled
from anytime.runtime.answers.formats import AnswerFormat
from anytime.runtime.bank import AnswerBank
from anytime.runtime.engine import Engine, EngineName, Health
from anytime.runtime.intake import Overload
from anytime.runtime.isolation import Isolation
from anytime.runtime.job import Job, Machine
from anytime.runtime.loading import find_profile, forecast_of, open_bundle, shipped_prefix
from anytime.runtime.pending import Fallback, Pending
from anytime.runtime.policies.named import policy_named
from anytime.runtime.policies.policy import Policy
from anytime.runtime.prefixes import Prefixes
from anytime.runtime.prompt import Codec
from anytime.runtime.request import DEFAULT_FORMAT, Costs, Request, check_numbers
from anytime.runtime.sampling import Sampling
from anytime.runtime.streaming import Waiters, follow
from anytime.runtime.tape import Tape
from anytime.runtime.taping import Tapes
from anytime.runtime.worker import Worker
from anytime.scheduler.admission import floor_ns, thought_ns
from anytime.scheduler.clock import MONOTONIC, NS_PER_S, Clock
from anytime.scheduler.deadline import deadline_of
from anytime.scheduler.pace import Pace
from anytime.scheduler.profile import LatencyProfile
from anytime.scheduler.releases import releases

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from anytime.runtime.clockwatch import ClockWatch, Source
    from anytime.runtime.decisions import DecisionLog
    from anytime.runtime.periodic import Periodic

_MOST_FORMATS = 256


class Reasoner:
    """A loaded bundle that answers by the deadline.

    ``Reasoner.load()`` opens the reference reasoner; give a bundle directory for another. Safe to use from several
    threads: requests share the engine step by step, by their deadlines, and waiting counts in their budgets.
    """

    def __init__(
        self,
        engine: Engine,
        codec: Codec,
        profile: LatencyProfile,
        bundle: Bundle,
        clock: Clock = MONOTONIC,
        speculate: bool = False,
        overload: Overload = "degrade",
        log: DecisionLog | None = None,
    ) -> None:
        if overload not in get_args(Overload):
            raise UsageError(f"overload is {overload!r}: it must be one of {', '.join(get_args(Overload))}")
        prefixes = Prefixes(engine, shipped_prefix(bundle))
        forecast = forecast_of(bundle)
        machine = Machine(engine, codec, Pace(profile), clock, prefixes, forecast, speculate)
        self._set_up(bundle, machine, log)
        self._worker = Worker(machine, overload)

    def _set_up(self, bundle: Bundle, machine: Machine, log: DecisionLog | None) -> None:
        """What asking takes, whichever process the engine is in."""
        self.bundle, self.profile, self._machine, self._log = bundle, machine.profile, machine, log
        self._formats: dict[AnswerFormat, Compiled] = {}
        self._policies: dict[str, Policy] = {}
        self._waiters = Waiters()
        self._clocks: ClockWatch | None = None
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
        engine: EngineName = "onnxruntime",
        profile: str | os.PathLike[str] | None = None,
        estimate: bool = False,
        speculate: bool = False,
        overload: Overload = "degrade",
        log: DecisionLog | None = None,
        isolated: bool | Isolation = False,
    ) -> Reasoner:
        """Open a bundle (default: the reference) with its latency profile on this machine.

        ``engine`` runs it: ``onnxruntime`` on the CPU; on an NVIDIA GPU ``tensorrt``, for which a plan must have been
        built here (see ``docs/tensorrt.md``), or ONNX Runtime's providers ``cuda`` and ``tensorrt-rtx`` (see
        ``docs/cuda.md``). Without a stored profile one is measured first, quickly, which takes some
        seconds. ``profile`` names a profile file instead; with ``estimate``, one measured under another key will do.
        ``speculate`` lets a greedy thought guess ahead from what it and the prompt already said; it writes the same
        tokens, sooner where guesses are right, and stops guessing where they are not. ``overload`` says what happens
        when requests do not all fit: those under way give up thought, down to their first answers (``degrade``); or
        they give up none, and the new one is rejected (``reject``); or the oldest give way (``drop-oldest``). ``log``
        takes note of every answer. With ``isolated`` all that thinks runs in a process of its own, which an
        ``Isolation`` says more about (see ``docs/isolation.md``); the outcome is an ``Isolated``.

        Raises:
            BundleError, ProfileError, EngineError: see their texts for the remedy.
        """
        if isolated:  # by name, for it is made of Reasoners
            client = import_module("anytime.runtime.isolated.client")
            made: Reasoner = client.Isolated.load(
                bundle,
                threads=threads,
                engine=engine,
                profile=profile,
                estimate=estimate,
                speculate=speculate,
                overload=overload,
                log=log,
                isolated=isolated,
            )
            return made
        loaded = open_bundle(bundle, threads, engine)
        measured = find_profile(loaded, Path(profile) if profile is not None else None, estimate)
        reasoner = cls(
            loaded.engine, loaded.codec, measured, loaded.bundle, speculate=speculate, overload=overload, log=log
        )
        reasoner.watch_clocks()
        return reasoner

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
        work = self._machine.work(len(codec.encode(prompt)), format_)
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
        priority: int = 0,
        topic: str | None = None,
        request_id: str | None = None,
    ) -> Pending:
        """Ask without waiting. The arguments are those of ``answer``."""
        received_ns = self._machine.clock.now()
        if os.getpid() != self._process:
            raise EngineError("this Reasoner was loaded before a fork: load one in the child process")
        deadline_ns = deadline_of(received_ns, budget, deadline)
        check_numbers(min_confidence, priority)
        compiled = self._compiled(answer)
        serial = next(self._serials)
        chosen = self._policy(policy) if isinstance(policy, str) else policy
        job = Job(
            generation=serial,
            request_id=request_id or f"{self.bundle.id[:8]}-{serial}",
            prompt=self._encoded(prompt, compiled),
            ready_ns=deadline_ns - self.profile.delivery_ns,
            answer=compiled,
            sampling=sampling or self._sampling,
            policy=chosen,
            bank=AnswerBank(accept, min_confidence, chosen.choose),
            priority=priority,
            topic=topic,
        )
        if self._worker.tapes is not None:
            job.tape = Tape(
                request_id=job.request_id,
                prompt=list(job.prompt),
                format=answer,
                policy=str(policy),
                min_confidence=min_confidence,
                fallback=fallback if isinstance(fallback, str) else "",
                ready_ns=job.ready_ns,
            )
        self._worker.submit(job)
        noted = self._noted(prompt, {"policy": policy, "priority": priority, "topic": topic})
        return Pending(job, self._worker, self.bundle.id, received_ns, deadline_ns, fallback, noted)

    def _noted(self, prompt: str, request: Request) -> Callable[[Answer], None] | None:
        """What takes note of the answer to this request."""
        return None if self._log is None else functools.partial(self._log.note, prompt, request.copy())

    def _encoded(self, prompt: str, answer: Compiled) -> list[int]:
        """The prompt's tokens, with room for an answer behind them."""
        codec, max_context = self._machine.codec, self._machine.engine.spec.max_context
        codec.check(prompt)
        tokens = codec.encode(prompt)
        if len(tokens) + len(codec.close_ids) + answer.answer_steps > max_context:
            raise PromptError(
                f"the prompt has {len(tokens)} tokens and the answer up to {answer.answer_steps + 1}, "
                f"more than the model's context of {max_context}: shorten one of them"
            )
        return tokens

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
            priority: of several requests, those with a higher one get optional thought first, and lower ones give way
                where not all fit.
            topic: only the newest question of a topic counts; one before it that is not answered yet ends as ``stale``.
            request_id: comes back in the answer; no two requests under way may have the same.

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
        return follow(self.submit(prompt, **request))

    def stream_async(self, prompt: str, **request: Unpack[Request]) -> AsyncIterator[Answer]:
        """``stream`` for asyncio."""
        return self._waiters.follow(self.submit(prompt, **request))

    def every(
        self,
        period: float,
        ask: Callable[[], str | None],
        told: Callable[[Answer], object],
        *,
        due: float | None = None,
        phase: float = 0.0,
        **request: Unpack[Request],
    ) -> Periodic:
        """Ask again every ``period`` seconds, from ``phase`` seconds on, on a thread of its own.

        ``ask`` makes the question at its release (None: nothing is asked this time), ``told`` gets the answer, due
        ``due`` seconds behind the release, by default before the next one. ``anytime admit`` says whether a set
        of such tasks is schedulable.

        Raises:
            UsageError: an impossible time.
        """
        from anytime.runtime.periodic import Periodic

        released = releases(self.clock.now(), period, due, phase)
        return Periodic(self.clock, released, ask, told, functools.partial(self.answer, **request))

    def watch(self, watcher: Callable[[Tape], None]) -> None:
        """Put every request from now on on tape, and show ``watcher`` each; it must neither wait nor raise."""
        self._worker.tapes = Tapes(watcher)

    def drift(self) -> str | None:
        """Why the latency profile should be measured anew, by what the engine took since; None where it holds."""
        return self._machine.pace.report()

    def watch_clocks(self, source: Source | None = None) -> bool:
        """Plan for a slower engine as soon as GPU or memory clock drop below those that the profile was measured at.

        ``load`` does this where the machine tells them (``docs/targets.md``); False where it does not. ``source`` has
        the readings instead.
        """
        from anytime.runtime.clockwatch import find_source, follow  # most machines need nothing of it

        source = source or find_source(self.profile.key.gpu, self.clock)
        if source is None:
            return False
        if self._clocks is not None:
            self._clocks.stop()
        pace = self._machine.pace
        self._clocks = follow(source, self.profile, pace, lambda: self._worker.health() is Health.BUSY)
        return True

    def health(self) -> Health:
        """READY, BUSY with a request, or LOST: a step does not come back, or the engine is gone, as with its GPU."""
        return self._worker.health()

    def close(self) -> None:
        """End the engine's thread; requests under way return the best they have. The log is yours to close."""
        if self._clocks is not None:
            self._clocks.stop()
        self._worker.stop()
        self._waiters.close()

    def __enter__(self) -> Reasoner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
