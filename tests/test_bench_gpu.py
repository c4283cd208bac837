"""The GPU bench: without a GPU, with doubles of one, and its arithmetic."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from anytime.bundle import Bundle
from anytime.errors import DeviceError, EngineError
from anytime.ext.latency import Latency
from anytime.runtime.loading import Loaded
from anytime.runtime.trt import engine as opening
from anytime.runtime.trt.adapter import TensorRT
from anytime.runtime.trt.probe import Probed
from anytime.targets.gpu import Gpu
from anytime.targets.jetson import Clock
from bench.gpu import __main__ as main
from bench.gpu import card as cards
from bench.gpu import child
from bench.gpu.bandwidth import bandwidth
from bench.gpu.child import Found
from bench.guarantee.asking import Asked
from tests.conftest import make_profile, thinker
from tests.doubles_device import FakeDevice
from tests.doubles_nvml import FakeNvml, NVMLError
from tests.doubles_trt import Shapes, make_tensorrt
from tests.test_bench_gpu_figures import SPEC
from tests.trt import store_plan, trt_bundle

ORIN = Gpu("Orin", "8.7", "12.6")
SCRIPT = thinker("ab\n" * 60, lambda n: "left" if n < 20 else "right")

DRIVER = """
#include <stdlib.h>
#include <string.h>
#include <stddef.h>
typedef unsigned long long u64;
static int copies;
int cuInit(unsigned flags) { return %d; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &copies; return 0; }
int cuCtxSetCurrent(void *context) { return context == &copies ? 0 : 201; }
int cuMemGetInfo_v2(size_t *left, size_t *all) { *left = 8 << 20; *all = 16 << 20; return 0; }
int cuMemAlloc_v2(u64 *address, size_t size) { *address = (u64)malloc(size); return %d; }
int cuMemsetD8_v2(u64 address, unsigned char value, size_t size) { memset((void *)address, value, size); return 0; }
int cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t size, void *stream) {
  copies += to != from && size == 1 << 20;
  memcpy((void *)to, (void *)from, size);
  return 0;
}
int cuEventCreate(void **event, unsigned flags) { *event = malloc(1); return 0; }
int cuEventRecord(void *event, void *stream) { return event ? 0 : 400; }
int cuEventSynchronize(void *event) { return event ? 0 : 400; }
int cuEventElapsedTime(float *ms, void *begun, void *done) { *ms = begun == done ? 0 : copies; return 0; }
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a driver where a child process finds it first; its every copy takes a millisecond more."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    def make(init: int = 0, allocation: int = 0) -> None:
        gcc = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(tmp_path / "libcuda.so.1")]
        subprocess.run(gcc, input=DRIVER % (init, allocation), text=True, check=True)

    return make


# -- without a GPU


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Gpu:
        raise DeviceError("there is no NVIDIA GPU to be used here: a test says so")

    monkeypatch.setattr(cards, "probe", none)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_every_part_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not run, and why, for every part of every engine; no figure, and an exit code that is neither 0 nor 1."""
    file = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["bench.gpu", "--json", str(file)])
    assert main.main() == main.NOTHING_RAN
    assert main.NOTHING_RAN not in (0, 1)
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["figures"] == []
    parts = record["samples"]["parts"]
    assert [(part["part"], part["engine"]) for part in parts] == [
        (main.CARD, ""),
        (main.BANDWIDTH, ""),
        *((part, engine) for engine in main.ENGINES for part in main.OF_AN_ENGINE),
    ]
    assert not any(part["ran"] for part in parts)
    assert parts[0]["outcome"] == "not run: there is no NVIDIA GPU to be used here: a test says so"
    assert all(part["outcome"].startswith("not run: there is no GPU to be used here") for part in parts[1:])
    assert capsys.readouterr().out.count("not run") == len(parts)


def test_every_engine_but_the_processor_s_is_tried() -> None:
    """Those that the runtime knows, or those that are named; another is none."""
    assert "tensorrt" in main.ENGINES
    assert "onnxruntime" not in main.ENGINES
    assert main.options([]).engines == main.ENGINES
    assert main.options(["--engines", "tensorrt"]).engines == ["tensorrt"]
    with pytest.raises(SystemExit):
        main.options(["--engines", "onnxruntime"])


# -- the card and its memory


def test_the_card_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, compute capability, driver and clocks, and whether they are locked."""
    monkeypatch.setattr(cards, "probe", lambda: ORIN)
    seen = cards.card(FakeNvml())
    clocks = msgspec.structs.replace(
        seen.condition, gpu_clock=Clock(612, 306, 1020, False), memory_clock=Clock(3199, None, 3199, True)
    )
    told = msgspec.structs.replace(seen, condition=clocks).told()
    assert "Orin, compute capability 8.7; driver 580.95.05, CUDA 12.6" in told
    assert "GPU clock 612 of up to 1020 MHz, not locked, memory clock 3199 of up to 3199 MHz, locked" in told


def test_a_card_without_nvml_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the driver's version and the clocks are not."""
    monkeypatch.setattr(cards, "probe", lambda: ORIN)
    seen = cards.card(FakeNvml(init=NVMLError("not there")))
    bare = msgspec.structs.replace(seen.condition, gpu_clock=None, memory_clock=None)
    told = msgspec.structs.replace(seen, condition=bare).told()
    assert "driver not told" in told
    assert "GPU clock not told, memory clock not told" in told


def test_the_bandwidth_is_that_of_copies(driver: Callable[..., None]) -> None:
    """An eighth of the free memory is copied, what is copied counts as read and as written, and the fastest counts."""
    driver()
    found = bandwidth()
    assert (found.memory_bytes, found.copied_bytes) == (16 << 20, 1 << 20)
    assert found.copies_ms == [float(copy) for copy in range(4, 34)]  # three copies warm it up
    assert found.bytes_s == pytest.approx(2 * (1 << 20) / 4e-3)


@pytest.mark.parametrize(
    ("init", "allocation", "reason"), [(100, 0, "cuInit gives 100"), (0, 2, "cuMemAlloc_v2 gives 2")]
)
def test_a_driver_that_refuses_is_a_reason(
    init: int, allocation: int, reason: str, driver: Callable[..., None]
) -> None:
    """The call that failed, and its number."""
    driver(init, allocation)
    with pytest.raises(DeviceError, match=f"the bandwidth was not measured: {reason}"):
        bandwidth()


# -- an engine


@pytest.fixture
def trt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, latency: Latency) -> Bundle:
    """A bundle with a plan, on a machine with a double of TensorRT on a GPU."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(opening, "probe", lambda: Probed(ORIN, "10.16.1"))
    monkeypatch.setattr(opening, "import_tensorrt", lambda: TensorRT(make_tensorrt(SCRIPT)))
    monkeypatch.setattr(opening, "open_device", FakeDevice)
    monkeypatch.setattr("anytime.export.plan.build_plan", lambda bundle, options, progress: None)
    monkeypatch.setattr(child, "measure_profile", lambda loaded, quick: make_profile(latency, loaded.bundle.id))
    monkeypatch.setattr(child, "QUICK_REQUESTS", 6)
    monkeypatch.setattr(child, "BUDGETS_MS", (10.0, 20.0))
    bundle = trt_bundle(tmp_path / "trt", parameters=10**6)
    store_plan(bundle, Shapes())
    return bundle


def test_an_engine_is_measured(trt: Bundle) -> None:
    """Steps by the wall clock and by the GPU's events where the context fits, then requests beside their controls."""
    kept: list[bytes] = []
    found = child.measure("tensorrt", trt.path, "quick", lambda made: kept.append(msgspec.json.encode(made)))
    assert found.reason == ""
    assert found.spec is not None
    assert (found.spec.provider, found.spec.precision, found.parameters) == (SPEC.provider, "fp16", 10**6)
    (steps,) = found.steps  # the context is 256
    assert (steps.context, len(steps.wall_us), set(steps.gpu_us)) == (64, 50, {1_500.0})
    assert min(steps.wall_us) > 0
    assert [row.number for row in found.asked] == list(range(6))
    assert all(10 <= row.budget_ms <= 20 for row in found.asked)
    stages = [msgspec.json.decode(made, type=Found) for made in kept]
    assert [(bool(made.steps), bool(made.asked)) for made in stages] == [(False, False), (True, False), (True, True)]
    assert stages[-1] == found


def test_an_engine_is_only_opened_where_that_is_asked(trt: Bundle) -> None:
    """To find out whether it loads."""
    found = child.measure("tensorrt", trt.path, "opened")
    assert (found.reason, found.steps, found.asked) == ("", [], [])
    assert found.spec is not None


def test_an_engine_that_does_not_open_says_why(trt: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its own words."""
    monkeypatch.setattr(opening, "probe", lambda: Probed(ORIN, "9.0"))
    found = child.measure("tensorrt", trt.path, "quick")
    assert "this is TensorRT 9.0: upgrade it" in found.reason
    assert found.spec is None


def test_a_gpu_lost_half_way_leaves_what_was_measured(trt: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps stay, and the reason is that of the part behind them."""

    def lost(*_: Any) -> list[Asked]:
        raise EngineError("the GPU was lost")

    monkeypatch.setattr(child, "lateness", lost)
    found = child.measure("tensorrt", trt.path, "quick")
    assert (len(found.steps), found.asked, found.reason) == (1, [], "the GPU was lost")


def test_an_engine_that_falls_back_to_the_processor_is_not_measured(
    trt: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is called: its steps are not the GPU's."""
    usual = child.open_bundle

    def on_the_processor(*arguments: Any, **named: Any) -> Loaded:
        loaded = usual(*arguments, **named)
        loaded.engine.spec = msgspec.structs.replace(SPEC, gpu="none", provider="CPUExecutionProvider")  # type: ignore[misc]
        return loaded

    monkeypatch.setattr(child, "open_bundle", on_the_processor)
    found = child.measure("tensorrt", trt.path, "quick")
    assert found.reason.startswith("tensorrt runs on the processor (CPUExecutionProvider)")
    assert (found.spec, found.steps) == (None, [])


def test_a_process_that_ends_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does in which a library crashes."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    made = child.found("tensorrt", tmp_path, "quick")
    assert made == Found("the process that ran it ended with exit code 1: see what it printed")


def test_what_a_child_process_found_is_read(tmp_path: Path) -> None:
    """Here that there is no bundle, whose error is the reason."""
    made = child.found("onnxruntime", tmp_path / "no bundle", "quick", tmp_path / "state")
    assert "no bundle" in made.reason
    assert made.spec is None
