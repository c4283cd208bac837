"""Prompt lookup: what it guesses, when it stops guessing, and that the loop writes the same text with it."""

from __future__ import annotations

import pytest

from anytime.ext.latency import Latency
from anytime.runtime.prompt import Codec
from anytime.runtime.sampling import Sampling
from anytime.runtime.thought.lookup import MOST_GUESSES, Lookup
from tests.conftest import ID, LONG, MS, make_profile, thinker
from tests.doubles import decode_alone

CHEAP = Latency(0.0, 20_000.0, MS, 0.0, MS)  # a run of eight tokens costs little more than a step
DEAR = Latency(0.0, float(MS), MS, 0.0, MS)  # it costs as much as eight steps and one


def test_guesses_follow_the_last_occurrence() -> None:
    """What stood behind the same two tokens the last time."""
    lookup = Lookup(CHEAP, [1, 2, 3, 4, 1, 2, 5, 6, 7, 1])
    assert lookup.draft(2, 10)[:3] == [5, 6, 7]
    assert lookup.draft(9, 10) == []
    assert Lookup(CHEAP, []).draft(1, 0) == []


def test_no_more_guesses_than_a_run_takes() -> None:
    """However well it goes, a draft has at most seven tokens."""
    lookup = Lookup(CHEAP, [1, 2, *range(3, 40), 1])
    for _ in range(50):
        lookup.record(MOST_GUESSES, MOST_GUESSES)
    assert lookup.draft(2, 10) == list(range(3, 3 + MOST_GUESSES))


def test_it_switches_itself_off_and_looks_again() -> None:
    """After guesses that were wrong it passes chances up, and tries a short guess once in a while."""
    lookup = Lookup(CHEAP, [1, 2, 3, 4, 5, 1])
    for _ in range(30):
        lookup.record(3, 0)
    drafts = [lookup.draft(2, 10) for _ in range(100)]
    assert 2 <= sum(map(bool, drafts)) <= 4
    assert max(map(len, drafts)) == 1


def test_it_never_guesses_where_a_run_is_no_cheaper_than_its_steps() -> None:
    """Where verifying costs what writing does, only the rare try remains."""
    lookup = Lookup(DEAR, [1, 2, 3, 4, 5, 1])
    for _ in range(50):
        lookup.record(3, 3)
    assert sum(bool(lookup.draft(2, 10)) for _ in range(100)) <= 4


REPETITIVE = "abcdefgh\n" * 20


def test_a_repetitive_thought_is_written_in_fewer_runs(codec: Codec) -> None:
    """The same thought and answer, in less than half the runs."""
    script = thinker(REPETITIVE, lambda n: "right" if n == len(REPETITIVE) else "left")
    plain, fast = (
        decode_alone(script, 900 * MS, codec, make_profile(CHEAP), speculate=speculate) for speculate in (False, True)
    )
    assert plain[0].thought == fast[0].thought
    assert plain[1].offered[-1].text == fast[1].offered[-1].text == "right"
    assert len(fast[2].runs) < len(plain[2].runs) / 2
    assert fast[3].now() < plain[3].now()


def test_wrong_guesses_leave_no_trace(codec: Codec) -> None:
    """Lines that begin alike and go on differently: the thought is the one that would have been written anyway."""
    thought = "".join(f"ab{c}cd{d}\n" for c in "efgh" for d in "ijklm")
    script = thinker(thought, lambda n: "left")
    plain, fast = (
        decode_alone(script, 900 * MS, codec, make_profile(CHEAP), speculate=speculate) for speculate in (False, True)
    )
    assert codec.decode(fast[0].thought) == thought
    assert plain[0].thought == fast[0].thought


@pytest.mark.parametrize("budget_ms", [5, 11, 23, 40, 77])
def test_guessing_keeps_the_deadline(codec: Codec, budget_ms: int) -> None:
    """A draft is verified only where the close still fits behind it."""
    profile = make_profile(Latency(0.0, 20_000.0, MS, 0.0, MS, 1.3, 1.3))
    script = thinker("abcdefgh\n" * 60, lambda n: "left")
    job, bank, _, clock = decode_alone(script, budget_ms * MS, codec, profile, max_context=400, speculate=True)
    assert clock.now() <= budget_ms * MS
    assert job.stopped == "deadline"
    assert bank.offered[-1].source == "thought"


def test_the_context_is_never_left(codec: Codec) -> None:
    """Guesses stop where the context does."""
    script = thinker("ab" * 200, lambda n: "left")
    job, _, engine, _ = decode_alone(script, 10_000 * MS, codec, make_profile(CHEAP), max_context=64, speculate=True)
    assert job.stopped == "early"
    assert max(tokens + context for tokens, context in engine.runs) <= 64


def test_a_guess_never_runs_past_the_end_of_the_thought(codec: Codec) -> None:
    """A question that spells the end of a thought cannot make the loop run it as thought."""
    script = thinker("abcdefghabcdefgh", lambda n: "left")
    job, _, _, _ = decode_alone(script, 900 * MS, codec, make_profile(CHEAP), speculate=True)
    assert job.stopped == "complete"
    assert ID["</think>"] not in job.thought


def test_a_sampled_thought_is_not_guessed(codec: Codec) -> None:
    """Temperature draws token by token."""
    script = thinker(LONG, lambda n: "left")
    sampling = Sampling(temperature=0.5, seed=1)
    _, _, engine, _ = decode_alone(script, 60 * MS, codec, make_profile(CHEAP), speculate=True, sampling=sampling)
    assert {tokens for tokens, _ in engine.runs[1:]} <= {1, 2}
