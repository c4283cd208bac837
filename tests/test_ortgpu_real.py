"""The engine on the real onnxruntime-gpu, without a GPU: with and without a stand-in for CUDA's libraries.

``pip install --target DIR onnxruntime-gpu``, then ``ANYTIME_ORT_GPU=DIR pytest tests/test_ortgpu_real.py``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anytime.bundle import Bundle, Precision
from anytime.runtime.ortgpu.engine import graph_of
from tests.checkpoints import save_checkpoint

FOLDER = os.environ.get("ANYTIME_ORT_GPU", "")
ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcuda.so.1")
OF_CUDA = re.compile(r"^(__cuda\w+|cu\w+)(@.*)?$")
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not FOLDER, reason="ANYTIME_ORT_GPU names no folder with onnxruntime-gpu"),
]


@pytest.fixture(scope="module", params=["fp16", "int8", "int4"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    pytest.importorskip("torch")
    from anytime.export import export_checkpoint

    precision: Precision = request.param
    root = tmp_path_factory.mktemp("exported")
    checkpoint = save_checkpoint("qwen3", root / "checkpoint")
    return export_checkpoint(checkpoint, root / "out", precision=precision, max_context=96, engine="tensorrt")


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libraries that are not CUDA's."""
    compiler, lister = shutil.which("cc"), shutil.which("nm")
    if compiler is None or lister is None:
        pytest.skip("there is no C compiler")
    provider = Path(FOLDER) / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    listed = subprocess.run(
        [lister, "-D", "--undefined-only", str(provider)], capture_output=True, text=True, check=True
    )
    found = (OF_CUDA.match(line.split()[-1]) for line in listed.stdout.splitlines())
    wanted = {match[1] for match in found if match is not None}
    source = (Path(__file__).parent / "stand_in_cuda.c").read_text(encoding="utf-8")
    rest = sorted(wanted - set(re.findall(r"\w+", source)))
    out = tmp_path_factory.mktemp("stand-in")
    (out / "all.c").write_text(source + "".join(f"int {name}(void) {{ return 0; }}\n" for name in rest))
    (out / "none.c").write_text("")
    build = [compiler, "-w", "-fno-builtin", "-shared", "-fPIC"]
    runtime = "libcudart.so.13"
    subprocess.run([*build, "-o", str(out / runtime), f"-Wl,-soname,{runtime}", str(out / "all.c")], check=True)
    for name in LIBRARIES:
        needs = [f"-L{out}", "-Wl,--no-as-needed", f"-l:{runtime}"]
        subprocess.run([*build, "-o", str(out / name), f"-Wl,-soname,{name}", str(out / "none.c"), *needs], check=True)
    return out


def run(code: list[str], libraries: Path | None = None) -> subprocess.CompletedProcess[str]:
    places = os.pathsep.join([FOLDER, str(ROOT / "src"), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": places, "LD_LIBRARY_PATH": str(libraries or "")}
    return subprocess.run([sys.executable, *code], capture_output=True, text=True, env=env, cwd=ROOT, check=False)


def test_a_step_is_one_launch_of_a_graph_that_was_captured_when_it_was_opened(bundle: Bundle, stand_in: Path) -> None:
    """All nodes are CUDA's, nothing of a graph is the host's, none is captured later or by another thread."""
    done = run(["-m", "tests.real_ort", str(bundle.path)], stand_in)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith(("test: ", "cuda: "))]
    marks = [i for i, line in enumerate(lines) if line.startswith("test: ")]
    said = {lines[a][6:]: lines[a + 1 : b] for a, b in zip(marks, [*marks[1:], len(lines)], strict=True)}
    (opened,) = (said[key] for key in said if key.startswith("stream "))
    (stream,) = (key.split()[1] for key in said if key.startswith("stream "))
    assert opened.count(f"cuda: begin on {stream}") == opened.count("cuda: end with kernels") == 26
    assert [line for line in opened if "captured" in line] == []
    assert sorted(int(line.split()[-1]) for line in opened if "launch" in line) == list(range(1, 27))
    assert [line for line in said["long"] if "launch" in line or "begin" in line] == []
    for deed, launches in (("step", 1), ("short", 1), ("burst", 2), ("another thread", 1)):
        assert len(said[deed]) == launches, said[deed]
        assert all(line.startswith("cuda: launch ") for line in said[deed])


def test_without_cuda_it_takes_the_cpu_in_silence_and_is_refused(bundle: Bundle) -> None:
    """What the package does where it is not told otherwise, and what the engine makes of that."""
    file = bundle.file(graph_of(bundle).file)
    asked = "import onnxruntime as o; s = o.InferenceSession({file!r}, providers=['CUDAExecutionProvider']); "
    silent = run(["-c", asked.format(file=str(file)) + "print(o.get_available_providers(), s.get_providers())"])
    assert "'CUDAExecutionProvider'" in silent.stdout.partition("]")[0]
    assert silent.stdout.strip().endswith("['CPUExecutionProvider']")
    ours = run(["-m", "tests.real_ort", str(bundle.path)])
    assert "was asked for CUDAExecutionProvider and takes the CPU instead" in ours.stderr
    code = asked.format(file=str(file)) + (
        "from anytime.runtime.ortgpu.session import Session; from anytime.runtime.ortgpu.provider import CUDA; "
        "Session(o, s, CUDA)"
    )
    assert "its session runs on CPUExecutionProvider" in run(["-c", code]).stderr
