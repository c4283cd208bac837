"""The table and the notes of the peers bench."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rich import box
from rich.table import Table

from bench.peers.figures import SHORT, STRETCH_AT_EQUAL_BITS, sides
from bench.peers.measure import GREEDY
from bench.peers.samples import BUDGETS_MS, CONTEXTS, PREFILLS, Measured, limit_ratio, p99, step_ratio
from bench.peers.shapes import LARGE

_NS_PER_MS, _NS_PER_S = 1e6, 1e9
_BYTES_PER_MB = 1e6
EXACT = ("transformers", "fp32")  # the engine and precision that the others' tokens are held to


def table(shapes: dict[str, list[Measured]], threads: int) -> Table:
    """A row for each contender: medians over all rounds."""
    title = (
        f"ms with {threads} thread(s), MB; p50 and p99 from token to token; limit: p50 over reading the weights once"
    )
    made = Table(title=title, box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    made.add_column("contender", no_wrap=True)
    headings = [f"prefill\n{tokens}" for tokens in PREFILLS]
    headings += [f"{q}\nat {context}" for context in CONTEXTS for q in ("p50", "p99")]
    headings += [f"limit\nat {SHORT}", *(f"tokens\n{ms} ms" for ms in BUDGETS_MS), "load\ns", "peak\nRAM", "disk\nsize"]
    for heading in headings:
        made.add_column(heading, justify="right")
    for shape, every in shapes.items():
        made.add_row(shape, style="bold")
        for one in every:
            made.add_row(one.contender.name, *_cells(one))
        made.add_section()
    return made


def _cells(one: Measured) -> list[str]:
    cells = [_ms(statistics.median(one.prefill_ns[tokens])) for tokens in PREFILLS]
    for context in CONTEXTS:
        cells += [_ms(statistics.median(one.steps(context))), _ms(p99(one.steps(context)))]
    cells.append(f"{limit_ratio(one, SHORT):.1f}")
    cells += [f"{statistics.median(one.tokens[ms]):g}" for ms in BUDGETS_MS]
    cells.append(f"{statistics.median(one.load_ns) / _NS_PER_S:.2f}")
    disk = one.disk / _BYTES_PER_MB
    return [*cells, f"{one.memory / _BYTES_PER_MB:.0f}", f"{disk:.1f}" if disk < 100 else f"{disk:.0f}"]


def _ms(ns: float) -> str:
    """Three digits that mean something."""
    ms = ns / _NS_PER_MS
    return f"{ms:.3f}" if ms < 1 else f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def notes(shapes: dict[str, list[Measured]]) -> list[str]:
    """Who was fastest, what the limit was, and whether all compute the same."""
    lines = []
    for shape, every in shapes.items():
        for bits in sorted({one.contender.bits for one in every}):
            group = [one for one in every if one.contender.bits == bits]
            limit = statistics.median(ns for one in group for ns in one.limit_ns)
            lines.append(f"{shape}: reading weights of {bits} bits takes {_ms(limit)} ms; {_fastest(group)}")
        lines += _agreement(shape, every)
    if any(all(sides(every)) for shape, every in shapes.items() if shape == LARGE):
        lines.append(f"{LARGE}: at equal bits, what we would like to reach is {STRETCH_AT_EQUAL_BITS}")
    return lines


def _fastest(group: Sequence[Measured]) -> str:
    """The fastest at each context, and ours over the fastest peer."""
    said = []
    for context in CONTEXTS:
        by_step = sorted(group, key=lambda one: statistics.median(one.steps(context)))
        ours, peers = sides(by_step)
        ratio = f", ours {step_ratio(ours[0], peers[0], context):.2f} of the best peer's" if ours and peers else ""
        said.append(f"fastest at context {context}: {by_step[0].contender.name}{ratio}")
    return "; ".join(said)


def _agreement(shape: str, every: Sequence[Measured]) -> list[str]:
    """How many of the first tokens are transformers' own: a converter's mistake would show."""
    exact = next((one for one in every if (one.contender.engine, one.contender.precision) == EXACT), None)
    if exact is None or not exact.greedy:
        return []
    same = ", ".join(f"{one.contender.name} {_together(one.greedy, exact.greedy)}" for one in every if one is not exact)
    return [
        f"{shape}: of {GREEDY} greedy tokens behind a question, those up to the first that is not transformers': {same}"
    ]


def _together(some: Sequence[int], others: Sequence[int]) -> int:
    differing = (i for i, (a, b) in enumerate(zip(some, others, strict=True)) if a != b)
    return next(differing, len(some))
