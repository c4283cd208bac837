"""The GPU bench as a whole: what loads is measured, and of the rest it is said why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anytime import Reasoner
from anytime.bundle import Bundle
from anytime.errors import DeviceError
from anytime.ext.latency import Latency
from anytime.runtime.loading import open_bundle
from bench.gpu import __main__ as main
from bench.gpu import card as cards
from bench.gpu import child
from bench.gpu.bandwidth import Bandwidth
from bench.gpu.child import Found, Steps
from tests.conftest import make_profile
from tests.test_bench_gpu import ORIN
from tests.test_bench_gpu_figures import COPIES, SPEC, row


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU, whose card and memory are known."""
    monkeypatch.setattr(cards, "probe", lambda: ORIN)
    monkeypatch.setattr(main, "bandwidth", lambda: COPIES)


def found_of(answers: dict[str, Found], asked: list[tuple[str, str, str]]) -> Callable[..., Found]:
    """In place of child processes."""

    def found(engine: str, bundle: Path, extent: str, state: Path | None = None) -> Found:
        asked.append((engine, bundle.parent.name, extent))
        return answers[engine]

    return found


WHOLE = Found("", SPEC, 10**9, [Steps(64, [5.0] * 10, [4.0] * 10)], [row()] * 10)
BROKEN = Found("the process that ran it ended with exit code -11", SPEC, 10**9, [Steps(64, [5.0] * 10, [])])


@pytest.mark.usefixtures("with_gpu")
def test_what_loads_is_measured_and_the_rest_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and figures of the one, reasons of the others, each as far as it came."""
    answers = {"whole": WHOLE, "broken": BROKEN, "none": Found("nothing of it is installed")}
    asked: list[tuple[str, str, str]] = []
    monkeypatch.setattr(main, "found", found_of(answers, asked))
    bench = main.Bench(True, list(answers), tmp_path / "given" / "bundle")  # type: ignore[arg-type]
    bench.run()
    assert asked == [(engine, "given", "quick") for engine in answers]
    ran = [(part["part"], part["engine"]) for part in bench.parts if part["ran"]]
    step, graphs = "decode step behind 64", main.GRAPHS
    assert ran == [
        (main.CARD, ""), (main.BANDWIDTH, ""), (step, "whole"), (graphs, "whole"), (main.LATENESS, "whole"),
        (step, "broken"), (graphs, "broken"),
    ]  # fmt: skip
    reasons = [(part["part"], part["engine"], part["outcome"]) for part in bench.parts if not part["ran"]]
    assert reasons == [
        (main.LATENESS, "broken", f"not run: {BROKEN.reason}"),
        *((part, "none", "not run: nothing of it is installed") for part in main.OF_AN_ENGINE),
    ]
    assert [figure.name.partition(":")[0] for figure in bench.figures] == ["whole", "whole", "broken"]
    assert bench.samples[main.CARD]["gpu"]["gpu"] == "Orin"
    assert bench.samples["whole"]["steps"][0]["gpu_us"] == [4.0] * 10
    assert bench.table().row_count == len(bench.parts)


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.parametrize(("quick", "measured"), [(True, ["tiny"]), (False, ["tiny", "0.6b"])])
def test_a_large_model_is_made_only_where_an_engine_loads(
    quick: bool, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny one finds that out, and is the one that a quick run measures."""
    made: list[str] = []

    def make(directory: Path, sizes: dict[str, Any], precision: str, engine: str) -> Path:
        assert (precision, engine) == ("fp16", "tensorrt")
        made.append(directory.name)
        return directory / "bundle"

    monkeypatch.setattr("bench.random_model.random_bundle", make)
    asked: list[tuple[str, str, str]] = []
    answers = {"whole": WHOLE, "none": Found("nothing of it is installed")}
    monkeypatch.setattr(main, "found", found_of(answers, asked))
    main.Bench(quick, list(answers), None).run()  # type: ignore[arg-type]
    assert made == measured
    extent = "quick" if quick else "measured"
    assert asked == [("whole", "tiny", "opened"), ("none", "tiny", "opened"), ("whole", measured[-1], extent)]
    made.clear()
    nothing = main.Bench(False, ["none"], None)  # type: ignore[list-item]
    nothing.run()
    assert (made, nothing.figures) == (["tiny"], [])
    assert [part["part"] for part in nothing.parts if not part["ran"]] == list(main.OF_AN_ENGINE)


@pytest.mark.usefixtures("with_gpu")
def test_where_no_model_can_be_made_a_bundle_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device without torch."""

    def make(*_: Any) -> Path:
        raise ImportError("No module named 'torch'")

    monkeypatch.setattr("bench.random_model.random_bundle", make)
    bench = main.Bench(True, ["tensorrt"], None)
    bench.run()
    reasons = [part["outcome"] for part in bench.parts if not part["ran"]]
    assert reasons == ["not run: no model can be made here (No module named 'torch'): give a bundle with --bundle"] * 3


@pytest.mark.usefixtures("with_gpu")
def test_without_the_bandwidth_steps_are_measured_but_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part that could not be run says why, and so does the figure that is missing."""

    def none() -> Bandwidth:
        raise DeviceError("the bandwidth was not measured: cuMemAlloc_v2 gives 2")

    monkeypatch.setattr(main, "bandwidth", none)
    monkeypatch.setattr(main, "found", found_of({"whole": WHOLE}, []))
    bench = main.Bench(True, ["whole"], tmp_path / "given" / "bundle")  # type: ignore[list-item]
    bench.run()
    reasons = [(part["part"], part["outcome"]) for part in bench.parts if not part["ran"]]
    assert reasons == [
        (main.BANDWIDTH, "not run: the bandwidth was not measured: cuMemAlloc_v2 gives 2"),
        ("decode step against the bandwidth", "not run: the bandwidth is not known"),
    ]
    assert len(bench.figures) == 1  # lateness


def test_the_model_that_is_made_can_be_asked(tmp_path: Path, latency: Latency) -> None:
    """Its graphs are those for a GPU in fp16, and ONNX Runtime's steps and answers are measured as a GPU's would be."""
    pytest.importorskip("optimum")
    from bench.random_model import TINY, random_bundle

    bundle = Bundle.load(random_bundle(tmp_path, TINY, "fp16", "tensorrt"))
    assert [graph.precision for graph in bundle.manifest.graphs] == ["fp16"] * 3
    loaded = open_bundle(bundle.path, threads=1)
    found = child.steps(loaded.engine, 20)
    assert [(steps.context, len(steps.wall_us), steps.gpu_us) for steps in found] == [
        (context, 20, []) for context in child.CONTEXTS
    ]
    with Reasoner(loaded.engine, loaded.codec, make_profile(latency, bundle.id), bundle) as reasoner:
        asked = child.lateness(reasoner, 2)
    assert [row.valid for row in asked] == [True, True]
