"""What a decision's age costs: late decisions come late, and policies are told apart by how old theirs become."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from anytime.node.messages import Scene
from anytime.scheduler.clock import NS_PER_MS
from bench import age
from examples.highway.contenders import Said, teacher
from examples.highway.setting import Setting
from examples.highway.traffic import scene_of, traffic
from tests.highway_setting import PERIOD_NS, made_up


@pytest.fixture(scope="module")
def setting() -> Setting:
    return made_up()


@pytest.fixture(scope="module")
def scene() -> Scene:
    return scene_of(traffic(age.FIRST_SEED))


def test_a_late_rule_decides_the_same_later(setting: Setting, scene: Scene) -> None:
    """What it says of a scene comes when the delay is over, and in a drive until then the decision before holds."""
    said = age.Late(400).ask(scene, 7, 200)
    assert (said.action, said.stamped_ns, said.over_ns) == (teacher(scene), 7, 200 + 400 * NS_PER_MS)
    late = age.late_drive(setting, (age.Late(400), age.FIRST_SEED))
    assert late.age_ms >= 400.0
    assert late.held > late.periods / 3


def test_only_the_first_decision_may_come_at_once(scene: Scene) -> None:
    """And the ones behind it late."""
    rule = age.Late(200, at_first=False)
    assert rule.ask(scene, 0, 0).over_ns == 0
    assert rule.ask(scene, 200 * NS_PER_MS, 200 * NS_PER_MS).over_ns == 400 * NS_PER_MS


def test_policies_are_told_apart(setting: Setting) -> None:
    """An answer without a thought is younger than one that the whole period went into; each has its row."""
    driven = {policy: [age.policy_drive(setting, (policy, 5))] for policy in (age.INSTANT, "until-deadline")}
    instant, thought = ([told.age_ms for told in one.told] for (one,) in driven.values())
    assert len(instant) == driven[age.INSTANT][0].episode.decisions == 8
    assert max(instant) < max(thought) <= PERIOD_NS / NS_PER_MS
    at_once = {age.AT_ONCE: [age.late_drive(setting, (age.AT_ONCE, 5))]}
    assert age.table(at_once, driven).row_count == 3


def test_decisions_are_held_beside_the_rules(scene: Scene) -> None:
    """Alike where it decides so too, at the age of the scene and not of the question; what is no decision is none."""
    at_once = age.Watched(age.Late(20))
    at_once.ask(scene, 5 * NS_PER_MS, 10 * NS_PER_MS)

    class Otherwise:
        def ask(self, scene: Scene, stamped_ns: int, at_ns: int) -> Said:
            return Said(stamped_ns, at_ns, None if stamped_ns else "no such action")

    other = age.Watched(Otherwise())
    for stamped_ns in (0, PERIOD_NS):
        other.ask(scene, stamped_ns, stamped_ns)
    assert (at_once.told, other.told) == ([age.Told(True, 25.0)], [age.Told(False, 0.0)])


def test_a_row_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every delay and every policy is in the table, and every drive's score and decisions in the record."""
    monkeypatch.setattr(age, "open_setting", made_up)
    monkeypatch.setattr(age, "LATE", (age.AT_ONCE, age.Late(1000)))
    options = ["--seeds", "1", "--policies", age.INSTANT, "--policy-seeds", "1", "--json", str(tmp_path / "age.json")]
    monkeypatch.setattr("sys.argv", ["bench.age", *options])
    assert age.main() == 0
    record = json.loads((tmp_path / "age.json").read_text())
    assert "the rule, 1000 ms late" in record["table"]
    assert age.INSTANT in record["table"]
    assert [len(scores) for scores in record["samples"]["late"].values()] == [1, 1]
    (drive,) = record["samples"]["policies"][age.INSTANT]
    assert len(msgspec.convert(drive, age.Driven).told) == 8


@pytest.mark.parametrize("option", ["--seeds", "--policy-seeds"])
def test_no_drives_are_no_measurement(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused with what was asked for."""
    monkeypatch.setattr("sys.argv", ["bench.age", option, "0"])
    with pytest.raises(SystemExit):
        age.options()
    assert f"{option} is 0" in capsys.readouterr().err


def test_no_such_policy_drives_nobody(setting: Setting) -> None:
    """Refused with what the node says of it."""
    with pytest.raises(SystemExit, match=r"nobody drives with aut: .*there is no policy 'aut': did you mean 'auto'"):
        age.policy_drive(setting, ("aut", 5))
