"""Parts of the node by themselves: the lane, the bus, diagnostics, scenes, and the command."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from anytime.cli.main import app
from anytime.node.counts import BAD, CONNECTION, REFUSED, Counts, Totals
from anytime.node.diagnostics import Condition, Diagnostics
from anytime.node.inprocess import Bus
from anytime.node.intake import Lane
from anytime.node.messages import ERROR, OK, WARN, Asked, Question, Scene, Vehicle
from anytime.node.parameters import ACTIONS, Parameters
from anytime.node.scene import MOST_LISTED, check_scene, crowded, scene_text
from recipes.reference import drive
from recipes.reference.scenes import scenes
from tests.conftest import MS
from tests.doubles import PATIENCE_S

ROOT = Path(__file__).parents[1]
S = 1000 * MS


def asked(name: str) -> Asked:
    return Asked(Question(request_id=name, text="what"), 0, 0)


def test_the_newest_waits_alone() -> None:
    """While one is served, each new one takes the place of the one that waits; stopping serves what is left."""
    begun, go_on, served, counts = threading.Event(), threading.Event(), list[str](), Counts()

    def serve(one: Asked) -> None:
        served.append(one.message.request_id)
        begun.set()
        assert go_on.wait(PATIENCE_S)

    lane = Lane(serve, counts, threaded=True, name="test")
    assert lane.offer(asked("a"))
    assert begun.wait(PATIENCE_S)
    for name in "bcd":
        assert lane.offer(asked(name))
    go_on.set()
    lane.stop()
    assert served == ["a", "d"]
    assert counts.totals().counts == {"dropped": 2}
    assert not lane.offer(asked("e"))


def test_without_a_thread_the_caller_serves() -> None:
    """In the order in which they come, each before ``offer`` returns."""
    served: list[str] = []
    lane = Lane(lambda one: served.append(one.message.request_id), Counts(), threaded=False, name="test")
    for name in "abc":
        lane.offer(asked(name))
        assert served[-1] == name
    lane.stop()
    assert not lane.offer(asked("d"))


def test_a_bus_delivers_in_order_and_stops() -> None:
    """To every subscriber of a topic, before publish returns, until it unsubscribes."""
    bus, seen = Bus(), list[tuple[str, object]]()
    end = bus.subscribe("/a", lambda message: seen.append(("one", message)))
    bus.subscribe("/a", lambda message: seen.append(("two", message)))
    bus.publish("/a", 1)
    bus.publish("/b", 2)
    end()
    bus.publish("/a", 3)
    assert seen == [("one", 1), ("two", 1), ("two", 3)]


def condition(**changes: Any) -> Condition:
    fields: dict[str, Any] = {
        "now_ns": 100 * S,
        "name": "anytime",
        "state": "active",
        "failure": "",
        "bundle_id": "b",
        "active_since_ns": 100 * S,
        "last_input_ns": 100 * S,
        "drift": None,
        "lost": False,
        "restarts": 0,
        "recording": None,
        "totals": Totals({}, {}, ()),
    }
    return Condition(**{**fields, **changes})


def level_of(part: str, *conditions: Condition, **parameters: Any) -> tuple[int, str]:
    """What diagnostics say of a part after these conditions, one a second."""
    diagnostics = Diagnostics()
    for one in conditions:
        found = {status.name: status for status in diagnostics.judge(one, Parameters(**parameters))}
    status = found[f"anytime: {part}"]
    return status.level, status.message


def totals(reasons: dict[str, str] | None = None, **counts: int) -> Totals:
    return Totals(counts, reasons or {}, ())


@pytest.mark.parametrize(
    ("part", "changes", "level", "why"),
    [
        ("lifecycle", {}, OK, "active"),
        ("lifecycle", {"state": "inactive"}, WARN, "inactive"),
        ("lifecycle", {"failure": "no bundle"}, ERROR, "no bundle"),
        ("engine", {"lost": True}, ERROR, "does not answer"),
        ("engine", {"restarts": 1}, WARN, "started again, 1 times"),
        ("engine", {"drift": "1.5 times slower"}, WARN, "1.5 times slower"),
        ("recording", {"recording": ""}, OK, "recording"),
        ("recording", {"recording": "no space left"}, WARN, "no space left"),
        ("transport", {"totals": totals(wrong_type=1)}, WARN, "type hash"),
        ("transport", {"totals": totals({"duplicate": "two"}, duplicate=1)}, ERROR, "two"),
        ("decisions", {"totals": totals(decisions=100)}, OK, "100 decisions in 10 s"),
        ("decisions", {"totals": totals(decisions=100, late=1)}, WARN, "1 of them bad"),
        ("decisions", {"totals": totals(decisions=100, late=5, rejected=6)}, ERROR, "too little time"),
        ("input", {"totals": totals(taken=100, malformed=1)}, WARN, "1 of 101 inputs in 10 s were refused"),
        ("input", {"totals": totals({"clock": "TAI"}, clock=5)}, ERROR, "TAI"),
        ("input", {"totals": totals(taken=5, dropped=3)}, WARN, "3 inputs in 10 s gave way"),
        ("input", {"now_ns": 101 * S}, WARN, "no input for 1.0 s"),
        ("input", {"now_ns": 103 * S}, ERROR, "no input for 3.0 s"),
        ("input", {"now_ns": 103 * S, "active_since_ns": None}, OK, "not listening"),
    ],
)
def test_levels(part: str, changes: dict[str, Any], level: int, why: str) -> None:
    """Each kind of trouble has its level and its reason."""
    got, message = level_of(part, condition(**changes))
    assert got == level
    assert why in message


def test_every_trouble_shows() -> None:
    """Nothing that is counted as trouble leaves diagnostics at OK."""
    for trouble in (*REFUSED, *CONNECTION, *BAD):
        judged = Diagnostics().judge(condition(totals=totals(decisions=1, **{trouble: 1})), Parameters())
        assert max(status.level for status in judged) > OK, trouble


def test_trouble_is_over_ten_seconds_later() -> None:
    """Only the last ten seconds count."""
    bad = condition(totals=totals(decisions=100, late=50))
    assert level_of("decisions", bad, *[bad] * 9)[0] == ERROR
    assert level_of("decisions", bad, *[bad] * 10)[0] == OK


def test_thresholds_are_parameters() -> None:
    """A share above which to warn, and one above which it is an error."""
    bad = condition(totals=totals(decisions=100, late=5))
    assert level_of("decisions", bad, warn_share=0.05)[0] == OK
    assert level_of("decisions", bad, warn_share=0.04)[0] == WARN
    assert level_of("decisions", bad, error_share=0.04)[0] == ERROR


def test_the_slack_of_99_in_100() -> None:
    """Of 200 decisions with slacks 0 to 199 ms, at least 198 have 1 ms."""
    slacks = tuple(i * MS for i in reversed(range(200)))
    judged = Diagnostics().judge(condition(totals=Totals({}, {}, slacks)), Parameters())
    values = {pair.key: pair.value for status in judged for pair in status.values}
    assert values["slack that 99 % have [ms]"] == "1.000"


def test_counts_take_no_more_memory_with_more_traffic() -> None:
    """Slacks of the latest thousand, a reason for each trouble."""
    counts = Counts()
    for i in range(5000):
        counts.slack(i)
        counts.add("late", f"reason {i}")
    got = counts.totals()
    assert got.slacks_ns == tuple(range(4000, 5000))
    assert got.reasons == {"late": "reason 4999"}


def test_a_scene_message_is_written_as_the_model_was_taught() -> None:
    """For a thousand training scenes, as messages in any order and not in whole numbers, the text is the recipe's."""
    for _, known in zip(range(1000), scenes(seed=7), strict=False):
        vehicles = [Vehicle(v.lane, v.gap_m + 0.3, v.speed_m_s - 0.3) for v in reversed(known.vehicles)]
        message = Scene(lanes=drive.LANES, lane=known.lane, speed_m_s=known.speed_m_s + 0.2, vehicles=vehicles)
        check_scene(message, 64)
        assert scene_text(message) == known.text()


def test_only_what_matters_is_written() -> None:
    """Lanes beside ours, within view, the nearest twelve; a vehicle that rolls back stands."""
    far = [Vehicle(2, 111.0, 20.0), Vehicle(2, -71.0, 20.0), Vehicle(4, 10.0, 20.0)]
    text = scene_text(Scene(lanes=4, lane=2, speed_m_s=20.0, vehicles=[*far, Vehicle(2, 9.6, -2.0)]))
    assert text == "lane 2 of 4 at 20 m/s\nlane 2 ahead 10 m 0 m/s"
    many = [Vehicle(2, 1.0 + i, 20.0) for i in range(50)]
    assert scene_text(Scene(lanes=4, lane=2, speed_m_s=20.0, vehicles=many)).count("\n") == MOST_LISTED


def test_the_warm_up_scene_is_the_longest_and_not_always_the_same() -> None:
    """Twelve vehicles, and another first line each time."""
    assert crowded().count("\n") == MOST_LISTED
    assert len({crowded(n).splitlines()[0] for n in range(30)}) == 30


def test_the_actions_are_the_model_s() -> None:
    """What a scene may be answered with is what the reference was taught."""
    assert ACTIONS == drive.ACTIONS


def lines(*messages: dict[str, Any]) -> str:
    return "".join(json.dumps(message) + "\n" for message in messages)


@pytest.fixture
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.usefixtures("_state")
def test_the_command_answers_stdin(tmp_path: Path) -> None:
    """Questions and scenes as JSON lines, decisions as JSON lines; what is refused is said on stderr."""
    params = tmp_path / "params.yaml"
    params.write_text("/**:\n  ros__parameters: {budget_s: 5.0, warm_up: 5}\n", encoding="utf-8")
    scene = {"lanes": 4, "lane": 2, "speed_m_s": 27.0, "vehicles": [{"lane": 2, "gap_m": 14.0, "speed_m_s": 18.0}]}
    old = {"text": "what", "header": {"stamp": {"sec": 99, "nanosec": 0}}}
    asked = lines(
        {"text": scene_text(msgspec.convert(scene, Scene)), "choices": list(ACTIONS), "request_id": "q"}, scene, old
    )
    result = CliRunner().invoke(app, ["node", "--params", str(params), "--json"], input=f"nonsense\n\n{asked}")
    assert result.exit_code == 0, result.output
    question, driven = map(json.loads, result.stdout.splitlines())
    assert question["request_id"] == "q"
    assert question["budget_s"] == 5.0
    assert question["answer"] == driven["answer"]
    assert driven["answer"] in ACTIONS
    assert "'nonsense' is no Question and no Scene" in result.stderr
    assert "warning: clock: the stamp 99" in result.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--transport", "pigeon"], "there is no transport 'pigeon': there are inprocess and dds"),
        (["--name", "my robot"], "the node's name is 'my robot': give a full name like /anytime"),
        (["--params", "none.yaml"], "none.yaml cannot be read"),
        (["--bundle", "none"], "no bundle at none"),
    ],
)
def test_the_command_fails_in_a_line(options: list[str], why: str) -> None:
    """With the reason, and no traceback."""
    result = CliRunner().invoke(app, ["node", *options], input="")
    assert result.exit_code in (1, 2)
    assert why in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_nan_crosses_json_as_null() -> None:
    """A decision without a confidence is still JSON."""
    assert msgspec.json.encode(math.nan) == b"null"
