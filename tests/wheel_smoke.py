"""Run by CI with the installed wheel alone: the package answers a scene by its deadline, from Python and the shell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import anytime

QUESTION = "lane 2 of 4 at 27 m/s\nlane 2 ahead 14 m 18 m/s\nlane 3 behind 30 m 25 m/s"
ACTIONS = ("LANE_LEFT", "IDLE", "LANE_RIGHT", "FASTER", "SLOWER")

assert "site-packages" in anytime.__file__, anytime.__file__
with anytime.Reasoner.load() as reasoner:
    answer = reasoner.answer(QUESTION, budget=2.0, answer=anytime.Choices(*ACTIONS), fallback="SLOWER")
assert answer.valid, answer
assert answer.text in ACTIONS, answer

with anytime.Reasoner.load(isolated=True) as isolated:
    elsewhere = isolated.answer(QUESTION, budget=5.0, answer=anytime.Choices(*ACTIONS), fallback="SLOWER")
assert elsewhere.text == answer.text, elsewhere
assert (Path(anytime.__file__).parent / "ext" / "anytime_slots.h").is_file()

command = [
    str(Path(sys.executable).parent / "anytime"),
    "run",
    "--json",
    "--budget",
    "2s",
    "--choices",
    ",".join(ACTIONS),
]
printed = subprocess.run([*command, QUESTION], check=True, capture_output=True, text=True).stdout
assert json.loads(printed)["answer"] == answer.text, printed
asked = json.dumps({"text": QUESTION, "choices": ACTIONS, "budget_s": 5.0})
published = subprocess.run([command[0], "node", "--json"], input=asked, check=True, capture_output=True, text=True)
assert json.loads(published.stdout)["answer"] == answer.text, published
assert (Path(anytime.__file__).parent / "runtime" / "gpu" / "copy_rows.ptx").is_file()
for shipped in ("node/anytime_msgs/package.xml", "node/report.html", "deploy/device/install.sh"):
    assert (Path(anytime.__file__).parent / shipped).is_file()
known = subprocess.run([command[0], "targets", "--json"], check=True, capture_output=True, text=True).stdout
assert "orin-nano-super" in [target["name"] for target in json.loads(known)["targets"]], known
print("the installed wheel answers:", answer.text)
