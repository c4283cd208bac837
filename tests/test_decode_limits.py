"""The anytime loop at its limits: close tags of several tokens, and a context that fills up."""

from __future__ import annotations

from pathlib import Path

from anytime.bundle import Chat, Frame
from anytime.runtime.answers.formats import Choices
from anytime.runtime.prompt import Codec
from anytime.scheduler.profile import LatencyProfile
from tests.conftest import ID, LONG, MS, thinker, turns_at, write_bundle
from tests.doubles import decode_alone


def tagged(path: Path, think: str, close: str) -> Codec:
    chat = Chat("", "", Frame("", think), close, (1,))
    return Codec(write_bundle(path, chat=chat))


def test_a_close_tag_of_several_tokens(tmp_path: Path, profile: LatencyProfile) -> None:
    """The tag is recognized when its last token comes, is no part of the thought, and its head is run only once."""
    codec = tagged(tmp_path / "b", "<think>", "\nxyz\n")
    said = [*"abxabcxyz"]  # an x that begins no tag, then the tag

    def script(tokens: tuple[int, ...]) -> int:
        n = len(tokens) - tokens.index(ID["<think>"]) - 1
        closed = codec.close_ids == list(tokens[-len(codec.close_ids) :])
        return ID["left"] if closed else ID[said[n]] if n < len(said) else ID["a"]

    job, bank, engine, _ = decode_alone(script, 1000 * MS, codec, profile)
    assert job.stopped == "complete"
    assert codec.decode(job.thought) == "abxabc"
    assert bank.offered[-1].thought_tokens == 6
    assert engine.runs[-1] == (5, len(codec.encode("what")) + 6)


def test_a_forced_close_writes_the_whole_tag(tmp_path: Path, profile: LatencyProfile) -> None:
    """White space that the model puts around its tag is written too, and paid from the reserve."""
    codec = tagged(tmp_path / "b", "<think>", "\n</think>\n\n")
    _, bank, engine, clock = decode_alone(turns_at(0), 30 * MS, codec, profile)
    assert bank.offered[-1].source == "thought"
    assert engine.runs[-1][0] == 1 + 4
    assert clock.now() <= 30 * MS


def test_a_full_context_ends_the_thought_early(codec: Codec, profile: LatencyProfile) -> None:
    """With time left and no room, the thought is closed within the context, and the reason is said."""
    answer = Choices("abcd", "abce")
    job, bank, engine, clock = decode_alone(
        thinker(LONG, lambda n: "abce"), 900 * MS, codec, profile, answer=answer, max_context=64
    )
    assert job.stopped == "early"
    assert "context is full" in job.reason
    assert bank.offered[-1].source == "thought"
    assert 60 <= max(tokens + context for tokens, context in engine.runs) <= 64
    assert clock.now() < 100 * MS
