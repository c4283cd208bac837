"""Doubles of the tests: engines that hang, fail or wait, and one decode on the test's own thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from anytime.bundle import Bundle, seal, staging
from anytime.errors import EngineError
from anytime.runtime.answers.compiling import compile_format
from anytime.runtime.answers.formats import AnswerFormat, Choices
from anytime.runtime.bank import AnswerBank, Candidate
from anytime.runtime.decode import decode
from anytime.runtime.engine import FloatArray, Row
from anytime.runtime.forecast import Calibration, Curve, Forecast, Reading, fresh_terms, later_terms, now_terms
from anytime.runtime.job import Job, Machine
from anytime.runtime.policies.meta import ACTIONS, CONTINUE
from anytime.runtime.policies.policy import Policy
from anytime.runtime.policies.until import UntilDeadline
from anytime.runtime.prefixes import Prefixes
from anytime.runtime.prompt import Codec
from anytime.runtime.reasoner import Reasoner
from anytime.runtime.sampling import Sampling
from anytime.scheduler.pace import Pace
from anytime.scheduler.profile import LatencyProfile
from anytime.testing import MockClock, Script, ScriptedEngine
from tests.conftest import SPECIAL, MakeReasoner, manifest, thinker

PATIENCE_S = 20  # how long a broken promise may hang before its test fails; a kept one never waits for it
LEFT_OR_RIGHT = Choices("left", "right")


class PassingClock(MockClock):
    """A mock clock on which waiting lets the time pass, so that whoever waits need not be advanced by another."""

    def wait_until(self, event: threading.Event, instant_ns: int) -> bool:
        if not event.is_set():
            self.advance(max(0, instant_ns - self.now()))
        return event.is_set()


class HeldEngine(ScriptedEngine):
    """Stands still inside run number ``hold_at`` until it is released or that very run is terminated."""

    def __init__(self, *args: Any, hold_at: int = 3, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hold_at = hold_at
        self.reached, self.released = threading.Event(), threading.Event()
        self.terminated: list[int] = []
        self.generations: list[int] = []

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        self.generations.append(generation)
        if len(self.generations) == self.hold_at:
            self.reached.set()
            assert self.released.wait(PATIENCE_S), "the held run was neither released nor terminated"
        return super().run(rows, generation)

    def terminate(self, generation: int) -> None:
        self.terminated.append(generation)
        super().terminate(generation)
        if self.generations and generation == self.generations[-1]:
            self.released.set()


def held(make_reasoner: MakeReasoner, hold_at: int = 3) -> tuple[Reasoner, HeldEngine, MockClock]:
    """A Reasoner whose engine stands still in a run, while its thought goes from 'left' to 'right'."""
    script = thinker("ab\n" * 60, lambda n: "left" if n < 20 else "right")
    reasoner, engine, clock = make_reasoner(script, kind=HeldEngine, hold_at=hold_at)
    assert isinstance(engine, HeldEngine)
    return reasoner, engine, clock


class FailingEngine(ScriptedEngine):
    """Raises ``error`` in run number ``fail_at``."""

    def __init__(self, *args: Any, fail_at: int = 1, error: Exception | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fail_at, self._error = fail_at, error or EngineError("the backend fell over")
        self._count = 0

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        self._count += 1
        if self._count == self._fail_at:
            raise self._error
        return super().run(rows, generation)


class RecordingBank(AnswerBank):
    """Remembers every candidate it was offered, and when."""

    def __init__(self, clock: MockClock, policy: Policy, accept: Callable[[str], bool] | None) -> None:
        super().__init__(accept, choose=policy.choose)
        self._clock = clock
        self.offered: list[Candidate] = []
        self.offered_ns: list[int] = []

    def offer(self, candidate: Candidate) -> bool:
        self.offered.append(candidate)
        self.offered_ns.append(self._clock.now())
        return super().offer(candidate)


def decode_alone(
    script: Script,
    budget_ns: int,
    codec: Codec,
    profile: LatencyProfile,
    *,
    prompt: str = "what",
    answer: AnswerFormat = LEFT_OR_RIGHT,
    sampling: Sampling | None = None,
    max_context: int = 256,
    speculate: bool = False,
    policy: Policy | None = None,
    forecast: Forecast | None = None,
    kind: type[ScriptedEngine] = ScriptedEngine,
    accept: Callable[[str], bool] | None = None,
    **engine_args: Any,
) -> tuple[Job, RecordingBank, ScriptedEngine, MockClock]:
    """Decode one job without threads; the clock shows when it ended, counted from 0."""
    clock = MockClock()
    engine = kind(clock, profile.latency(), script, vocab_size=64, max_context=max_context, **engine_args)
    policy = policy or UntilDeadline()
    bank = RecordingBank(clock, policy, accept)
    tokens = codec.encode(prompt)
    job = Job(1, "1", tokens, budget_ns, compile_format(answer, codec), sampling or Sampling(), policy, bank)
    machine = Machine(engine, codec, Pace(profile), clock, Prefixes(engine), forecast, speculate)
    for _ in decode(job, machine):
        pass
    return job, bank, engine, clock


def flat_forecast(now: float, length: int, later: float | None = None) -> Forecast:
    """Every answer is right with probability ``now``, and with ``later`` after more thought, which takes ``length``."""
    curve = flat_curve(now, length, now if later is None else later)
    control = {action: (float(action == CONTINUE), *[0.0] * 11) for action in ACTIONS}  # the meta-reasoner thinks on
    known = Calibration(
        questions="none", count=0, efforts={"": curve}, control=control, reliability=(), expected_error=0.0
    )
    return Forecast(known)


def flat_curve(now: float, length: int, later: float) -> Curve:
    def constant(probability: float, terms: int) -> tuple[float, ...]:
        return (math.log(probability / (1.0 - probability)), *[0.0] * (terms - 1))

    reading = Reading(0.5, 1, False, 0, 10, "choices")
    shape = (float(length), 0.0, 0.0, 1.0)
    return Curve(
        now=constant(now, len(now_terms(reading, 1.0))),
        later=constant(later, len(later_terms(reading, 1, 1.0))),
        fresh=constant(later, len(fresh_terms(0.5, "text", 1, 1.0))),
        length={"choices": shape, "grammar": shape, "text": shape},
        longest=2 * length,
    )


def byte_level_tokenizer() -> str:
    """A tokenizer of 256 bytes behind the four special tokens, with a few merges that cross JSON's punctuation."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("l", "e"), ("le", "f"), ("lef", "t"), ('"', ":"), ("4", "2")]
    words = [*SPECIAL, *alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in SPECIAL])
    return str(tokenizer.to_str())


def byte_level_codec(path: Path, **changes: object) -> Codec:
    """The codec of a bundle with the byte-level tokenizer: it can write any text, JSON too."""
    with staging(path) as scratch:
        (scratch / "model.onnx").write_bytes(b"not a graph")
        (scratch / "tokenizer.json").write_text(byte_level_tokenizer(), encoding="utf-8")
        seal(scratch, manifest(vocab_size=4 + 256 + 5, **changes))
    return Codec(Bundle.load(path))
