"""Opening the engine on TensorRT: every plan, version and machine that it must refuse, and what it says then."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest

from anytime.bundle import Bundle
from anytime.errors import BundleError, DeviceError, EngineError, SignatureError
from anytime.plans import PlanOptions
from anytime.runtime.engine import Row
from anytime.runtime.gpu import device
from anytime.runtime.gpu.consistent import check_consistent
from anytime.runtime.gpu.engine import GpuEngine
from anytime.runtime.trt.adapter import TensorRT, import_tensorrt
from anytime.runtime.trt.engine import trt_engine
from anytime.runtime.trt.plan import Plan, find_plan
from tests.doubles_device import CudaFailure, FakeDevice
from tests.doubles_trt import Shapes, make_tensorrt, plan_bytes
from tests.trt import make_engine, store_plan, trt_bundle, weighed


@pytest.fixture
def trt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return trt_bundle(tmp_path / "trt")


def opened(bundle: Bundle, plan: Plan, version: str = "10.16.1", gpu: FakeDevice | None = None) -> GpuEngine:
    return trt_engine(bundle, plan, TensorRT(make_tensorrt(weighed, version)), gpu or FakeDevice())


# -- the plan


def test_the_spec_says_what_it_runs_on(trt: Bundle) -> None:
    """Version, packages, precision and GPU are part of a latency profile's key."""
    engine, _ = make_engine(trt, Shapes(update="appended"))
    spec = engine.spec
    assert (spec.name, spec.version, spec.precision) == ("tensorrt", "10.3.0", "int8")
    assert spec.provider == "double 1, appended, graphs"
    assert spec.gpu == "Double 8.7"
    assert (spec.vocab_size, spec.max_rows, spec.max_context) == (64, 4, 256)


def test_without_a_plan_it_says_how_to_build_one(trt: Bundle) -> None:
    """And for which bundle, and where it was looked for."""
    with pytest.raises(
        EngineError, match=f"no plan of bundle {trt.path} .*anytime export {trt.path} --engine tensorrt"
    ):
        find_plan(trt, "10.16.1", "8.7")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tensorrt": "10.16.0"}, "built by TensorRT 10.16.0, this is 10.16.1"),
        ({"compute_capability": "8.6"}, "built for compute capability 8.6, this GPU has 8.7"),
        ({"bundle": "f" * 64}, "it is of bundle ffffffffffffffff, this is"),
        ({"graph_sha256": "0" * 64}, "it is of another graph than model.onnx"),
    ],
)
def test_a_plan_of_elsewhere_is_refused(trt: Bundle, changes: dict[str, str], reason: str) -> None:
    """Another TensorRT, compute capability, bundle or graph: the message names both, and the remedy."""
    store_plan(trt, Shapes(), **changes)
    with pytest.raises(EngineError, match=f"{reason}.*build one here with 'anytime export"):
        find_plan(trt, "10.16.1", "8.7")


def test_a_compatible_plan_may_be_of_elsewhere(trt: Bundle) -> None:
    """Built for later versions, or other GPUs from Ampere on; but not for earlier ones."""
    store_plan(trt, Shapes(), tensorrt="10.15.2", options=PlanOptions(version_compatible=True))
    assert find_plan(trt, "10.16.1", "8.7").sidecar.tensorrt == "10.15.2"
    with pytest.raises(EngineError, match=r"built by TensorRT 10.15.2, this is 10.15.1"):
        find_plan(trt, "10.15.1", "8.7")
    store_plan(trt, Shapes(), compute_capability="8.6", options=PlanOptions(hardware_compatible=True))
    assert find_plan(trt, "10.16.1", "11.0").sidecar.compute_capability == "8.6"
    with pytest.raises(EngineError, match=r"this GPU has 7.5"):
        find_plan(trt, "10.16.1", "7.5")


def test_the_newest_plan_that_fits_is_taken(trt: Bundle) -> None:
    """One built later with other options counts; one that fits is found behind others that do not."""
    store_plan(trt, Shapes(rows=3))
    store_plan(trt, Shapes(rows=5))
    file = store_plan(trt, Shapes(rows=7), tensorrt="10.15.0")
    file.with_name("damaged.json").write_bytes(b"{")
    assert find_plan(trt, "10.16.1", "8.7").sidecar.options.rows == 5


def test_host_code_is_run_only_where_a_plan_was_built_with_it(trt: Bundle) -> None:
    """Plans for later versions bring code for the processor; that the note says so is what allows it."""
    shapes = Shapes(host_code=True)
    store_plan(trt, shapes, options=PlanOptions(version_compatible=True))
    assert opened(trt, find_plan(trt, "10.16.1", "8.7")).free_rows == 4
    store_plan(trt, shapes)
    with pytest.raises(EngineError, match="host code, which is not allowed"):
        opened(trt, find_plan(trt, "10.16.1", "8.7"))


def test_a_note_that_is_damaged_is_named(trt: Bundle) -> None:
    """The file beside the plan that says what it is."""
    note = store_plan(trt, Shapes()).with_suffix(".json")
    note.write_bytes(note.read_bytes()[:-9])
    with pytest.raises(EngineError, match=f"{note}: it cannot be read"):
        find_plan(trt, "10.16.1", "8.7")


def test_an_altered_plan_is_not_loaded(trt: Bundle) -> None:
    """A plan runs native code: one byte that is not what was built is enough."""
    file = store_plan(trt, Shapes())
    plan = find_plan(trt, "10.16.1", "8.7")
    file.write_bytes(file.read_bytes().replace(b"rows", b"rowz"))
    with pytest.raises(EngineError, match=r"damaged or was altered.*it is not loaded: delete it and build one here"):
        opened(trt, plan)
    file.unlink()
    with pytest.raises(EngineError, match="cannot be read"):
        opened(trt, plan)


def test_with_a_trusted_key_a_plan_that_this_user_built_is_loaded(
    trt: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directories are this user's or root's, or sticky ones."""
    store_plan(trt, Shapes())
    monkeypatch.setenv("ANYTIME_TRUSTED", str(tmp_path / "trusted.pub"))
    assert opened(trt, find_plan(trt, "10.16.1", "8.7")).free_rows == 4


@pytest.mark.parametrize("part", ["plan", "note", "folder", "state"])
def test_with_a_trusted_key_a_plan_that_others_can_write_is_not_loaded(
    part: str, trt: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the file, nor its note, nor any directory above them; without a key their modes do not count."""
    file = store_plan(trt, Shapes())
    place = {"plan": file, "note": file.with_suffix(".json"), "folder": file.parent, "state": tmp_path / "state"}[part]
    place.chmod(0o775)
    assert opened(trt, find_plan(trt, "10.16.1", "8.7")).free_rows == 4
    monkeypatch.setenv("ANYTIME_TRUSTED", str(tmp_path / "trusted.pub"))
    with pytest.raises(SignatureError, match=rf"{place} may be written by others \(mode 775\).*build it again"):
        find_plan(trt, "10.16.1", "8.7")


def test_what_tensorrt_refuses_is_said_in_its_words(trt: Bundle) -> None:
    """A plan that is whole, and none that this TensorRT can load."""
    store_plan(trt, Shapes(), b"{")
    with pytest.raises(EngineError, match=r"TensorRT 10.16.1 cannot load the plan: .*serializationVersion failed"):
        opened(trt, find_plan(trt, "10.16.1", "8.7"))


def test_the_graph_is_the_one_of_the_version(trt: Bundle, tmp_path: Path) -> None:
    """10.3 appends, from 10.15 on the cache is updated in place; without a graph, or too old, there is a remedy."""
    store_plan(trt, Shapes())
    store_plan(trt, Shapes(update="appended"))
    assert find_plan(trt, "10.3.0", "8.7").graph.update == "appended"
    assert find_plan(trt, "10.16.1", "8.7").graph.update == "in-place"
    with pytest.raises(BundleError, match=r"needs tensorrt>=10.3; this is TensorRT 8.6.1"):
        find_plan(trt, "8.6.1", "8.7")
    plain = trt_bundle(tmp_path / "plain", graphs=trt.manifest.graphs[:1])
    with pytest.raises(BundleError, match="has no graph for TensorRT"):
        find_plan(plain, "10.16.1", "8.7")


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (Shapes(context=512), "past_key_values.0.key is .*512"),
        (Shapes(layers=3), r"past_key_values.2.key is .*expected 2"),
        (Shapes(vocab=65), "logits is .*65"),
        (Shapes(heads=4), "past_key_values.0.key is"),
        (Shapes(dtype="FLOAT"), "past_key_values.0.key is .*FLOAT"),
        (Shapes(profiles=1), "optimization profiles is 1, expected 2"),
        (Shapes(alias="past"), "shares the memory of past.0.key"),
        (Shapes(alias=""), "shares the memory of nothing"),
        (Shapes(rows=2), "the plan is for 2 rows: build one with --rows 3 to 16"),
        (Shapes(rows=17), "the plan is for 17 rows: build one with --rows 3 to 16"),
    ],
)
def test_a_plan_of_another_shape_is_refused(trt: Bundle, shapes: Shapes, message: str) -> None:
    """What it was built for must be what the bundle says; a cache that is not updated in place would lose tokens."""
    with pytest.raises(EngineError, match=message):
        make_engine(trt, shapes)


def test_rows_that_cannot_be_aligned_are_refused(tmp_path: Path, trt: Bundle) -> None:
    """TensorRT wants every address at a multiple of 256 bytes."""
    bundle = trt_bundle(tmp_path / "odd", max_context=252)
    with pytest.raises(EngineError, match=r"8064 bytes .* multiple of 256: export with --max-context"):
        make_engine(bundle, Shapes(context=252))


@pytest.mark.parametrize("update", ["in-place", "appended"])
def test_steps_are_held_to_a_run_at_once(trt: Bundle, update: str) -> None:
    """At start-up; a model that computes something else in steps is refused, or one whose logits are no numbers."""
    engine, device = make_engine(trt, Shapes(update=update))
    device.log.clear()
    check_consistent(engine, "")
    assert {"launch", "enqueue", "copy_rows"} <= set(device.log)  # captured, queued one by one, and forked
    assert engine.free_rows == engine.spec.max_rows
    calls = itertools.count()
    other, _ = make_engine(trt, Shapes(update=update), script=lambda tokens: next(calls) % 64)
    with pytest.raises(EngineError, match="other logits in steps than at once on this GPU, by 100% of the largest"):
        check_consistent(other, "build the plan again")
    none, _ = make_engine(trt, Shapes(update=update), script=lambda tokens: -1)
    with pytest.raises(EngineError, match="no numbers on this GPU"):
        check_consistent(none, "")


# -- the machine


def test_too_little_memory_is_found_before_it_is_taken(trt: Bundle) -> None:
    """With the sizes: of the weights before they are loaded, of the cache and all else before it is allocated."""
    device = FakeDevice()
    device.free = 50
    with pytest.raises(EngineError, match=r"0 MiB of memory free, .* MiB for the plan's weights"):
        make_engine(trt, Shapes(), device=device)
    device.free = 1 << 20
    shapes = Shapes(scratch=3 << 20)
    with pytest.raises(EngineError, match=r"1 MiB of memory free, and 3 MiB are needed \(0 MiB for the cache of 4 seq"):
        make_engine(trt, shapes, device=device)
    assert "allocate" not in device.log


def test_memory_that_cannot_be_had_after_all_is_an_error(trt: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program was quicker."""
    device = FakeDevice()

    def refuse(size: int) -> int:
        raise CudaFailure("out of memory")

    monkeypatch.setattr(device, "allocate", refuse)
    with pytest.raises(EngineError, match=r"the GPU cannot be set up \(out of memory\): end other programs"):
        make_engine(trt, Shapes(), device=device)


def test_a_context_that_cannot_be_made_is_an_error(trt: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where TensorRT itself finds no memory."""
    monkeypatch.setattr("tests.doubles_trt._Context", lambda *args: args[1].log("ERROR", "out of memory"))
    with pytest.raises(EngineError, match="makes no execution context: out of memory"):
        make_engine(trt, Shapes())


def test_what_a_context_refuses_is_said_in_its_words(trt: Bundle) -> None:
    """Shapes outside the profile, addresses that are not aligned, what is missing, and a profile that there is not."""
    gpu = FakeDevice()
    model = TensorRT(make_tensorrt(weighed)).load(plan_bytes(Shapes()), host_code=False)
    context = model.context(0, gpu.allocate(4096), gpu.stream)
    gpu.finish()
    with pytest.raises(EngineError, match=r"does not take input_ids as .*is not within"):
        context.set_shape("input_ids", (5, 1))
    with pytest.raises(EngineError, match="does not take 0x7b for logits: logits is not aligned"):
        context.bind("logits", 123)
    with pytest.raises(EngineError, match="TensorRT misses input_ids, past_length, first_logit"):
        context.check()
    with pytest.raises(EngineError, match="TensorRT failed: an address or a shape is missing"):
        context.enqueue()
    with pytest.raises(EngineError, match="does not take optimization profile 2: there is no profile 2"):
        model.context(2, gpu.allocate(4096), gpu.stream)


@pytest.mark.parametrize("version", ["8.6.1", "10.2.0", "12.0.0"])
def test_another_tensorrt_is_refused(version: str) -> None:
    """Older than the oldest, or of a major version that nobody has seen."""
    with pytest.raises(DeviceError, match=f"this is TensorRT {version}, anytime runs on 10.3 to 11.x"):
        TensorRT(make_tensorrt(weighed, version))


@pytest.mark.parametrize("version", ["10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106"])
def test_every_version_of_the_range_runs(trt: Bundle, version: str) -> None:
    """One engine for all of them; the first two have no caches in place and do not tell of aliases."""
    update = "appended" if version in ("10.3.0", "10.13.3.9") else "in-place"
    shapes = Shapes(update=update)
    store_plan(trt, shapes, tensorrt=version)
    engine = opened(trt, find_plan(trt, version, "8.7"), version)
    assert int(engine.run([Row(engine.open(), [5, 6, 7])], 1)[0].argmax()) == weighed([5, 6, 7])


def test_without_tensorrt_it_says_so() -> None:
    """Here it is not installed."""
    pytest.importorskip("onnxruntime")
    with pytest.raises(DeviceError, match=r"TensorRT cannot be imported .*: install it"):
        import_tensorrt()


def test_without_a_cuda_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuda.core first, pycuda second, else the extra."""
    asked: list[str] = []
    monkeypatch.setattr(device, "_installed", asked.append)
    with pytest.raises(
        DeviceError, match=r"neither cuda-core nor pycuda is installed: pip install 'anytime\[tensorrt\]'"
    ):
        device.open_device()
    assert asked == ["cuda.core", "pycuda"]


def test_a_sidecar_is_read_as_it_was_written(trt: Bundle) -> None:
    """The note that a test leaves has the fields that export writes."""
    note = store_plan(trt, Shapes()).with_suffix(".json")
    assert set(msgspec.json.decode(note.read_bytes())) == {
        "tensorrt",
        "compute_capability",
        "graph_sha256",
        "bundle",
        "options",
        "plan_sha256",
    }
