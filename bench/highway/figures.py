"""From drives to a table and to what the comparison was asked to reach."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from bench.intervals import clopper_pearson
from bench.report import Figure
from examples.highway.contenders import CONTENDERS, THINKERS
from examples.highway.episode import Episode
from examples.highway.setting import Setting

ASKED, TEACHER = "reasoner", "teacher"
BEATEN = ("instant", "unconstrained")
COMPARED = (ASKED, *BEATEN, TEACHER)
_RESAMPLES = 10_000

Drives = Mapping[str, Sequence[Episode]]  # of every contender, by seed


def of(episodes: Sequence[Episode], live: bool) -> dict[str, list[Episode]]:
    """Drives by contender, in the order of their seeds."""
    found: dict[str, list[Episode]] = {}
    for episode in sorted(episodes, key=lambda one: one.seed):
        if episode.live is live:
            found.setdefault(episode.contender, []).append(episode)
    return {name: found[name] for name in CONTENDERS if name in found}


def paired(a: Sequence[Episode], b: Sequence[Episode]) -> np.ndarray:
    """Differences of success times speed over the seeds that both have driven."""
    scores = {one.seed: one.score for one in b}
    return np.array([one.score - scores[one.seed] for one in a if one.seed in scores])


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean with its 95 % bootstrap interval (percentiles of resampled means)."""
    drawn = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


HEADINGS = ("seeds", "no crash", "95 %", "speed", "success × speed", "95 %", "held", "age", "less reasoner")


def table(drives: Drives, live: Drives, setting: Setting) -> Table:
    """A row for each contender, those on the wall clock last; speeds in m/s, ages of scenes in ms."""
    made = Table(title=f"A scene every {setting.period_ns / 1e6:.1f} ms, pace {setting.pace:g}")
    made.add_column("driver", no_wrap=True)
    for heading in HEADINGS:
        made.add_column(heading, justify="right")
    for name, episodes in drives.items():
        made.add_row(name, *_cells(name, episodes, drives))
    for name, episodes in live.items():
        made.add_row(f"{name}, live", *_cells(name, episodes, live))
    return made


def _cells(name: str, episodes: Sequence[Episode], drives: Drives) -> list[str]:
    safe, n = sum(one.success for one in episodes), len(episodes)
    low, high = clopper_pearson(safe, n)
    score, score_low, score_high = interval(np.array([one.score for one in episodes]))
    ages = [one.age_ms for one in episodes if one.decisions]
    held = sum(one.held for one in episodes) / sum(one.periods for one in episodes)
    difference = ""
    if name != ASKED and ASKED in drives and len(paired(episodes, drives[ASKED])):
        mean, least, most = interval(paired(episodes, drives[ASKED]))
        difference = f"{mean:+.2f} ({least:+.2f} … {most:+.2f})"
    return [
        str(n),
        f"{safe / n:.0%}",
        f"{low:.0%}–{high:.0%}",
        f"{statistics.mean(one.mean_speed_m_s for one in episodes):.1f}",
        f"{score:.2f}",
        f"{score_low:.2f}–{score_high:.2f}",
        f"{held:.1%}",
        f"{statistics.median(ages):.0f}" if ages else "–",
        difference,
    ]


def figures(drives: Drives) -> list[Figure]:
    """What the reasoner at the period was asked to reach; only against whom there are drives of."""
    found = []
    for name in COMPARED[1:]:
        if ASKED not in drives or name not in drives:
            continue
        mean, low, high = interval(paired(drives[ASKED], drives[name]))
        measured = f"{mean:+.2f} m/s ({low:+.2f} … {high:+.2f})"
        if name == TEACHER:
            found.append(Figure(f"success × speed, {ASKED} − {name}", measured, "not below 0 beyond it", high >= 0))
        else:
            found.append(Figure(f"success × speed, {ASKED} − {name}", measured, "> 0 beyond the interval", low > 0))
    return found


def live_figures(live: Drives, drives: Drives) -> list[Figure]:
    """Whether drives on the wall clock end like the simulated ones of the same seeds."""
    found = []
    for name in THINKERS:
        if name in live and name in drives and len(paired(live[name], drives[name])):
            mean, low, high = interval(paired(live[name], drives[name]))
            measured = f"{mean:+.2f} m/s ({low:+.2f} … {high:+.2f})"
            found.append(Figure(f"success × speed, {name}, live − simulated", measured, "0 within", low <= 0 <= high))
    return found


def notes(drives: Drives, live: Drives, setting: Setting) -> list[str]:
    """What the table leaves out."""
    lines = [
        f"a whole thought takes {setting.thought_ns / 1e6:.1f} ms (median over scenes that the teacher meets); "
        f"a scene every {setting.period_ns / 1e6:.1f} ms"
    ]
    for kind, group in (("simulated", drives), ("live", live)):
        for name, episodes in group.items():
            if refused := [one for one in episodes if one.refused]:
                lines.append(f"{kind}, {name}: in {len(refused)} drives the node did not come up: {refused[0].refused}")
            if not any(one.sources for one in episodes):
                continue
            sources: dict[str, int] = {}
            for one in episodes:
                for source, count in one.sources.items():
                    sources[source] = sources.get(source, 0) + count
            total = sum(sources.values())
            shares = ", ".join(f"{source} {count / total:.0%}" for source, count in sorted(sources.items()))
            late = sum(one.late for one in episodes)
            lines.append(f"{kind}, {name}: decisions from {shares}; {late} came after the period of their scene")
    return lines
