"""Plans: what TensorRT is asked to build, where it is put, and a machine that lacks what it takes."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from anytime.bundle import TOKENIZER, Bundle, Graph, seal, staging, state_dir
from anytime.errors import BundleError, DeviceError, ExportError
from anytime.export import plan
from anytime.export.plan import build_plan, load_tensorrt
from anytime.plans import APPENDED, IN_PLACE, PlanOptions, Sidecar, graph_sha256, plans_dir, tensorrt_graph
from anytime.targets.gpu import Gpu
from tests.conftest import manifest
from tests.fake_tensorrt import FakeTensorRT

ORIN = Gpu("Orin (nvgpu)", "8.7", "12.6")
INPUTS = {
    "input_ids": (-1, -1),
    "past_length": (-1,),
    "first_logit": (1,),
    "past_key_values.0.key": (-1, 2, 64, 16),
    "past_key_values.0.value": (-1, 2, 64, 16),
}


def write_bundle(path: Path) -> Bundle:
    """A bundle with graphs for TensorRT, which nobody parses."""
    graphs = (
        Graph("model.onnx", "fp32", 18, "onnxruntime>=1.23", 0.0),
        Graph("tensorrt.in-place.onnx", "fp16", 24, IN_PLACE, 1e-3, "in-place", "tensorrt.weights"),
        Graph("tensorrt.appended.onnx", "fp16", 20, APPENDED, 1e-3, "appended", "tensorrt.weights"),
    )
    with staging(path) as scratch:
        for name in (TOKENIZER, "tensorrt.weights", *(graph.file for graph in graphs)):
            (scratch / name).write_bytes(name.encode())
        seal(scratch, manifest(graphs=graphs, max_context=64))
    return Bundle.load(path)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Jetson with this TensorRT."""

    def install(version: str = "10.16.1.11", **trouble: bool) -> FakeTensorRT:
        trt = FakeTensorRT(INPUTS, version, **trouble)
        monkeypatch.setattr(plan, "probe", lambda: ORIN)
        monkeypatch.setitem(sys.modules, "tensorrt", trt.module)
        return trt

    return install


def test_a_plan_has_a_profile_for_steps_and_one_for_prefills(bundle: Bundle, device: Any) -> None:
    """Steps of one to all rows, runs of one row with up to a chunk; strongly typed, on one stream, nothing else set."""
    trt = device()
    build_plan(bundle, PlanOptions(rows=4, chunk=32))
    step, prefill = trt.profiles
    assert step["input_ids"] == ([1, 1], [1, 1], [4, 1])
    assert step["past_length"] == ([1], [1], [4])
    assert step["first_logit"] == ([0], [0], [0])
    assert step["past_key_values.0.key"] == ([1, 2, 64, 16], [1, 2, 64, 16], [4, 2, 64, 16])
    assert prefill["input_ids"] == ([1, 1], [1, 32], [1, 32])
    assert prefill["past_length"] == ([1], [1], [1])
    assert prefill["first_logit"] == ([0], [31], [31])
    assert prefill["past_key_values.0.value"] == ([1, 2, 64, 16],) * 3
    assert trt.flags == 1 << 1
    assert trt.config["max_aux_streams"] == 0
    assert not {"flag", "hardware_compatibility_level"} & set(trt.config)


def test_a_chunk_is_no_longer_than_the_context(bundle: Bundle, device: Any) -> None:
    """The default chunk fits a short context, and the note says what was built."""
    trt = device()
    file = build_plan(bundle, PlanOptions())
    assert trt.profiles[1]["input_ids"] == ([1, 1], [1, 64], [1, 64])
    assert msgspec.json.decode(file.with_suffix(".json").read_bytes(), type=Sidecar).options.chunk == 64


def test_compatible_plans_are_asked_for_by_name(bundle: Bundle, device: Any) -> None:
    """Both kinds of compatibility are TensorRT's own, and another plan than without."""
    trt = device()
    plain = build_plan(bundle, PlanOptions())
    compatible = build_plan(bundle, PlanOptions(version_compatible=True, hardware_compatible=True))
    assert plain != compatible
    assert trt.config["flag"] == "version compatible"
    assert trt.config["hardware_compatibility_level"] == "from Ampere on"


@pytest.mark.parametrize(
    ("version", "update"),
    [("10.3.0", "appended"), ("10.14.1.48", "appended"), ("10.15.1.29", "in-place"), ("11.4.0.106", "in-place")],
)
def test_the_graph_is_the_best_that_this_tensorrt_parses(
    version: str, update: str, bundle: Bundle, device: Any
) -> None:
    """In place from 10.15 on, appended before; attention layers, which only the former has, may be decomposed."""
    trt = device(version)
    build_plan(bundle, PlanOptions())
    assert trt.parsed == str(bundle.file(f"tensorrt.{update}.onnx"))
    assert trt.attention == ({"decomposable": True} if update == "in-place" else {})


def test_too_old_a_tensorrt_is_refused(bundle: Bundle, device: Any) -> None:
    """The message has both versions."""
    device("10.2.0")
    with pytest.raises(BundleError, match=r"needs tensorrt>=10\.3; this is TensorRT 10\.2\.0: upgrade it"):
        build_plan(bundle, PlanOptions())


def test_a_bundle_without_graphs_for_tensorrt_is_refused(device: Any, tmp_path: Path) -> None:
    """The message says how to make one that has them."""
    from tests.conftest import write_bundle as plain

    device()
    with pytest.raises(BundleError, match="no graph for TensorRT: export its checkpoint again with --engine tensorrt"):
        build_plan(plain(tmp_path / "plain"), PlanOptions())


def test_the_note_beside_a_plan_says_what_it_is(bundle: Bundle, device: Any) -> None:
    """Versions, GPU, graph with its weights, options and the plan's own hash; its name is the hash of the rest."""
    device()
    file = build_plan(bundle, PlanOptions(rows=3, chunk=16))
    sidecar = msgspec.json.decode(file.with_suffix(".json").read_bytes(), type=Sidecar)
    graph = tensorrt_graph(bundle, "10.16.1.11")
    assert sidecar == Sidecar(
        tensorrt="10.16.1.11",
        compute_capability="8.7",
        graph_sha256=graph_sha256(bundle.manifest, graph),
        bundle=bundle.id,
        options=PlanOptions(rows=3, chunk=16),
        plan_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
    )
    assert file == plans_dir(bundle) / f"{sidecar.key()}.plan"
    assert sorted(other.suffix for other in file.parent.iterdir()) == [".json", ".plan"]


def test_other_weights_are_another_graph(bundle: Bundle) -> None:
    """The hash of a graph changes with the file of its weights, which the graph only points to."""
    graph = tensorrt_graph(bundle, "10.3.0")
    weights = msgspec.structs.replace(bundle.manifest.files["tensorrt.weights"], sha256="0" * 64)
    other = msgspec.structs.replace(bundle.manifest, files={**bundle.manifest.files, "tensorrt.weights": weights})
    assert graph_sha256(other, graph) != graph_sha256(bundle.manifest, graph)


def test_a_plan_that_is_there_is_not_built_again(bundle: Bundle, device: Any) -> None:
    """But one that was damaged is, and one of another version of TensorRT is another."""
    trt = device()
    file = build_plan(bundle, PlanOptions())
    assert build_plan(bundle, PlanOptions()) == file
    assert trt.builds == 1
    content = file.read_bytes()
    file.write_bytes(b"damaged")
    assert build_plan(bundle, PlanOptions()) == file
    assert file.read_bytes() == content
    file.with_suffix(".json").write_text("{}")
    build_plan(bundle, PlanOptions())
    assert trt.builds == 3
    device("11.4.0.106")
    assert build_plan(bundle, PlanOptions()) != file


def test_with_a_trusted_key_a_plan_that_others_can_have_written_is_built_again(
    bundle: Bundle, device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would not be loaded; the new one is this user's."""
    trt = device()
    file = build_plan(bundle, PlanOptions())
    file.chmod(0o666)
    build_plan(bundle, PlanOptions())
    assert trt.builds == 1
    monkeypatch.setenv("ANYTIME_TRUSTED", str(tmp_path / "trusted.pub"))
    build_plan(bundle, PlanOptions())
    build_plan(bundle, PlanOptions())
    assert trt.builds == 2
    assert not file.stat().st_mode & 0o022


def test_timings_are_kept_for_the_next_build(bundle: Bundle, device: Any) -> None:
    """In the state directory, apart for every version and GPU; TensorRT says whether it knows them."""
    trt = device()
    build_plan(bundle, PlanOptions())
    build_plan(bundle, PlanOptions(rows=3))
    assert trt.timings == [b"", b"+measured"]
    assert (state_dir() / "timing-10.16.1.11-8.7.cache").read_bytes() == b"+measured" * 2


def test_timings_of_another_gpu_are_not_used(bundle: Bundle, device: Any, tmp_path: Path) -> None:
    """A cache that TensorRT refuses is begun anew, in the file that was named."""
    trt = device(knows_timings=False)
    (tmp_path / "timings").write_bytes(b"foreign")
    build_plan(bundle, PlanOptions(), tmp_path / "timings")
    assert trt.timings == [b"foreign", b""]
    assert (tmp_path / "timings").read_bytes() == b"+measured"


def test_a_timing_cache_that_cannot_be_read_is_named(bundle: Bundle, device: Any, tmp_path: Path) -> None:
    """Before anything is built."""
    trt = device()
    with pytest.raises(ExportError, match=r"timing cache .* cannot be read \(Is a directory\): name another file"):
        build_plan(bundle, PlanOptions(), tmp_path)
    assert trt.builds == 0


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ({"parses": False}, r"TensorRT 10\.16\.1\.11 cannot parse tensorrt\.in-place\.onnx \(no such operator\)"),
        ({"builds": False}, r"TensorRT 10\.16\.1\.11 cannot build tensorrt\.in-place\.onnx"),
    ],
)
def test_what_tensorrt_refuses_leaves_nothing(
    trouble: dict[str, bool], message: str, bundle: Bundle, device: Any
) -> None:
    """The message has the version, the graph and TensorRT's reason; no plan is written."""
    device(**trouble)
    with pytest.raises(ExportError, match=message):
        build_plan(bundle, PlanOptions())
    assert not plans_dir(bundle).exists()


def test_a_driver_too_old_for_tensorrt_is_named(bundle: Bundle, device: Any) -> None:
    """The bindings' words for it, which say nothing, are not passed on."""
    device(starts=False)
    with pytest.raises(DeviceError, match=r"TensorRT 10\.16\.1\.11 does not start on this driver: update it"):
        build_plan(bundle, PlanOptions())


@pytest.mark.parametrize(
    ("options", "name"),
    [(PlanOptions(rows=2), "rows"), (PlanOptions(rows=17), "rows"), (PlanOptions(chunk=0), "chunk")],
)
def test_options_that_make_no_plan_are_refused(options: PlanOptions, name: str, bundle: Bundle) -> None:
    """By name and value, before a GPU is looked for."""
    with pytest.raises(ExportError, match=f"{name} is {getattr(options, name)}: "):
        build_plan(bundle, options)


def test_a_state_directory_that_cannot_be_written(
    bundle: Bundle, device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the directory and the remedy."""
    device()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file" / "state"))
    with pytest.raises(ExportError, match=r"(?s)(cannot be stored|cannot be read).*(XDG_STATE_HOME|another file)"):
        build_plan(bundle, PlanOptions())


def test_tensorrt_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says where it comes from."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(DeviceError, match=r"TensorRT cannot be loaded.*JetPack.*or build the plan on the device"):
        load_tensorrt()
