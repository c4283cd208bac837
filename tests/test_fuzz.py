"""Whatever bytes come in: they are used, or refused with a reason, and the next request is served."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import fuzzing

WORDS = st.sampled_from(
    [
        '[[task]]\nname = "a"\n',
        'period = "',
        "10ms",
        "1e999s",
        '"\n',
        "deadline = ",
        "-1",
        "nan",
        "question = ",
        "'''",
        "prompt_tokens = ",
        "9" * 30,
        "choices = [",
        "]",
        "\x00",
        "=",
        "[",
        "priority = ",
        "min_quality = 0.5\n",
        "\n",
    ]
)
toml = st.one_of(st.binary(max_size=200), st.lists(WORDS, max_size=20).map(lambda words: "".join(words).encode()))
floats = st.one_of(st.floats(width=64), st.sampled_from([0.0, 0.05, -1.0, 1e-9, float("nan"), float("inf")]))
words = st.one_of(
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.sampled_from(["what", "<think>", "</think>", "<end>", "|", "\x00", "(", "[a-", "a{9999999}"])).map(
        lambda parts: "".join(parts).encode()
    ),
    st.binary(max_size=40),
)
asked = st.builds(lambda s, k, b, text: struct.pack("<dBB", s, k, b) + text, floats, *[st.integers(0, 255)] * 2, words)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=900))
@example(b"\x00" + b"\xff" * 800)
def test_any_memory_is_read_as_nothing_or_within_its_bounds(data: bytes) -> None:
    """A slot that holds anything gives no answer, or one of its size, and works again with the next request."""
    fuzzing.slots(data)


@settings(max_examples=300, deadline=None)
@given(toml)
def test_any_task_file_is_read_or_refused(data: bytes) -> None:
    """What is read keeps to its rules, and whatever is not says which file."""
    fuzzing.tasks(data)


@settings(max_examples=200, deadline=None)
@given(asked)
@example(struct.pack("<dBB", 0.05, 0, 0) + b"a" * 1_000_000)
def test_any_request_is_answered_or_refused_and_the_next_one_served(data: bytes) -> None:
    """Questions, times, formats and names of any kind disturb nobody."""
    fuzzing.requests(data)


def test_a_request_that_disturbs_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target fails where the next request is not served."""
    monkeypatch.setattr(fuzzing, "SOON_S", 0.0)
    with pytest.raises(AssertionError, match="less than it takes"):
        fuzzing.requests(b"")
