"""The command line: what it prints, and how it fails."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from anytime.cli.common import duration_s
from anytime.cli.main import app
from anytime.cli.profile import _regimes
from anytime.errors import BudgetError
from anytime.ext.latency import Latency
from anytime.scheduler.profile import Regime
from anytime.scheduler.tail import summarize
from anytime.targets import Clocks
from tests.conftest import make_profile

SCENE = "lane 2 of 4 at 27 m/s\nlane 2 ahead 14 m 18 m/s\nlane 3 behind 30 m 25 m/s"
ACTIONS = "LANE_LEFT,IDLE,LANE_RIGHT,FASTER,SLOWER"
FIELDS = {
    "id", "answer", "stopped", "source", "late", "overrun", "confidence", "calibrated", "budget_ms", "elapsed_ms",
    "slack_ms", "token_cap", "tokens", "thought",
}  # fmt: skip


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory for the module, so that the reference is profiled once."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(autouse=True)
def _home(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(state))


def anytime(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_json_has_every_documented_field() -> None:
    """``run --json`` prints one object with at least the promised fields, and a valid answer."""
    result = anytime("run", "--json", "--budget", "5s", "--choices", ACTIONS, SCENE)
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    record = json.loads(line)
    assert record.keys() >= FIELDS
    assert record["tokens"].keys() == {"prompt", "cached", "thought", "discarded", "probe", "answer"}
    assert record["answer"] in ACTIONS.split(",")
    assert record["source"] in ("thought", "probe", "instant")


def test_piped_output_is_the_answer_alone() -> None:
    """Without a terminal, ``run`` prints the answer and nothing else on stdout."""
    result = anytime("run", "--budget", "5s", "--choices", ACTIONS, SCENE)
    assert result.stdout.strip() in ACTIONS.split(",")


def test_question_file_gives_a_line_each_and_a_summary(tmp_path: Path) -> None:
    """``--questions`` answers in order, says what was right, and sums up."""
    file = tmp_path / "q.jsonl"
    rows = [{"id": f"q{i}", "question": SCENE, "answer": "IDLE", "choices": ACTIONS.split(",")} for i in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = anytime("run", "--questions", file, "--budget", "5s", "--json")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["id"] for record in records] == ["q0", "q1", "q2"]
    assert all(record["correct"] == (record["answer"] == "IDLE") for record in records)
    assert "accuracy" in result.stderr


MALFORMED = [
    ('{"id": "a"}', "question"),
    ("not json", "expected an object"),
    ('{"id": "a", "question": " "}', "empty"),
    ('{"id": "a", "question": "?", "choices": ["x"]}', "at least two"),
    ('{"id": "a", "question": "?", "choices": ["x", "y"], "regex": "a"}', "more than one"),
    ('{"id": "a", "question": "?", "regex": "("}', "cannot be read"),
    ('{"id": "a", "question": "?", "regex": "a*"}', "no longest match"),
    ('{"id": "a", "question": "?", "regex": "a", "difficulty": "hard"}', "difficulty"),
    ('{"id": "a", "question": "?", "regex": "a", "grader": "kind"}', "grader"),
    ('{"id": "a", "question": "?", "schema": {}}', "max_tokens"),
    ('{"id": "a", "question": "?", "max_tokens": 0}', "at least 1"),
    ('{"id": "a", "question": "?", "schema": ' + '{"a":' * 20_000, "recursion"),
]
GOOD = json.dumps({"id": "fine", "question": SCENE, "choices": ACTIONS.split(",")})


@pytest.mark.parametrize(("line", "complaint"), MALFORMED)
def test_malformed_line_is_named_and_refused(tmp_path: Path, line: str, complaint: str) -> None:
    """With ``--strict`` a bad line is reported with file and line number, exit code 2, and no answer is printed."""
    file = tmp_path / "q.jsonl"
    file.write_text(f"{GOOD}\n{line}\n", encoding="utf-8")
    result = anytime("run", "--strict", "--questions", file)
    assert result.exit_code == 2
    assert f"{file}:2" in result.stderr
    assert complaint in result.stderr
    assert not result.stdout


def test_malformed_lines_are_named_and_the_rest_answered(tmp_path: Path) -> None:
    """Without ``--strict`` every bad line is one warning on stderr, and the good lines around it are answered."""
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join([GOOD, *(line for line, _ in MALFORMED), "", GOOD]), encoding="utf-8")
    result = anytime("run", "--questions", file, "--budget", "5s", "--json")
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == ["fine", "fine"]
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == len(MALFORMED)
    for number, (warning, (_, complaint)) in enumerate(zip(warnings, MALFORMED, strict=True), 2):
        assert warning.startswith(f"warning: {file}:{number}: ")
        assert complaint in warning


def test_question_file_with_no_good_line_is_refused(tmp_path: Path) -> None:
    """Without one well-formed line there is nothing to answer: exit code 2, with the first bad line and why."""
    file = tmp_path / "q.jsonl"
    file.write_text('\nnot json\n{"id": "a"}\n', encoding="utf-8")
    result = anytime("run", "--questions", file)
    assert result.exit_code == 2
    assert f"{file}:2" in result.stderr
    assert "no line" in result.stderr
    assert not result.stdout


def test_max_tokens_alone_asks_for_free_text(tmp_path: Path) -> None:
    """A question with ``max_tokens`` and no format gets free text of at most that length."""
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"id": "a", "question": SCENE, "max_tokens": 2}), encoding="utf-8")
    result = anytime("run", "--questions", file, "--budget", "5s", "--json")
    assert json.loads(result.stdout)["tokens"]["answer"] <= 2


def test_question_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are wrong use, with the line."""
    file = tmp_path / "q.jsonl"
    file.write_bytes(b'{"id": "a", "question": "\xff\xfe"}\n')
    result = anytime("run", "--questions", file)
    assert result.exit_code == 2
    assert f"{file}:1" in result.stderr


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["run"], "expected [BUNDLE] QUESTION"),
        (["run", "a", "b", "c"], "put the question in quotes"),
        (["run", ""], "empty"),
        (["run", "--budget", "nan", "hi"], "cannot be read"),
        (["run", "--budget", "infs", "hi"], "cannot be read"),
        (["run", "--budget", "200", "hi"], "us, ms or s"),
        (["run", "--choices", "a", "hi"], "at least two"),
        (["run", "--choices", "a,a", "hi"], "differ"),
        (["run", "--regex", "(", "hi"], "cannot be read"),
        (["run", "--regex", "a*", "hi"], "no longest match"),
        (["run", "--choices", "a,b", "--regex", "a", "hi"], "give one"),
        (["run", "--min-confidence", "2", "hi"], "between 0 and 1"),
        (["run", "--temperature", "-1", "hi"], "temperature"),
        (["run", "--threads", "0", "hi"], "threads"),
        (["run", "x" * 200_000], "characters"),
        (["run", "x" * 2_000], "tokens"),
        (["run", "\udcff"], "not valid Unicode"),
    ],
)
def test_wrong_use_exits_with_2(args: list[str], complaint: str) -> None:
    """Wrong use is one line on stderr with the remedy, exit code 2, no traceback."""
    result = anytime(*args)
    assert result.exit_code == 2, (result.output, result.exception)
    assert complaint in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("budget", ["0ms", "-5ms", "1us"])
def test_hopeless_budget_is_a_refusal_not_an_error(budget: str) -> None:
    """A budget that is zero, negative or below the floor returns the fallback at once and says why."""
    result = anytime("run", "--json", "--budget", budget, "--fallback", "SLOWER", "--choices", ACTIONS, SCENE)
    record = json.loads(result.stdout)
    assert (record["answer"], record["stopped"], record["source"]) == ("SLOWER", "rejected", "fallback")
    assert record["reason"]


def test_missing_bundle_exits_with_1(tmp_path: Path) -> None:
    """Failures that are not wrong use exit with 1 and name the remedy."""
    result = anytime("run", tmp_path / "nothing", "hi")
    assert result.exit_code == 1
    assert "anytime export" in result.stderr


def test_profile_prints_tables_and_caps_and_stores(state: Path) -> None:
    """``profile`` ends with the token caps and the file in which the profile is kept."""
    result = anytime("profile", "--quick")
    assert result.exit_code == 0, result.output
    for text in ("p99", "token cap", "200 ms", "idle 100 ms", "not measured by a quick profile: loaded", "stored in"):
        assert text in result.stdout
    assert list(state.rglob("*.json"))


def test_profile_prints_a_line_for_every_regime(monkeypatch: pytest.MonkeyPatch, latency: Latency) -> None:
    """Far quantile with interval, bursts, clocks; what samples or machine do not tell is not made up."""
    many = summarize([9.0 if i % 400 < 2 else 1.0 for i in range(100_000)])
    told = Clocks("MAXN", "performance", (800, 2400), (2400, 2400))
    regimes = (
        Regime("warm", told, (), many),
        Regime("loaded", Clocks("unknown", "unknown", (), ()), (), summarize([2.5] * 50)),
    )
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(_regimes(msgspec.structs.replace(make_profile(latency), regimes=regimes)))
    lines = [line.split() for line in console.export_text().replace("│", " ").splitlines()]
    warm, loaded = (line for line in lines if line[:1] in (["warm"], ["loaded"]))
    assert warm == ["warm", "100000", "1.00", "1.00", "9", "[9,", "9]", "9", "50%", "800-2400"]
    assert loaded == ["loaded", "50", "2.50", "2.50", "too", "few", "2.5"]


def test_profile_of_another_key_is_refused(tmp_path: Path) -> None:
    """A profile measured with other threads is refused with the command for a new one; ``--estimate`` goes on."""
    made = anytime("profile", "--quick", "--threads", "2", "--json")
    file = json.loads(made.stdout)["path"]
    refused = anytime("run", "--threads", "1", "--profile", file, "--choices", ACTIONS, SCENE)
    assert refused.exit_code == 1
    assert "anytime profile" in refused.stderr
    assert "--estimate" in refused.stderr
    accepted = anytime("run", "--threads", "1", "--profile", file, "--estimate", "--choices", ACTIONS, SCENE)
    assert accepted.exit_code == 0


def test_state_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``profile`` fails with the remedy; ``run`` measures, says so, and answers."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file" / "state"))
    result = anytime("profile", "--quick")
    assert result.exit_code == 1
    assert "XDG_STATE_HOME" in result.stderr
    assert anytime("run", "--budget", "5s", "--choices", ACTIONS, SCENE).exit_code == 0


def test_targets_describes_this_machine() -> None:
    """``targets --json`` lists devices and the host."""
    record = json.loads(anytime("targets", "--json").stdout)
    assert record["host"]["cores"] >= 1
    assert {"generic-x86"} <= {target["name"] for target in record["targets"]}


AT_THE_START = """
import logging
real = logging.basicConfig
logging.basicConfig = lambda **settings: (print('ready', flush=True), real(**settings))
"""
IN_A_PROFILE = """
import anytime.cli.profile as module
real = module.measure_profile
module.measure_profile = lambda *args: (print('ready', flush=True), real(*args))
"""
IN_AN_ANSWER = """
from anytime.runtime.pending import Pending
real = Pending.result
Pending.result = lambda self: (print('ready', flush=True), real(self))
"""


@pytest.mark.parametrize(
    ("command", "when"),
    [
        (["profile"], AT_THE_START),
        (["profile"], IN_A_PROFILE),
        (["run", "--budget", "60s", "--regex", "[0-9]{1,3}", SCENE], IN_AN_ANSWER),
    ],
)
def test_ctrl_c_is_one_line(command: list[str], when: str, state: Path) -> None:
    """Ctrl-C at the start, in a profile or in an answer: exit code 1, one line, no traceback, nothing half-written."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"from anytime.cli.main import main\n{when}\nmain()", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(state)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert not list(state.rglob("*.part"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("200ms", 0.2), ("1.5s", 1.5), ("500us", 5e-4), (" 2 S ", 2.0), ("-5ms", -0.005), ("1e2ms", 0.1)],
)
def test_duration(text: str, seconds: float) -> None:
    """A duration is a number with a unit."""
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "ms", "200", "200 m", "1,5s", "nan ms", "inf s", "0x10ms"])
def test_unreadable_duration(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(BudgetError, match="200ms"):
        duration_s(text)
