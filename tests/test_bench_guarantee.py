"""The guarantee bench: figures from rows with known answers, disciplines that choose as named, samples kept."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from anytime.scheduler.clock import NS_PER_MS
from bench.guarantee import figures
from bench.guarantee.__main__ import options
from bench.guarantee.asking import Asked, asked
from bench.guarantee.concurrent import CONTENDERS, IN_PROCESS, LOADS
from bench.guarantee.disciplines import BASELINES, LeastLaxity
from bench.guarantee.faults import late_by_a_fault, normal_after_recovery
from bench.guarantee.goodput import ratio_interval
from bench.guarantee.kept import Kept
from bench.guarantee.quiet import late_timers_ns, unfit
from bench.guarantee.soak import growth, told


def row(
    number: int = 0, late: float = 0.0, control: float = 0.0, quality: float = 0.9, stopped: str = "deadline"
) -> Asked:
    valid = stopped != "rejected"
    return Asked(number, 100.0, 5.0, 90.0, late, control, valid, valid, quality, stopped, "thought", 50)


def test_lateness_is_held_to_the_control() -> None:
    """One late request more than the control had is allowed, two are not."""
    rows = [row(i) for i in range(1_000)]
    rows[0] = row(0, late=0.5)
    one = figures.unloaded(rows, [(0, 50, False)])[0]
    rows[1] = row(1, late=0.5)
    two = figures.unloaded(rows, [(0, 50, False)])[0]
    rows[2] = row(2, control=0.5)
    assert (one.measured, one.holds, two.measured, two.holds) == (1, True, 2, False)
    assert figures.unloaded(rows, [(0, 50, False)])[0].holds


def test_a_part_whose_control_was_late_is_void() -> None:
    """More than one control in a thousand late, and the part says that it says nothing."""
    rows = [row(i, control=1.0 if i < 2 else 0.0) for i in range(1_000)]
    assert figures.void(rows)
    assert "VOID, 2 of 1000" in figures.void_note("alone", rows)[0]
    assert figures.void_note("alone", rows[2:]) == []


def test_the_longest_run_of_misses_is_counted() -> None:
    """Misses in a row, not in all."""
    assert figures.longest_run([True, False, True, True, True, False, True]) == 3
    assert figures.longest_run([]) == 0


def test_goodput_is_compared_request_by_request() -> None:
    """The ratio is above 1 where ours delivers more on every request, and 1 where it delivers the same."""
    ours, theirs = [0.9] * 200, [0.6] * 200
    low, high = ratio_interval(ours, theirs)
    assert low == pytest.approx(1.5)
    assert high == pytest.approx(1.5)
    assert ratio_interval(ours, ours) == (1.0, 1.0)


def test_rejections_are_counted_where_there_is_room() -> None:
    """At half the capacity nobody may be rejected, and at three times goodput must be near its peak."""
    good = {name: [row(i) for i in range(100)] for name in CONTENDERS}
    crowds = {load: {name: list(rows) for name, rows in good.items()} for load in (0.5, 0.9, 1.5, 3.0)}
    found = {figure.name: figure for figure in figures.concurrent(crowds)}
    assert found["0.5 times capacity: rejected"].holds
    assert found["goodput at 3 times capacity over its own peak"].measured == 1.0
    crowds[0.5]["quotas"][0] = row(0, stopped="rejected", quality=0.0)
    crowds[3.0]["quotas"] = [row(i, quality=0.1) for i in range(100)]
    found = {figure.name: figure for figure in figures.concurrent(crowds)}
    assert not found["0.5 times capacity: rejected"].holds
    assert not found["goodput at 3 times capacity over its own peak"].holds
    assert not found["3 times capacity: goodput over that of fcfs, 95 % interval"].holds


def test_lateness_under_load_is_told_in_one_process_and_in_two() -> None:
    """Each against its own controls, and without those that were rejected."""
    crowds = {load: {name: [row(i) for i in range(100)] for name in CONTENDERS} for load in LOADS}
    crowds[0.9][IN_PROCESS][0] = row(0, late=0.5)
    crowds[1.5][IN_PROCESS][0] = row(0, late=0.5, stopped="rejected")
    crowds[0.5]["quotas"][:2] = [row(0, late=0.5), row(1, control=0.5)]
    found = {figure.name: figure for figure in figures.concurrent(crowds)}
    late = "{} times capacity, {}: late, ours minus control, percentage points"
    assert not found[late.format(0.9, IN_PROCESS)].holds
    assert found[late.format(0.9, "quotas")].holds
    assert found[late.format(1.5, IN_PROCESS)].holds
    assert found[late.format(0.5, "quotas")].measured == 0.0


def test_a_rejection_is_told_by_its_median() -> None:
    """Half of them may take longer."""
    assert figures.rejected([0.1, 0.2, 5.0]).holds
    assert not figures.rejected([0.1, 1.2, 5.0]).holds
    assert "3 of them, p99" in figures.rejections_note([0.1, 0.2, 5.0])


def test_a_fault_is_survived_no_later_than_by_the_control() -> None:
    """And behind a recovery every request is answered by the model; one that is struck itself does not count."""
    rows = [[*row(0, late=0.2, control=0.3), 0.6, False], [*row(1, stopped="rejected"), 0.1, False]]
    rows.append([*row(2, stopped="rejected"), 0.7, True])
    normal = normal_after_recovery(rows)
    assert normal == (1, 1)
    latest, answered = figures.fault("killed", asked([r[:-2] for r in rows]), normal)
    assert latest.holds
    assert answered.holds
    assert not figures.fault("killed", [row(late=0.4, control=0.3)], (0, 1))[0].holds


def test_lateness_is_told_apart_by_whether_a_fault_struck() -> None:
    """Struck, or less than half a second behind a fault, or else the machine's own."""
    late = row(late=0.5)
    rows = [[*late, 0.1, False], [*late, 2.0, True], [*late, 2.0, False], [*row(), 0.1, True]]
    assert late_by_a_fault(rows) == (2, 3)
    assert figures.late_note("killed", (2, 3)) == [
        "killed: of 3 late requests 2 were struck or came shortly behind a fault"
    ]
    assert figures.late_note("killed", (0, 0)) == []


@pytest.mark.parametrize(("name", "order"), [("fcfs", [1, 2, 3]), ("edf", [2, 3, 1]), ("least-laxity", [3, 2, 1])])
def test_disciplines_choose_as_they_are_named(name: str, order: list[int]) -> None:
    """By arrival, by deadline, or by the time left less the work left."""
    agenda = BASELINES[name](8)
    if isinstance(agenda, LeastLaxity):
        agenda.thought_ns = 50
    for key, ready_ns in ((1, 300), (2, 100), (3, 110)):
        agenda.add(key, ready_ns, 10)
    if isinstance(agenda, LeastLaxity):
        agenda.spend(2, 30)
    picked = []
    while len(agenda):
        picked.append(agenda.pick(4))
        agenda.remove(picked[-1])
    assert picked == order


def test_growth_is_of_the_last_quarter_over_the_second() -> None:
    """What warms up at first is no growth; what goes on growing is."""
    assert growth([(i, 10.0 if i < 4 else 20.0) for i in range(16)], 1) == 0.0
    assert growth([(i, float(i)) for i in range(16)], 1) == 8.0


def test_a_soak_is_told_round_by_round() -> None:
    """Requests are numbered from 0 in each; late ones are counted and the latest told."""
    rows = [row(0, late=0.5), row(1, control=2.0), row(0, stopped="rejected")]
    assert told(rows) == [(2, 1, 1, 0.5, 2.0, 2), (1, 0, 0, 0.0, 0.0, 0)]


def test_a_leak_is_growth_and_warming_up_is_none() -> None:
    """A descriptor, a thread or some memory a request misses its figure; what a first quarter takes does not."""
    rounds = [(i / 16, 110.0 + min(i, 4), 9.0, 2.0) for i in range(16)]
    assert [figure.holds for figure in figures.soaked(rounds)] == [True, True, True]
    for leak in ((5e-3, 0, 0), (0, 1, 0), (0, 0, 1)):
        leaking = [
            (done, *(size + 170 * i * each for size, each in zip(sizes, leak, strict=True)))
            for i, (done, *sizes) in enumerate(rounds)
        ]
        assert [figure.holds for figure in figures.soaked(leaking)] == [not each for each in leak]


@pytest.mark.parametrize("given", [["alone", "gil-holds"], [""]])
def test_a_part_that_there_is_not_is_refused(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """By name, with those there are; before anything is measured."""
    with pytest.raises(SystemExit):
        options(given)
    assert f"there is no part {given[-1]!r}: choose among alone, together" in capsys.readouterr().err
    assert options(["gil-held", "--quick"]).parts == ["gil-held"]
    assert options([]).parts == []


class Oversleeping:
    """A clock on which every wait ends so much behind its instant, in turns."""

    def __init__(self, *over_ns: int) -> None:
        self._now_ns, self._over = 0, itertools.cycle(over_ns)

    def now(self) -> int:
        return self._now_ns

    def wait_until(self, event: threading.Event, instant_ns: int) -> bool:
        self._now_ns = instant_ns + next(self._over)
        return False


def test_a_machine_that_is_late_by_itself_is_told_beforehand() -> None:
    """Timers count that overrun what is kept back for delivery; more than one in a thousand of them void a part."""
    late_ns = late_timers_ns(Oversleeping(0, NS_PER_MS, 5 * NS_PER_MS), 2 * NS_PER_MS, 300)
    assert late_ns == [3 * NS_PER_MS] * 100
    assert unfit(late_ns[:1], 1_000) is None
    said = unfit(late_ns[:2], 1_000)
    assert said is not None
    assert "2 of 1000 bare timers were, by up to 3.0 ms" in said


def test_samples_are_measured_once(tmp_path: Path) -> None:
    """What is in the file is not measured again, but for a broken last line; another bundle's file is refused."""
    file, measured = tmp_path / "kept.jsonl", list[int]()

    def measure() -> list[list[int]]:
        measured.append(1)
        return [[1, 2]]

    assert Kept(file, "a").piece("x", measure) == [[1, 2]]
    with file.open("a") as out:
        out.write('{"identity": "a", "key": "y", "ro')
    again = Kept(file, "a")
    assert again.piece("x", measure) == [[1, 2]]
    assert len(measured) == 1
    with pytest.raises(SystemExit, match="move it away"):
        Kept(file, "b")
