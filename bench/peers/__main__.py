"""``python -m bench.peers``: how fast is our engine beside its peers, on the same weights, bits and threads?"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict

from rich.progress import Progress

from anytime import AnytimeError
from anytime.targets import detect
from bench.peers import startup
from bench.peers.child import ContenderError
from bench.peers.convert import model_of
from bench.peers.environments import PINS, python_of
from bench.peers.figures import figures, took_part
from bench.peers.measure import Effort, Group, Seat
from bench.peers.roster import OURS, SCRIPTS, Contender, groups
from bench.peers.samples import Measured
from bench.peers.shapes import LARGE, REFERENCE, Shape, open_shape
from bench.peers.table import notes, table
from bench.report import Report, parser, progress

EFFORT = {REFERENCE: Effort(rounds=15, loads=3), LARGE: Effort(rounds=2, loads=1)}
QUICK = {REFERENCE: Effort(rounds=2, loads=1), LARGE: Effort(rounds=1, loads=1)}
STARTS, QUICK_STARTS = 15, 7


def options() -> argparse.Namespace:
    wanted = parser("peers", "How fast is our engine beside its peers, on the same weights, bits and threads?")
    wanted.add_argument("--threads", type=int, metavar="N", help="default: as many as the runtime takes")
    wanted.add_argument("--only", metavar="NAME,NAME", help=f"some of: {', '.join(SCRIPTS)}")
    wanted.add_argument("--shape", choices=(REFERENCE, LARGE, "both"), help="default: both; with --quick, reference")
    given = wanted.parse_args()
    given.only = given.only.split(",") if given.only else list(SCRIPTS)
    if unknown := set(given.only) - set(SCRIPTS):
        wanted.error(f"nobody is called {', '.join(sorted(unknown))}: there are {', '.join(SCRIPTS)}")
    given.threads = given.threads or detect().threads()
    shape = given.shape or (REFERENCE if given.quick else "both")
    given.shapes = [REFERENCE, LARGE] if shape == "both" else [shape]
    return given


def prepare(shape: Shape, group: Sequence[Contender], say: Callable[[str], None], left_out: list[str]) -> list[Seat]:
    """Environments and converted models; who has none is left out, and a line says why."""
    seats = []
    for contender in group:
        try:
            python = python_of(contender.engine, say)
            say(f"{shape.name}: {contender.name}, converting")
            seats.append(Seat(contender, python, model_of(contender, shape, python)))
        except ContenderError as error:
            left_out.append(f"{shape.name}: {contender.name} is left out: {error}")
    return seats


def measure(given: argparse.Namespace, name: str, bar: Progress, lines: list[str]) -> tuple[list[Measured], int]:
    """Everything about one shape, and how many contenders there should have been."""
    together = groups(name, given.only)
    expected = sum(map(len, together))
    effort = (QUICK if given.quick else EFFORT)[name]
    task = bar.add_task(name, total=expected * (effort.rounds + effort.loads + 1))

    def say(what: str) -> None:
        bar.update(task, description=what, refresh=True)

    def step(what: str) -> None:
        bar.update(task, description=what, advance=1, refresh=True)

    shape = open_shape(name, say)
    measured: list[Measured] = []
    for members in together:
        group = Group(shape, given.threads, step)
        try:
            group.measure(prepare(shape, members, say, lines), effort)
        finally:
            group.close()
        measured += group.measured.values()
        lines += group.notes
    return measured, expected


def start_up(given: argparse.Namespace, bar: Progress) -> startup.Starts:
    rounds = QUICK_STARTS if given.quick else STARTS
    task = bar.add_task("start-up", total=rounds + 1)
    return startup.measure(rounds, given.threads, lambda: bar.update(task, advance=1, refresh=True))


def main() -> int:
    given = options()
    report = Report("peers", given.json)
    report.environment |= {"threads": given.threads, "pins": PINS}
    shapes: dict[str, list[Measured]] = {}
    lines: list[str] = []
    asked = 0
    try:
        with progress() as bar:
            starts = start_up(given, bar) if OURS in given.only else None
            for name in given.shapes:
                shapes[name], expected = measure(given, name, bar, lines)
                asked += expected
    except (AnytimeError, ContenderError) as error:
        raise SystemExit(str(error)) from error
    found = [took_part(sum(map(len, shapes.values())), asked)]
    found += [figure for name, every in shapes.items() for figure in figures(name, every)]
    if starts is not None:
        found += startup.figures(starts)
        lines.append(startup.note(starts))
    samples = {name: [asdict(one) for one in every] for name, every in shapes.items()} | {"start-up": starts}
    return report.finish(found, samples, table(shapes, given.threads), [*notes(shapes), *lines])


if __name__ == "__main__":
    raise SystemExit(main())
