"""The ONNX Runtime engine: rows, snapshots, termination and memory."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from anytime.bundle import Bundle
from anytime.errors import EngineError, StepTerminated
from anytime.ext import ort
from anytime.runtime.engine import Burst, Engine, Health, Row, Snapshot
from anytime.runtime.loading import open_bundle

PROMPT = [1, 40, 41, 42, 43, 44]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return open_bundle(None, threads=1).engine


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_ten_thousand_steps_take_no_memory(engine: Engine) -> None:
    """Steps in bursts, alone and in rows allocate nothing that stays: neither in Python nor below it."""
    seq, beside = engine.open(), engine.open()

    def steps(count: int) -> None:
        for _ in range(count // 500):
            engine.truncate(seq, 0)
            engine.truncate(beside, 0)
            engine.run([Row(seq, PROMPT)], 1)
            engine.extend([Burst(seq, 5, [])], 300, 1)[0]
            for _ in range(150):
                engine.run([Row(seq, [7])], 1)
            for _ in range(25):
                engine.run([Row(seq, [7]), Row(beside, [8])], 1)

    steps(1000)
    gc.collect()
    tracemalloc.start()
    python, resident = tracemalloc.get_traced_memory()[0], resident_bytes()
    steps(10_000)
    gc.collect()
    assert tracemalloc.get_traced_memory()[0] - python < 50_000
    tracemalloc.stop()
    assert resident_bytes() - resident < 2_000_000
    engine.close(seq)
    engine.close(beside)


def test_rows_run_together_keep_their_lengths(engine: Engine) -> None:
    """Rows of different lengths, given in any order, each get the logits they would get alone."""
    seqs = [engine.open() for _ in range(3)]
    for n, seq in enumerate(seqs):
        engine.run([Row(seq, PROMPT[: 2 + n])], 1)
    alone = []
    for seq in seqs:
        alone.append(engine.run([Row(seq, [50])], 1)[0].copy())
        engine.truncate(seq, seq.length - 1)
    together = engine.run([Row(seqs[i], [50]) for i in (2, 0, 1)], 1)
    for row, i in zip(together, (2, 0, 1), strict=True):
        np.testing.assert_allclose(row, alone[i], rtol=1e-4, atol=1e-3)
    assert [seq.length for seq in seqs] == [3, 4, 5]
    for seq in seqs:
        engine.close(seq)


def test_rows_that_lie_apart_run_all_the_same(engine: Engine) -> None:
    """A row closed between two others does not matter."""
    first, middle, last = (engine.open() for _ in range(3))
    for seq in (first, last):
        engine.run([Row(seq, PROMPT)], 1)
    engine.close(middle)
    a, b = engine.run([Row(first, [9]), Row(last, [9])], 1)
    np.testing.assert_allclose(a, b, rtol=1e-5)
    engine.close(first)
    engine.close(last)


def test_no_more_sequences_than_rows(engine: Engine) -> None:
    """The ninth sequence is refused with what to do, and closing one makes room."""
    seqs = [engine.open() for _ in range(engine.spec.max_rows)]
    with pytest.raises(EngineError, match="close some"):
        engine.open()
    with pytest.raises(EngineError, match="close some"):
        engine.fork(seqs[0])
    engine.close(seqs.pop())
    seqs.append(engine.open())
    for seq in seqs:
        engine.close(seq)


def test_a_snapshot_is_restored_where_it_was_taken(engine: Engine) -> None:
    """What was copied out goes on as the original would; another model's is refused and takes no row."""
    seq = engine.open()
    engine.run([Row(seq, PROMPT)], 1)
    kept = engine.snapshot(seq)
    expected = engine.run([Row(seq, [60])], 1)[0].copy()
    engine.close(seq)
    again = engine.restore(kept)
    assert again.length == len(PROMPT)
    np.testing.assert_allclose(engine.run([Row(again, [60])], 1)[0], expected, rtol=1e-5)
    engine.close(again)
    for _ in range(2 * engine.spec.max_rows):
        with pytest.raises(EngineError, match="another model"):
            engine.restore(Snapshot(3, np.zeros((2, 1, 3, 4), dtype=np.float32)))


def test_a_burst_ends_behind_an_end_token(engine: Engine) -> None:
    """The end token is taken and not run; without it the burst has its full length."""
    seq = engine.open()
    engine.run([Row(seq, PROMPT)], 1)
    taken = engine.extend([Burst(seq, 5, [])], 12, 1)[0]
    assert len(taken) == 12
    assert seq.length == len(PROMPT) + 12
    end = next((i for i in range(3, 12) if taken[i] not in taken[:i]), 11)
    engine.truncate(seq, len(PROMPT))
    assert engine.extend([Burst(seq, 5, [taken[end]])], 12, 1)[0] == taken[: taken.index(taken[end]) + 1]
    assert seq.length == len(PROMPT) + taken.index(taken[end]) + 1
    engine.close(seq)


def test_bursts_side_by_side_are_those_alone(engine: Engine) -> None:
    """Sequences of different lengths take the tokens that each takes alone; one between them is not touched."""
    prompts = [PROMPT, PROMPT[:-3], [*PROMPT, 9, 9], PROMPT[2:]]
    seqs = [engine.open() for _ in prompts]
    for seq, prompt in zip(seqs, prompts, strict=True):
        engine.run([Row(seq, prompt)], 1)
    alone = [engine.extend([Burst(seq, 5, [])], 9, 1)[0] for seq in seqs]
    for seq, prompt in zip(seqs, prompts, strict=True):
        engine.truncate(seq, len(prompt))
    chosen = [3, 0, 2]  # in no order, and without the second
    assert engine.extend([Burst(seqs[i], 5, []) for i in chosen], 4, 1) == [alone[i][:4] for i in chosen]
    assert [seqs[i].length for i in chosen] == [len(prompts[i]) + 4 for i in chosen]
    assert engine.extend([Burst(seqs[i], alone[i][3], []) for i in chosen], 5, 1) == [alone[i][4:] for i in chosen]
    assert engine.extend([Burst(seqs[1], 5, [])], 9, 1)[0] == alone[1]
    for seq in seqs:
        engine.close(seq)


def test_bursts_side_by_side_end_where_one_does(engine: Engine) -> None:
    """An end of one sequence is not one of the other; both have taken as many tokens."""
    seqs = [engine.open(), engine.open()]
    for seq, prompt in zip(seqs, (PROMPT, PROMPT[3:]), strict=True):
        engine.run([Row(seq, prompt)], 1)
    first, second = engine.extend([Burst(seq, 5, []) for seq in seqs], 12, 1)
    end = next((i for i in range(1, 12) if second[i] not in second[:i]), 11)
    for seq, prompt in zip(seqs, (PROMPT, PROMPT[3:]), strict=True):
        engine.truncate(seq, len(prompt))
    free = next(token for token in range(200) if token not in first)
    found = engine.extend([Burst(seqs[0], 5, [free]), Burst(seqs[1], 5, [free, second[end]])], 12, 1)
    until = second.index(second[end]) + 1
    assert found == [first[:until], second[:until]]
    for seq in seqs:
        engine.close(seq)


def test_a_step_spans_the_rows_between(engine: Engine) -> None:
    """What a step costs is known before it is taken: rows side by side, or one after the other."""
    seqs = [engine.open() for _ in range(4)]
    outer = [seqs[0], seqs[3]]
    assert engine.span(seqs) == 4
    assert engine.span(outer) in (2, 4)
    engine.run([Row(seqs[1], [5] * engine.spec.max_context)], 1)
    assert engine.span(outer) in (2, None)  # a full row cannot idle
    assert engine.span([seqs[2], seqs[3]]) == 2
    for seq in seqs:
        engine.close(seq)


def test_a_burst_is_ended_from_another_thread(engine: Engine) -> None:
    """Terminating a burst keeps the tokens it has, and the engine goes on as if nothing had been."""
    seq = engine.open()
    engine.run([Row(seq, PROMPT)], 1)
    whole = engine.extend([Burst(seq, 5, [])], 900, 1)[0]
    engine.truncate(seq, len(PROMPT))
    found: list[list[int]] = []

    def burst() -> None:
        try:
            found.append(engine.extend([Burst(seq, 5, [])], 900, 2)[0])
        except StepTerminated:
            found.append([])

    thread = threading.Thread(target=burst)
    thread.start()
    while engine.health() is not Health.BUSY and thread.is_alive():
        pass
    engine.terminate(2)
    thread.join()
    (taken,) = found
    assert taken == whole[: len(taken)]
    assert len(taken) < 900
    assert seq.length == len(PROMPT) + len(taken)
    with pytest.raises(StepTerminated):
        engine.extend([Burst(seq, 5, [])], 3, 2)[0]
    engine.truncate(seq, len(PROMPT))
    assert engine.extend([Burst(seq, 5, [])], 10, 3)[0] == whole[:10]
    engine.close(seq)


def test_what_does_not_fit_the_context_is_refused(engine: Engine) -> None:
    """A burst or run beyond the cache is refused by its numbers, before anything is run."""
    seq = engine.open()
    engine.run([Row(seq, [5] * 1000)], 1)
    with pytest.raises(ValueError, match="25 tokens behind 1000 do not fit 1024"):
        engine.extend([Burst(seq, 5, [])], 25, 1)[0]
    with pytest.raises(ValueError, match="0 tokens behind 1000"):
        engine.run([Row(seq, [])], 1)
    with pytest.raises(ValueError, match="cannot truncate a sequence of 1000 tokens to 1001"):
        engine.truncate(seq, 1001)
    assert seq.length == 1000
    engine.close(seq)


def test_a_token_outside_the_vocabulary_is_the_engines_error(engine: Engine) -> None:
    """What ONNX Runtime refuses comes out as an EngineError in its words, and the sequence stands."""
    seq = engine.open()
    engine.run([Row(seq, PROMPT)], 1)
    with pytest.raises(EngineError, match="ONNX Runtime failed"):
        engine.run([Row(seq, [10**6])], 1)
    assert seq.length == len(PROMPT)
    assert engine.health() is Health.READY
    engine.close(seq)


def test_a_library_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without onnxruntime, or with one that has no shared library, the message says what to install."""
    from importlib.machinery import ModuleSpec

    from anytime.runtime.ort import native

    monkeypatch.setattr(native, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"not installed: pip install 'anytime\[cpu\]'"):
        native.load_library()
    spec = ModuleSpec("onnxruntime", None)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(native, "find_spec", lambda name: spec)
    with pytest.raises(EngineError, match="has no libonnxruntime"):
        native.load_library()


def test_a_graph_that_is_none_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime's own words, as an error of the binding."""
    file = tmp_path / "model.onnx"
    file.write_bytes(b"not a graph")
    open_bundle(None, threads=1)
    with pytest.raises(ort.OrtError):
        ort.Session(str(file), 1, False)


def test_the_python_module_of_onnxruntime_is_not_needed(tmp_path: Path) -> None:
    """Loading and running the reference imports neither onnxruntime nor torch."""
    import subprocess
    import sys

    code = (
        "import sys; from anytime.runtime.loading import open_bundle; from anytime.runtime.engine import Row; "
        "e = open_bundle(None, 1).engine; e.run([Row(e.open(), [5])], 1); "
        "assert not {'onnxruntime', 'torch', 'jinja2', 'asyncio'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Bundle.reference().manifest.graphs[0].precision == "int8"
