"""The node: a managed life around a Reasoner, inputs in, decisions out, and what it says of itself.

The states and transitions are those of ROS 2's managed nodes. A transition that is refused leaves the state as it was;
one that fails leads back to ``unconfigured``; both raise, and diagnostics keep the reason.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

import anytime
from anytime.errors import AnytimeError, NodeError, ParameterError
from anytime.node.answering import Answering
from anytime.node.counts import Counts
from anytime.node.diagnostics import PERIOD_NS, Condition, Diagnostics
from anytime.node.goal import Goal
from anytime.node.messages import DiagnosticArray, Header, Kept, Output, Question, Session, Time
from anytime.node.parameters import Parameters, changed
from anytime.node.reception import Reception
from anytime.node.recording import open_recorder
from anytime.node.stamps import Stamps
from anytime.node.steps import steps_of
from anytime.node.topics import record_topic, topics_of
from anytime.node.transport import Recorder, Topics, Transport
from anytime.node.warmup import warm_up
from anytime.runtime.engine import Health
from anytime.runtime.isolation import Isolation
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.clock import MONOTONIC, Clock, seconds_to_ns, system_ns

ZERO = Time()
_FULL_NAME = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")
State: TypeAlias = Literal["unconfigured", "inactive", "active", "finalized"]


def load_reasoner(parameters: Parameters, isolation: bool | Isolation = True) -> Reasoner:
    """The reasoner that the parameters ask for; with this ``isolation`` where they ask for a process of its own."""
    return Reasoner.load(
        parameters.bundle or None,
        threads=parameters.threads or None,
        engine=parameters.engine,
        speculate=parameters.speculate,
        overload=parameters.overload,
        isolated=isolation if parameters.isolated else False,
    )


class Node:
    """One node on one transport. Its methods may be called from any thread."""

    def __init__(
        self,
        transport: Transport,
        parameters: Parameters | None = None,
        *,
        name: str = "/anytime",
        load: Callable[[Parameters], Reasoner] = load_reasoner,
        warm_up: Callable[[Reasoner, Parameters], object] = warm_up,
        recorder: Callable[[Parameters, Topics], Recorder] = open_recorder,
        clock: Clock = MONOTONIC,
        system: Callable[[], int] = system_ns,
        threaded: bool = True,
    ) -> None:
        """Nothing happens before ``configure``.

        Args:
            transport: what carries the messages.
            parameters: how it starts; ``set_parameters`` changes them.
            name: the full name, with its namespace.
            load: makes the reasoner, on ``clock``.
            warm_up: asks it on activation, and refuses one that is too slow.
            recorder: opens what keeps a record, where the parameter ``record`` is set.
            clock: by which deadlines are kept.
            system: the system's clock, ns, which stamps are in without simulated time.
            threaded: False: whoever brings an input serves it, and ``diagnose`` is called from outside.

        Raises:
            ParameterError: that is no full name.
        """
        if not _FULL_NAME.fullmatch(name):
            raise ParameterError(f"the node's name is {name!r}: give a full name like /anytime or /front/anytime")
        self.name, self.parameters = name, parameters or Parameters()
        self.state: State = "unconfigured"
        self.counts = Counts()
        self._transport, self._load, self._open_recorder = transport, load, recorder
        self._warm_up = warm_up
        self._clock, self._system, self._threaded = clock, system, threaded
        self._transition = threading.RLock()
        self._failure = ""
        self._reception = self._received()
        self._reasoner: Reasoner | None = None
        self._recorder: Recorder | None = None
        self._diagnostics = Diagnostics()
        self._finished = threading.Event()
        self._ticker: threading.Thread | None = None

    def _received(self) -> Reception:
        """The reception that these parameters ask for."""
        tolerance_ns = seconds_to_ns(self.parameters.stamp_tolerance_s)
        stamps = Stamps(self._clock, self.parameters.use_sim_time, tolerance_ns, self._system)
        topics = topics_of(self.parameters, self.name)
        return Reception(self.name, topics, lambda: self.parameters, stamps, self._clock, self.counts, self._keep)

    @property
    def topics(self) -> Topics:
        """The node's topics, as the latest ``configure`` opened them, or as the first one would."""
        return self._reception.topics

    # -- its life

    def configure(self) -> None:
        """Open the transport, load and verify the bundle, prepare the answer formats.

        Raises:
            NodeError: it cannot be configured, or is already.
        """
        with self._moving("configure", "unconfigured"):
            self._transport.close()
            self._reception = self._received()
            self._transport.open(self._reception)
            self._start_ticking()
            self._recorder = self._opened_recorder()
            self._reasoner = self._load(self.parameters)
            if self._recorder is not None:
                self._keep(self._session(self._reasoner))
                self._reasoner.watch(lambda tape: self._keep(steps_of(tape, self._reception.stamps.stamp())))
            for answer_format in (self.parameters.format(), self.parameters.scene_format()):
                self._reasoner.prepare(answer_format)
            self.state = "inactive"

    def activate(self) -> None:
        """Warm up, and listen, if the first answer comes within the budget.

        Raises:
            NodeError: it does not (the node stays inactive); or warming up failed (it is unconfigured then).
        """
        with self._moving("activate", "inactive"):
            assert self._reasoner is not None
            self._warm_up(self._reasoner, self.parameters)
            stamps = self._reception.stamps
            answering = Answering(self._reasoner, lambda: self.parameters, stamps, self.counts, self._send, self._keep)
            self._reception.listen(answering, self._threaded)
            self.state = "active"

    def deactivate(self) -> None:
        """Listen no more, and answer what was taken in; goals end with their best answers so far.

        Raises:
            NodeError: it is not active.
        """
        with self._moving("deactivate", "active"):
            self._reception.drain()
            self.state = "inactive"

    def cleanup(self) -> None:
        """Let go of the reasoner and the record; /diagnostics go on.

        Raises:
            NodeError: it is active, or not configured.
        """
        with self._moving("clean up", "inactive"):
            self._release()

    def shutdown(self) -> None:
        """End, from whatever state; nothing comes after that."""
        with self._transition:
            self._reception.drain()
            self._release()
            self.state = "finalized"
        self._finished.set()
        if self._ticker is not None:
            self._ticker.join()
        self._transport.close()

    @contextlib.contextmanager
    def _moving(self, what: str, allowed: State) -> Iterator[None]:
        with self._transition:
            if self.state != allowed:
                raise NodeError(f"the node cannot {what}: it is {self.state}, not {allowed}")
            try:
                yield
            except NodeError as error:  # refused
                self._failure = str(error)
                if allowed == "unconfigured":
                    self._release()
                raise
            except Exception as error:
                self._failure = (
                    f"the node could not {what}: {error if isinstance(error, AnytimeError) else repr(error)}"
                )
                self._release()
                raise NodeError(self._failure) from error
            self._failure = ""

    def _opened_recorder(self) -> Recorder | None:
        return self._open_recorder(self.parameters, self.topics) if self.parameters.record else None

    def _release(self) -> None:
        for held in (self._reasoner, self._recorder):
            if held is not None:
                held.close()
        if self._recorder is not None and (trouble := self._recorder.trouble()):
            logging.getLogger("anytime").warning("the record is not complete: %s", trouble)
        self._reasoner = self._recorder = None
        self.state = "unconfigured"

    def set_parameters(self, given: Mapping[str, Any]) -> None:
        """Change parameters, all or none.

        Raises:
            ParameterError: one does not exist, cannot have its value, or is read-only in this state.
        """
        with self._transition:
            self.parameters = changed(self.parameters, given, self.state != "unconfigured")
            if self._reasoner is not None:
                self._keep(self._session(self._reasoner))

    # -- what goes out

    def goal(self, question: Question, deadline: Time = ZERO, min_confidence: float = 0.0) -> Goal:
        """Begin with an action; see ``Reception.goal``.

        Raises:
            InputError: it is refused.
        """
        return self._reception.goal(question, deadline, min_confidence)

    def _send(self, message: Output) -> None:
        try:
            self._transport.publish(message)
        except Exception as error:  # whoever is told, the next question must be answered
            self.counts.add("unsent", f"{type(message).__name__} could not be published: {error!r}")
        self._keep(message)

    def _keep(self, message: Kept) -> None:
        recorder = self._recorder
        if recorder is not None:
            topic = record_topic(message, self.name) or self.topics.of(message)  # type: ignore[arg-type]
            recorder.record(topic, message, self._reception.stamps.stamp())

    def _session(self, reasoner: Reasoner) -> Session:
        return Session(
            header=Header(self._reception.stamps.stamp()),
            version=anytime.__version__,
            node=self.name,
            bundle_id=reasoner.bundle.id,
            parameters=msgspec.json.encode(self.parameters).decode(),
            profile=msgspec.json.encode(reasoner.profile.planned()).decode(),
        )

    def diagnose(self) -> DiagnosticArray:
        """Judge the last second, and publish that."""
        statuses = self._diagnostics.judge(self._condition(), self.parameters)
        diagnostics = DiagnosticArray(Header(self._reception.stamps.stamp()), statuses)
        self._send(diagnostics)
        return diagnostics

    def _condition(self) -> Condition:
        reasoner, recorder, reception = self._reasoner, self._recorder, self._reception
        drift = None
        if reasoner is not None:
            with contextlib.suppress(AnytimeError):  # a process that is being started again cannot say
                drift = reasoner.drift()
        return Condition(
            now_ns=self._clock.now(),
            name=self.name.lstrip("/"),
            state=self.state,
            failure=self._failure,
            bundle_id=reasoner.bundle.id if reasoner is not None else "",
            active_since_ns=reception.listening_since_ns,
            last_input_ns=reception.last_input_ns,
            drift=drift,
            lost=reasoner is not None and reasoner.health() is Health.LOST,
            restarts=getattr(reasoner, "restarts", 0),
            recording=recorder.trouble() if recorder is not None else None,
            totals=self.counts.totals(),
        )

    def _start_ticking(self) -> None:
        if self._threaded and self._ticker is None:
            self._ticker = threading.Thread(target=self._tick, name="anytime-diagnostics", daemon=True)
            self._ticker.start()

    def _tick(self) -> None:
        due_ns = self._clock.now()
        while not self._clock.wait_until(self._finished, due_ns := due_ns + PERIOD_NS):
            self.diagnose()
            due_ns = max(due_ns, self._clock.now() - PERIOD_NS)  # a machine that slept does not catch up
