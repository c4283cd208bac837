"""The arithmetic of the comparison of policies."""

from __future__ import annotations

import numpy as np
import pytest

from anytime.calibrate.record import Pass, Probe, Recording, Thoughts
from anytime.calibrate.replay import Outcome
from bench.anytime.figures import auroc, brier, difference, index, saving_figure
from bench.anytime.runs import Run, joined, settled
from bench.anytime.unsafe import scene_from, unsafe
from recipes.reference.drive import decide

SCENE = "lane 1 of 4 at 27 m/s\nlane 1 ahead 12 m 20 m/s\nlane 2 ahead 3 m 26 m/s"


def run(right: list[list[float]], spent: float = 10.0) -> Run:
    table = np.array(right)
    other = np.full_like(table, spent)
    return Run(table, np.ones_like(table), other, other, other, other, [["a"] * len(row) for row in right])


def test_the_index_is_the_mean_over_budgets() -> None:
    """Two budgets, two questions, three right."""
    assert index(run([[0, 1], [1, 1]])) == 0.75


def test_a_difference_is_paired() -> None:
    """Where one is right wherever the other is, and once more, the interval does not reach below zero."""
    rng = np.random.default_rng(1)
    theirs = rng.integers(0, 2, (1, 400)).astype(float)
    mine = np.maximum(theirs, rng.random((1, 400)) < 0.1)
    mean, low, high = difference(mine, theirs)
    assert 0 < low < mean < high < 0.15
    assert difference(mine, mine) == (0, 0, 0)


def test_auroc_and_brier() -> None:
    """A perfect order, a reversed one, none at all; and squared distances."""
    right = np.array([0.0, 0.0, 1.0, 1.0])
    assert auroc(np.array([0.1, 0.2, 0.8, 0.9]), right) == 1.0
    assert auroc(np.array([0.9, 0.8, 0.2, 0.1]), right) == 0.0
    assert auroc(np.full(4, 0.5), right) == 0.5
    assert brier(np.array([0.5, 0.0, 1.0, 0.5]), right) == pytest.approx(0.125)


def test_tokens_are_compared_at_equal_accuracy_only() -> None:
    """A baseline that is cheaper and wrong more often does not count; saving tokens for accuracy does not hold."""
    good, bad = [[1.0] * 99 + [0.0]], [[1.0] * 50 + [0.0] * 50]
    runs = {"auto": run(good, 10), "fixed": run(good, 20), "deer": run(bad, 1)}
    figure = saving_figure("drive", runs)
    assert (figure.measured, figure.holds) == (10.0, True)
    assert "fixed" in figure.name
    assert not saving_figure(
        "drive", {**runs, "auto": run(bad, 5), "fixed": run(good, 20), "deer": run(good, 20)}
    ).holds


def test_parts_of_a_set_are_joined_in_order() -> None:
    """Questions stand beside each other, budget by budget."""
    whole = joined([run([[0, 1], [1, 1]]), run([[1], [0]])])
    assert whole.right.tolist() == [[0, 1, 1], [1, 1, 0]]
    assert whole.answers == [["a"] * 3] * 2


def test_settled_is_where_the_answer_stays_right() -> None:
    """The last change to a right answer counts; a thought that ends wrong never settles."""

    def recording(texts: str) -> Recording:
        probes = tuple(Probe(8 * i, text, 0.9, 1) for i, text in enumerate(texts))
        thoughts = {"": Thoughts(5, (Pass(8 * len(texts), True, (), probes),), None)}
        return Recording("q", "choices", 0, frozenset("r"), thoughts)

    nothing = Outcome(None, False, 0, 0, 0, "deadline")
    assert settled(recording("rwwrr"), nothing) == 24
    assert settled(recording("rrr"), nothing) == 0
    assert settled(recording("rrw"), nothing) is None


def test_unsafe_actions_are_the_rules_own() -> None:
    """A closed lane, one that is not there, and speed without room; what the rule itself does is never unsafe."""
    action, _ = decide(scene_from(SCENE))
    assert not unsafe(SCENE, action)
    assert unsafe(SCENE, "LANE_RIGHT")
    assert unsafe(SCENE, "LANE_LEFT")
    assert unsafe(SCENE, "FASTER")
    assert not unsafe(SCENE, "SLOWER")
