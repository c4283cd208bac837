"""``make demo``: the main job. Recorded highway scenes, four deadlines, and what comes back by them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from anytime import Answer, Choices, Reasoner

SCENES = Path(__file__).parents[1] / "data" / "questions" / "drive.test.jsonl"
BUDGETS_MS = (20, 50, 100, 200)
COUNT = 100


def main() -> None:
    console = Console()
    rows = [json.loads(line) for line in SCENES.read_text(encoding="utf-8").splitlines()]
    scenes = rows[:: len(rows) // COUNT][:COUNT]
    console.print("[bold]anytime[/bold]: the best answer found by the deadline, every time\n")
    console.print("Opening the reference reasoner (the first time, its speed on this machine is measured) …")
    with Reasoner.load() as reasoner:
        show_one(console, reasoner, scenes[len(scenes) // 2])
        answers = ask_all(console, reasoner, scenes)
    console.print(summary(scenes, answers))
    console.print(
        "\nOn time: the answer was in the caller's hands before its deadline. From the model: not the fallback."
        "\nRight: the action the driving rule would take if it could finish its calculation."
    )


def show_one(console: Console, reasoner: Reasoner, scene: dict[str, str]) -> None:
    """One scene in full: what is asked, what is thought in 200 ms, what is answered."""
    answer = reasoner.answer(scene["question"], budget=0.2, answer=Choices(*scene["choices"]), fallback="SLOWER")
    console.print(f"\n[bold]A scene from highway-env[/bold]\n{scene['question']}")
    console.print(f"\n[bold]Thought in 200 ms[/bold] ({answer.tokens.thought} tokens)\n{answer.thought}")
    console.print(f"\n[bold]Answer[/bold] {answer.text} after {answer.elapsed_s * 1e3:.0f} ms\n")


def ask_all(console: Console, reasoner: Reasoner, scenes: list[dict[str, str]]) -> dict[int, list[Answer]]:
    """Every scene at every budget."""
    answers: dict[int, list[Answer]] = {budget_ms: [] for budget_ms in BUDGETS_MS}
    with Progress(console=console, transient=True) as progress:
        for scene in progress.track(scenes, description=f"{COUNT} scenes, {len(BUDGETS_MS)} deadlines"):
            for budget_ms in BUDGETS_MS:
                choices = Choices(*scene["choices"])
                answer = reasoner.answer(scene["question"], budget=budget_ms / 1e3, answer=choices, fallback="SLOWER")
                answers[budget_ms].append(answer)
    return answers


def summary(scenes: list[dict[str, str]], answers: dict[int, list[Answer]]) -> Table:
    """What a newcomer wants to know, a row for each deadline."""
    table = Table(title=f"{COUNT} highway scenes, answered by their deadlines")
    for heading in ("deadline", "on time", "from the model", "right", "thought", "time to spare"):
        table.add_column(heading, justify="right")
    for budget_ms, given in answers.items():
        right = sum(a.text == scene["answer"] for a, scene in zip(given, scenes, strict=True))
        table.add_row(
            f"{budget_ms} ms",
            f"{sum(not a.late for a in given)} of {COUNT}",
            f"{sum(a.valid for a in given)} of {COUNT}",
            f"{100 * right / COUNT:.0f} %",
            f"{statistics.median(a.tokens.thought for a in given):.0f} tokens",
            f"{statistics.median(a.slack_s for a in given) * 1e3:.1f} ms",
        )
    return table


if __name__ == "__main__":
    main()
