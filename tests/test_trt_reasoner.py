"""A Reasoner on TensorRT, on doubles: answers by the deadline, whatever the GPU does."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from anytime import Health, Reasoner, UsageError
from anytime.bundle import Bundle
from anytime.cli.main import app
from anytime.errors import DeviceError, EngineError
from anytime.ext.latency import Latency
from anytime.runtime.loading import open_bundle
from anytime.runtime.prompt import Codec
from anytime.runtime.trt import engine as opening
from anytime.runtime.trt.adapter import TensorRT
from anytime.runtime.trt.probe import Probed
from anytime.targets.gpu import Gpu
from anytime.testing import MockClock, Script
from tests.conftest import MS, make_profile, thinker
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S
from tests.doubles_device import FakeDevice
from tests.doubles_trt import Shapes, make_tensorrt
from tests.trt import make_engine, store_plan, trt_bundle

LONG = thinker("ab\n" * 60, lambda n: "left" if n < 20 else "right")
ASK: Any = {"answer": LEFT_OR_RIGHT, "fallback": "stop"}
PLAN = Shapes()
Make = Callable[..., tuple[Reasoner, FakeDevice, MockClock]]


@pytest.fixture
def trt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return trt_bundle(tmp_path / "trt")


@pytest.fixture
def make(trt: Bundle, latency: Latency) -> Iterator[Make]:
    """``make(script, shapes)``: a Reasoner whose GPU takes on a mock clock what ``latency`` says."""
    reasoners: list[Reasoner] = []

    def build(script: Script = LONG, shapes: Shapes = PLAN) -> tuple[Reasoner, FakeDevice, MockClock]:
        clock, spent = MockClock(start_ns=10**9), [0]

        def spend(tokens: int, context: int) -> None:
            spent[0] += latency.run_ns(tokens, context)

        def finished() -> None:
            clock.advance(spent[0])
            spent[0] = 0

        engine, device = make_engine(trt, shapes, script, FakeDevice(), spend)
        spent[0], device.finished = 0, finished
        profile = make_profile(latency, trt.id, engine.spec)
        reasoners.append(Reasoner(engine, Codec(trt), profile, trt, clock))
        return reasoners[-1], device, clock

    yield build
    for reasoner in reasoners:
        reasoner.close()


@pytest.mark.parametrize("shapes", [Shapes(), Shapes(update="appended")], ids=lambda shapes: shapes.update)
def test_it_answers_by_the_deadline(make: Make, shapes: Shapes) -> None:
    """More time, more thought, and the answer that it leads to; a complete thought ends earlier."""
    reasoner, _, _ = make(shapes=shapes)
    short, long = (reasoner.answer("what", budget=budget, **ASK) for budget in (0.016, 0.1))
    assert (short.text, short.stopped, short.late) == ("left", "deadline", False)
    assert (long.text, long.stopped, long.source, long.late) == ("right", "deadline", "thought", False)
    assert short.tokens.thought < 20 < long.tokens.thought
    whole = reasoner.answer("what", budget=2.0, **ASK)
    assert (whole.text, whole.stopped, whole.tokens.thought) == ("right", "complete", 180)


def test_requests_share_the_gpu(make: Make) -> None:
    """Several at a time, each in a row of the cache, all get what they would get alone."""
    reasoner, device, _ = make()
    asked = [reasoner.submit("what " + "x" * n, budget=5.0, **ASK) for n in range(6)]
    assert [pending.result().text for pending in asked] == ["right"] * 6
    device.log.clear()
    several = reasoner.answer("what", budget=5.0, policy="self-consistency:k=3", **ASK)
    assert several.valid
    assert device.log.count("copy_rows") >= 2  # forks of the prompt


def test_a_step_that_hangs_does_not_keep_the_caller(make: Make) -> None:
    """The caller leaves on time while the GPU is busy; when that step is over the next request is normal."""
    reasoner, device, clock = make()
    reached, released, usual = threading.Event(), threading.Event(), device.finished

    def finished() -> None:
        usual()
        if device.log.count("finish") > before + 5:
            reached.set()
            assert released.wait(PATIENCE_S)

    before, device.finished = device.log.count("finish"), finished
    pending = reasoner.submit("what", budget=0.1, **ASK)
    assert reached.wait(PATIENCE_S)
    assert reasoner.health() is Health.BUSY
    clock.advance(pending.job.ready_ns - clock.now())
    got = pending.result()
    assert (got.text, got.source, got.stopped, got.late) == ("left", "instant", "deadline", False)
    released.set()
    device.finished = usual
    after = reasoner.answer("what", budget=0.1, **ASK)
    assert (after.text, after.source) == ("right", "thought")


@pytest.mark.parametrize(("step", "text", "source"), [(1, "stop", "fallback"), (9, "left", "instant")])
def test_a_gpu_lost_in_mid_request_leaves_the_best_so_far(make: Make, step: int, text: str, source: str) -> None:
    """The answer says why; later requests get their safe answer at once, and health says LOST."""
    reasoner, device, _ = make()
    usual, before = device.finished, device.log.count("finish")

    def finished() -> None:
        usual()
        if device.log.count("finish") >= before + step:
            device.lost = "unspecified launch failure"

    device.finished = finished
    got = reasoner.answer("what", budget=0.2, **ASK)
    assert (got.text, got.source, got.stopped) == (text, source, "error")
    assert got.reason.startswith("the GPU was lost (unspecified launch failure): load a new Reasoner in a new process")
    assert reasoner.health() is Health.LOST
    after = reasoner.answer("what", budget=0.2, **ASK)
    assert (after.text, after.source, after.stopped) == ("stop", "fallback", "rejected")
    assert after.reason == "the engine was lost in an earlier step: load a new Reasoner"


@pytest.fixture
def machine(trt: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU, TensorRT and a plan."""
    monkeypatch.setattr(opening, "probe", lambda: Probed(Gpu("Double", "8.7", "12.6"), "10.16.1"))
    monkeypatch.setattr(opening, "import_tensorrt", lambda: TensorRT(make_tensorrt(LONG)))
    monkeypatch.setattr(opening, "open_device", FakeDevice)
    store_plan(trt, Shapes())


@pytest.mark.usefixtures("machine")
def test_what_it_runs_on_is_in_the_profile_s_key(trt: Bundle) -> None:
    """GPU and TensorRT, and how they are used; the processor's threads do not count."""
    key = open_bundle(trt.path, threads=3, engine="tensorrt").key
    assert (key.engine, key.version, key.gpu, key.threads) == ("tensorrt", "10.16.1", "Double 8.7", 1)
    assert key.provider == "double 1, in-place, graphs"
    assert (key.precision, key.max_rows, key.max_context) == ("fp16", 4, 256)


@pytest.mark.usefixtures("machine")
def test_a_model_that_contradicts_itself_is_not_opened(trt: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run gives at once, steps must give, too."""
    calls = itertools.count()
    monkeypatch.setattr(
        opening, "import_tensorrt", lambda: TensorRT(make_tensorrt(lambda tokens: next(calls) % 64, "10.16.1"))
    )
    with pytest.raises(EngineError, match="other logits in steps than at once"):
        open_bundle(trt.path, engine="tensorrt")


@pytest.mark.usefixtures("machine")
def test_the_command_line_runs_it(trt: Bundle, tmp_path: Path, latency: Latency) -> None:
    """With the engine that is named."""
    file = tmp_path / "profile.json"
    file.write_bytes(msgspec.json.encode(make_profile(latency, trt.id)))
    asked = ["--engine", "tensorrt", "--budget", "20s", "--choices", "left,right", "--profile", str(file), "--estimate"]
    result = CliRunner().invoke(app, ["run", *asked, str(trt.path), "what"])
    assert (result.exit_code, result.stdout) == (0, "right\n")


def test_the_command_line_says_what_is_missing(trt: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, with exit code 1."""

    def none() -> Probed:
        raise DeviceError("there is no NVIDIA GPU to be used here: libcuda.so.1, the driver, is not installed")

    monkeypatch.setattr(opening, "probe", none)
    for command in (["run", str(trt.path), "what"], ["profile", str(trt.path)]):
        result = CliRunner().invoke(app, [*command, "--engine", "tensorrt"])
        assert result.exit_code == 1
        assert result.stderr == (
            "error: there is no NVIDIA GPU to be used here: libcuda.so.1, the driver, is not installed\n"
        )


def test_another_engine_is_none(trt: Bundle) -> None:
    """Named with those that there are."""
    engine: Any = "tensorflow"
    with pytest.raises(UsageError, match="engine is 'tensorflow': it must be one of onnxruntime, tensorrt"):
        Reasoner.load(trt.path, engine=engine)


def test_measuring_a_profile_takes_no_more_rows_than_the_least(make: Make, trt: Bundle, latency: Latency) -> None:
    """A plan of three rows can be measured: nothing else has one then."""
    from anytime.runtime.stopwatch import Stopwatch

    clock = MockClock()
    engine, device = make_engine(trt, Shapes(rows=3), LONG)
    device.finished = lambda: clock.advance(MS)
    stopwatch = Stopwatch(engine, clock)
    assert stopwatch.time_run(4, 16) == MS
    assert stopwatch.time_branches(2, 16) == (MS, MS)
