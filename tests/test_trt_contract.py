"""What export writes, run by the engine on TensorRT: the graphs themselves, by ONNX Runtime behind the double."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anytime.bundle import Bundle
from anytime.runtime.engine import Burst, Engine, Row
from anytime.runtime.gpu.consistent import check_consistent
from anytime.runtime.gpu.engine import GpuEngine
from anytime.runtime.loading import open_bundle
from anytime.runtime.trt.adapter import TensorRT
from anytime.runtime.trt.engine import trt_engine
from anytime.runtime.trt.plan import find_plan
from tests.checkpoints import save_checkpoint
from tests.doubles_device import FakeDevice
from tests.doubles_trt import Run, Shapes, make_tensorrt
from tests.trt import VERSIONS, store_plan, weighed

pytest.importorskip("torch")
pytest.importorskip("onnx_ir")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's tracer and Optimum warn about themselves

CONTEXT, TOLERANCE = 96, 0.02  # of the largest logit: random weights have no slack for rounding
_ERRORS = 3  # ONNX Runtime warns of every copy of a cache


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from anytime.export import export_checkpoint

    root = tmp_path_factory.mktemp("exported")
    checkpoint = save_checkpoint("qwen3", root / "checkpoint")
    return export_checkpoint(checkpoint, root / "out", precision="fp16", max_context=CONTEXT, engine="tensorrt")


def runs_of(file: Path) -> type[Run]:
    """Runs of a graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    outputs = [node.name for node in session.get_outputs()]

    class GraphRun(Run):
        def __call__(self) -> None:
            plan, rows, tokens = self.plan, self.rows, self.tokens
            cache = (rows, plan.heads, plan.context, plan.channels)
            feed: dict[str, Any] = {
                "input_ids": self.array("input_ids", (rows, tokens), np.int64),
                "past_length": self.array("past_length", (rows,), np.int64),
                "first_logit": np.array([self.first_logit], np.int64),
            }
            for node in session.get_inputs():
                if node.name not in feed:
                    feed[node.name] = self.array(node.name, cache, np.float16)
            found = dict(zip(outputs, session.run(None, feed), strict=True))
            for name, values in found.items():
                self.array(name, values.shape, values.dtype)[...] = values

    return GraphRun


def engine_of(bundle: Bundle, update: str) -> tuple[GpuEngine, FakeDevice]:
    kv = bundle.manifest.kv
    shapes = Shapes(
        chunk=32,
        layers=kv.layers,
        heads=kv.heads,
        channels=kv.head_dim,
        context=CONTEXT,
        vocab=bundle.manifest.vocab_size,
        update=update,
    )
    store_plan(bundle, shapes)
    version = VERSIONS[update]
    plan, device = find_plan(bundle, version, "8.7"), FakeDevice()
    made = make_tensorrt(weighed, version, kind=runs_of(bundle.file(plan.graph.file)))
    return trt_engine(bundle, plan, TensorRT(made), device), device


def everything(engine: Engine) -> list[Any]:
    """Logits of prompts in pieces, guesses, steps alone and side by side, forks, and what was cut or kept outside."""
    tokens = [(37 * i + 11) % 300 + 3 for i in range(60)]
    first, found = engine.open(), []
    found.append(engine.run([Row(first, tokens[:40], 3)], 1)[0].copy())
    found.append(engine.run([Row(first, tokens[40:43], 3)], 1)[0].copy())
    second, third = engine.fork(first, 2)
    engine.truncate(third, 17)
    found += [
        logits.copy() for logits in engine.run([Row(s, [9 + i]) for i, s in enumerate((first, second, third))], 1)
    ]
    found += [logits.copy() for logits in engine.run([Row(third, tokens[43:]), Row(first, tokens[43:50], 7)], 1)]
    kept = engine.snapshot(second)
    engine.close(second)
    again = engine.restore(kept)
    found.append(engine.run([Row(again, [5])], 1)[0].copy())
    found += engine.extend([Burst(first, 7, []), Burst(third, 8, [])], 6, 1)
    for seq in (first, third, again):
        engine.close(seq)
    return found


@pytest.mark.parametrize("update", ["in-place", "appended"])
def test_the_engine_runs_what_export_writes(
    exported: Bundle, update: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, types, shapes and meanings agree: logits are those of ONNX Runtime's own graph of the same bundle."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    engine, device = engine_of(exported, update)
    assert engine.spec.provider == f"double 1, {update}, graphs"
    check_consistent(engine, "")
    device.log.clear()
    found, expected = everything(engine), everything(open_bundle(exported.path, threads=1).engine)
    assert {"launch", "enqueue", "copy_rows"} <= set(device.log)
    *logits, _, _ = found
    for got, wanted in zip(logits, expected, strict=False):
        np.testing.assert_allclose(got, wanted, atol=TOLERANCE * float(np.abs(wanted).max()))
    assert [len(taken) for taken in found[-2:]] == [6, 6]
