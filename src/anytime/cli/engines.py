"""What ``--engine`` takes where a model is run."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, TypeAlias

import typer


class Engines(str, Enum):
    """The values of ``EngineName``."""

    onnxruntime = "onnxruntime"
    tensorrt = "tensorrt"
    cuda = "cuda"
    tensorrt_rtx = "tensorrt-rtx"


EngineOption: TypeAlias = Annotated[
    Engines,
    typer.Option(help="What runs it; all but onnxruntime need a GPU, tensorrt a plan built here."),
]
