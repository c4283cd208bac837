"""NVIDIA's Python bindings of TensorRT, several versions side by side, for tests that hold our calls to the real ones.

``python -m tests.trt_bindings DIR`` downloads them from PyPI (5 MB; nothing of NVIDIA's is in this repository) and puts
empty libraries in the place of TensorRT's own, which are hundreds of megabytes and want a GPU: the bindings can be
imported and looked at, nothing can be run. Tests that do so are skipped unless ANYTIME_TRT_BINDINGS names DIR.

Needs gcc and the Python that the bindings are wheels for (3.10 to 3.13).
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

# One of each kind: JetPack 6, JetPack 7.0, JetPack 7.2, and the newest.
BINDINGS = {
    "10.3.0": "tensorrt_cu12_bindings",
    "10.13.3.9": "tensorrt_cu13_bindings",
    "10.16.1.11": "tensorrt_cu13_bindings",
    "11.4.0.106": "tensorrt_cu13_bindings",
}
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
        wheels, site = folder / "wheels" / version, folder / version / "site"
        fetch = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(wheels)]
        subprocess.run([sys.executable, "-m", "pip", *fetch, f"{package}=={version}"], check=True)
        (wheel,) = wheels.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        make_empty_libraries(folder / version / "libraries", version)


def make_empty_libraries(folder: Path, version: str) -> None:
    """Shared libraries of the names that this version's bindings are linked with; their functions return nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for library, symbols in _SYMBOLS.items():
        name = f"lib{library}.so.{version.split('.', maxsplit=1)[0]}"
        code = "\n".join(f"void *{symbol}(void) {{ return 0; }}" for symbol in symbols)
        gcc = ["gcc", "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,{name}", "-o", str(folder / name)]
        subprocess.run(gcc, input=code, text=True, check=True)


def run(folder: Path, version: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own in which this version is ``tensorrt``."""
    paths = [str(folder / version / "site"), *(path for path in sys.path if path)]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "LD_LIBRARY_PATH": str(folder / version / "libraries"),
    }
    return subprocess.run(
        [sys.executable, "-c", f"{_AS_TENSORRT}\n{code}"], capture_output=True, text=True, env=env, check=False
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]))
