"""The live view of ``anytime run``."""

from __future__ import annotations

from rich.console import Console

from anytime import Choices
from anytime.cli.live import live_view
from tests.conftest import MakeReasoner, thinker


def test_live_view_shows_time_thought_and_best_answer(make_reasoner: MakeReasoner) -> None:
    """The view shows the time left, the thought so far and the best answer with its confidence."""
    reasoner, _, _ = make_reasoner(thinker("abc", lambda n: "right"))
    pending = reasoner.submit("what", budget=0.05, answer=Choices("left", "right"))
    pending.result()
    console = Console(width=60, record=True, force_terminal=False)
    console.print(live_view(pending, console).get_renderable())
    shown = console.export_text()
    assert "ms left" in shown
    assert "abc" in shown
    assert "best answer so far: right   confidence 0.99" in shown
