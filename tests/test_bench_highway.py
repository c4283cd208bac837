"""The highway bench: drives are kept, figures hold and are missed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.highway import __main__ as main
from bench.highway import figures
from bench.highway.runs import Finished, run_all
from examples.highway.contenders import reflex
from examples.highway.episode import AtOnce, Episode, drive
from examples.highway.setting import Setting
from tests.highway_setting import PERIOD_NS, made_up


def test_finished_drives_are_not_driven_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was broken off goes on where it was, and another machine's file is refused."""
    setting: Any = type("Any", (), {"period_ns": PERIOD_NS, "pace": 1.0})()
    driven: list[tuple[str, int]] = []

    def counted(setting: Setting, wanted: tuple[str, int]) -> Episode:
        driven.append(wanted)
        name, seed = wanted
        return drive(name, seed, PERIOD_NS, AtOnce(reflex(name, seed)), duration_s=0.2)

    monkeypatch.setattr("bench.highway.runs.simulated", counted)
    file = tmp_path / "drives.jsonl"
    run_all(setting, Finished(file, "here"), [("teacher", 0, False), ("slower", 0, False)], 1)
    file.write_text(file.read_text()[:-40])
    finished = Finished(file, "here")
    run_all(setting, finished, [("teacher", 0, False), ("slower", 0, False), ("teacher", 1, False)], 1)
    assert driven == [("teacher", 0), ("slower", 0), ("slower", 0), ("teacher", 1)]
    assert Finished(file, "here").episodes == finished.episodes
    with pytest.raises(SystemExit, match="move it away"):
        Finished(file, "there")


def test_drives_side_by_side_are_those_driven_alone() -> None:
    """What other processes simulated is to the last digit what this one does, thoughts included."""
    brief = made_up(duration_s=0.6)
    wanted = [(name, seed, False) for seed in range(2) for name in ("instant", "slower")]
    alone, beside = Finished(None, "here"), Finished(None, "here")
    run_all(brief, alone, wanted, 1)
    run_all(brief, beside, wanted, 2)
    assert beside.episodes == alone.episodes


@pytest.mark.parametrize(
    ("asked", "driven"), [("reasoner-200ms", 1), ("reasoner,reasoner-200ms", 1), ("instant,slower", 2)]
)
def test_a_driver_by_two_names_is_driven_once(
    asked: str, driven: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the period is 200 ms, that budget is the reasoner's; asked for alone it is driven all the same."""
    monkeypatch.setattr(main, "open_setting", lambda pace, profile: made_up(duration_s=0.4))
    out = tmp_path / "found.json"
    options = ["--contenders", asked, "--seeds", "1", "--live", "0", "--processes", "1", "--json", str(out)]
    monkeypatch.setattr("sys.argv", ["bench.highway", *options])
    assert main.main() == 0
    record = json.loads(out.read_text())
    assert len(record["samples"]["episodes"]) == driven
    assert ("reasoner-200ms is reasoner" in " ".join(record["notes"])) is (asked == "reasoner,reasoner-200ms")


def episodes(name: str, scores: list[float], live: bool = False) -> list[Episode]:
    """Drives that ended with these scores; 0 is a crash at 20 m/s."""
    return [
        Episode(
            contender=name,
            seed=seed,
            pace=1.0,
            period_ms=200.0,
            live=live,
            success=score > 0.0,
            mean_speed_m_s=score or 20.0,
            driven_s=30.0,
            periods=150,
            decisions=100,
            held=50,
            late=3,
            age_ms=100.0,
            oldest_ms=180.0,
            sources={"thought": 100},
            actions={"IDLE": 100},
        )
        for seed, score in enumerate(scores)
    ]


def test_figures_hold_and_are_missed() -> None:
    """Better on every seed holds; better only by chance does not; as good as the teacher is enough."""
    drives = {
        "reasoner": episodes("reasoner", [20.0, 21.0, 19.0, 20.0] * 5),
        "instant": episodes("instant", [18.0, 0.0, 17.0, 18.0] * 5),
        "unconstrained": episodes("unconstrained", [21.0, 20.0, 20.0, 19.0] * 5),
        "teacher": episodes("teacher", [20.0, 21.0, 19.0, 20.0] * 5),
    }
    instant, unconstrained, teacher = figures.figures(drives)
    assert [instant.holds, unconstrained.holds, teacher.holds] == [True, False, True]
    assert instant.measured.startswith("+6.75 m/s")
    drives["teacher"] = episodes("teacher", [22.0, 22.5, 22.0, 21.0] * 5)
    assert not figures.figures(drives)[2].holds
    live = {"reasoner": episodes("reasoner", [20.0, 0.0, 0.0, 0.0], live=True)}
    assert not figures.live_figures(live, drives)[0].holds
    rows = figures.table(drives, live, setting_like()).row_count
    assert rows == 5


def setting_like() -> Any:
    return type("Any", (), {"period_ns": PERIOD_NS, "pace": 1.0, "thought_ns": 2 * PERIOD_NS})()
