"""One deadline for several: every one behind keeps its floor, and no plan needs more time than there is."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from anytime.scheduler.sharing import kept_ns, stages

costs = st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 9000)), min_size=1, max_size=6)


@given(costs, st.integers(0, 100_000))
def test_those_behind_keep_their_floors(several: list[tuple[int, int]], left_ns: int) -> None:
    """In turn, each leaves what the others' first answers take, and the last leaves nothing."""
    floors, needs = [floor for floor, _ in several], [floor + more for floor, more in several]
    assert kept_ns(floors, needs, left_ns) >= sum(floors[1:])
    assert kept_ns(floors[-1:], needs[-1:], left_ns) == 0


@given(costs, st.integers(0, 100_000))
def test_bundles_are_asked_only_ahead_of_what_they_leave(several: list[tuple[int, int]], more_ns: int) -> None:
    """In order of cost, the costliest last with all the time; each has its floor before what it must leave."""
    floors, needs = [floor for floor, _ in several], [floor + extra for floor, extra in several]
    left_ns = max(needs) + more_ns
    asked = stages(floors, needs, left_ns)
    assert [i for i, _ in asked] == sorted({i for i, _ in asked})
    assert asked[-1] == (len(several) - 1, 0)
    for (i, kept), (behind, kept_behind) in itertools.pairwise(asked):
        assert kept == kept_behind + needs[behind]
        assert floors[i] + kept <= left_ns
