"""The rooms: imports point one way, and nothing but the clock reads the time."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "anytime"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each room, and the others it may import.
LOWEST = {"errors", "ext"}
MAY_IMPORT = {
    "errors": set(),
    "ext": set(),
    "signature": LOWEST,
    "ownership": LOWEST,
    "bundle": LOWEST | {"signature"},
    "targets": LOWEST,
    "plans": LOWEST | {"signature", "ownership", "bundle"},
    "scheduler": LOWEST | {"bundle", "targets"},
    "runtime": LOWEST | {"bundle", "plans", "targets", "scheduler"},
    "export": LOWEST | {"bundle", "plans", "targets"},
    "testing": LOWEST | {"bundle", "targets", "scheduler", "runtime"},
    "calibrate": LOWEST | {"bundle", "targets", "scheduler", "runtime"},
    "node": LOWEST | {"bundle", "targets", "scheduler", "runtime", ""},
    "deploy": LOWEST | {"signature", "bundle", "targets", "node", ""},
    "cli": LOWEST | {"bundle", "plans", "targets", "scheduler", "runtime", "calibrate", "export", "node", "deploy", ""},
    "": LOWEST | {"bundle", "targets", "scheduler", "runtime"},  # anytime/__init__.py
}


def room(dotted: str) -> str:
    """``anytime.runtime.decode`` is in ``runtime``; the package itself in ``""``."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else ""


def imports(path: Path) -> Iterator[str]:
    """The modules a file imports, wherever in it, fully named."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute, so that this test can read them"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_one_way(path: Path) -> None:
    """A room imports only the rooms below it."""
    here = room(dotted(path))
    rooms = {room(name) for name in imports(path) if name.split(".")[0] == "anytime"} - {here}
    assert rooms <= MAY_IMPORT[here], f"{dotted(path)} imports {sorted(rooms - MAY_IMPORT[here])}"


def test_the_runtime_has_no_circles() -> None:
    """Inside the largest room, too, imports point one way: its files and rooms can be put in an order."""
    runtime = PACKAGE / "runtime"
    graph = {
        dotted(path).split(".")[2]: set[str]()
        for path in runtime.rglob("*.py")
        if path.parent != runtime or path.stem != "__init__"
    }
    for path in runtime.rglob("*.py"):
        for name in imports(path) if path != runtime / "__init__.py" else ():
            parts = name.split(".")
            if parts[:2] == ["anytime", "runtime"] and parts[2] in graph:
                graph[dotted(path).split(".")[2]].add(parts[2])
    for inner, imported in graph.items():
        imported.discard(inner)
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)  # raises CycleError where there is a circle


def test_the_test_sees_a_wrong_import(tmp_path: Path) -> None:
    """The walk finds imports inside functions and behind TYPE_CHECKING too."""
    file = tmp_path / "wrong.py"
    file.write_text(
        "def f():\n    from anytime.cli import main\nimport anytime.runtime.decode as d\n", encoding="utf-8"
    )
    assert {room(name) for name in imports(file)} == {"cli", "runtime"}


def time_readers(path: Path) -> set[str]:
    """Ways in which a file gets at the time: the ``time`` module, or ``now`` and ``today`` of dates."""
    found = {name for name in imports(path) if name.split(".")[0] == "time"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, (ast.Name, ast.Attribute)):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if owner in {"datetime", "date"} and node.attr in {"now", "utcnow", "today"}:
                found.add(f"{owner}.{node.attr}")
            if owner == "os" and node.attr == "times":
                found.add("os.times")
    return found


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_only_the_clock_reads_the_time(path: Path) -> None:
    """Everything else is told the time, so that a mock clock tells it all there is to know."""
    readers = time_readers(path)
    if dotted(path) == "anytime.scheduler.clock":
        assert readers == {"time", "datetime.now"}
    else:
        assert readers == set()


def test_import_anytime_pulls_in_nothing_heavy() -> None:
    """A robot that imports anytime loads no torch, no exporter, no TensorRT, no ROS and no command line."""
    heavy = ["torch", "transformers", "optimum", "onnx", "rclpy", "cyclonedds", "rosbags", "mcap", "typer"]
    heavy += ["tensorrt", "cuda", "pycuda", "anytime.runtime.gpu", "anytime.runtime.trt", "anytime.runtime.ortgpu"]
    code = (  # NVIDIA's packages for Python 3.10 load one of these with the interpreter
        "import sys; before = set(sys.modules); import anytime; "
        f"print(*[name for name in {heavy} if name in sys.modules.keys() - before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_public_name_is_there() -> None:
    """``__all__`` is sorted and names only what exists."""
    import anytime

    assert sorted(anytime.__all__) == anytime.__all__
    assert all(hasattr(anytime, name) for name in anytime.__all__)


@pytest.mark.parametrize("name", ["runtime", "scheduler", "export", "ext", "targets"])
def test_the_five_rooms_stand_at_the_top_level(name: str) -> None:
    """Each top-level link is relative and leads into the package."""
    link = ROOT / name
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == PACKAGE / name
    assert (link / "__init__.py").is_file()


def test_public_names_are_loaded_when_asked_for() -> None:
    """Each is what its module defines and is listed; another name is an AttributeError."""
    import anytime

    assert all(getattr(anytime, name).__name__ == name for name in anytime.__all__)
    assert set(anytime.__all__) <= set(dir(anytime))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        anytime.nothing  # noqa: B018
