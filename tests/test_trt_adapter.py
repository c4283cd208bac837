"""The adapter of TensorRT's run-time API, held to its own list of names, and that to NVIDIA's bindings."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from anytime.runtime.trt import adapter
from anytime.runtime.trt.adapter import SOMETIMES_USED, USED
from tests.doubles_trt import _Context, _Engine, _ILogger, make_tensorrt
from tests.test_trt_bindings import compare
from tests.trt import weighed
from tests.trt_bindings import BINDINGS

needs_bindings = pytest.mark.skipif("ANYTIME_TRT_BINDINGS" not in os.environ, reason="see tests.trt_bindings")

# What each name in the adapter stands for.
OWNERS = {
    "module": "",
    "trt": "",
    "self.trt": "",
    "self._tensorrt.trt": "",
    "trt.ILogger": "ILogger",
    "trt.TensorIOMode": "TensorIOMode",
    "trt.TensorLocation": "TensorLocation",
    "self._tensorrt.trt.ExecutionContextAllocationStrategy": "ExecutionContextAllocationStrategy",
    "self._runtime": "Runtime",
    "engine": "ICudaEngine",
    "self._engine": "ICudaEngine",
    "context": "IExecutionContext",
    "self._context": "IExecutionContext",
}


def tree() -> ast.Module:
    return ast.parse(Path(adapter.__file__).read_text(encoding="utf-8"))


def used() -> Iterator[tuple[str, str, int | None]]:
    """Class, attribute and, where it is called, number of arguments, of all that the adapter uses of TensorRT."""
    nodes = list(ast.walk(tree()))  # kept while nodes are told apart by their identity
    calls = {id(node.func): len(node.args) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and (base := ast.unparse(node.value)) in OWNERS:
            yield OWNERS[base], node.attr, calls.get(id(node))


def test_the_adapter_uses_what_it_lists() -> None:
    """No more and no less; its log is one of TensorRT's, which calls it by name."""
    found: dict[str, set[str]] = {}
    for owner, name, _ in used():
        found.setdefault(owner, set()).add(name)
    found["ILogger"] |= {"log"}
    found["ILogger"] -= {"__init__"}
    assert found == {owner: set(names) for owner, names in USED.items()}
    asked = {node.value for node in ast.walk(tree()) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert {name for names in SOMETIMES_USED.values() for name in names} <= asked


def test_the_double_has_what_is_listed_and_no_more() -> None:
    """So that what runs on it needs nothing else."""
    made = {
        "": set(vars(make_tensorrt(weighed))),
        "IExecutionContext": {name for name in vars(_Context) if not name.startswith("_")},
        "ILogger": {name for name in vars(_ILogger) if not name.startswith("_")},
        "Runtime": {name for name in vars(make_tensorrt(weighed).Runtime) if not name.startswith("_")},
    }
    for owner, names in made.items():
        assert names == set(USED[owner]), owner
    methods = {name for name in vars(_Engine) if not name.startswith("_")}
    numbers = {"device_memory_size_v2", "num_io_tensors", "num_optimization_profiles"}
    assert methods | numbers | {"create_execution_context"} == set(USED["ICudaEngine"])


@needs_bindings
@pytest.mark.parametrize("version", BINDINGS)
def test_every_version_has_what_is_used(version: str) -> None:
    """NVIDIA's own bindings: each name, and each call with so many arguments; other names from 10.15 on."""
    uses = {(owner, name, count) for owner, name, count in used() if name != "__init__"}
    uses |= {(owner, name, None) for owner, names in USED.items() for name in names}
    calls = {(owner, name, count if owner else None) for owner, name, count in uses}  # a class's arguments are unknown
    assert compare(version, calls) == []
    some = {(owner, name, 1) for owner, names in SOMETIMES_USED.items() for name in names}
    newer = tuple(map(int, version.split(".")[:2])) >= (10, 15)
    assert len(compare(version, some)) == (0 if newer else len(some))
