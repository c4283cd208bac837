"""The Isolated reasoner: a Reasoner whose engine, loop and answer bank live in a process of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from anytime.bundle import Bundle
from anytime.errors import EngineError, UsageError
from anytime.ext.slots import Slots
from anytime.runtime.answers.formats import AnswerFormat
from anytime.runtime.engine import Engine, EngineName, EngineSpec, Health
from anytime.runtime.intake import Overload
from anytime.runtime.isolated.child import SERVE
from anytime.runtime.isolated.exchange import Exchange
from anytime.runtime.isolated.messages import Ask, Drift, Prepare, Start, pack_format
from anytime.runtime.isolated.pending import IsolatedPending, blank_answer, rejected
from anytime.runtime.isolated.seats import make_slots
from anytime.runtime.isolation import Isolation
from anytime.runtime.job import Machine
from anytime.runtime.loading import forecast_of
from anytime.runtime.prefixes import Prefixes
from anytime.runtime.prompt import Codec
from anytime.runtime.reasoner import Reasoner
from anytime.runtime.request import DEFAULT_FORMAT, Costs, Request, check_numbers
from anytime.runtime.sampling import Sampling
from anytime.scheduler.clock import MONOTONIC, NS_PER_MS, NS_PER_S
from anytime.scheduler.deadline import deadline_of
from anytime.scheduler.pace import Pace

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from anytime.runtime.clockwatch import Source
    from anytime.runtime.decisions import DecisionLog
    from anytime.runtime.tape import Tape

_PREPARE_S, _SAY_S = 10.0, 1.0  # how long to wait for a word of the worker


class _Elsewhere:
    """An engine in another process: what it is, and nothing that it does."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec


class Isolated(Reasoner):
    """A Reasoner in a process of its own, which is started again when it dies or hangs.

    Asks and answers like a ``Reasoner``, but that what the caller gives must be data: ``accept`` and a policy of the
    caller's own are refused; ``fallback`` stays on this side. The model is not opened in the caller's process.
    """

    def __init__(
        self, slots: Slots, start: Start, command: Sequence[str] = SERVE, log: DecisionLog | None = None
    ) -> None:
        """``Isolated.load`` makes the slots and the start; ``command`` is what runs the worker.

        Raises:
            AnytimeError: what the worker raised, or that it ended.
        """
        self._slots, self._exchange = slots, Exchange(slots, start, command)
        self._supervisor = self._exchange.supervisor
        try:
            bundle = Bundle.load(start.bundle) if start.bundle is not None else Bundle.reference()
            codec, forecast = Codec(bundle), forecast_of(bundle)
            ready, profile = self._supervisor.wait()
        except BaseException:
            self._exchange.close()
            raise
        engine = cast(Engine, _Elsewhere(ready.spec))
        self._set_up(bundle, Machine(engine, codec, Pace(profile), MONOTONIC, Prefixes(engine), forecast), log)

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
        isolated: bool | Isolation = True,
    ) -> Isolated:
        """As ``Reasoner.load``, in a process of its own.

        Raises:
            BundleError, ProfileError, EngineError: see their texts for the remedy.
        """
        slots = make_slots()
        start = Start(
            parent=os.getpid(),
            memory=slots.fd,
            bells=slots.bells,
            bundle=None if bundle is None else str(Path(bundle).absolute()),
            threads=threads,
            engine=engine,
            profile_file=None if profile is None else str(Path(profile).absolute()),
            estimate=estimate,
            speculate=speculate,
            overload=overload,
            isolation=isolated if isinstance(isolated, Isolation) else Isolation(),
        )
        return cls(slots, start, log=log)

    def prepare(self, answer: AnswerFormat) -> None:
        """Compile an answer format now, here and in the worker, and in every worker to come.

        Raises:
            AnswerFormatError: nothing can match it, or its length is not bounded.
            EngineError: the worker did not do so within 10 s, or was lost.
        """
        self._check_process()
        super().prepare(answer)
        packed = pack_format(answer)
        done = self._exchange.tell(Prepare(packed), _PREPARE_S)
        if done.stopped != "complete":
            raise EngineError(f"the isolated process did not compile {answer!r}: {done.reason or done.stopped}")
        self._supervisor.remember(packed)

    def costs(self, prompt: str, answer: AnswerFormat = DEFAULT_FORMAT) -> Costs:
        """What this prompt takes when nothing else is waiting; one process further, an answer is delivered twice.

        Raises:
            PromptError, AnswerFormatError: as ``answer`` would.
        """
        alone, further_s = super().costs(prompt, answer), self.profile.delivery_ns / NS_PER_S
        thought_s = None if alone.thought_s is None else alone.thought_s + further_s
        return Costs(alone.floor_s + further_s, thought_s)

    def watch(self, watcher: Callable[[Tape], None]) -> None:
        """No tape is made in a process of its own: ``watcher`` is shown none."""

    def watch_clocks(self, source: Source | None = None) -> bool:
        """The worker follows the clocks by itself, from its start on: nothing is done on this side."""
        return False

    def drift(self) -> str | None:
        """Why the latency profile should be measured anew, by what the worker's engine took; None where it holds.

        Raises:
            EngineError: the worker did not say within a second.
        """
        done = self._exchange.tell(Drift(), _SAY_S)
        if done.stopped != "complete":
            raise EngineError(f"the isolated process did not say how fast its engine is: {done.reason or done.stopped}")
        return done.reason or None

    def submit(  # type: ignore[override]  # what it returns can do what a Pending can, but there is no job here
        self, prompt: str, **request: Unpack[Request]
    ) -> IsolatedPending:
        """Ask without waiting. The arguments are those of ``answer``; what cannot cross is a UsageError."""
        received_ns = MONOTONIC.now()
        self._check_process()
        if unknown := request.keys() - Request.__annotations__.keys():
            raise TypeError(f"submit() got an unexpected keyword argument {min(unknown)!r}")
        deadline_ns = deadline_of(received_ns, request.pop("budget", None), request.pop("deadline", None))
        fallback, request_id = request.pop("fallback", ""), request.pop("request_id", None)
        answer, sampling = request.pop("answer", DEFAULT_FORMAT), request.pop("sampling", None)
        self._machine.codec.check(prompt)
        self._compiled(answer)
        self._check(request, sampling)
        serial = self._exchange.serial()
        blank = blank_answer(request_id or f"{self.bundle.id[:8]}-{serial}", self.bundle.id, received_ns, deadline_ns)
        leave_ns = deadline_ns - self.profile.delivery_ns
        noted = self._noted(prompt, request)
        if leave_ns - self.profile.delivery_ns <= MONOTONIC.now():  # the worker has to hand the answer over, too
            left_ms = (deadline_ns - received_ns) / NS_PER_MS
            reason = f"the deadline is {left_ms:.1f} ms away, less than it takes to deliver an answer"
            return rejected(self._slots, blank, fallback, noted, reason)
        ask = Ask(prompt, pack_format(answer), sampling, dict(request))
        return self._exchange.post(serial, ask, blank, leave_ns, fallback, noted)

    def _check(self, request: Request, sampling: object) -> None:
        """What is left of a request must be data, and mean something."""
        if request.pop("accept", None) is not None:
            raise UsageError(
                "accept= cannot cross into the isolated process: look at answer.text yourself, or use min_confidence="
            )
        policy = request.get("policy", "auto")
        if not isinstance(policy, str):
            raise UsageError(f"the policy {policy!r} cannot cross into the isolated process: give it by name")
        if sampling is not None and not isinstance(sampling, Sampling):
            raise UsageError(f"sampling is {sampling!r}: give a Sampling")
        request["min_confidence"] = float(request.get("min_confidence", 0.0))
        check_numbers(request["min_confidence"], request.get("priority", 0))
        self._policy(policy)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise EngineError("this Reasoner was loaded before a fork: load one in the child process")

    @property
    def pid(self) -> int | None:
        """Of the worker's process; None while there is none."""
        return self._supervisor.pid

    @property
    def restarts(self) -> int:
        """How often the worker died or hung."""
        return self._supervisor.restarts

    @property
    def realtime(self) -> dict[str, str]:
        """What became of the settings asked for: granted, or refused and the remedy."""
        assert self._supervisor.ready is not None
        return self._supervisor.ready.realtime

    @property
    def slots_path(self) -> str:
        """Where another process finds the answers while this one runs (``anytime_slots.h``)."""
        return f"/proc/{self._process}/fd/{self._slots.fd}"

    def health(self) -> Health:
        """READY, BUSY with a request, or LOST while the worker is being started again."""
        return self._supervisor.health()

    def close(self) -> None:
        """End the worker's process; requests under way return what they have, or their fallbacks, at once."""
        if os.getpid() != self._process:
            return  # it is another process's worker
        self._exchange.close()
        self._waiters.close()
