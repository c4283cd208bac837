"""The guarantee bench while the GIL is held: that it is held, and what is said of requests under holds."""

from __future__ import annotations

import threading
import time

import pytest

from bench.guarantee import figures
from bench.guarantee.asking import Asked
from bench.guarantee.gil import Held, Stamps, Wait, hold, judged, read_rows, within
from tests.doubles import PATIENCE_S

MS = 1_000_000
WAIT = Wait(*(MS * instant for instant in (300, 301, 346, 349, 350)))


def stamps(posted: int = 1, returned: int = 43) -> Stamps:
    """Instants in milliseconds; the only answer is published at 40, its ring at 41 wakes the caller at 42."""
    return Stamps(0, *(MS * instant for instant in (posted, 41, 40, 42, returned, 50)))


def pair(valid: bool = True, control_ms: float = 0.0, **held: float) -> tuple[Asked, Held]:
    instants = {"rung_ms": -9.0, "final_ms": -10.0, "returned_ms": -7.0}
    of = {**instants, "after_free_ms": 0.2, "control_after_free_ms": 0.1, "kept": 0, "control_kept": 0, "cut_off": 0}
    asked = Asked(0, 50.0, 5.0, 43.0, 0.0, control_ms, valid, valid, 0.9, "deadline", "thought", 50)
    return asked, Held(**{**of, **held})  # type: ignore[arg-type]


def held_to(*pairs: tuple[Asked, Held]) -> list[figures.Figure]:
    """Slots, Python's return, answers."""
    rows, held = zip(*pairs, strict=True)
    return figures.gil_held("gil-held", rows, held)


def test_nobody_else_has_the_gil_during_a_hold() -> None:
    """A thread that reads the clock all the time reads it before and after, and not once between the two stamps."""
    read, stop, spinning = list[int](), threading.Event(), threading.Event()

    def spin() -> None:
        while not stop.is_set():
            read.append(time.monotonic_ns())
            spinning.set()

    spinner = threading.Thread(target=spin)
    spinner.start()
    assert spinning.wait(PATIENCE_S)
    began_ns, ended_ns = hold(0.02)
    spinning.clear()
    assert spinning.wait(PATIENCE_S)
    stop.set()
    spinner.join()
    assert ended_ns - began_ns >= 20 * MS
    assert read[0] < began_ns < ended_ns < read[-1]
    assert not [instant for instant in read if began_ns < instant < ended_ns]


def test_holds_are_found_by_what_they_cover() -> None:
    """One that reaches into a span, or covers it, lies within it; one that ends where it begins does not."""
    holds = [(0, 10), (20, 30), (40, 50)]
    assert within(holds, 10, 20) == []
    assert within(holds, 9, 21) == [(0, 10), (20, 30)]
    assert within(holds, 24, 25) == [(20, 30)]


def test_the_gil_is_free_at_the_end_of_the_hold_that_kept_the_caller() -> None:
    """Python's return counts from there; with no hold in between, from the native wake-up."""
    late = stamps(returned=131)
    found = judged(late, WAIT, [(10 * MS, 35 * MS), (42 * MS - 1, 130 * MS), (340 * MS, 347 * MS)])
    assert found == Held(-9.0, -10.0, 81.0, 1.0, 2.0, kept=True, control_kept=True, cut_off=False)
    free = judged(stamps(), WAIT, [(10 * MS, 35 * MS), (140 * MS, 240 * MS)])
    assert (free.after_free_ms, free.kept) == (1.0, False)
    assert (free.control_after_free_ms, free.control_kept) == (3.0, False)
    begun_later = judged(late, WAIT, [(43 * MS, 129 * MS)])  # it was awake, and the GIL was taken before it returned
    assert (begun_later.after_free_ms, begun_later.kept) == (2.0, True)


def test_a_request_that_a_hold_keeps_from_being_asked_is_told_apart() -> None:
    """As is one whose control could not begin to wait; a hold while either waits natively is what is measured."""
    assert not judged(stamps(), WAIT, [(2 * MS, 41 * MS)]).cut_off
    assert judged(stamps(posted=90), WAIT, [(1 * MS, 89 * MS)]).cut_off
    control = Wait(*(MS * instant for instant in (200, 300, 301, 302, 250)))
    assert judged(stamps(), control, [(201 * MS, 299 * MS)]).cut_off


def test_late_slots_are_held_to_the_control() -> None:
    """One slot late more than there are late controls misses; one whose final answer alone is late does not count."""
    fine, slot = pair(kept=True, final_ms=0.1), pair(rung_ms=0.2)
    assert [figure.holds for figure in held_to(fine)] == [True] * 3
    assert [figure.holds for figure in held_to(fine, slot)] == [False, True, True]
    assert [figure.holds for figure in held_to(fine, slot, pair(control_ms=0.1))] == [True] * 3


def test_python_must_be_back_soon_after_the_gil_is_free() -> None:
    """More than 2 ms misses, after a hold or late without one; a bench in which nobody was kept has shown nothing."""
    for late in (pair(kept=True, after_free_ms=2.1), pair(returned_ms=0.5, after_free_ms=2.1)):
        assert [figure.holds for figure in held_to(late)] == [True, False, True]
    assert held_to(pair(kept=True, after_free_ms=2.0), pair(after_free_ms=2.1))[1].measured == 2.0
    assert held_to(pair())[1].measured == "not observed"
    assert not held_to(pair())[1].holds


def test_what_was_cut_off_says_nothing() -> None:
    """Neither for nor against; every other request must be answered by the model, and there must be one."""
    cut = pair(valid=False, control_ms=9.0, rung_ms=9.0, after_free_ms=9.0, kept=True, cut_off=True)
    fine = pair(kept=True)
    assert [figure.holds for figure in held_to(fine, cut)] == [True] * 3
    assert [figure.holds for figure in held_to(cut)] == [True, False, False]
    assert not held_to(fine, pair(valid=False))[2].holds


def test_the_note_counts_who_was_kept_late_or_left_out() -> None:
    """Kept by a hold, of them late; late without one; cut off."""
    held = [pair(**of)[1] for of in ({"kept": True, "returned_ms": 60.0}, {"kept": True}, {"returned_ms": 3.0})]
    held.append(pair(control_kept=True, control_after_free_ms=0.4, final_ms=0.1)[1])
    note = figures.holds_note("gil-held", [*held, pair(cut_off=True, control_kept=True, final_ms=0.1)[1]])
    assert "kept 2 of 5 callers" in note
    assert "1 of them beyond the deadline, by 60.00 ms" in note
    assert "1 returned late with no hold in the way, by 3.00 ms" in note
    assert "kept 1 controls, which were back 0.40 ms" in note
    assert "1 slots had an answer in time and their final one late" in note
    assert note.endswith("being asked: 1")


@pytest.mark.parametrize("valid", [True, False])
def test_rows_are_read_as_they_were_kept(valid: bool) -> None:
    """Through JSON a pair is a list of lists, in the order of its fields."""
    row, held = pair(valid=valid, kept=True)
    assert read_rows([[list(row), list(held)]]) == ([row], [held])
