"""The answer bank."""

from __future__ import annotations

import threading

import pytest

from anytime.runtime.bank import AnswerBank, Candidate
from tests.doubles import PATIENCE_S


def candidate(text: str, confidence: float = 0.5, thought_tokens: int = 0) -> Candidate:
    return Candidate(text, confidence, "probe", thought_tokens, 1)


def test_an_empty_bank_has_nothing() -> None:
    """No answer, and no refusal either."""
    bank = AnswerBank()
    assert bank.best() is None
    assert bank.refusal() == ""


def test_a_later_candidate_replaces_an_earlier_one_whatever_its_confidence() -> None:
    """More thought counts, not more certainty."""
    bank = AnswerBank()
    assert bank.offer(candidate("left", 0.99, 8))
    assert bank.offer(candidate("right", 0.4, 16))
    assert bank.best() == candidate("right", 0.4, 16)


def test_min_confidence_refuses_and_keeps_the_earlier_one() -> None:
    """An answer below the bar does not replace one above it, and the reason names both numbers."""
    bank = AnswerBank(min_confidence=0.6)
    assert bank.offer(candidate("left", 0.6))
    assert not bank.offer(candidate("right", 0.599))
    assert bank.best() == candidate("left", 0.6)
    assert bank.refusal() == "'right' has confidence 0.599, below min_confidence=0.6"


def test_accept_vetoes() -> None:
    """What the caller refuses is never the best, and the reason says who refused it."""
    bank = AnswerBank(accept=lambda text: text != "right")
    assert bank.offer(candidate("left"))
    assert not bank.offer(candidate("right"))
    assert bank.best() == candidate("left")
    assert bank.refusal() == "accept('right') said no"


def test_an_accept_that_raises_vetoes() -> None:
    """A check that fails lets nothing through and stops nothing."""

    def accept(text: str) -> bool:
        raise LookupError("no map")

    bank = AnswerBank(accept=accept)
    assert not bank.offer(candidate("left"))
    assert bank.best() is None
    assert bank.refusal() == "accept('left') raised LookupError('no map')"


def test_accept_is_not_asked_about_what_min_confidence_refuses() -> None:
    """The caller's code, which costs time, sees only what would otherwise be taken."""
    asked: list[str] = []
    bank = AnswerBank(accept=lambda text: not asked.append(text), min_confidence=0.5)  # type: ignore[func-returns-value]
    bank.offer(candidate("left", 0.1))
    bank.offer(candidate("right", 0.9))
    assert asked == ["right"]


def test_the_bank_can_be_read_while_a_veto_is_thinking() -> None:
    """A caller who leaves is not kept by its own slow accept on the engine's thread."""
    asked, answered = threading.Event(), threading.Event()

    def accept(text: str) -> bool:
        if text == "slow":
            asked.set()
            assert answered.wait(PATIENCE_S)
        return True

    bank = AnswerBank(accept=accept)
    bank.offer(candidate("quick"))
    worker = threading.Thread(target=bank.offer, args=(candidate("slow"),))
    worker.start()
    assert asked.wait(PATIENCE_S)
    best: list[Candidate | None] = []
    reader = threading.Thread(target=lambda: best.append(bank.best()), daemon=True)
    reader.start()
    reader.join(PATIENCE_S / 2)
    answered.set()
    worker.join(PATIENCE_S)
    assert best == [candidate("quick")]
    assert bank.best() == candidate("slow")


@pytest.mark.parametrize("readers", [4])
def test_readers_see_whole_candidates_in_order(readers: int) -> None:
    """While one thread offers, others see candidates that were offered, never an older one after a newer."""
    bank = AnswerBank()
    offered = [candidate(f"answer {i}", thought_tokens=i) for i in range(2000)]
    seen: list[list[Candidate]] = [[] for _ in range(readers)]
    done = threading.Event()

    def read(into: list[Candidate]) -> None:
        while not done.is_set():
            best = bank.best()
            if best is not None and (not into or into[-1] is not best):
                into.append(best)

    threads = [threading.Thread(target=read, args=(into,)) for into in seen]
    for thread in threads:
        thread.start()
    for each in offered:
        bank.offer(each)
    done.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    for into in seen:
        assert all(best is offered[best.thought_tokens] for best in into)
        assert [best.thought_tokens for best in into] == sorted(best.thought_tokens for best in into)
