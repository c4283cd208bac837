"""``anytime admit``: task files, what it prints, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from anytime.cli.main import app
from anytime.cli.taskfile import read_tasks
from anytime.errors import TaskFileError
from anytime.ext.latency import Latency
from anytime.runtime.answers.formats import Choices, JsonSchema, Regex, Text
from anytime.runtime.loading import open_bundle
from anytime.scheduler.profile import LatencyProfile, store
from tests.conftest import MS, make_profile

EXAMPLE = Path(__file__).parents[1] / "examples" / "tasks.toml"
SLOW = Latency(0.0, 100_000.0, 1.0 * MS, 0.0, 1.0 * MS)  # a millisecond a step or run, ten prompt tokens another


@pytest.fixture(scope="module")
def measured() -> LatencyProfile:
    """A profile under the reference's key on this machine, with round numbers."""
    return msgspec.structs.replace(
        make_profile(SLOW), key=open_bundle(None).key, environment={"system": "Linux-x86_64"}
    )


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: LatencyProfile) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    store(measured)


def admit(*args: str | Path) -> Result:
    return CliRunner().invoke(app, ["admit", *(str(arg) for arg in args)], env={"COLUMNS": "120"})


def record_of(*args: str | Path) -> tuple[int, dict[str, Any]]:
    result = admit(*args, "--json")
    return result.exit_code, json.loads(result.stdout)


def written(tmp_path: Path, *tables: str) -> Path:
    file = tmp_path / "tasks.toml"
    file.write_text("".join(f"[[task]]\n{table}\n" for table in tables), encoding="utf-8")
    return file


def table(name: str = "a", period: str = "1s", prompt_tokens: int = 99, **more: object) -> str:
    fields = {"name": name, "period": period, "prompt_tokens": prompt_tokens, "choices": ["x", "y"], **more}
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in fields.items())


def test_every_field_is_read(tmp_path: Path) -> None:
    """A row with everything, and one with nothing but what is needed."""
    full = table(deadline="300ms", phase="20ms", priority=-2, min_quality=0.25)
    bare = 'name = "b"\nperiod = "2s"\nquestion = "how many?"'
    one, other = read_tasks(written(tmp_path, full, bare))
    assert (one.period_ns, one.deadline_ns, one.phase_ns) == (1000 * MS, 300 * MS, 20 * MS)
    assert (one.prompt, one.answer, one.priority, one.min_quality) == (99, Choices("x", "y"), -2, 0.25)
    assert (other.deadline_ns, other.phase_ns, other.prompt, other.answer) == (2000 * MS, 0, "how many?", Text())
    assert (other.priority, other.min_quality) == (0, None)


def test_answer_formats_are_those_of_question_files(tmp_path: Path) -> None:
    """A regular expression, a JSON schema with its length, free text of a length."""
    head = 'period = "1s"\nprompt_tokens = 50\n'
    file = written(
        tmp_path,
        f"name = 'r'\n{head}regex = 'a{{1,3}}'",
        f"name = 's'\n{head}max_tokens = 9\nschema = {{type = 'object'}}",
        f"name = 't'\n{head}max_tokens = 4",
    )
    assert [task.answer for task in read_tasks(file)] == [Regex("a{1,3}"), JsonSchema({"type": "object"}, 9), Text(4)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no task"),
        ("task = [", "no task file"),
        ("task = 3", "no task file"),
        ("[[tasks]]\nname = 'a'", "tasks"),
        ("[[task]]\nperiod = '1s'\nprompt_tokens = 9", "name"),
        ("[[task]]\n" + table(name=" "), "name is empty"),
        ("[[task]]\nname = 'a'\nprompt_tokens = 9", "period"),
        ("[[task]]\nname = 'a'\nperiod = '1s'", "neither"),
        ("[[task]]\n" + table(question="what?"), "both"),
        ("[[task]]\n" + table(rate=3), "rate"),
        ("[[task]]\nname = 'a'\nperiod = 1\nprompt_tokens = 9", "period"),
        ("[[task]]\n" + table(period="200"), "200ms"),
        ("[[task]]\n" + table(period="0ms"), "more than 0"),
        ("[[task]]\n" + table(period="-5ms"), "more than 0"),
        ("[[task]]\n" + table(period="nan ms"), "cannot be read"),
        ("[[task]]\n" + table(period="inf s"), "cannot be read"),
        ("[[task]]\n" + table(period="1e308s"), "at most"),
        ("[[task]]\n" + table(period="86401s"), "at most"),
        ("[[task]]\n" + table(period="1e-9us"), "more than 0"),
        ("[[task]]\n" + table(deadline="0s"), "more than 0"),
        ("[[task]]\n" + table(deadline="-1s"), "more than 0"),
        ("[[task]]\n" + table(deadline="inf s"), "cannot be read"),
        ("[[task]]\n" + table(deadline="1001ms"), "longer than the period"),
        ("[[task]]\n" + table(phase="-1ms"), "0 or more"),
        ("[[task]]\n" + table(phase="nan s"), "cannot be read"),
        ("[[task]]\n" + table(prompt_tokens=0), "at least 1"),
        ("[[task]]\n" + table(prompt_tokens=-7), "at least 1"),
        ("[[task]]\n" + table().replace("99", "9.5"), "prompt_tokens"),
        ("[[task]]\n" + table().replace("99", "true"), "prompt_tokens"),
        ("[[task]]\n" + table(priority="high"), "priority"),
        ("[[task]]\n" + table(min_quality=1.5), "between 0 and 1"),
        ("[[task]]\n" + table(min_quality=-0.1), "between 0 and 1"),
        ("[[task]]\n" + table() + "\nmin_quality = nan", "between 0 and 1"),
        ("[[task]]\n" + table(regex="a"), "more than one"),
        ("[[task]]\n" + table(max_tokens=0), "max_tokens"),
        ("[[task]]\n" + table(choices=["x"]), "at least two"),
        ("[[task]]\nname = 'a'\nperiod = '1s'\nquestion = ' '", "empty"),
        ("[[task]]\nname = 'a'\nperiod = '1s'\nprompt_tokens = 9\nregex = 'a*'", "no longest match"),
        ("[[task]]\nname = 'a'\nperiod = '1s'\nprompt_tokens = 9\n[task.schema]", "max_tokens"),
        (f"[[task]]\n{table()}\n[[task]]\n{table()}", "another task"),
    ],
)
def test_a_bad_task_file_is_wrong_use(tmp_path: Path, text: str, complaint: str) -> None:
    """Every mistake is a TaskFileError that names file and reason; on the command line a line and exit code 2."""
    file = tmp_path / "tasks.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(TaskFileError, match=complaint) as caught:
        read_tasks(file)
    assert str(file) in str(caught.value)
    result = admit(file)
    assert result.exit_code == 2
    assert str(caught.value) in result.stderr
    assert not result.stdout


@pytest.mark.parametrize("kind", ["missing", "directory", "binary"])
def test_a_file_that_cannot_be_read_is_wrong_use(tmp_path: Path, kind: str) -> None:
    """No such file, a directory, bytes that are no text: one line, exit code 2."""
    file = tmp_path / "tasks.toml"
    if kind == "directory":
        file.mkdir()
    elif kind == "binary":
        file.write_bytes(b"\xff\xfe\x00")
    result = admit(file)
    assert result.exit_code == 2
    assert str(file) in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"prompt_tokens": 2000}, "context"),
        ({"prompt_tokens": 2}, "frame"),
        ({"prompt_tokens": 10**30}, "context"),
    ],
)
def test_a_prompt_that_cannot_be_is_named(tmp_path: Path, more: dict[str, Any], complaint: str) -> None:
    """What only the bundle knows to be impossible is wrong use too, with file and task."""
    file = written(tmp_path, table(), table(name="b", **more))
    result = admit(file)
    assert result.exit_code == 2
    assert f"{file}: task 2 ('b')" in result.stderr
    assert complaint in result.stderr


def test_a_question_longer_than_the_context_is_named(tmp_path: Path) -> None:
    """Counted by the bundle's tokenizer."""
    file = written(tmp_path, f"name = 'long'\nperiod = '1s'\nquestion = '{'lane 2 ' * 900}'")
    result = admit(file)
    assert result.exit_code == 2
    assert "'long'" in result.stderr
    assert "context" in result.stderr


def test_the_example_is_answered_in_full() -> None:
    """The example that ships is schedulable, with every documented field, and thought where there is a forecast."""
    code, record = record_of(EXAMPLE)
    assert code == 0
    assert record["schedulable"] is True
    assert record["failures"] == []
    assert record["fit"] is None
    assert record.keys() == {
        "schedulable", "target", "bundle", "profile", "utilization", "utilization_thinking", "test", "test_thinking",
        "tasks", "failures", "fit",
    }  # fmt: skip
    maneuver, stock, log = record["tasks"]
    assert maneuver["quality_thinking"] >= maneuver["min_quality"] > maneuver["quality"]
    assert maneuver["granted_ms"] > 0
    assert stock["phase_ms"] == 50
    assert (log["quality"], log["granted_ms"], log["thought_tokens"]) == (None, 0, 0)
    mandatory = sum(task["mandatory_ms"] / task["period_ms"] for task in record["tasks"])
    granted = sum(task["granted_ms"] / task["period_ms"] for task in record["tasks"])
    assert record["utilization"] == pytest.approx(mandatory)
    assert record["utilization_thinking"] == pytest.approx(mandatory + granted)
    assert (
        record["test_thinking"]["demand_ms"] + record["test_thinking"]["blocking_ms"]
        <= record["test_thinking"]["at_ms"]
    )


def test_the_mandatory_part_is_counted_to_the_nanosecond(tmp_path: Path) -> None:
    """99 tokens and the close tag in one run, tokenizing at a millisecond, delivery at half of one."""
    _, record = record_of(written(tmp_path, table()))
    close = len(open_bundle(None).codec.close_ids)
    assert record["tasks"][0]["mandatory_ms"] == pytest.approx(1.0 + 0.1 * (99 + close) + 1.0 + 0.5, abs=1e-3)


def test_tasks_that_do_not_fit_are_a_result(tmp_path: Path) -> None:
    """Exit code 1, the failing task and what would make it fit; with that period and on that device it does."""
    file = written(tmp_path, table(period="30ms"), table(name="b", period="20ms", prompt_tokens=150))
    code, record = record_of(file)
    assert code == 1
    assert record["schedulable"] is False
    (failure,) = record["failures"]
    assert failure["test"] == "demand"
    assert failure["task"] == record["fit"]["task"] == record["test"]["task"]
    period = f"{record['fit']['period_ms']:.3f}ms"
    first, second = ("30ms", period) if failure["task"] == "b" else (period, "20ms")
    fitting = written(tmp_path, table(period=first), table(name="b", period=second, prompt_tokens=150))
    assert record_of(fitting)[0] == 0
    shown = admit(written(tmp_path, table(period="30ms"), table(name="b", period="20ms", prompt_tokens=150)))
    assert shown.exit_code == 1
    assert "fails" in shown.stdout
    assert f"{record['fit']['speed']:.3f} times as fast" in shown.stdout
    assert not shown.stderr.strip()


def test_a_minimum_that_is_not_reached_is_a_failure(tmp_path: Path) -> None:
    """Schedulable, but short of what a task must get: exit code 1, and it is named."""
    code, record = record_of(written(tmp_path, table(period="20ms", min_quality=0.9)))
    assert code == 1
    assert record["test"]["outcome"] == "holds"
    assert [(one["task"], one["test"]) for one in record["failures"]] == [("a", "quality")]
    assert record["fit"]["period_ms"] > 20
    code, record = record_of(written(tmp_path, table(min_quality=1.0)))
    assert code == 1
    assert [one["test"] for one in record["failures"]] == ["forecast"]
    assert "better bundle" in admit(written(tmp_path, table(min_quality=1.0))).stdout


def test_an_uncalibrated_bundle_promises_no_quality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No quality and no thought; the test of the deadlines is the same, and a minimum is wrong use."""
    file = written(tmp_path, table())
    before = record_of(file)[1]
    monkeypatch.setattr("anytime.cli.admit.forecast_of", lambda bundle: None)
    code, record = record_of(file)
    assert code == 0
    assert record["test"] == before["test"]
    assert (record["tasks"][0]["quality"], record["tasks"][0]["granted_ms"]) == (None, 0)
    assert "not calibrated" in admit(file).stdout
    refused = admit(written(tmp_path, table(min_quality=0.5)))
    assert refused.exit_code == 2
    assert "anytime calibrate" in refused.stderr


def test_another_device_needs_its_own_profile(tmp_path: Path, measured: LatencyProfile) -> None:
    """Without a profile from there nothing is said of it; with one of another architecture neither."""
    file, profile = written(tmp_path, table()), tmp_path / "profile.json"
    profile.write_bytes(msgspec.json.encode(measured))
    for args in ([], ["--profile", profile]):
        refused = admit(file, "--target", "generic-arm64", *args)
        assert refused.exit_code == 2
        assert "measured on that device" in refused.stderr
    wrong = admit(file, "--target", "generic-arm64", "--profile", profile, "--estimate")
    assert wrong.exit_code == 1
    assert "aarch64" in wrong.stderr
    there = msgspec.structs.replace(measured.key, processor="Cortex-X9")
    arm = msgspec.structs.replace(measured, key=there, environment={"system": "Linux-6.1-aarch64"})
    profile.write_bytes(msgspec.json.encode(arm))
    code, record = record_of(file, "--target", "generic-arm64", "--profile", profile, "--estimate")
    assert (code, record["target"], record["profile"]["processor"]) == (0, "generic-arm64", "Cortex-X9")
    assert "Cortex-X9" in record["profile"]["differs"]
    assert "an estimate" in admit(file, "--target", "generic-arm64", "--profile", profile, "--estimate").stdout
    assert admit(file, "--profile", profile).exit_code == 1  # of another key, and no --estimate


def test_an_unknown_target_is_wrong_use(tmp_path: Path) -> None:
    """With the names there are."""
    result = admit(written(tmp_path, table()), "--target", "toaster")
    assert result.exit_code == 2
    assert "generic-x86" in result.stderr


def test_the_same_profile_decides_the_same(tmp_path: Path, measured: LatencyProfile) -> None:
    """A given profile of this key is used as the stored one; twice as slow, utilization doubles but for the ends."""
    file, profile = written(tmp_path, table()), tmp_path / "profile.json"
    profile.write_bytes(msgspec.json.encode(measured))
    assert record_of(file, "--profile", profile) == record_of(file)
    twice = make_profile(Latency(0.0, 200_000.0, 2.0 * MS, 0.0, 2.0 * MS))
    profile.write_bytes(msgspec.json.encode(msgspec.structs.replace(twice, key=measured.key)))
    ends = 1.5 / 1000
    slower, faster = (record_of(file, *args)[1]["utilization"] for args in (["--profile", profile], []))
    assert slower - ends == pytest.approx(2 * (faster - ends), rel=1e-4)


def test_names_are_no_markup(tmp_path: Path) -> None:
    """A name in brackets is printed as it is."""
    assert "[red]x" in admit(written(tmp_path, table(name="[red]x"))).stdout


def test_estimated_times_must_be_asked_for(tmp_path: Path) -> None:
    """``--estimate`` alone plans with published figures of the device, and says so; without it nothing is said."""
    file = written(tmp_path, table(period="2s"))
    assert admit(file, "--target", "orin-nano-super").exit_code == 2
    code, record = record_of(file, "--target", "orin-nano-super", "--estimate")
    assert (code, record["profile"]["estimated"], record["profile"]["processor"]) == (0, True, "orin-nano-super")
    told = admit(file, "--target", "orin-nano-super", "--estimate").stdout
    assert "estimated from published figures" in told
    assert "measured under another key" not in told
    refused = admit(file, "--target", "raspberry-pi-5", "--estimate")
    assert refused.exit_code == 1
    assert "no estimate" in refused.stderr
    assert record_of(file)[1]["profile"]["estimated"] is False
