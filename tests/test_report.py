"""The page about a record: complete in itself, and drawn without an error by a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from anytime.cli.main import app
from anytime.errors import RecordError
from anytime.node.bag import Bag, Entry, read_bag
from anytime.node.messages import Decision, Question, Scene, Vehicle
from anytime.node.report import report
from tests.conftest import MakeReasoner, turns_at
from tests.nodes import Rig, scene

CHROMIUM = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=5000",
]


@pytest.fixture
def bag(make_reasoner: MakeReasoner, tmp_path: Path) -> Bag:
    """A record with questions and scenes, one answered late, one rejected."""
    reasoner, _, clock = make_reasoner(turns_at(20))
    up = Rig(reasoner, clock, record=str(tmp_path / "bag"), warn_share=0.0).up()
    for n in range(6):
        up.ask("what", choices=["left", "right"], request_id=f"</script><b>{n}")
        clock.advance(50_000_000)
        up.say(
            scene(up.header(), vehicles=[Vehicle(1, 20.5 + n, 25.0), Vehicle(3, -7.25, 30.0), Vehicle(2, 300.0, 9.0)])
        )
        clock.advance(50_000_000)
    up.ask(age_ns=99_000_000)
    up.node.diagnose()
    up.node.shutdown()
    return read_bag(tmp_path / "bag")


def contents(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="contents">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    told: dict[str, Any] = json.loads(found.group(1))
    return told


def test_the_page_is_complete_in_itself(bag: Bag) -> None:
    """It names no other resource, its policy allows none, and no text of a message can end its script."""
    page = report(bag)
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|img|iframe|object|embed)\b|@import|url\(|\bsrc=|fetch\(|import\(", page)
    assert "default-src 'none'" in page
    assert page.count("</script>") == 2
    assert contents(page)["decisions"][0]["id"] == "</script><b>0"


def test_the_page_has_every_decision(bag: Bag) -> None:
    """With slack, confidence, the answers as they changed, the actions of the engine, and the scene."""
    told = contents(report(bag))
    decisions = told["decisions"]
    assert len(decisions) == 13
    first, second, last = decisions[0], decisions[1], decisions[-1]
    assert [answer["text"] for answer in first["answers"]][-1] == first["answer"]
    assert first["scene"] is None
    assert second["scene"]["vehicles"][0]["gap_m"] == 20.5
    assert 0 < first["slack_ms"] < first["budget_ms"] == 100.0
    assert last["stopped"] == "rejected"
    assert last["confidence"] is None
    begun, took, kind, tokens = first["actions"][0]
    assert (begun >= 0, took > 0, kind, tokens > 0) == (True, True, 1, True)
    ends = [begun + took for begun, took, _, _ in first["actions"]]
    assert ends == sorted(ends)
    assert ends[-1] <= first["budget_ms"] - first["slack_ms"]
    assert [decision["t"] for decision in decisions] == sorted(decision["t"] for decision in decisions)
    assert told["troubles"]


def test_a_record_of_others_has_a_page(bag: Bag) -> None:
    """Of topics alone, as ``ros2 bag record`` has them, without traces and steps."""
    kinds = (Decision, Question, Scene)
    bare = Bag(bag.file, [entry for entry in bag.entries if isinstance(entry.message, kinds)], False)
    told = contents(report(bare))
    assert len(told["decisions"]) == len(bag.all(Decision))
    assert told["decisions"][1]["scene"] is not None
    assert not told["whole"]


def test_a_record_without_decisions_has_none(bag: Bag) -> None:
    """Rather than an empty page there is a reason."""
    empty = Bag(bag.file, [entry for entry in bag.entries if isinstance(entry.message, Question)], True)
    with pytest.raises(RecordError, match="there is no decision in the record"):
        report(empty)


def test_the_command(bag: Bag, tmp_path: Path) -> None:
    """``anytime report`` writes the page and says where; a place that cannot be written exits with 2."""
    done = CliRunner().invoke(app, ["report", str(bag.file), "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert done.stdout.replace("\n", "") == str(tmp_path / "page.html")
    assert contents((tmp_path / "page.html").read_text(encoding="utf-8"))["decisions"]
    done = CliRunner().invoke(app, ["report", str(bag.file), "--out", str(tmp_path / "no" / "page.html")])
    assert done.exit_code == 2


@pytest.fixture(scope="session")
def chromium() -> str:
    """A Chromium, where there is one."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("there is no Chromium to draw the page: apt-get install chromium")
    return found


def shown(chromium: str, page: str, scratch: Path, *options: str) -> tuple[str, list[str]]:
    """What a browser makes of a page, and what it says on its console."""
    file = scratch / "page.html"
    file.write_text(page, encoding="utf-8")
    command = [chromium, *CHROMIUM, f"--user-data-dir={scratch / 'profile'}", *options, "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_draws_it(bag: Bag, chromium: str, tmp_path: Path, width: int) -> None:
    """Without an error: all decisions in numbers and dots, the scene, the answers and actions of the chosen one."""
    dom, said = shown(chromium, report(bag), tmp_path, f"--window-size={width},900")
    assert said == []
    assert 'data-ready="13"' in dom
    assert '<dd data-tile="decisions">13</dd>' in dom
    drawn = re.search(r'<svg[^>]*id="slack".*?</svg>', dom, re.DOTALL)
    assert drawn is not None
    assert len(re.findall(r"M[\d.]+ [\d.]+h\.01", drawn.group())) == 13
    assert re.search(r'<svg[^>]*id="scene"[^>]*aria-label="We are in lane 2 of 4 at 27 metres per second', dom)
    number = re.search(r'id="number">(\d+) of 13<', dom)
    assert number is not None
    chosen = contents(report(bag))["decisions"][int(number.group(1)) - 1]
    line = re.search(r'<svg[^>]*id="line".*?</svg>', dom, re.DOTALL)
    assert line is not None
    assert line.group().count("<title>") == len(chosen["actions"])
    assert f">{chosen['answer']}</p>" in dom


def test_the_test_sees_an_error(bag: Bag, chromium: str, tmp_path: Path) -> None:
    """A page whose script fails says so on the console."""
    _, said = shown(chromium, report(bag).replace('"use strict";', '"use strict"; nothing.at.all();'), tmp_path)
    assert any("nothing is not defined" in line for line in said)


def test_one_decision_is_enough(bag: Bag, chromium: str, tmp_path: Path) -> None:
    """A record of a single decision, without a scene and without an answer of the model."""
    last = bag.all(Decision)[-1]
    alone = Bag(bag.file, [Entry("/anytime/decision", 1, msgspec.structs.replace(last, answer=""))], True)
    dom, said = shown(chromium, report(alone), tmp_path)
    assert said == []
    assert 'data-ready="1"' in dom
