"""NVIDIA's Python bindings of TensorRT, several versions side by side, for tests that hold our calls to the real ones.

``python -m tests.trt_bindings DIR`` downloads them from PyPI (5 MB; nothing of NVIDIA's is in this repository) and puts
empty libraries in the place of TensorRT's own, which are hundreds of megabytes and want a GPU: the bindings can be
imported and looked at, nothing can be run. Tests that do so are skipped unless ANYTIME_TRT_BINDINGS names DIR.

``python -m tests.trt_bindings DIR --builder`` also downloads TensorRT-RTX (146 MB), NVIDIA's parser and builder for
graphics cards, which build without a GPU. NVIDIA does not pair it with these bindings, but together they parse and
compile our graphs.

Needs gcc and the Python that the bindings are wheels for (3.10 to 3.13).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

# JetPack 6, JetPack 7.0, the first with a cache in place, JetPack 7.2, and the newest.
BINDINGS = {
    "10.3.0": "tensorrt_cu12_bindings",
    "10.13.3.9": "tensorrt_cu13_bindings",
    "10.15.1.29": "tensorrt_cu13_bindings",
    "10.16.1.11": "tensorrt_cu13_bindings",
    "11.4.0.106": "tensorrt_cu13_bindings",
}
BUILDER, BUILDER_VERSION, BINDINGS_OF_BUILDER = "onnxruntime-ep-nv-tensorrt-rtx-cu13", "0.5.0", "11.4.0.106"
# What the bindings want to find in each library when they are imported.
_SYMBOLS = {
    "nvinfer": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "nvinfer_plugin": ("initLibNvInferPlugins",),
    "nvonnxparser": ("createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getNvOnnxParserVersion"),
}
_AS_TENSORRT = "import sys, tensorrt_bindings; sys.modules['tensorrt'] = tensorrt_bindings"


def make(folder: Path) -> None:
    """Download every version and make its empty libraries."""
    for version, package in BINDINGS.items():
        unpack(f"{package}=={version}", folder / version / "site")
        make_empty_libraries(folder / version / "libraries", version)


def make_builder(folder: Path) -> None:
    """Download TensorRT-RTX, and give its libraries the names that the bindings ask for."""
    unpack(f"{BUILDER}=={BUILDER_VERSION}", folder / "builder" / "site")
    libraries = folder / "builder" / "libraries"
    make_empty_libraries(libraries, BINDINGS_OF_BUILDER)
    major = BINDINGS_OF_BUILDER.split(".", maxsplit=1)[0]
    for library, theirs in (("nvinfer", "libtensorrt_rtx"), ("nvonnxparser", "libtensorrt_onnxparser_rtx")):
        (found,) = (folder / "builder" / "site").glob(f"*/{theirs}.so.*")
        shutil.move(found, libraries / f"lib{library}.so.{major}")


def unpack(requirement: str, site: Path) -> None:
    """Download a wheel and unpack it, without installing anything."""
    wheels = site.parent / "wheel"
    fetch = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(wheels), requirement]
    subprocess.run([sys.executable, "-m", "pip", *fetch], check=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    shutil.rmtree(wheels)


def make_empty_libraries(folder: Path, version: str) -> None:
    """Shared libraries of the names that this version's bindings are linked with; their functions return nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for library, symbols in _SYMBOLS.items():
        name = f"lib{library}.so.{version.split('.', maxsplit=1)[0]}"
        code = "\n".join(f"void *{symbol}(void) {{ return 0; }}" for symbol in symbols)
        gcc = ["gcc", "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,{name}", "-o", str(folder / name)]
        subprocess.run(gcc, input=code, text=True, check=True)


def run(folder: Path, version: str, code: str, libraries: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own in which this version is ``tensorrt``; "builder" are libraries that build."""
    paths = [str(folder / version / "site"), *(path for path in sys.path if path)]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "LD_LIBRARY_PATH": str(folder / (libraries or version) / "libraries"),
    }
    return subprocess.run(
        [sys.executable, "-c", f"{_AS_TENSORRT}\n{code}"], capture_output=True, text=True, env=env, check=False
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]))
    if "--builder" in sys.argv:
        make_builder(Path(sys.argv[1]))
