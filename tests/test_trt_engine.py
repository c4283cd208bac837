"""The engines on a GPU, on doubles of it, of TensorRT and of ONNX Runtime: what is promised, and how it is used."""

from __future__ import annotations

import itertools
import random
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anytime.bundle import Bundle
from anytime.errors import EngineError, StepTerminated
from anytime.ext.latency import Latency
from anytime.runtime.engine import Burst, Health, Row, Snapshot
from anytime.runtime.gpu.engine import GpuEngine, pieces
from anytime.runtime.gpu.memory import MOST_LOGITS
from anytime.testing import MockClock, ScriptedEngine
from tests.doubles_device import FakeDevice
from tests.doubles_trt import Shapes
from tests.engine_pair import Pair
from tests.ortgpu import make_ort_engine
from tests.trt import make_engine, trt_bundle, weighed

KINDS = {
    "in-place": (Shapes(), True),
    "appended": (Shapes(update="appended", rows=3, chunk=50), True),
    "no-graphs": (Shapes(update="appended"), False),
    "first-logit-on-device": (Shapes(first_logit_on_host=False), True),
}
PROMPT = [1, 40, 41, 42, 43, 44]
Made = tuple[GpuEngine, FakeDevice]


@pytest.fixture
def trt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return trt_bundle(tmp_path / "trt")


@pytest.fixture(params=[*KINDS, "onnxruntime"])
def made(request: pytest.FixtureRequest, trt: Bundle) -> Made:
    if request.param == "onnxruntime":
        return make_ort_engine(trt)[:2]
    shapes, graphs = KINDS[request.param]
    return make_engine(trt, shapes, device=FakeDevice(graphs=graphs))


def scripted(rows: int) -> ScriptedEngine:
    """An engine of known behaviour that says the same."""
    return ScriptedEngine(MockClock(), Latency(0, 0, 1, 0, 1), weighed, 64, 256, max_rows=rows)


def test_it_does_what_a_scripted_engine_does(made: Made) -> None:
    """Whatever is asked of it, in any order: the same logits, tokens, lengths and free rows as an engine of lists."""
    engine, _ = made

    @settings(max_examples=15)
    @given(st.integers(0, 2**32))
    def hold(seed: int) -> None:
        pair, choose = Pair(engine, scripted(engine.spec.max_rows)), random.Random(seed)
        try:
            for _ in range(40):
                pair.step(choose)
        finally:
            for seq, _ in pair.seqs:
                engine.close(seq)

    hold()


def test_no_more_sequences_than_rows(made: Made) -> None:
    """One more is refused with what to do, and closing one makes room."""
    engine, _ = made
    seqs = [engine.open() for _ in range(engine.spec.max_rows)]
    with pytest.raises(EngineError, match="close some"):
        engine.open()
    with pytest.raises(EngineError, match="close some"):
        engine.fork(seqs[0])
    engine.close(seqs.pop())
    engine.open()


def test_another_models_snapshot_is_refused(made: Made) -> None:
    """And takes no row."""
    engine, _ = made
    for shape in ((2, 1, 3, 4), (4, 2, 257, 8), (8,)):
        with pytest.raises(EngineError, match="another model's"):
            engine.restore(Snapshot(3, np.zeros(shape, dtype=np.float32)))
    assert engine.free_rows == engine.spec.max_rows


def test_what_does_not_fit_is_refused(made: Made) -> None:
    """By its numbers, before anything is queued: the GPU would read and write elsewhere."""
    engine, device = made
    seq = engine.open()
    engine.run([Row(seq, [5] * 250)], 1)
    device.log.clear()
    with pytest.raises(ValueError, match="7 tokens behind 250 do not fit 256"):
        engine.run([Row(seq, [5] * 7)], 1)
    with pytest.raises(ValueError, match="7 tokens behind 250 do not fit 256"):
        engine.extend([Burst(seq, 5, [])], 7, 1)
    with pytest.raises(ValueError, match="0 tokens behind 250"):
        engine.run([Row(seq, [])], 1)
    with pytest.raises(ValueError, match="cannot truncate a sequence of 250 tokens to 251"):
        engine.truncate(seq, 251)
    with pytest.raises(EngineError, match="token 64 is outside the vocabulary of 64"):
        engine.run([Row(seq, [3, 64])], 1)
    with pytest.raises(EngineError, match="token -1 is outside the vocabulary of 64"):
        engine.extend([Burst(seq, -1, [])], 1, 1)
    assert seq.length == 250
    assert device.log == []


def test_a_full_row_has_no_place_to_idle(made: Made) -> None:
    """Rows around it do not run together: one by one, or not at all, and what it holds stays."""
    engine, _ = made
    seqs = [engine.open() for _ in range(3)]
    for seq in seqs:
        engine.run([Row(seq, PROMPT)], 1)
    engine.run([Row(seqs[1], [7] * 250)], 1)
    outer = [seqs[0], seqs[2]]
    assert engine.span(outer) is None
    assert engine.span(seqs) == 3
    with pytest.raises(ValueError, match="a full row"):
        engine.extend([Burst(seq, 5, []) for seq in outer], 2, 1)
    found = engine.run([Row(seq, [9]) for seq in outer], 1)
    assert [int(logits[0].argmax()) for logits in found] == [weighed([*PROMPT, 9])] * 2
    engine.truncate(seqs[1], 255)
    assert int(engine.run([Row(seqs[1], [7])], 1)[0].argmax()) == weighed([*PROMPT, *[7] * 250])


def test_a_terminated_burst_ends_behind_the_step(trt: Bundle) -> None:
    """What the GPU has begun it finishes; the tokens so far are kept, another generation is not touched."""
    engine, device = make_engine(trt, Shapes())
    seq = engine.open()
    engine.run([Row(seq, PROMPT)], 1)
    whole = engine.extend([Burst(seq, 5, [])], 9, 1)[0]
    engine.truncate(seq, len(PROMPT))
    steps = itertools.count(1)

    def finished() -> None:
        if next(steps) == 4:
            assert engine.health() is Health.BUSY
            engine.terminate(2)

    device.finished = finished
    assert engine.extend([Burst(seq, 5, [])], 9, 2)[0] == whole[:4]
    assert seq.length == len(PROMPT) + 4
    assert engine.health() is Health.READY
    with pytest.raises(StepTerminated):
        engine.extend([Burst(seq, 5, [])], 9, 2)
    with pytest.raises(StepTerminated):
        engine.run([Row(seq, [5])], 2)
    assert seq.length == len(PROMPT) + 4
    assert engine.extend([Burst(seq, whole[3], [])], 5, 3)[0] == whole[4:]


def test_a_long_run_is_terminated_between_its_pieces(trt: Bundle) -> None:
    """The sequence stands where it stood; without a word from anybody the same run comes to its end."""
    engine, device = make_engine(trt, Shapes(chunk=32))
    seq = engine.open()
    tokens = [i % 64 for i in range(100)]
    device.finished = lambda: engine.terminate(4)
    with pytest.raises(StepTerminated):
        engine.run([Row(seq, tokens)], 4)
    assert seq.length == 0
    assert int(engine.run([Row(seq, tokens)], 5)[0].argmax()) == weighed(tokens)


def test_logits_that_are_no_numbers_end_a_burst(trt: Bundle) -> None:
    """The token is then -1, as from any engine."""
    engine, _ = make_engine(trt, Shapes(), script=lambda tokens: -1 if len(tokens) > 9 else weighed(tokens))
    seq = engine.open()
    engine.run([Row(seq, PROMPT)], 1)
    taken = engine.extend([Burst(seq, 5, [])], 9, 1)[0]
    assert taken[3:] == [-1]
    assert np.isnan(engine.run([Row(seq, [5])], 1)[0]).all()


@given(st.integers(1, 600), st.integers(0, 600), st.integers(2, 128), st.integers(1, 64))
def test_pieces_are_the_whole(tokens: int, want: int, chunk: int, most: int) -> None:
    """All tokens in order, none in a piece over the chunk, and logits of the last ``want`` of them, never too many."""
    want, most = min(want, tokens), max(most, min(16, chunk))
    found = list(pieces(tokens, want, chunk, most))
    assert sum(size for size, _ in found) == tokens
    assert sum(wanted for _, wanted in found) == want
    assert all(1 <= size <= chunk and wanted <= min(size, most) for size, wanted in found)
    positions, start = [], 0
    for size, wanted in found:
        start += size
        positions += range(start - wanted, start)
    assert positions == list(range(tokens - want, tokens))


# -- how the GPU is used


def test_graphs_are_captured_in_order_when_it_is_opened(trt: Bundle) -> None:
    """Inputs, one run, a wait; then the same between begin and end of a capture; for every shape and row, once."""
    engine, device = make_engine(trt, Shapes(update="appended"))
    steps, short = 4 + 3 + 2 + 1, 4 * 4
    assert device.log.count("begin") == device.log.count("end") == steps + short
    begin = device.log.index("begin")
    queued = ["upload", "enqueue", "copy_rows", "download"]
    assert device.log[begin - 5 : begin] == [*queued, "finish"]
    assert device.log[begin : device.log.index("end") + 1] == ["begin", *queued, "end"]
    assert "graphs" in engine.spec.provider


def test_a_step_is_one_launch_and_one_wait(trt: Bundle) -> None:
    """Inputs, model, cache and logits are in the graph; nothing is allocated, bound or captured any more."""
    engine, device = make_engine(trt, Shapes(update="appended"))
    seqs = [engine.open() for _ in range(3)]
    for seq in seqs:
        engine.run([Row(seq, PROMPT)], 1)
    device.log.clear()
    engine.extend([Burst(seqs[0], 5, [])], 3, 1)
    assert device.log == ["start", "launch", "finish"] * 3
    device.log.clear()
    engine.run([Row(seq, [7]) for seq in seqs], 1)
    assert device.log == ["start", "launch", "finish"]
    device.log.clear()
    engine.run([Row(seqs[1], [7, 8, 9], 3)], 1)
    assert device.log == ["start", "launch", "download", "finish"]
    device.log.clear()
    engine.run([Row(seqs[1], [7] * 20)], 1)
    assert device.log == ["start", "upload", "enqueue", "copy_rows", "download", "finish"]
    assert engine.elapsed_ns == 1_500_000


def test_without_graphs_everything_runs_all_the_same(trt: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    """A capture that fails is said once, and in the provider, which is part of the profile's key."""
    device = FakeDevice()
    device.capture_fails_at = 5
    engine, _ = make_engine(trt, Shapes(), device=device)
    assert "no CUDA graphs can be captured (operation not permitted" in caplog.text
    assert engine.spec.provider == "double 1, in-place, no graphs"
    seq = engine.open()
    engine.run([Row(seq, PROMPT)], 1)
    assert engine.extend([Burst(seq, 5, [])], 1, 1)[0] == [weighed([*PROMPT, 5])]
    assert "launch" not in device.log


def test_memory_is_taken_once(made: Made) -> None:
    """A hundred steps, forks, runs and snapshots later not a byte more is in use, and no address has changed."""
    engine, device = made
    taken = device.log.count("allocate"), device.free
    pinned = [host.ctypes.data for host in device._hosts]
    for _ in range(5):
        seq = engine.open()
        engine.run([Row(seq, PROMPT * 5)], 1)
        engine.extend([Burst(seq, 5, [])], 20, 1)
        for fork in engine.fork(seq, 2):
            engine.close(fork)
        engine.close(engine.restore(engine.snapshot(seq)))
        engine.close(seq)
    assert (device.log.count("allocate"), device.free) == taken
    assert [host.ctypes.data for host in device._hosts] == pinned


def test_a_fork_is_ready_when_it_is_there(trt: Bundle) -> None:
    """What it costs is paid, and measured, where it is made: one launch for each, and a wait."""
    engine, device = make_engine(trt, Shapes())
    seq = engine.open()
    engine.run([Row(seq, PROMPT)], 1)
    device.log.clear()
    engine.fork(seq, 2)
    assert device.log == ["start", "copy_rows", "copy_rows", "finish"]


def test_every_thread_attaches_once(trt: Bundle) -> None:
    """The engine is opened on one thread and used on another, which makes the GPU its own first."""
    engine, device = make_engine(trt, Shapes())
    device.log.clear()

    def use() -> None:
        seq = engine.open()
        engine.run([Row(seq, PROMPT)], 1)
        engine.extend([Burst(seq, 5, [])], 3, 1)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert device.log[0] == "attach"
    assert device.log.count("attach") == 1


def test_a_wide_window_of_logits_is_no_larger_than_its_memory(trt: Bundle) -> None:
    """Logits of every token of a long run come in pieces that fit, and are all there."""
    engine, _ = make_engine(trt, Shapes(chunk=128))
    seq = engine.open()
    tokens = [(7 * i) % 64 for i in range(MOST_LOGITS + 41)]
    (logits,) = engine.run([Row(seq, tokens, len(tokens))], 1)
    assert logits.shape == (len(tokens), 64)
    assert [int(row.argmax()) for row in logits] == [weighed(tokens[: i + 1]) for i in range(len(tokens))]


def test_at_the_end_of_the_context_runs_take_their_exact_size(made: Made) -> None:
    """A run of 3 tokens is one of 4 elsewhere; where only 3 are left, the fourth would be written behind the cache."""
    engine, _ = made
    seq = engine.open()
    tokens = [i % 64 for i in range(253)]
    engine.run([Row(seq, tokens)], 1)
    (logits,) = engine.run([Row(seq, [1, 2, 3], 3)], 1)
    assert int(logits[2].argmax()) == weighed([*tokens, 1, 2, 3])
    assert seq.length == 256


def test_a_lost_gpu_is_an_error_and_stays_one(made: Made) -> None:
    """The first says what happened and what to do; later ones come at once; rows can still be given back."""
    engine, device = made
    seq = engine.open()
    engine.run([Row(seq, PROMPT)], 1)
    device.lost = "unspecified launch failure"
    with pytest.raises(EngineError, match=r"the GPU was lost \(unspecified launch failure\): load a new Reasoner"):
        engine.extend([Burst(seq, 5, [])], 3, 1)
    assert engine.health() is Health.LOST
    assert seq.length == len(PROMPT)
    for use in (lambda: engine.run([Row(seq, [5])], 1), lambda: engine.fork(seq), lambda: engine.snapshot(seq)):
        with pytest.raises(EngineError, match="lost in an earlier run: load a new Reasoner"):
            use()
    engine.truncate(seq, 2)
    engine.close(seq)
    assert engine.free_rows == engine.spec.max_rows


def test_a_run_that_tensorrt_refuses_is_an_error_in_its_words(trt: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is there for the next run."""
    engine, _ = make_engine(trt, Shapes())
    seq = engine.open()
    monkeypatch.setattr("tests.doubles_trt._Context.execute_async_v3", lambda context, stream: context._refuse("no"))
    with pytest.raises(EngineError, match="TensorRT failed: no"):
        engine.run([Row(seq, [5] * 20)], 1)
    monkeypatch.undo()
    assert engine.health() is Health.READY
    assert int(engine.run([Row(seq, [5] * 20)], 1)[0].argmax()) == weighed([5] * 20)
