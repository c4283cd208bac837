"""``python -m bench.node [--quick] [--json FILE]``: from a question that a Fast DDS peer asks to the decision it gets.

The node runs in a process of its own on Cyclone DDS, everything on loopback. A control in the same process gets every
second question, waits until the deadline less the node's margin, and publishes.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from anytime.runtime.questions import read_questions
from bench.node import killed, traffic
from bench.node.foreign import LOOPBACK, ForeignError, built
from bench.node.served import CONTROL, NODE
from bench.node.traffic import LEAST_HZ, MOST_HZ, Row
from bench.report import NOT_OBSERVED, ROOT, Figure, Report, parser, progress

ASKED, QUICK_ASKED = 2_000, 60
RESTARTS, QUICK_RESTARTS = 10, 1
MOST_LATE_POINTS = 0.1
MOST_OVERHEAD_MS = 2.0
MOST_RECOVERY_S = 2.0
DOMAIN = 77
BINS_HZ = ((LEAST_HZ, 10.0), (10.0, 15.0), (15.0, MOST_HZ))


def overheads_ms(rows: Sequence[Row]) -> list[float]:
    """What of each delivery was not the reasoner's, where the trace came."""
    return [
        row.answered_ms - row.reasoner_ms for row in rows if row.answered_ms is not None and row.reasoner_ms is not None
    ]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]


def late_share(rows: Sequence[Row]) -> float:
    return statistics.fmean(not row.on_time for row in rows)


def traffic_figures(rows: list[Row]) -> list[Figure]:
    """On time beside the control, and what the node adds to the reasoner."""
    node, control = ([row for row in rows if row.target == target] for target in (NODE, CONTROL))
    points = 100 * (late_share(node) - late_share(control))
    late = Figure(
        "late, node minus control, percentage points",
        round(points, 4),
        f"<= {MOST_LATE_POINTS}",
        points <= MOST_LATE_POINTS + 1e-9,
    )
    over, target = overheads_ms(node), f"<= {MOST_OVERHEAD_MS}"
    name = "overhead beyond the reasoner, both ways on DDS with it, 99th percentile, ms"
    if not over:
        return [late, Figure(name, NOT_OBSERVED, target, False)]
    p99 = percentile(over, 0.99)
    return [late, Figure(name, round(p99, 3), target, p99 <= MOST_OVERHEAD_MS)]


def restart_figures(restarts: Sequence[killed.Restart], decisions: Sequence[dict[str, Any]]) -> list[Figure]:
    """How soon peers have decisions again, and whether any was published too late."""
    worst_s = max(restart.decided_s for restart in restarts)
    behind = sum(d["stamp_ns"] - d["input_stamp_ns"] > 1e9 * d["budget_s"] for d in decisions)
    return [
        Figure(
            "first decision after the killed node is active again, worst, s",
            round(worst_s, 3),
            f"<= {MOST_RECOVERY_S}",
            worst_s <= MOST_RECOVERY_S,
        ),
        Figure("decisions published after their lifespan", behind, "0", behind == 0),
    ]


def table(rows: list[Row]) -> Table:
    made = Table("rate", "questions each", "on time", "control on time", "by the model", "overhead p50 ms", "p99 ms")
    for low, high in (*BINS_HZ, (LEAST_HZ, MOST_HZ)):
        node = [row for row in rows if row.target == NODE and low < row.rate_hz <= high]
        control = [row for row in rows if row.target == CONTROL and low < row.rate_hz <= high]
        over = overheads_ms(node)
        if not over:
            continue
        made.add_row(
            f"{low:.0f} to {high:.0f} Hz",
            str(len(node)),
            f"{100 * (1 - late_share(node)):.2f} %",
            f"{100 * (1 - late_share(control)):.2f} %",
            f"{100 * statistics.fmean(row.source not in ('', 'fallback') for row in node):.2f} %",
            f"{statistics.median(over):.2f}",
            f"{percentile(over, 0.99):.2f}",
        )
    return made


def main() -> int:
    wanted = parser("node", "Is the decision there in time for a peer on another vendor's DDS?")
    wanted.add_argument("--questions", type=Path, metavar="FILE", default=ROOT / "data/questions/drive.test.jsonl")
    given = wanted.parse_args()
    try:
        built()
    except ForeignError as error:
        raise SystemExit(str(error)) from error
    os.environ["CYCLONEDDS_URI"] = LOOPBACK
    report = Report("node", given.json)
    asked, restarts = (QUICK_ASKED, QUICK_RESTARTS) if given.quick else (ASKED, RESTARTS)
    with progress() as bar:
        task = bar.add_task("questions", total=asked)
        rows, counts = traffic.measure(DOMAIN, read_questions(given.questions), asked, bar, task)
    with tempfile.TemporaryDirectory() as scratch:
        found, decisions = killed.measure(DOMAIN, restarts, Path(scratch))
    missing = sum(row.target == NODE and row.answered_ms is not None and row.reasoner_ms is None for row in rows)
    again_s = statistics.median(restart.active_s for restart in found)
    return report.finish(
        [*traffic_figures(rows), *restart_figures(found, decisions)],
        {
            "rows": {"columns": Row._fields, "rows": rows},
            "restarts": {"columns": killed.Restart._fields, "rows": found},
            "decisions": decisions,
        },
        table(rows),
        [
            f"the node counted {counts}",
            f"{missing} traces did not come, best effort as they are; their overhead is not counted",
            f"{len(found)} times killed under traffic; from SIGKILL until active again, with starting Python, loading "
            f"and warming up, {again_s:.1f} s in the median; {len(decisions)} decisions received meanwhile",
        ],
    )


if __name__ == "__main__":
    raise SystemExit(main())
