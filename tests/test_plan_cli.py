"""``anytime export --engine tensorrt``: the graphs on any machine, the plan where there is a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from anytime.bundle import Bundle
from anytime.cli.main import app
from anytime.errors import DeviceError
from anytime.export import plan
from tests.test_plan import bundle, device  # noqa: F401  (fixtures, asked for by their names)


def export(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments), "--engine", "tensorrt"])


def test_a_plan_is_built_of_a_bundle(bundle: Bundle, device: Any) -> None:  # noqa: F811
    """With a bundle in the place of the checkpoint; the options reach TensorRT, and the plan's file is printed."""
    trt = device("10.3.0")
    result = export(bundle.path, "--rows", 3, "--chunk", 16, "--version-compatible", "--hardware-compatible")
    assert result.exit_code == 0, result.output
    assert trt.profiles[0]["input_ids"] == ([1, 1], [1, 1], [3, 1])
    assert trt.profiles[1]["input_ids"] == ([1, 1], [1, 16], [1, 16])
    assert trt.config["flag"] == "version compatible"
    (file,) = plan.plans_dir(bundle).glob("*.plan")
    assert file.name in result.output.replace("\n", "")


def test_no_gpu_is_an_error_for_a_bundle(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Nothing else was asked for, so the command fails and says why."""
    monkeypatch.setattr(plan, "probe", no_gpu)
    result = export(bundle.path)
    assert result.exit_code == 1
    assert "no driver here" in result.stderr


def test_a_host_without_a_gpu_exports_the_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle is whole, with both graphs; the output says that no plan was built, why, and what to run where."""
    pytest.importorskip("torch")
    from tests.checkpoints import save_checkpoint

    monkeypatch.setattr(plan, "probe", no_gpu)
    out = tmp_path / "out"
    result = export(save_checkpoint("qwen3", tmp_path / "checkpoint"), out, "--precision", "int4")
    assert result.exit_code == 0, result.output
    assert [graph.update for graph in Bundle.load(out).manifest.graphs] == [None, "in-place", "appended"]
    said = " ".join(result.output.split())
    assert "weights in int4 for tensorrt>=10.15: logits differ" in said
    assert "no plan was built: no driver here" in said
    assert f"anytime export {out} --engine tensorrt".replace(" ", "") in result.output.replace("\n", "").replace(
        " ", ""
    )


def test_a_bundle_has_no_place_to_go(bundle: Bundle, tmp_path: Path) -> None:  # noqa: F811
    """Its plan has its place on this machine; an OUT is wrong use."""
    result = export(bundle.path, tmp_path / "out")
    assert result.exit_code == 2
    assert "leave out" in result.stderr


def test_a_checkpoint_wants_a_place() -> None:
    """Without OUT there is nowhere to write the bundle to."""
    result = CliRunner().invoke(app, ["export", "checkpoint"])
    assert result.exit_code == 2
    assert "OUT is missing" in result.stderr


def no_gpu() -> Any:
    raise DeviceError("no driver here")
