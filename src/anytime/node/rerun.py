"""Replay: what was recorded is thought about again, by the same model, and must come out the same.

Again run: the message into a prompt, the prompt into tokens, admission, the plans of the policy, every step of the
model, the answers and which of them is the best. Taken from the record: what the clock said and what each action of the
engine took, until when the engine was whose (so requests side by side are replayed in the order in which they were
served), and when each caller left. Nothing is scheduled anew, and what the node refused is not looked at.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from anytime.errors import AnytimeError, RecordError
from anytime.node.bag import Bag
from anytime.node.messages import Input, Question, Scene, Session, Steps, Time, Trace
from anytime.node.parameters import Parameters
from anytime.node.scene import scene_text
from anytime.node.steps import tape_of
from anytime.runtime.answer import Answer
from anytime.runtime.job import Machine
from anytime.runtime.loading import Loaded, forecast_of, open_bundle, shipped_prefix
from anytime.runtime.policies.named import policy_named
from anytime.runtime.policies.policy import Policy
from anytime.runtime.prefixes import Prefixes
from anytime.runtime.retaken.retake import Retake
from anytime.runtime.sampling import Sampling
from anytime.runtime.tape import Tape
from anytime.scheduler.clock import MONOTONIC
from anytime.scheduler.pace import Pace
from anytime.scheduler.profile import LatencyProfile

_ALIKE = 1e-6  # confidences of two processors may differ by so much


class Difference(msgspec.Struct, frozen=True):
    """Something that came out otherwise."""

    request_id: str
    what: str
    recorded: object
    replayed: object

    def __str__(self) -> str:
        return f"{self.request_id}: {self.what}: {_short(self.recorded)} was recorded, {_short(self.replayed)} came now"


class Replayed(msgspec.Struct):
    """What a replay found.

    ``decisions`` and ``others``, requests of the node's own to warm up, were thought about again; ``missing`` are
    decisions whose steps the record has not. ``warnings``: why numbers may differ here.
    """

    decisions: int = 0
    others: int = 0
    differences: list[Difference] = []
    missing: list[str] = []
    warnings: list[str] = []


def rerun(bag: Bag, bundle: Path | None = None, progress: Callable[[float], None] = lambda done: None) -> Replayed:
    """Replay a record.

    Args:
        bag: the record.
        bundle: a directory; by default the one that the node had.
        progress: shown how much is done, from 0 to 1.

    Raises:
        RecordError: it cannot be replayed: another bundle, no steps, or steps that make no sense.
        BundleError, EngineError: the bundle cannot be opened.
    """
    sessions, tapes = bag.all(Session), [_tape(steps, bag) for steps in bag.all(Steps)]
    if not sessions or not tapes:
        raise RecordError(
            f"the record {bag.file} has no steps, so there is nothing to replay: "
            "record with the node's parameter record, and isolated false"
        )
    found = Replayed()
    loaded, machine = _machine(sessions[0], bundle, found)
    defaults = loaded.bundle.manifest.sampling
    sampling = Sampling(defaults.temperature, defaults.top_p)
    policies: dict[str, Policy] = {}
    memory, events = _Memory(bag), list[_Event]()
    for tape in sorted(tapes, key=lambda tape: tape.position):
        if tape.policy not in policies:
            policies[tape.policy] = policy_named(tape.policy, machine.forecast is not None, machine.codec.efforts)
        trace = memory.trace_of(tape)
        prompt = tape.prompt if trace is None else machine.codec.encode(memory.prompt_of(trace))
        retake = Retake(tape, machine, policies[tape.policy], sampling, prompt, loaded.bundle.id)
        events.append(_Event(tape.position, retake, tape, trace))
        events += [_Event(turn.position, retake, tape, trace, turn.until_ns) for turn in tape.turns]
        events.append(_Event(tape.ended, retake, tape, trace))
    _happen(sorted(events, key=lambda event: event.position), found, progress)
    found.missing = memory.untaken()
    return found


class _Event(msgspec.Struct, frozen=True):
    """A request comes, has its turn (``until_ns``), or ends."""

    position: int
    retake: Retake
    tape: Tape
    trace: Trace | None
    until_ns: int | None = None

    @property
    def comes(self) -> bool:
        return self.position == self.tape.position


def _happen(events: Sequence[_Event], found: Replayed, progress: Callable[[float], None]) -> None:
    """Everything in its order; who comes while another has its turn comes in the middle of that."""
    come: set[int] = set()
    for i, event in enumerate(events):
        if event.until_ns is not None:
            later = itertools.takewhile(lambda other: other.until_ns is None, events[i + 1 :])
            coming = [other for other in later if other.comes and other.tape.during]
            come.update(other.position for other in coming)
            event.retake.turn(event.until_ns, [other.retake for other in coming])
        elif not event.comes:
            _end(event, found)
        elif event.position not in come:
            event.retake.come()
        progress((i + 1) / len(events))


def _end(event: _Event, found: Replayed) -> None:
    """A request ends, and what came of it is compared."""
    event.retake.end()
    assert event.retake.answer is not None
    differences = list(event.retake.differences)
    if event.trace is None:
        found.others += 1
    else:
        found.decisions += 1
        differences += _compared(event.trace, event.retake.answer)
    found.differences += [Difference(event.tape.request_id, *difference) for difference in differences]


def _compared(trace: Trace, answer: Answer) -> list[tuple[str, object, object]]:
    """What of a decision is not as it was. When it was made is not looked at: that is taken from the record."""
    tokens = answer.tokens
    now = {
        "stopped": answer.stopped,
        "source": answer.source,
        "answer": answer.text,
        "reason": answer.reason,
        "thought": answer.thought,
        "effort": answer.effort,
        "tokens_prompt": tokens.prompt,
        "tokens_cached": tokens.cached,
        "tokens_thought": tokens.thought,
        "tokens_discarded": tokens.discarded,
        "tokens_probe": tokens.probe,
        "tokens_answer": tokens.answer,
        "tokens_planned": answer.token_cap,
    }
    differences = [(name, getattr(trace, name), value) for name, value in now.items() if getattr(trace, name) != value]
    confidence = answer.confidence if answer.valid else math.nan
    if math.isnan(confidence) != math.isnan(trace.confidence) or abs(confidence - trace.confidence) > _ALIKE:
        differences.append(("confidence", trace.confidence, confidence))
    return differences


def _tape(steps: Steps, bag: Bag) -> Tape:
    try:
        return tape_of(steps)
    except (ValueError, AnytimeError) as error:
        raise RecordError(f"the steps of {steps.request_id} in {bag.file} make no sense: {error}") from error


def _machine(session: Session, directory: Path | None, found: Replayed) -> tuple[Loaded, Machine]:
    """The model that was recorded, as it was when it had just been loaded.

    Raises:
        RecordError: it is another one.
    """
    try:
        parameters = msgspec.json.decode(session.parameters, type=Parameters)
        profile = msgspec.json.decode(session.profile, type=LatencyProfile)
    except msgspec.DecodeError as error:
        raise RecordError(
            f"the record is of anytime {session.version}, which wrote another profile: {error}"
        ) from error
    loaded = open_bundle(directory or parameters.bundle or None, profile.key.threads, parameters.engine)
    if loaded.bundle.id != session.bundle_id:
        raise RecordError(
            f"the record was made with the bundle {session.bundle_id}, and this is {loaded.bundle.id}: "
            "name the directory of that one (--bundle)"
        )
    for name in ("engine", "version", "provider", "precision", "processor"):
        then, now = getattr(profile.key, name), getattr(loaded.key, name)
        if then != now:
            found.warnings.append(f"the record was made with the {name} {then}, and this is {now}")
    prefixes = Prefixes(loaded.engine, shipped_prefix(loaded.bundle))
    forecast = forecast_of(loaded.bundle)
    machine = Machine(loaded.engine, loaded.codec, Pace(profile), MONOTONIC, prefixes, forecast, parameters.speculate)
    return loaded, machine


class _Memory:
    """What else the record knows of a request."""

    def __init__(self, bag: Bag) -> None:
        self._traces: dict[str, deque[Trace]] = defaultdict(deque)
        for trace in bag.all(Trace):
            self._traces[trace.request_id].append(trace)
        self._inputs: dict[Time, list[Input]] = defaultdict(list)
        inputs: Sequence[Input] = [*bag.all(Question), *bag.all(Scene)]
        for message in inputs:
            self._inputs[message.header.stamp].append(message)

    def trace_of(self, tape: Tape) -> Trace | None:
        """The trace of a request; of several of one id, those are asked for in their order."""
        traces = self._traces[tape.request_id]
        return traces.popleft() if traces else None

    def prompt_of(self, trace: Trace) -> str:
        """What the model reads, made anew of the message; as it was, where that was not recorded."""
        prompts = [
            message.text if isinstance(message, Question) else scene_text(message)
            for message in self._inputs[trace.input_stamp]
            if message.request_id in ("", trace.request_id) and message.trace_id == trace.trace_id
        ]
        # A question and a scene may have the same stamp, and neither an id.
        return trace.prompt if trace.prompt in prompts or not prompts else prompts[0]

    def untaken(self) -> list[str]:
        """Ids of decisions that nobody asked for."""
        return [trace.request_id for traces in self._traces.values() for trace in traces]


def _short(value: object) -> str:
    text = value if isinstance(value, str) and " of " in value else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
