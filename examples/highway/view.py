"""A drive in the terminal: the road seen from our car, the decision in force, and the thought behind it."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from anytime.scheduler.clock import NS_PER_S
from examples.highway.episode import Moment
from examples.highway.traffic import LANE_WIDTH_M, LANES

_BEHIND_M, _AHEAD_M, _M_A_CELL = 40, 120, 2
_THOUGHT_LINES = 6


def road(moment: Moment) -> Text:
    """Lanes as rows, vehicles as they stand around our car."""
    car = moment.environment.vehicle
    width = (_BEHIND_M + _AHEAD_M) // _M_A_CELL
    rows = [[("·" if i % 5 == 0 else " ", "dim") for i in range(width)] for _ in range(LANES)]
    for vehicle in moment.environment.road.vehicles:
        cell = int((vehicle.position[0] - car.position[0] + _BEHIND_M) / _M_A_CELL)
        lane = round(float(vehicle.position[1]) / LANE_WIDTH_M)
        if 0 <= cell < width - 1 and 0 <= lane < LANES:
            style = "bold red" if vehicle.crashed else "bold green" if vehicle is car else "white"
            rows[lane][cell] = rows[lane][cell + 1] = ("█", style)
    text = Text()
    for row in rows:
        for character, style in row:
            text.append(character, style)
        text.append("\n")
    return text


def panel(title: str, moment: Moment) -> Panel:
    """What the live view shows at one moment."""
    car, said = moment.environment.vehicle, moment.latest
    facts = Table.grid(padding=(0, 3))
    age_ms = (said.over_ns - said.stamped_ns) / 1e6 if said is not None else 0.0
    decision = said.decision if said is not None else None
    confidence = f"{decision.confidence:.0%}" if decision is not None and decision.source != "fallback" else "–"
    facts.add_row(
        f"{moment.at_ns / NS_PER_S:5.1f} s",
        f"{float(car.speed):4.1f} m/s",
        Text(moment.action, "bold cyan"),
        f"decided {age_ms:.0f} ms after its scene",
        f"from {decision.source if decision is not None else 'reflex'}, confidence {confidence}",
    )
    parts: list[object] = [road(moment), facts]
    if said is not None and said.decision is not None:
        thought = said.thought.splitlines()[-_THOUGHT_LINES:]
        parts.append(Text("\n".join(["", *thought] + [""] * (_THOUGHT_LINES - len(thought))), "dim"))
    return Panel(Group(*parts), title=title, title_align="left")  # type: ignore[arg-type]


def viewer(title: str, show: Callable[[Panel], None], every: int) -> Callable[[Moment], None]:
    """Shows every so many moments."""
    seen = 0

    def watch(moment: Moment) -> None:
        nonlocal seen
        if seen % every == 0 or moment.environment.vehicle.crashed:
            show(panel(title, moment))
        seen += 1

    return watch
