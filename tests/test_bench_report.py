"""The benches' report: exit code, JSON and confidence bounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.intervals import binomial_cdf, clopper_pearson
from bench.report import Figure, Report, parser

HELD = Figure("hangs", 0, "0", True)
MISSED = Figure("floor, ms", 41.5, "<= 40", False)


def test_exit_code_is_zero_when_every_figure_holds() -> None:
    """A bench whose figures all hold exits with 0."""
    assert Report("none").finish([HELD, HELD], []) == 0


def test_exit_code_is_one_on_a_miss() -> None:
    """One missed figure among others makes the bench exit with 1."""
    assert Report("none").finish([HELD, MISSED, HELD], []) == 1


def test_one_line_for_each_figure(capsys: pytest.CaptureFixture[str]) -> None:
    """Each figure is printed on one line with what was measured, its target, and whether it holds."""
    Report("none").finish([HELD, MISSED], [], notes=["a note " * 40])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["hangs: measured 0, target 0: holds", "floor, ms: measured 41.5, target <= 40: MISSED"]


def test_json_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The JSON holds bench, command, environment, figures, table, notes and raw samples; its directory is made."""
    file = tmp_path / "results" / "none.json"
    monkeypatch.setattr("sys.argv", ["none.py", "--quick", "--json", "a file.json"])
    Report("none", file).finish([HELD, MISSED], {"ns": [1, 2]})
    record = json.loads(file.read_text(encoding="utf-8"))
    assert set(record) == {"bench", "command", "environment", "figures", "table", "notes", "samples"}
    assert record["command"] == "python -m bench.none --quick --json 'a file.json'"
    assert record["figures"] == [
        {"name": "hangs", "measured": 0, "target": "0", "holds": True},
        {"name": "floor, ms", "measured": 41.5, "target": "<= 40", "holds": False},
    ]
    assert record["samples"] == {"ns": [1, 2]}


def test_environment_names_machine_and_versions() -> None:
    """A record says on which processor, with how many cores and what load, and with which versions it was made."""
    environment = Report("none").environment
    assert {"date", "processor", "cores", "load", "python", "packages"} <= set(environment)
    assert {"anytime", "onnxruntime"} <= set(environment["packages"])


def test_options_of_every_bench() -> None:
    """Every bench takes --quick and --json FILE, and neither is on by itself."""
    assert vars(parser("none", "").parse_args([])) == {"quick": False, "json": None}
    assert vars(parser("none", "").parse_args(["--quick", "--json", "x"])) == {"quick": True, "json": Path("x")}


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (0, 2000, 0.0, 0.0018428),  # 1 - 0.025 ** (1 / 2000)
        (1, 2000, 0.0000127, 0.0027827),
        (1, 10, 0.0025286, 0.4450161),
        (5, 10, 0.1870860, 0.8129140),
        (10, 10, 0.6915029, 1.0),  # 0.025 ** (1 / 10)
    ],
)
def test_clopper_pearson_against_known_bounds(k: int, n: int, low: float, high: float) -> None:
    """The 95 % bounds are those of published tables and of the closed forms at none and all."""
    assert clopper_pearson(k, n) == pytest.approx((low, high), abs=1e-6)


def test_clopper_pearson_puts_the_tails_where_it_says() -> None:
    """At either bound, the observed count or one more extreme has a probability of 2.5 %."""
    low, high = clopper_pearson(7, 300)
    assert 1 - binomial_cdf(6, 300, low) == pytest.approx(0.025, abs=1e-9)
    assert binomial_cdf(7, 300, high) == pytest.approx(0.025, abs=1e-9)


def test_clopper_pearson_without_trials() -> None:
    """No trials say nothing about the rate, and impossible counts are refused."""
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="between 0 and 3"):
        clopper_pearson(4, 3)
