"""The live view: time left, the thought as it grows, the best answer so far."""

from __future__ import annotations

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.text import Text

from anytime.runtime.pending import Pending
from anytime.scheduler.clock import NS_PER_MS

_LINES = 8


def live_view(pending: Pending, console: Console) -> Live:
    """A display that refreshes itself from its own thread, so that drawing never stands between answer and caller."""
    return Live(get_renderable=lambda: _render(pending), console=console, refresh_per_second=10, transient=True)


def _render(pending: Pending) -> Group:
    now = pending.worker.machine.clock.now()
    budget_ns = max(1, pending.deadline_ns - pending.received_ns)
    left_ns = max(0, pending.deadline_ns - now)
    thought = pending.worker.machine.codec.decode(list(pending.job.thought))
    best = pending.job.bank.best()
    answer = f"{best.text}   confidence {best.confidence:.2f}" if best else "none yet"
    return Group(
        Text(f"{left_ns / NS_PER_MS:6.0f} ms left"),
        ProgressBar(total=budget_ns, completed=budget_ns - left_ns),
        Panel("\n".join(thought.splitlines()[-_LINES:]), title="thought", title_align="left"),
        Text(f"best answer so far: {answer}", style="bold"),
    )
