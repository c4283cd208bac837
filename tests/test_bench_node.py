"""The node's bench: from what was measured to its figures."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("cyclonedds", reason="cyclonedds has no wheel for this machine: build it, docs/node.md says how")

from bench.node.__main__ import overheads_ms, percentile, restart_figures, table, traffic_figures
from bench.node.killed import Restart
from bench.node.served import CONTROL, NODE
from bench.node.traffic import Row


def row(target: str = NODE, answered_ms: float | None = 41.0, reasoner_ms: float | None = 40.0) -> Row:
    return Row(0, target, 10.0, 80.0, answered_ms, reasoner_ms, "thought")


CONTROLS = [row(CONTROL, 78.0, None)] * 1_000


def test_a_decision_that_never_came_is_late() -> None:
    """As one that came behind its deadline is; one of a thousand is allowed beyond the control's."""
    rows = [row()] * 998
    assert [f.holds for f in traffic_figures([*rows, row(), row(answered_ms=80.1), *CONTROLS])] == [True, True]
    assert not traffic_figures([*rows, row(answered_ms=None), row(answered_ms=80.1), *CONTROLS])[0].holds
    late_too = [row(CONTROL, None, None)] * 2
    assert traffic_figures([*rows, row(answered_ms=None), row(answered_ms=None), *CONTROLS[2:], *late_too])[0].holds


def test_the_overhead_is_what_the_reasoner_did_not_take() -> None:
    """Where the trace came; without any, the figure is missed."""
    assert overheads_ms([row(), row(answered_ms=None), row(reasoner_ms=None)]) == [1.0]
    slow = [row(answered_ms=43.0)] * 11 + [row()] * 989
    assert not traffic_figures([*slow, *CONTROLS])[1].holds
    assert traffic_figures([*slow[1:], row(), *CONTROLS])[1].holds
    assert not traffic_figures([row(reasoner_ms=None), *CONTROLS])[1].holds


def test_percentiles_are_values_that_were_seen() -> None:
    """The smallest that covers the share."""
    hundred = [float(n) for n in range(1, 101)]
    assert percentile(hundred, 0.99) == 99.0
    assert percentile(hundred, 0.991) == 100.0
    assert percentile([3.0], 0.99) == 3.0


@pytest.mark.parametrize(("behind_ns", "holds"), [(0, True), (1, False)])
def test_a_decision_behind_its_lifespan_is_seen(behind_ns: int, holds: bool) -> None:
    """By its stamps, not by what it says of itself."""
    decision: dict[str, Any] = {"stamp_ns": 180_000_000 + behind_ns, "input_stamp_ns": 100_000_000, "budget_s": 0.08}
    assert restart_figures([Restart(2.0, 0.1)], [decision])[1].holds == holds


def test_the_worst_recovery_counts() -> None:
    """Not the mean."""
    assert restart_figures([Restart(2.0, 1.9)], [])[0].holds
    assert not restart_figures([Restart(2.0, 0.1), Restart(2.0, 2.1)], [])[0].holds


def test_the_table_has_a_line_for_each_rate_and_one_for_all() -> None:
    """Rates at which nothing was measured have none."""
    assert table([row(), row(CONTROL)]).row_count == 2
