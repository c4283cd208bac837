"""The compiled agenda is held to its plain reference, and its decisions to what they promise."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime.ext.agenda import Agenda
from anytime.scheduler.plain_agenda import PlainAgenda

NS = st.integers(0, 1_000)
ACTIONS = st.one_of(
    st.tuples(st.just("add"), NS, st.integers(0, 200), st.integers(-1, 1)),
    st.tuples(st.just("remove"), NS),
    st.tuples(st.just("move"), NS, NS),
    st.tuples(st.just("seat"), NS),
    st.tuples(st.just("leave"), NS),
    st.tuples(st.just("answer"), NS),
    st.tuples(st.just("suspend"), NS, st.integers(0, 300)),
    st.tuples(st.just("spend"), NS, st.integers(0, 300)),
    st.tuples(st.just("grant"), NS, st.lists(st.tuples(NS, st.integers(0, 150), st.floats(0, 1)), max_size=12)),
)
Both = tuple[Agenda, PlainAgenda]


def play(actions: list[tuple], capacity: int = 64) -> Both:
    """The same story told to both; whom an action concerns is drawn from those there are."""
    both: Both = (Agenda(capacity), PlainAgenda())
    for serial, (name, first, *rest) in enumerate(actions):
        keys = both[1].keys()
        if name == "add":
            told = [serial, first, *rest]
        elif not keys:
            continue
        elif name == "grant":
            told = [first, [(keys[at % len(keys)], cost, gain) for at, cost, gain in rest[0]]]
        else:
            told = [keys[first % len(keys)], *rest]
        for agenda in both:
            getattr(agenda, name)(*told)
    return both


@given(st.lists(ACTIONS, max_size=30), NS, NS, st.integers(0, 300), st.integers(0, 100), st.integers(0, 3))
def test_the_kernel_decides_as_the_reference(
    actions: list[tuple], now: int, ready_ns: int, mandatory_ns: int, blocking_ns: int, rows: int
) -> None:
    """After any story, both have the same order, grants, pick, limits, and room for one more."""
    kernel, plain = play(actions)
    assert kernel.keys() == plain.keys()
    for entry in plain.entries:
        assert kernel.granted_ns(entry.key) == entry.granted_ns
        assert kernel.mandatory_ns(entry.key) == entry.mandatory_ns
        assert kernel.until(entry.key, now) == plain.until(entry.key, now)
    assert kernel.pick(rows) == plain.pick(rows)
    for keep in (False, True):
        for without in (-1, *plain.keys()[:2]):
            for running in (-1, *plain.keys()[:2]):
                question = (now, ready_ns, mandatory_ns, blocking_ns, keep, without, running)
                assert kernel.fits(*question) == plain.fits(*question)


@given(st.lists(ACTIONS, max_size=30), NS, st.integers(0, 200), st.integers(0, 400), st.data())
def test_the_kernel_affords_what_the_reference_does(
    actions: list[tuple], now: int, alone_ns: int, together_ns: int, data: st.DataObject
) -> None:
    """Whoever runs together, for however long."""
    kernel, plain = play(actions)
    if not plain.keys():
        return
    key = data.draw(st.sampled_from(plain.keys()))
    running = data.draw(st.lists(st.sampled_from(plain.keys()), unique=True))
    question = (now, key, running, alone_ns, together_ns)
    assert kernel.affords(*question) == plain.affords(*question)


@given(st.lists(ACTIONS, max_size=30), NS, st.lists(st.tuples(NS, st.integers(1, 150), st.floats(0, 1)), max_size=12))
def test_the_kernel_knows_whether_all_was_granted(
    actions: list[tuple], now: int, offers: list[tuple[int, int, float]]
) -> None:
    """As the reference does; and then everybody has all that was offered."""
    kernel, plain = play(actions)
    if not plain.keys():
        return
    stages = [(plain.keys()[at % len(plain.keys())], cost, gain) for at, cost, gain in offers]
    granted = kernel.grant(now, stages)
    assert granted == plain.grant(now, stages)
    total = sum(plain_entry.granted_ns for plain_entry in plain.entries)
    assert granted == (total == sum(cost for _, cost, _ in stages))


@given(st.lists(ACTIONS, max_size=30), NS)
def test_grants_keep_every_deadline_that_holds_without_them(actions: list[tuple], now: int) -> None:
    """Where all mandatory parts are in time, they and what is granted on top still are."""
    _, plain = play(actions)
    stages = [(key, 40, 1.0 / (1 + i)) for i, key in enumerate(plain.keys()) for _ in range(3)]
    plain.grant(now, [])
    before = plain.slacks_ns(now)
    plain.grant(now, stages)
    assert all(slack >= min(0, held) for slack, held in zip(plain.slacks_ns(now), before, strict=True))


@given(st.lists(st.tuples(st.integers(50, 2_000), st.integers(0, 60)), min_size=1, max_size=8), st.data())
def test_whoever_is_admitted_by_fits_is_served_in_time(requests: list[tuple[int, int]], data: st.DataObject) -> None:
    """Requests taken in only where they fit, run in the agenda's order, are all ready when they must be."""
    agenda, now, admitted = Agenda(16), 0, {}
    for key, (ready_ns, mandatory_ns) in enumerate(requests):
        if agenda.fits(now, ready_ns, mandatory_ns, 0):
            agenda.add(key, ready_ns, mandatory_ns)
            admitted[key] = ready_ns
        while len(agenda) and data.draw(st.booleans()):
            now = serve(agenda, now, admitted)
    while len(agenda):
        now = serve(agenda, now, admitted)


def serve(agenda: Agenda, now: int, ready: dict[int, int]) -> int:
    """Run the picked request's mandatory part; when that is done."""
    key = agenda.pick(8)
    now += agenda.mandatory_ns(key)
    assert now <= ready[key]
    agenda.remove(key)
    return now


@given(st.lists(st.tuples(st.integers(50, 2_000), st.integers(0, 60)), min_size=1, max_size=8), st.data())
def test_whoever_is_admitted_while_a_step_runs_is_served_in_time(
    requests: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Where that step takes at most ``blocking_ns``, and is counted as part of what its own request needs."""
    agenda, now, step_ns = Agenda(16), 0, 20
    ready, came = dict[int, int](), iter(enumerate(requests))
    while len(agenda) or len(ready) < len(requests):
        began, running = now, agenda.pick(8)
        took = data.draw(st.integers(1, step_ns)) if running >= 0 else 0
        for key, (ready_ns, mandatory_ns) in itertools.islice(came, data.draw(st.integers(running < 0, 2))):
            ready[key] = ready_ns
            if agenda.fits(began, ready_ns, mandatory_ns, step_ns * (running >= 0), running=running):
                agenda.add(key, ready_ns, mandatory_ns)
        if running >= 0:
            took = min(took, agenda.mandatory_ns(running))
            now += took
            agenda.spend(running, took)
            if not agenda.mandatory_ns(running):
                assert now <= ready[running]
                agenda.remove(running)


def test_what_runs_is_part_of_what_its_request_needs() -> None:
    """A step is not counted twice for those behind its request, and whole for those before it."""
    agenda = Agenda(4)
    agenda.add(1, 100, 60)
    assert agenda.fits(0, 100, 40, 60, running=1)
    assert not agenda.fits(0, 100, 40, 60)
    assert not agenda.fits(0, 100, 41, 60, running=1)
    assert agenda.fits(0, 99, 39, 60, running=1)
    assert not agenda.fits(0, 99, 40, 60, running=1)


def test_a_first_answer_goes_ahead_of_thought() -> None:
    """A later request's mandatory part runs before what an earlier deadline was granted, behind its mandatory part."""
    agenda = Agenda(4)
    agenda.add(1, 100, 10)
    agenda.seat(1)
    agenda.answer(1)
    agenda.add(2, 200, 30)
    agenda.grant(0, [(1, 60, 1.0)])
    assert agenda.pick(4) == 2
    assert agenda.pick(1) == 2
    assert agenda.pick(0) == 1  # it has a row
    agenda.add(3, 150, 5)
    assert agenda.pick(4) == 3
    agenda.add(4, 50, 5)
    assert agenda.pick(1) == 4


def test_nobody_runs_into_what_others_still_need() -> None:
    """A request may use all spare time, up to where those behind it need theirs."""
    agenda = Agenda(4)
    agenda.add(1, 100, 10)
    assert agenda.until(1, 0) == 100
    agenda.add(2, 120, 50)
    assert agenda.until(1, 0) == 70
    assert agenda.until(2, 0) == 110


def test_who_is_suspended_stands_still_until_others_leave_enough() -> None:
    """It runs again when nobody else can, when it is moved, or with as much time as it was suspended for want of."""
    agenda = Agenda(4)
    for key, ready_ns in ((1, 100), (2, 110)):
        agenda.add(key, ready_ns, 0)
        agenda.seat(key)
        agenda.answer(key)
    agenda.grant(0, [(2, 90, 1.0)])
    agenda.suspend(1, 30)
    assert agenda.pick(8) == 2
    agenda.grant(0, [(2, 81, 1.0)])
    assert agenda.pick(8) == 2
    agenda.grant(0, [(2, 80, 1.0)])
    assert agenda.pick(8) == 1
    agenda.suspend(1, 30)
    agenda.move(1, 90)
    assert agenda.pick(8) == 1
    agenda.suspend(1, 30)
    agenda.suspend(2, 30)
    assert agenda.pick(8) == 1


def test_priority_is_served_first_and_then_what_gains_most_for_its_time() -> None:
    """Of stages that do not all fit, the higher priority's are granted, then those that gain most a nanosecond."""
    agenda = Agenda(4)
    for key, priority in ((1, 0), (2, 0), (3, 1)):
        agenda.add(key, 100, 0, priority)
    agenda.grant(0, [(1, 40, 0.1), (2, 40, 0.4), (3, 40, 0.01)])
    assert [agenda.granted_ns(key) for key in (1, 2, 3)] == [0, 40, 40]


def refused(call: Callable[[Agenda], object]) -> Callable[[], object]:
    agenda = Agenda(1)
    agenda.add(1, 100, 10)
    return lambda: call(agenda)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: Agenda(0), ValueError),
        (refused(lambda agenda: agenda.add(2, 100, 10)), OverflowError),
        (refused(lambda agenda: agenda.remove(2)), KeyError),
        (refused(lambda agenda: agenda.until(2, 0)), KeyError),
        (refused(lambda agenda: agenda.grant(0, [(2, 10, 1.0)])), KeyError),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], object], error: type[Exception]) -> None:
    """No agenda without room, none above its room, and no request that it does not have."""
    with pytest.raises(error):
        call()
