"""What a decision's age costs: late decisions come late, and policies are told apart by how old theirs become."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anytime.scheduler.clock import NS_PER_MS
from bench import age
from examples.highway.contenders import teacher
from tests.highway_setting import PERIOD_NS, made_up


def test_a_late_rule_decides_the_same_later() -> None:
    """What it says of a scene comes when the delay is over, and in a drive until then the decision before holds."""
    (scene,) = age.met(1)
    said = age.Late(400).ask(scene, 7, 200)
    assert (said.action, said.stamped_ns, said.over_ns) == (teacher(scene), 7, 200 + 400 * NS_PER_MS)
    late = age.late_drive((age.Late(400), age.FIRST_SEED))
    assert late.age_ms >= 400.0
    assert late.held > late.periods / 3


def test_only_the_first_decision_may_come_at_once() -> None:
    """And the ones behind it late."""
    (scene,) = age.met(1)
    rule = age.Late(200, at_first=False)
    assert rule.ask(scene, 0, 0).over_ns == 0
    assert rule.ask(scene, 200 * NS_PER_MS, 200 * NS_PER_MS).over_ns == 400 * NS_PER_MS


def test_policies_are_told_apart() -> None:
    """An answer without a thought is younger than one that the whole period went into; each has its row."""
    setting, scenes = made_up(), age.met(6)
    told = {policy: list(age.decisions(setting, policy, scenes)) for policy in (age.INSTANT, "until-deadline")}
    instant, thought = told.values()
    assert max(one.age_ms for one in instant) < max(one.age_ms for one in thought) <= PERIOD_NS / NS_PER_MS
    assert age.table({}, told).row_count == 2


def test_a_row_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every delay and every policy is in the table, and every drive's score and decision in the record."""
    monkeypatch.setattr(age, "open_setting", made_up)
    monkeypatch.setattr(age, "LATE", (age.AT_ONCE, age.Late(1000)))
    monkeypatch.setattr(age, "POLICIES", (age.INSTANT,))
    monkeypatch.setattr(
        "sys.argv", ["bench.age", "--seeds", "1", "--scenes", "2", "--json", str(tmp_path / "age.json")]
    )
    assert age.main() == 0
    record = json.loads((tmp_path / "age.json").read_text())
    assert "the rule, 1000 ms late" in record["table"]
    assert age.INSTANT in record["table"]
    assert [len(scores) for scores in record["samples"]["late"].values()] == [1, 1]
    assert len(record["samples"]["decisions"][age.INSTANT]) == 2


def test_no_drives_are_no_measurement(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused with what was asked for."""
    monkeypatch.setattr("sys.argv", ["bench.age", "--seeds", "0"])
    with pytest.raises(SystemExit):
        age.options()
    assert "--seeds is 0" in capsys.readouterr().err
