"""What the engine on TensorRT uses of CUDA: both packages on doubles, the names held to the real ones, the kernel."""

from __future__ import annotations

import ast
import ctypes
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anytime.bundle import Bundle
from anytime.errors import DeviceError, EngineError
from anytime.runtime.engine import Burst, Row
from anytime.runtime.gpu import device
from anytime.runtime.gpu.device import RowCopy
from tests import doubles_cuda
from tests.doubles_device import CudaFailure, FakeDevice
from tests.doubles_trt import Shapes
from tests.trt import make_engine, trt_bundle, weighed

FOLDER = Path(device.__file__).parent
PACKAGES = {"cuda.core": ("device_cuda", doubles_cuda.cuda_core), "pycuda": ("device_pycuda", doubles_cuda.pycuda)}
PROMPT = [1, 40, 41, 42, 43, 44]


@pytest.fixture(params=PACKAGES)
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, FakeDevice]]:
    """A device through a double of one of the packages, and the double of the GPU that it drives."""
    module, make = PACKAGES[request.param]
    gpu = FakeDevice(graphs=request.param == "cuda.core")
    for name, double in make(gpu).items():
        monkeypatch.setitem(sys.modules, name, double)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: doubles_cuda.driver_library(gpu))
    name = f"anytime.runtime.gpu.{module}"
    sys.modules.pop(name, None)
    monkeypatch.setattr(device, "_installed", lambda package: package == request.param)
    yield device.open_device(), gpu
    sys.modules.pop(name, None)


@pytest.fixture
def trt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return trt_bundle(tmp_path / "trt")


@pytest.mark.parametrize("update", ["in-place", "appended"])
def test_the_engine_runs_through_either_package(trt: Bundle, opened: tuple[Any, FakeDevice], update: str) -> None:
    """Prompts, bursts, forks and snapshots, with graphs where the package has them."""
    made, gpu = opened
    engine, _ = make_engine(trt, Shapes(update=update), device=made)
    assert ("begin" in gpu.log) == made.graphs
    assert engine.spec.provider == f"{made.package}, {update}, {'graphs' if made.graphs else 'no graphs'}"
    seq = engine.open()
    engine.run([Row(seq, PROMPT)], 1)
    (fork,) = engine.fork(engine.restore(engine.snapshot(seq)))
    tokens = [*PROMPT, 5]
    for _ in range(4):
        tokens.append(weighed(tokens))
    assert engine.extend([Burst(fork, 5, [])], 4, 1)[0] == tokens[len(PROMPT) + 1 :]
    (logits,) = engine.run([Row(seq, [9] * 30, 2)], 1)
    assert int(logits[1].argmax()) == weighed([*PROMPT, *[9] * 30])
    assert engine.elapsed_ns == 1_500_000


def test_a_capture_that_fails_is_ended(trt: Bundle, opened: tuple[Any, FakeDevice]) -> None:
    """The stream takes work again, and the error is the first one."""
    made, gpu = opened
    if not made.graphs:
        with pytest.raises(NotImplementedError):
            made.capture(lambda: None)
        return

    def fail() -> None:
        raise EngineError("no")

    with pytest.raises(EngineError, match="no"):
        made.capture(fail)
    assert gpu.recording is None
    gpu.capture_fails_at = 2
    with pytest.raises(made.failures):
        made.capture(lambda: None)
    assert gpu.recording is None


def test_no_thread_keeps_pycuda_s_context(trt: Bundle, opened: tuple[Any, FakeDevice]) -> None:
    """Its stack of contexts is empty again once all is made, for pycuda ends the process of a thread that keeps one."""
    made, _ = opened
    if not made.graphs:
        make_engine(trt, Shapes(), device=made)
        with pytest.raises(IndexError):
            made._context.pop()


def test_a_package_that_cannot_use_the_gpu_says_so(opened: tuple[Any, FakeDevice]) -> None:
    """As bindings of another CUDA version than the driver's."""
    made, gpu = opened
    gpu.attach = _refuse  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match=r"cannot use the GPU \(insufficient driver\): "):
        sys.modules[type(made).__module__].open_gpu()


def _refuse() -> None:
    raise CudaFailure("insufficient driver")


# -- the real packages


def attributes(file: Path, owners: dict[str, Any]) -> Iterator[tuple[str, Any, str, ast.Call | None]]:
    """Every attribute that a file uses of something named in ``owners``, with the call that it is used in."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            base = ast.unparse(node.value)
            if base in owners:
                yield base, owners[base], node.attr, calls.get(id(node))


def test_cuda_core_has_what_is_used() -> None:
    """Every attribute and keyword that the file uses of cuda.core, in the version that is installed."""
    core = pytest.importorskip("cuda.core")
    graph = importlib.import_module("cuda.core.graph")
    driver = importlib.import_module("cuda.bindings.driver")
    owners = {
        "Buffer": core.Buffer,
        "Buffer.from_handle(to, size)": core.Buffer,
        "Buffer.from_handle(to.ctypes.data, size)": core.Buffer,
        "Gpu(0)": core.Device,
        "ObjectCode": core.ObjectCode,
        "ObjectCode.from_ptx(kernel_code())": core.ObjectCode,
        "buffer": core.Buffer,
        "builder": graph.GraphBuilder,
        "builder.end_building()": graph.GraphBuilder,
        "cuda.core": core,
        "driver": driver,
        "driver.CUresult": driver.CUresult,
        "gpu": core.Device,
        "graph": graph.Graph,
        "self._done": core.Event,
        "self._gpu": core.Device,
        "self._host": core.LegacyPinnedMemoryResource,
        "self._stream": core.Stream,
    }
    found = list(attributes(FOLDER / "device_cuda.py", owners))
    assert {base for base, *_ in found} == set(owners)
    for base, owner, name, call in found:
        assert hasattr(owner, name), f"{base}.{name}"
        signature = (getattr(owner, name).__doc__ or "").strip().splitlines()
        for keyword in call.keywords if call else ():
            assert re.search(rf"\b{keyword.arg}\b", signature[0] if signature else ""), f"{base}.{name}({keyword.arg}=)"
    core.StreamOptions(nonblocking=True, priority=-5)
    core.EventOptions(timing_enabled=True, blocking_sync=True)
    assert core.LaunchConfig(grid=(3, 2, 1), block=128).block == (128, 1, 1)
    assert issubclass(importlib.import_module("cuda.core._utils.cuda_utils").CUDAError, Exception)
    assert hasattr(core.Event, "__sub__")


def test_without_a_driver_cuda_core_is_refused_in_words() -> None:
    """The real package on a machine without a GPU."""
    pytest.importorskip("cuda.core")
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU")
    from anytime.runtime.gpu.device_cuda import open_gpu

    with pytest.raises(DeviceError, match=r"cuda.core .* cannot use the GPU"):
        open_gpu()


def test_nothing_of_a_gpu_is_imported_before_it_is_asked_for() -> None:
    """Loading and running the reference on the CPU imports neither CUDA nor TensorRT, nor our engine on them."""
    code = (
        "import sys; before = set(sys.modules); from anytime.runtime.loading import open_bundle; open_bundle(None, 1); "
        "gpus = ['cuda', 'pycuda', 'tensorrt', *('anytime.runtime.' + name for name in ('trt', 'ortgpu', 'gpu'))]; "
        "print(*[n for n in sys.modules.keys() - before if any(n == gpu or n.startswith(gpu + '.') for gpu in gpus)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# -- the kernel

_SHIM = """
#include <cstdint>
struct Dim { unsigned x, y, z; };
static Dim blockIdx, blockDim, threadIdx;
struct alignas(16) uint4 { unsigned x, y, z, w; };
#define __global__
#include "copy_rows.cu"
extern "C" void run(unsigned x, unsigned y, unsigned z, unsigned threads, const u64 *a)
{
    blockDim = {threads, 1, 1};
    for (blockIdx.z = 0; blockIdx.z < z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < x; blockIdx.x++)
                for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++)
                    copy_rows((const u64 *)a[0], (const u64 *)a[1], (const long long *)a[2], a[3], a[4], a[5], a[6],
                              a[7], a[8], a[9]);
}
"""


@pytest.fixture(scope="module")
def kernel(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[RowCopy], None]:
    """The kernel, compiled for the CPU, one thread after the other."""
    library = tmp_path_factory.mktemp("kernel") / "copy_rows.so"
    command = [compiler, "-x", "c++", "-", "-shared", "-fPIC", "-O1", "-I", str(FOLDER), "-o", str(library)]
    subprocess.run(command, input=_SHIM, text=True, check=True)
    run = ctypes.CDLL(str(library)).run

    def launch(copy: RowCopy) -> None:
        run(*copy.grid, device.THREADS, (ctypes.c_uint64 * 10)(*copy.arguments))

    return launch


def test_the_kernel_copies_as_the_double_does(kernel: Callable[[RowCopy], None]) -> None:
    """For any shape, row and position: the same bytes at the same places, and no others touched."""

    @settings(max_examples=40)
    @given(st.data())
    def hold(data: st.DataObject) -> None:
        def number(least: int, most: int) -> int:
            return data.draw(st.integers(least, most))

        rows, parts, heads, units = number(1, 3), number(1, 3), number(1, 3), number(1, 5)
        to_length, source_length, to_row, source_row = number(1, 20), number(1, 20), number(0, 2), number(0, 2)
        tokens, seed = number(1, source_length), number(0, 2**32)
        noise = np.random.default_rng(seed)
        to = noise.integers(0, 256, (parts, to_row + rows, heads, to_length, units * 16), dtype=np.uint8)
        source = noise.integers(0, 256, (parts, source_row + rows, heads, source_length, units * 16), dtype=np.uint8)
        at = noise.integers(0, to_length, rows)
        begin = at if data.draw(st.booleans()) else np.zeros_like(at)
        expected = to.copy()
        for row in range(rows):
            fits = min(tokens, to_length - begin[row])
            place = slice(begin[row], begin[row] + fits)
            expected[:, to_row + row, :, place] = source[:, source_row + row, :, :fits]
        to_table, source_table = (
            np.array([part.ctypes.data for part in array], dtype=np.uint64) for array in (to, source)
        )
        kernel(
            RowCopy(
                to=to_table.ctypes.data,
                source=source_table.ctypes.data,
                at=at.ctypes.data if begin is at else 0,
                to_row=to_row,
                to_length=to_length,
                source_row=source_row,
                source_length=source_length,
                heads=heads,
                tokens=tokens,
                units=units,
                rows=rows,
                parts=parts,
            )
        )
        np.testing.assert_array_equal(to, expected)

    hold()


def test_the_kernel_in_the_package_is_for_old_drivers_and_gpus() -> None:
    """PTX that CUDA 12.1 reads, for compute capability 7.5 and all later ones, with ten arguments of 64 bits."""
    code = device.kernel_code().decode()
    version = re.search(r"^\.version (\d+)\.(\d+)$", code, re.MULTILINE)
    assert version is not None
    assert (int(version[1]), int(version[2])) <= (8, 1)
    assert ".target sm_75\n" in code
    assert f".visible .entry {device.KERNEL}(" in code
    assert len(re.findall(r"\.param \.u64 copy_rows_param_\d", code)) == 10


def test_the_kernel_in_the_package_is_its_source() -> None:
    """Compiled again by NVRTC 12.1, where ANYTIME_NVRTC names that library."""
    library = os.environ.get("ANYTIME_NVRTC")
    if library is None:
        pytest.skip("ANYTIME_NVRTC does not name NVRTC's library")
    nvrtc, program, size = ctypes.CDLL(library), ctypes.c_void_p(), ctypes.c_size_t()
    source = (FOLDER / "copy_rows.cu").read_bytes()
    options = (ctypes.c_char_p * 1)(b"--gpu-architecture=compute_75")
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"copy_rows.cu", 0, None, None) == 0
    assert nvrtc.nvrtcCompileProgram(program, 1, options) == 0
    assert nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size)) == 0
    made = ctypes.create_string_buffer(size.value)
    assert nvrtc.nvrtcGetPTX(program, made) == 0
    lines = [line for line in made.value.decode().splitlines() if not line.startswith(".global")]
    assert lines == device.kernel_code().decode().splitlines()
