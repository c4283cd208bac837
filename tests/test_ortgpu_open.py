"""Opening the engines on ONNX Runtime's GPU providers: asked for a GPU, nobody is given the CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from anytime import plans
from anytime.bundle import Bundle
from anytime.cli.main import app
from anytime.errors import BundleError, DeviceError, EngineError, SignatureError, UsageError
from anytime.runtime.loading import open_bundle
from anytime.runtime.ortgpu import engine as opening
from anytime.runtime.ortgpu.engine import layout_of, open_cuda, open_tensorrt_rtx
from anytime.runtime.ortgpu.provider import CUDA, TENSORRT_RTX
from anytime.targets.gpu import Gpu
from tests.conftest import write_bundle
from tests.ortgpu import PLUGIN, RTX, Machine
from tests.trt import GRAPHS, trt_bundle

BOTH = pytest.mark.parametrize("open_engine", [open_cuda, open_tensorrt_rtx])


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return trt_bundle(tmp_path / "bundle")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def desktop(machine: Machine) -> Machine:
    """A machine with the plug-in."""
    machine.packages = ["onnxruntime"]
    machine.has(Gpu("RTX", "8.9", "13.2"))
    machine.onnxruntime(available=("CPUExecutionProvider",), ep_devices=(RTX, RTX))
    return machine


def test_a_session_on_cuda(machine: Machine, bundle: Bundle) -> None:
    """It is asked for on the engine's own stream, with graphs, and without any way to the CPU."""
    loaded = open_bundle(bundle.path, engine="cuda")
    (session,) = machine.module.sessions
    assert session.options == {
        "device_id": "0",
        "user_compute_stream": str(machine.device.stream),
        "enable_cuda_graph": "1",
        "arena_extend_strategy": "kSameAsRequested",
    }
    assert session.settings.entries == {"session.disable_cpu_ep_fallback": "1"}
    assert (session.fallback, session.settings.enable_mem_pattern) == (0, False)
    spec, key = loaded.engine.spec, loaded.key
    assert spec.provider == "CUDAExecutionProvider, double 1, appended, graphs"
    assert (spec.name, spec.version, spec.precision, spec.gpu) == ("onnxruntime", "1.31.1", "int8", "Double 8.7")
    assert (spec.max_rows, spec.max_context) == (4, bundle.manifest.max_context)
    assert (key.engine, key.provider, key.gpu) == (spec.name, spec.provider, spec.gpu)


def test_what_onnxruntime_prints_is_not_the_programs_output(
    machine: Machine, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints which of CUDA's libraries it does not find, and ``anytime run`` may be piped."""
    open_cuda(bundle)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "libcudnn was not found\n")


def test_without_cuda_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the engine's own extra."""
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    for provider in (CUDA, TENSORRT_RTX):
        with pytest.raises(DeviceError, match=rf"cuda-core is not installed: .*'anytime\[{provider.extra}\]'"):
            opening._open_device(provider)


def test_a_state_directory_that_cannot_be_written(
    desktop: Machine, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT-RTX keeps its kernels there."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(EngineError, match=r"cannot be made.*set XDG_STATE_HOME"):
        open_tensorrt_rtx(bundle)


def test_a_session_on_the_plug_in(desktop: Machine, bundle: Bundle, tmp_path: Path) -> None:
    """It is registered once, and the session is on the first of its devices, alone."""
    loaded = open_bundle(bundle.path, engine="tensorrt-rtx")
    (session,) = desktop.module.sessions
    devices, options = session.settings.devices
    assert devices == [RTX]
    assert options == {
        "has_user_compute_stream": "1",
        "user_compute_stream": str(desktop.device.stream),
        "enable_cuda_graph": "1",
        "nv_runtime_cache_path": str(tmp_path / "state" / "anytime" / "tensorrt-rtx-8.9"),
    }
    assert (tmp_path / "state" / "anytime" / "tensorrt-rtx-8.9").is_dir()
    assert desktop.module.registered == [(RTX.ep_name, "/plug-in.so")]
    assert session.settings.entries == {"session.disable_cpu_ep_fallback": "1"}
    assert loaded.engine.spec.version == "1.31.1, plug-in 0.5.0"
    open_tensorrt_rtx(bundle)
    assert len(desktop.module.registered) == 1


@pytest.mark.parametrize("where", ["folder", "file"])
def test_with_a_trusted_key_kernels_of_others_are_refused(
    desktop: Machine, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """What the plug-in has compiled is native code that nobody signed; without a key it is taken as ever."""
    folder = tmp_path / "state" / "anytime" / "tensorrt-rtx-8.9"
    folder.mkdir(parents=True)
    kernel = folder / "kernel.cache"
    kernel.write_bytes(b"code")
    open_tensorrt_rtx(bundle)
    monkeypatch.setattr(plans, "trusted_keys", lambda: tmp_path / "keys")
    open_tensorrt_rtx(bundle)
    (folder if where == "folder" else kernel).chmod(0o777)
    with pytest.raises(SignatureError, match="may be written by others"):
        open_tensorrt_rtx(bundle)


def test_the_package_for_the_cpu_is_refused(machine: Machine, bundle: Bundle) -> None:
    """It would run, on the wrong processor."""
    machine.packages = ["onnxruntime"]
    machine.onnxruntime(available=("AzureExecutionProvider", "CPUExecutionProvider"))
    with pytest.raises(DeviceError, match=r"package for the CPU: .* pip uninstall onnxruntime .*'anytime\[cuda\]'"):
        open_cuda(bundle)


@BOTH
def test_two_packages_with_the_same_files_are_refused(machine: Machine, bundle: Bundle, open_engine: Any) -> None:
    """Whatever of them is left."""
    machine.packages = ["onnxruntime", "onnxruntime-gpu"]
    with pytest.raises(DeviceError, match=r"onnxruntime and onnxruntime-gpu are both installed.*pip uninstall"):
        open_engine(bundle)


@BOTH
def test_no_package_at_all(machine: Machine, bundle: Bundle, open_engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra."""
    machine.packages = []
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match=r"cannot be imported.*pip install 'anytime\[(cuda|tensorrt-rtx)\]'"):
        open_engine(bundle)


@BOTH
@pytest.mark.parametrize("honest", [True, False])
def test_a_session_that_fell_back_is_refused(machine: Machine, bundle: Bundle, open_engine: Any, honest: bool) -> None:
    """Whether ONNX Runtime says so where it is told to, or takes the CPU in silence."""
    machine.packages = ["onnxruntime"]
    machine.onnxruntime(falls_back=True, honest=honest, ep_devices=(RTX,))
    with pytest.raises(DeviceError, match=r"was asked for \w+ and takes the CPU instead"):
        open_engine(bundle)
    assert machine.device.log.count("allocate") == 0


@BOTH
def test_no_driver(machine: Machine, bundle: Bundle, open_engine: Any) -> None:
    """Said before a session is tried."""
    machine.has(DeviceError("there is no NVIDIA GPU to be used here: libcuda.so.1, the driver, cannot be loaded"))
    with pytest.raises(DeviceError, match="the driver, cannot be loaded"):
        open_engine(bundle)
    assert machine.module.sessions == []


def test_a_driver_that_is_too_old(machine: Machine, bundle: Bundle) -> None:
    """CUDA 13 does not start on a driver of CUDA 12; one of the same major version is enough."""
    machine.has(Gpu("Double", "8.7", "12.6"))
    with pytest.raises(DeviceError, match=r"made for CUDA 13\.0, and the driver .* knows CUDA up to 12\.6: update"):
        open_cuda(bundle)
    machine.has(Gpu("Double", "8.7", "13.0"))
    machine.onnxruntime(cuda="13.1")
    open_cuda(bundle)


@BOTH
def test_too_little_memory_is_said_with_the_sizes(machine: Machine, bundle: Bundle, open_engine: Any) -> None:
    """Before the weights are loaded and anything is taken."""
    machine.packages = ["onnxruntime"]
    machine.onnxruntime(ep_devices=(RTX,))
    machine.device.free = 1000
    with pytest.raises(EngineError, match=r"0 MiB for the model's weights, .* for the cache of 4 sequences of 256"):
        open_engine(bundle)
    assert machine.module.sessions == []
    assert "allocate" not in machine.device.log


@BOTH
def test_a_bundle_without_a_graph_for_it(machine: Machine, tmp_path: Path, open_engine: Any) -> None:
    """The message has the command that writes one."""
    bundle = write_bundle(tmp_path / "plain", graphs=GRAPHS[:1])
    with pytest.raises(BundleError, match=r"no graph for a GPU: .*'anytime export CHECKPOINT OUT --engine tensorrt'"):
        open_engine(bundle)


def test_a_graph_that_cannot_be_opened(machine: Machine, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has ONNX Runtime's words."""

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("model has memcpy nodes")

    monkeypatch.setattr(machine.module, "InferenceSession", refuse)
    with pytest.raises(EngineError, match=r"cannot open model.onnx with CUDAExecutionProvider \(model has memcpy"):
        open_cuda(bundle)


def test_a_run_that_fails_at_opening(machine: Machine, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ONNX Runtime takes by itself may not fit: an error in its words, not a lost GPU."""

    def fail(*_: Any) -> None:
        raise MemoryError("Failed to allocate memory for requested buffer")

    monkeypatch.setattr(machine.module.InferenceSession, "run_with_iobinding", fail)
    with pytest.raises(EngineError, match=r"cannot run model.onnx on the GPU \(Failed to allocate.*--max-context"):
        open_cuda(bundle)


def test_another_graph_is_refused(machine: Machine, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose inputs are not those that export writes."""
    monkeypatch.setattr(machine.module.InferenceSession, "get_inputs", lambda _: [])
    with pytest.raises(EngineError, match="not one that this anytime writes"):
        open_cuda(bundle)


def test_a_plug_in_that_is_missing(desktop: Machine, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra."""
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", None)
    with pytest.raises(DeviceError, match=r"plug-in .* cannot be imported.*'anytime\[tensorrt-rtx\]'"):
        open_tensorrt_rtx(bundle)


def test_a_plug_in_that_cannot_be_loaded(desktop: Machine, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version, and the linker's words."""

    def refuse(_name: str, _path: str) -> None:
        raise RuntimeError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(desktop.module, "register_execution_provider_library", refuse)
    with pytest.raises(DeviceError, match=rf"cannot load the plug-in \w+ {PLUGIN.__version__} \(libcuda.so.1: cannot"):
        open_tensorrt_rtx(bundle)


def test_a_card_that_the_plug_in_does_not_take(desktop: Machine, bundle: Bundle) -> None:
    """No devices of its own means no session."""
    desktop.onnxruntime(ep_devices=())
    with pytest.raises(DeviceError, match=r"takes no GPU of this machine \(the RTX has compute capability 8\.9\)"):
        open_tensorrt_rtx(bundle)


def test_an_onnxruntime_without_plug_ins(desktop: Machine, bundle: Bundle) -> None:
    """The message says from which version on there are some."""
    desktop.onnxruntime(version="1.23.2")
    with pytest.raises(DeviceError, match=r"onnxruntime 1\.23\.2 does not take .* needs 1\.24"):
        open_tensorrt_rtx(bundle)


def test_heads_that_cannot_be_copied(bundle: Bundle) -> None:
    """A head's channels are copied in units of 16 bytes."""
    import msgspec

    kv = msgspec.structs.replace(bundle.manifest.kv, head_dim=12)
    with pytest.raises(EngineError, match="a head has 12 channels, and this engine takes multiples of 8"):
        layout_of(msgspec.structs.replace(bundle.manifest, kv=kv))


def test_another_engine_is_none(bundle: Bundle) -> None:
    """Named with those that there are."""
    engine: Any = "rocm"
    with pytest.raises(
        UsageError, match="engine is 'rocm': it must be one of onnxruntime, tensorrt, cuda, tensorrt-rtx"
    ):
        open_bundle(bundle.path, engine=engine)


@pytest.mark.parametrize("engine", ["cuda", "tensorrt-rtx"])
def test_the_command_line_says_what_is_missing(machine: Machine, bundle: Bundle, engine: str) -> None:
    """One line, exit code 1."""
    machine.has(DeviceError("there is no NVIDIA GPU to be used here"))
    for command in (["run", str(bundle.path), "what"], ["profile", str(bundle.path)]):
        result = CliRunner().invoke(app, [*command, "--engine", engine])
        assert (result.exit_code, result.stderr) == (1, "error: there is no NVIDIA GPU to be used here\n")


def test_the_real_package_for_the_cpu_is_refused(bundle: Bundle) -> None:
    """What is installed where these tests run, mostly: it is told from the one for GPUs before anything else."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this is the package for GPUs")
    with pytest.raises(DeviceError, match=f"onnxruntime {onnxruntime.__version__} is the package for the CPU"):
        open_cuda(bundle)
