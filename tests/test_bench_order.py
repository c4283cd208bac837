"""The bench of orders: the model remembered, time simulated, and the same outcome whenever it is run."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from anytime.errors import EngineError, StepTerminated
from anytime.ext.latency import Latency
from anytime.runtime.engine import Burst, Row
from anytime.runtime.loading import open_bundle
from anytime.runtime.questions import Question, read_questions
from anytime.scheduler.clock import NS_PER_MS
from anytime.testing import MockClock, ScriptedEngine
from bench.guarantee.asking import draw
from bench.guarantee.disciplines import BASELINES
from bench.order.__main__ import QUESTIONS, capacity
from bench.order.crowd import Machine, arriving, machine_of, one_by_one, served
from bench.order.remembered import Node, Remembered
from bench.order.simulated import BETWEEN_NS, NEVER, SimulatedEngine
from examples.highway.paced import Drawn, residuals_of
from tests.highway_setting import profile_of

LATENCY = Latency(100.0, 1e5, 3e5, 250.0, 2.5e5, 1.5, 1.3)
EVEN = Latency(0.0, 0.0, 1e6, 0.0, 1e6, 1.0, 1.0)  # every run takes 1.0 to 1.5 ms


@pytest.fixture(scope="module")
def machine() -> Machine:
    """The reference reasoner on a made-up machine."""
    loaded = open_bundle(None, 1)
    return machine_of(loaded, profile_of(LATENCY, loaded.bundle.id))


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return read_questions(QUESTIONS)[:40]


def test_what_is_remembered_is_what_the_engine_says() -> None:
    """Behind any tokens, asked in any order; and nothing that is known is asked of the engine again."""
    engine = ScriptedEngine(MockClock(), EVEN, lambda tokens: sum(tokens) % 100)
    memory, rng = Remembered(engine), np.random.default_rng(0)
    trunks = [rng.integers(5, 100, 40).tolist() for _ in range(9)]
    wanted = [[*trunk[:cut], *rng.integers(5, 100, 3).tolist()] for cut in (40, 12, 30) for trunk in trunks]
    for tokens in wanted:
        node = functools.reduce(Node.behind, tokens, memory.root)
        assert node.tokens() == tokens
        assert memory.best(node) == memory.logits(node).argmax() == sum(tokens) % 100
    asked = len(engine.runs)
    for tokens in wanted:
        assert memory.best(functools.reduce(Node.behind, tokens, memory.root)) == sum(tokens) % 100
    assert len(engine.runs) == asked


class Ends:
    """Terminates a run at an instant."""

    def __init__(self, clock: MockClock, at_ns: int) -> None:
        self.engine: SimulatedEngine | None = None
        self._clock, self._at_ns = clock, at_ns

    def due_ns(self) -> int:
        return self._at_ns if self._clock.now() < self._at_ns else NEVER

    def happen(self) -> None:
        if self._clock.now() == self._at_ns and self.engine is not None:
            self.engine.terminate(7)


def simulated(at_ns: int = NEVER) -> tuple[SimulatedEngine, MockClock]:
    clock, profile = MockClock(), profile_of(EVEN)
    scripted = ScriptedEngine(MockClock(), EVEN, lambda tokens: len(tokens) % 100)
    engine = SimulatedEngine(Remembered(scripted), Drawn(profile, residuals_of(profile), 1), clock)
    engine.meanwhile = ends = Ends(clock, at_ns)
    ends.engine = engine
    return engine, clock


def test_runs_take_what_was_drawn_for_them() -> None:
    """As many tokens as were given are appended, and time passes by the profile's prediction times a residual."""
    engine, clock = simulated()
    seq = engine.open()
    (logits,) = engine.run([Row(seq, [1, 2, 3], 2)], 7)
    assert seq.length == 3
    assert logits.argmax(axis=1).tolist() == [2, 3]
    assert BETWEEN_NS + NS_PER_MS <= clock.now() <= BETWEEN_NS + 1.5 * NS_PER_MS
    assert engine.extend([Burst(seq, 9, [5])], 8, 7) == [[4, 5]]
    assert seq.length == 5


def test_a_run_is_terminated_at_the_instant() -> None:
    """It takes no longer, and its sequence stands as before; a burst keeps the steps that were done."""
    engine, clock = simulated(at_ns=500_000)
    seq = engine.open()
    with pytest.raises(StepTerminated):
        engine.run([Row(seq, [1, 2, 3], 1)], 7)
    assert (seq.length, clock.now()) == (0, 500_000)
    engine, clock = simulated(at_ns=4 * NS_PER_MS)
    seq = engine.open()
    (taken,) = engine.extend([Burst(seq, 9, [])], 8, 7)
    assert seq.length == len(taken) in (2, 3)
    assert clock.now() == 4 * NS_PER_MS


def test_rows_run_out() -> None:
    """There are as many sequences as the engine has rows."""
    engine, _ = simulated()
    seq = engine.open()
    engine.fork(seq, engine.free_rows)
    with pytest.raises(EngineError, match="close some"):
        engine.open()
    engine.run([Row(seq, [1, 2], 1)], 7)
    snapshot = engine.snapshot(seq)
    engine.close(seq)
    assert engine.restore(snapshot).length == 2


@pytest.mark.parametrize("discipline", [None, *BASELINES])
def test_what_happens_follows_from_the_seed(
    machine: Machine, questions: list[Question], discipline: str | None
) -> None:
    """A crowd that asks the same at the same instants gets the same to the nanosecond, nobody behind its deadline."""
    requests = draw(questions, 24, (20.0, 300.0), machine.floors(questions), "crowd")
    first, second, other = (
        served(machine, arriving(requests, 40.0, seed), discipline, 50 * NS_PER_MS) for seed in ("a", "a", "b")
    )
    assert first == second
    assert first != other
    assert all(outcome.elapsed_ns <= request.budget_ns for outcome, request in zip(first, requests, strict=True))
    assert sum(outcome.quality > 0 for outcome in first) > 12


def test_whoever_is_alone_gets_no_less(machine: Machine, questions: list[Question]) -> None:
    """The same requests one by one: a crowd can only take away; and a capacity is what whole thoughts leave."""
    requests = draw(questions, 24, (20.0, 300.0), machine.floors(questions), "crowd")
    crowd = served(machine, arriving(requests, 60.0, "a"), None)
    alone = served(machine, one_by_one(requests), None)
    assert sum(outcome.quality for outcome in alone) > sum(outcome.quality for outcome in crowd)
    assert 1.0 < capacity(machine, questions[:4]) < 60.0
