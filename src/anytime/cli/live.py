"""The live view: time left, the thought as it grows, the best answer so far."""

from __future__ import annotations

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.text import Text

from anytime.runtime.pending import Pending

_LINES = 8


def live_view(pending: Pending, console: Console) -> Live:
    """A display that refreshes itself from its own thread, so that drawing never stands between answer and caller."""
    return Live(get_renderable=lambda: _render(pending), console=console, refresh_per_second=10, transient=True)


def _render(pending: Pending) -> Group:
    best = pending.best()
    left_s = max(0.0, best.slack_s)
    answer = f"{best.text}   confidence {best.confidence:.2f}" if best.valid else "none yet"
    return Group(
        Text(f"{left_s * 1e3:6.0f} ms left"),
        ProgressBar(total=max(1e-9, best.budget_s), completed=best.budget_s - left_s),
        Panel("\n".join(pending.thought().splitlines()[-_LINES:]), title="thought", title_align="left"),
        Text(f"best answer so far: {answer}", style="bold"),
    )
