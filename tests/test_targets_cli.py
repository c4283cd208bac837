"""``anytime targets``: the list, the machine's condition, estimates, and how it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from anytime.cli import profile as profiling
from anytime.cli.main import app
from anytime.runtime.loading import open_bundle
from anytime.targets import Condition, jetson, load_targets
from anytime.targets.published import PUBLISHED
from anytime.targets.target import Figure
from tests.doubles_nvml import FakeNvml, NVMLError

PAGE = Path(__file__).parents[1] / "docs" / "targets.md"


def targets(*args: str | Path, columns: int = 120) -> Result:
    return CliRunner().invoke(app, ["targets", *(str(arg) for arg in args)], env={"COLUMNS": str(columns)})


def record(*args: str | Path) -> dict[str, Any]:
    result = targets(*args, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has that the tests run on."""
    monkeypatch.setitem(sys.modules, "pynvml", None)


def test_the_list_has_every_figure_with_its_source() -> None:
    """In JSON; the table shows the main ones."""
    found = {target["name"]: target for target in record()["targets"]}
    nano = found["orin-nano-super"]
    assert nano["bandwidth_gb_s"]["value"] == 102
    assert "https://" in nano["sources"][nano["bandwidth_gb_s"]["source"]]
    assert nano["jetpacks"][0]["python"] == "3.10"
    assert "273" in targets().stdout


def test_an_estimate_says_that_it_is_one() -> None:
    """Prefill, step, floor and token caps, in JSON and in words, each marked."""
    found = record("--estimate", "reference", "--target", "agx-orin-64", "--prompt", "100")
    assert found["estimated"] is True
    assert found["target"] == "agx-orin-64"
    assert 1.3 < found["step_ms"] < found["prefill_ms"] < found["floor_ms"]
    caps = found["token_cap"]
    assert list(caps) == ["20", "50", "100", "200", "500"]
    assert caps["100"] < caps["200"] < caps["500"]
    told = targets("--estimate", "reference", "--target", "agx-orin-64")
    assert told.stdout.startswith("estimated, not measured: int8 weights on agx-orin-64")
    assert "not measured" in told.stderr


def test_a_mode_a_budget_and_a_precision_count() -> None:
    """A slower mode buys less; a budget below the floor buys nothing; unverified figures are named."""
    asked = ("--estimate", "reference", "--target", "orin-nano-super", "--budget", "200ms", "--prompt", "900")
    fast, slow = record(*asked), record(*asked, "--mode", "15W")
    assert list(fast["token_cap"]) == ["200"]
    assert slow["token_cap"]["200"] < fast["token_cap"]["200"]
    assert slow["mode"] == "15W"
    little = record("--estimate", "reference", "--target", "thor", "--budget", "3ms")
    assert little["token_cap"] == {"3": None}
    assert little["unverified"] == ["bandwidth_gb_s"]
    slower = record("--estimate", "reference", "--target", "thor", "--mode", "120W")
    assert slower["unverified"] == ["bandwidth_gb_s", "emc_mhz", "gpu_mhz"]
    told = targets("--estimate", "reference", "--target", "thor", "--budget", "3ms").stdout
    assert "below floor" in told
    assert "bandwidth_gb_s" in told


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--estimate", "reference", "--target", "toaster"], 2, "orin-nano-super"),
        (["--estimate", "reference", "--target", "thor", "--mode", "5W"], 2, "120W"),
        (["--estimate", "reference", "--target", "raspberry-pi-5"], 1, "anytime profile"),
        (["--estimate", "/nowhere", "--target", "thor"], 1, "/nowhere"),
        (["--estimate", "reference", "--target", "thor", "--budget", "soon"], 2, "200ms"),
        (["--estimate", "reference", "--target", "thor", "--budget", "nan ms"], 2, "200ms"),
        (["--estimate", "reference", "--target", "thor", "--prompt", "0"], 2, "between 1 and"),
        (["--estimate", "reference", "--target", "thor", "--prompt", "1024"], 2, "between 1 and"),
        (["--target", "thor"], 2, "--estimate"),
        (["--budget", "200ms"], 2, "--estimate"),
        (["--detect", "--published"], 2, "together"),
    ],
)
def test_wrong_use_is_one_line_with_the_remedy(args: list[str], code: int, message: str) -> None:
    """Exit code 2, or 1 where the call is right and the answer cannot be had."""
    result = targets(*args)
    assert result.exit_code == code
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_detect_describes_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which target it is, its clocks, and a warning for each thing that is amiss, on stderr."""
    for name, text in {
        "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,tegra234\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1",
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000",
        "sys/class/devfreq/17000000.gpu/min_freq": "306000000",
        "sys/class/devfreq/17000000.gpu/max_freq": "1020000000",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    defaults = jetson.compatible, jetson.release, jetson.gpu_clock, jetson.memory_clock, jetson.throttling
    for function in defaults:
        monkeypatch.setattr(jetson, function.__name__, lambda root=None, function=function: function(tmp_path))
    found = record("--detect")
    assert (found["target"], found["jetpack"]) == ("orin-nano-super", "6.2")
    assert found["gpu_clock"] == {"mhz": 306, "least_mhz": 306, "most_mhz": 1020, "locked": False}
    told = targets("--detect")
    assert "306 MHz of 306 to 1020, not locked" in told.stdout
    assert "the GPU clock is not locked" in told.stderr
    assert "cannot be read without root" in told.stderr
    assert record("--estimate", "reference")["target"] == "orin-nano-super"  # this machine, where none is named


def test_detect_describes_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through NVML, which is let go afterwards."""
    module = FakeNvml(clock={1: 345, 2: 3201}, reasons=0x4)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    found = record("--detect")
    assert (found["target"], found["gpu"], found["throttling"]) == ("h200", "NVIDIA H200", ["software power cap"])
    assert module.open == 0


@pytest.mark.parametrize("module", [None, FakeNvml(init=NVMLError("Driver Not Loaded"))])
def test_detect_without_a_gpu_describes_the_rest(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    """No library or no driver is no error."""
    monkeypatch.setitem(sys.modules, "pynvml", module)
    result = targets("--detect")
    assert result.exit_code == 0
    assert "generic" in result.stdout


@pytest.mark.parametrize(
    ("linux", "gpu", "told"), [("36.4.3", "none", True), ("", "NVIDIA H200", True), ("", "none", False)]
)
def test_a_profile_warns_of_clocks_that_its_engine_depends_on(
    monkeypatch: pytest.MonkeyPatch, linux: str, gpu: str, told: bool
) -> None:
    """Before measuring on a Jetson, or on a GPU; an engine on another machine's processor depends on neither."""
    seen = Condition("", "", linux, "", "unknown", None, None, (), ("the GPU clock is not locked",))
    monkeypatch.setattr(profiling, "here", lambda: seen)
    loaded = open_bundle(None)
    loaded = msgspec.structs.replace(loaded, key=msgspec.structs.replace(loaded.key, gpu=gpu))
    assert profiling._about_clocks(loaded) == (seen.warnings if told else ())


def test_a_default_mode_slower_than_the_estimate_is_said() -> None:
    """An AGX Orin comes in MODE_30W, at half of its GPU's clock and parts."""
    told = targets("--estimate", "reference", "--target", "agx-orin-64")
    assert "--mode MODE_30W" in told.stdout
    assert "--mode" not in targets("--estimate", "reference", "--target", "agx-orin-64", "--mode", "MAXN").stdout
    assert record("--estimate", "reference", "--target", "rtx-4090")["default_mode"] is None


def test_the_page_has_the_table_of_published_figures() -> None:
    """docs/targets.md holds what ``--published`` prints, word for word."""
    printed = "\n".join(line.rstrip() for line in targets("--published", columns=100).stdout.strip("\n").splitlines())
    assert printed in PAGE.read_text(encoding="utf-8"), f"docs/targets.md is out of date; paste:\n{printed}"
    assert len(record("--published")["published"]) == len(PUBLISHED)


def test_the_page_lists_every_target() -> None:
    """docs/targets.md has a row for each, as its file says."""
    page = PAGE.read_text(encoding="utf-8")
    for target in load_targets():
        figures = [_cell(figure) for figure in (target.memory_gb, target.bandwidth_gb_s, target.fp16_tflops)]
        modes = ", ".join(mode.name + (" (default)" if mode.default else "") for mode in target.power_modes)
        row = " | ".join((f"| `{target.name}`", *figures, ", ".join(target.precisions), f"{modes} |"))
        assert row in page, f"docs/targets.md is out of date; paste:\n{row}"


def _cell(figure: Figure | None) -> str:
    return f"{figure.value:g}" + (" (u)" if figure.unverified else "") if figure else ""
