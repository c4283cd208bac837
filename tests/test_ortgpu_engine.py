"""The engine on ONNX Runtime's CUDA provider, on doubles: what is captured, who runs it, and a GPU that is lost.

What is promised of all engines on a GPU is in ``test_trt_engine``, which this one is held to, too.
"""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from anytime import Health, Reasoner
from anytime.bundle import Bundle
from anytime.errors import EngineError
from anytime.ext.latency import Latency
from anytime.runtime.engine import Burst, Row
from anytime.runtime.gpu.consistent import check_consistent
from anytime.runtime.ortgpu.session import RunFailed, _Thread
from anytime.runtime.prompt import Codec
from anytime.testing import MockClock
from tests.conftest import make_profile, thinker
from tests.doubles import LEFT_OR_RIGHT
from tests.doubles_device import FakeDevice
from tests.doubles_trt import Run
from tests.ortgpu import make_ort_engine
from tests.trt import trt_bundle, weighed

PROMPT = [1, 40, 41, 42, 43, 44]
LONG = thinker("ab\n" * 60, lambda n: "left" if n < 20 else "right")
ASK: Any = {"answer": LEFT_OR_RIGHT, "fallback": "stop"}


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return trt_bundle(tmp_path / "bundle")


def test_everything_short_is_captured_when_it_is_opened(bundle: Bundle) -> None:
    """A graph for steps of each width and runs of 2, 4, 8 and 16 tokens from each row; none for the longest run."""
    _, _, session = make_ort_engine(bundle)
    assert session.runs == [*(str(graph) for graph in range(1, 27)), "-1"]


def test_steps_and_short_runs_are_replays(bundle: Bundle) -> None:
    """No graph is captured in use, and none by another thread than the one that captured all; long runs have none."""
    engine, _, session = make_ort_engine(bundle)
    captured, opened = set(session.graphs), len(session.runs)

    def use() -> None:
        seq = engine.open()
        engine.run([Row(seq, PROMPT * 5)], 1)
        (fork,) = engine.fork(seq)
        engine.run([Row(seq, [5, 6, 7], 3)], 1)
        engine.run([Row(seq, [5]), Row(fork, [6])], 1)
        engine.extend([Burst(seq, 5, []), Burst(fork, 6, [])], 3, 1)

    use()
    other = threading.Thread(target=use)
    other.start()
    other.join()
    runs = session.runs[opened:]
    assert set(session.graphs) == captured
    assert len({thread for thread, _ in captured}) == 1
    assert [graph == "-1" for graph in runs] == [True, False, False, False, False, False] * 2


def test_a_step_waits_once(bundle: Bundle) -> None:
    """Inputs up, the graph, new keys and values to their place, logits down; then the engine's thread waits."""
    engine, device, _ = make_ort_engine(bundle)
    seq = engine.open()
    engine.run([Row(seq, PROMPT)], 1)
    device.log.clear()
    engine.run([Row(seq, [5])], 1)
    assert device.log == ["start", "upload", "run", "copy_rows", "download", "finish"]


def test_a_graph_that_reads_elsewhere_is_not_opened(bundle: Bundle) -> None:
    """Steps that do not see what the run before them wrote are found out, whatever ONNX Runtime captured."""

    class Stale(Run):
        def __call__(self) -> None:
            if self.tokens == 1 and self.rows == 1:
                self._addresses = {**self._addresses, "input_ids": self._addresses["past_length"]}
            super().__call__()

    engine, _, _ = make_ort_engine(bundle, kind=Stale)
    with pytest.raises(EngineError, match=r"other logits in steps than at once on this GPU.*: use another engine"):
        check_consistent(engine, "use another engine")


def test_a_run_that_fails_means_a_lost_gpu(bundle: Bundle) -> None:
    """ONNX Runtime's words, then no further use; the sequence stands where it stood."""
    engine, _, session = make_ort_engine(bundle)
    seq = engine.open()
    engine.run([Row(seq, PROMPT)], 1)
    session.failure = "CUDA failure 719: unspecified launch failure"
    with pytest.raises(EngineError, match=r"the GPU was lost \(CUDA failure 719.*\): load a new Reasoner"):
        engine.run([Row(seq, [5])], 1)
    assert (engine.health(), seq.length) == (Health.LOST, len(PROMPT))
    with pytest.raises(EngineError, match="lost in an earlier run"):
        engine.run([Row(seq, [5])], 1)


@pytest.mark.parametrize(("step", "text", "source"), [(0, "stop", "fallback"), (9, "left", "instant")])
def test_a_request_ends_with_the_best_so_far(
    bundle: Bundle, latency: Latency, step: int, text: str, source: str
) -> None:
    """The GPU is lost in mid-request: the answer says why, and later ones are rejected at once."""
    clock = MockClock(start_ns=10**9)
    spent = [0]

    def spend(tokens: int, context: int) -> None:
        spent[0] += latency.run_ns(tokens, context)

    engine, device, session = make_ort_engine(bundle, LONG, FakeDevice(graphs=False), spent=spend)
    spent[0], opened = 0, len(session.runs)

    def finished() -> None:
        clock.advance(spent[0])
        spent[0] = 0
        if len(session.runs) >= opened + step:
            session.failure = "CUDA failure 719"

    device.finished = finished
    finished()
    reasoner = Reasoner(engine, Codec(bundle), make_profile(latency, bundle.id, engine.spec), bundle, clock)
    try:
        got = reasoner.answer("what", budget=0.2, **ASK)
        assert (got.text, got.source, got.stopped) == (text, source, "error")
        assert got.reason.startswith("the GPU was lost (CUDA failure 719): load a new Reasoner in a new process")
        assert reasoner.health() is Health.LOST
        assert reasoner.answer("what", budget=0.2, **ASK).stopped == "rejected"
    finally:
        reasoner.close()


def test_the_session_s_thread_ends_with_it() -> None:
    """And passes on what a run raises."""
    owner = _Thread()
    seen: list[threading.Thread] = []
    owner.call(lambda: seen.append(threading.current_thread()))

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(RunFailed, match="no"):
        owner.call(fail)
    owner._calls.put((fail, SimpleQueue()))  # whose caller was interrupted and has left
    owner.call(lambda: seen.append(threading.current_thread()))
    assert seen[0] is seen[1] is not threading.current_thread()
    del owner
    gc.collect()
    seen[0].join(timeout=10)
    assert not seen[0].is_alive()


def test_weighed_is_what_it_says(bundle: Bundle) -> None:
    """The engine's logits are the model's."""
    engine, _, _ = make_ort_engine(bundle)
    (logits,) = engine.run([Row(engine.open(), PROMPT)], 1)
    assert int(logits[0].argmax()) == weighed(PROMPT)
