"""The peers' virtual environments, made on first use with the versions pinned here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from bench.peers import cache
from bench.peers.commands import run

# What pip installs, one call after another. PyTorch comes first and pinned, or it would bring CUDA along.
_TORCH = "torch==2.13.0"
PINS: dict[str, tuple[tuple[str, ...], ...]] = {
    "genai": (
        (_TORCH,),
        (
            _TORCH,
            "numpy==2.4.6",
            "onnx-ir==1.1.0",
            "onnx==1.23.2",
            "onnxruntime-genai==0.18.0",
            "onnxruntime==1.31.1",
            "transformers==5.23.0",
        ),
    ),
    "llama.cpp": (("gguf==0.19.0", "llama-cpp-python==0.3.36", "numpy==2.4.6"),),
    "openvino": (
        (_TORCH,),
        (
            _TORCH,
            "huggingface-hub==1.21.0",
            "nncf==3.4.0",
            "numpy==2.4.6",
            "openvino-tokenizers==2026.4.1.0",
            "openvino==2026.4.1",
            "optimum==2.3.0",
            "requests==2.34.2",
            "transformers==5.5.4",
        ),
        # It also asks for torchvision, which does not load beside a PyTorch without CUDA and is not needed.
        ("--no-deps", "optimum-intel==2.2.0"),
    ),
}
_INSTALLED = "pins.txt"  # written last


def python_of(engine: str, progress: Callable[[str], None]) -> Path:
    """The interpreter of an engine: this one, unless the engine has an environment of its own.

    Raises:
        ContenderError: the environment cannot be made.
    """
    if engine not in PINS:
        return Path(sys.executable)
    home = cache.directory() / engine
    python, marker = home / "bin" / "python", home / _INSTALLED
    pins = "\n".join(" ".join(call) for call in PINS[engine]) + "\n"
    if not marker.is_file() or marker.read_text(encoding="utf-8") != pins:
        progress(f"installing {engine} into {home}")
        run([sys.executable, "-m", "venv", "--clear", str(home)])
        for call in PINS[engine]:
            run([str(python), "-m", "pip", "install", "--quiet", *call])
        marker.write_text(pins, encoding="utf-8")
    return python
