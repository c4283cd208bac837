"""The Reasoner when something goes wrong: hanging and failing engines, Ctrl-C, forks, and closing."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from anytime import EngineError, Health
from anytime.testing import MockClock
from tests.conftest import MS, MakeReasoner, thinker
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S, FailingEngine, HeldEngine

LONG = thinker("ab\n" * 60, lambda n: "left" if n < 20 else "right")
ASK = {"answer": LEFT_OR_RIGHT, "fallback": "stop"}


@pytest.mark.parametrize(
    ("hold_at", "text", "source"), [(1, "stop", "fallback"), (3, "left", "instant"), (40, "right", "probe")]
)
def test_a_step_that_hangs_does_not_keep_the_caller(
    make_reasoner: MakeReasoner, hold_at: int, text: str, source: str
) -> None:
    """The caller leaves on time with the best so far, that very step is told to end, and the next request is normal."""
    reasoner, engine, clock = make_reasoner(LONG, kind=HeldEngine, hold_at=hold_at)
    assert isinstance(engine, HeldEngine)
    pending = reasoner.submit("what", budget=0.1, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    assert reasoner.health() is Health.BUSY
    clock.advance(pending.job.ready_ns - clock.now())
    got = pending.result()
    assert (got.text, got.source, got.stopped) == (text, source, "deadline")
    assert got.overrun
    assert not got.late
    assert engine.terminated == [engine.generations[-1]] == [pending.job.generation]
    after = reasoner.answer("what", budget=0.1, **ASK)
    assert (after.text, after.source, after.overrun) == ("right", "thought", False)
    assert reasoner.health() is Health.READY


def test_a_slow_step_is_an_overrun_and_the_next_request_is_normal(make_reasoner: MakeReasoner) -> None:
    """A step that takes 200 times its time costs one answer its quality, not its caller the deadline by much more."""
    reasoner, _, _ = make_reasoner(LONG, slowdown=lambda run: 200.0 if run == 30 else 1.0)
    got = reasoner.answer("what", budget=0.1, **ASK)
    assert got.stopped == "deadline"
    assert got.text in {"left", "right"}
    assert got.source in {"instant", "probe"}
    assert got.tokens.thought < 30
    assert got.late  # on the mock clock the step's whole time has passed; a real caller wakes at its deadline
    after = reasoner.answer("what", budget=0.1, **ASK)
    assert (after.text, after.source, after.late) == ("right", "thought", False)


def test_an_engine_that_does_not_come_back_is_lost(make_reasoner: MakeReasoner) -> None:
    """Ten seconds behind the deadline the engine counts as lost: requests are rejected at once, until it is back."""

    class DeafEngine(HeldEngine):
        def terminate(self, generation: int) -> None:
            self.terminated.append(generation)

    reasoner, engine, clock = make_reasoner(LONG, kind=DeafEngine)
    assert isinstance(engine, DeafEngine)
    pending = reasoner.submit("what", budget=0.1, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    clock.advance(200 * MS)
    assert pending.result().source == "instant"
    assert reasoner.health() is Health.BUSY
    clock.advance(10_000 * MS)
    assert reasoner.health() is Health.LOST
    got = reasoner.answer("what", budget=0.1, **ASK)
    assert (got.stopped, got.text) == ("rejected", "stop")
    assert "load a new Reasoner" in got.reason
    engine.released.set()
    assert pending.job.done.wait(PATIENCE_S)
    assert reasoner.answer("what", budget=0.1, **ASK).text == "right"


@pytest.mark.parametrize("error", [EngineError("the backend fell over"), RuntimeError("a bug")])
@pytest.mark.parametrize(
    ("fail_at", "text", "source"), [(1, "stop", "fallback"), (5, "left", "instant"), (40, "right", "probe")]
)
def test_an_engine_that_fails_leaves_the_best_so_far(
    make_reasoner: MakeReasoner, error: Exception, fail_at: int, text: str, source: str
) -> None:
    """An error ends the thinking, never the call: what was found is returned at once, and the next one is normal."""
    reasoner, _, _ = make_reasoner(LONG, kind=FailingEngine, fail_at=fail_at, error=error)
    got = reasoner.answer("what", budget=1.0, **ASK)
    assert (got.text, got.source, got.stopped) == (text, source, "error")
    assert str(error) in got.reason
    assert got.elapsed_s < 0.1
    assert reasoner.answer("what", budget=0.1, **ASK).text == "right"


class InterruptedClock(MockClock):
    """Ctrl-C in the next wait."""

    interrupt = True

    def wait_until(self, event: threading.Event, instant_ns: int) -> bool:
        if self.interrupt:
            self.interrupt = False
            raise KeyboardInterrupt
        return super().wait_until(event, instant_ns)


def test_ctrl_c_leaves_the_reasoner_usable(make_reasoner: MakeReasoner) -> None:
    """The interrupt reaches the caller, the step it interrupted is told to end, and the next request is normal."""
    reasoner, engine, _ = make_reasoner(LONG, kind=HeldEngine, clock=InterruptedClock(10**9))
    assert isinstance(engine, HeldEngine)
    pending = reasoner.submit("what", budget=0.1, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    with pytest.raises(KeyboardInterrupt):
        pending.result()
    assert engine.terminated == [pending.job.generation]
    assert pending.job.done.wait(PATIENCE_S)
    assert reasoner.answer("what", budget=0.1, **ASK).text == "right"


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 warns of forks with threads
def test_use_after_a_fork_is_refused_in_the_child(make_reasoner: MakeReasoner) -> None:
    """The engine's thread does not survive a fork: the child is told, at once; the parent goes on."""
    reasoner, _, _ = make_reasoner(LONG)
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE_S)  # a child that waits for an engine it does not have is ended by the system
        try:
            reasoner.answer("what", budget=0.1, **ASK)
        except EngineError as error:
            os._exit(42 if "load one in the child process" in str(error) else 1)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 42
    assert reasoner.answer("what", budget=0.1, **ASK).text == "right"


def test_a_closed_reasoner_rejects(make_reasoner: MakeReasoner) -> None:
    """After close a request is a fallback with the reason, at once; closing again is no error."""
    reasoner, engine, _ = make_reasoner(LONG)
    with reasoner:
        pass
    got = reasoner.answer("what", budget=0.1, **ASK)
    assert (got.text, got.stopped, got.reason) == ("stop", "rejected", "the Reasoner is closed")
    assert engine.runs == []
    reasoner.close()


def test_close_ends_what_is_running_and_waiting(make_reasoner: MakeReasoner) -> None:
    """Nobody waits for a closed Reasoner: the running request keeps its best, the waiting one gets its fallback."""
    reasoner, engine, _ = make_reasoner(LONG, kind=HeldEngine)
    assert isinstance(engine, HeldEngine)
    running = reasoner.submit("what", budget=0.1, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    waiting = reasoner.submit("what", budget=0.1, **ASK)
    reasoner.close()
    got = running.result()
    assert (got.text, got.source, got.stopped) == ("left", "instant", "cancelled")
    assert (waiting.result().text, waiting.result().reason) == ("stop", "the Reasoner was closed")
