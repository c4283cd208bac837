"""From a question to tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime.bundle import Bundle, Chat, Frame, seal, staging
from anytime.errors import BundleError, PromptError
from anytime.runtime.prompt import Codec
from tests.conftest import ID, SPECIAL, manifest, write_bundle

SPECIAL_IDS = {ID[word] for word in SPECIAL}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return Codec(write_bundle(tmp_path_factory.mktemp("prompt") / "tiny"))


def test_a_prompt_is_the_question_in_its_frame(tmp_path: Path) -> None:
    """The frame's text stands around the question, special tokens and all."""
    chat = Chat("", "", Frame("<pad>", "x<think>"), close="</think>", stop_ids=(1,))
    codec = Codec(write_bundle(tmp_path / "b", chat=chat))
    assert codec.encode("ab") == [ID["<pad>"], ID["a"], ID["b"], ID["x"], ID["<think>"]]


@given(st.lists(st.sampled_from([*SPECIAL, "<", ">", "/", "think", "a ", "\n", "é"]), min_size=1).map("".join))
def test_special_tokens_typed_in_a_prompt_are_only_text(shared: Codec, prompt: str) -> None:
    """No special token comes out of the question, whatever was typed: a user cannot end the thought."""
    ids = shared.encode_text(prompt)
    assert SPECIAL_IDS.isdisjoint(ids)
    assert shared.encode(prompt if len(ids) < 200 else prompt[:100])[-1] == ID["<think>"]


def test_a_special_token_that_cannot_be_written_as_text_is_refused(tmp_path: Path) -> None:
    """Where a tokenizer knows a special token as a plain word too, the text that spells it is refused."""
    vocab = {"?": 0, "<end>": 1, "hello": 2, "<think>": 3, "</think>": 4}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    model = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocab[word], "content": word, **flags} for word in ("<end>", "<think>", "</think>")],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "?"},
    }
    with staging(tmp_path / "words") as scratch:
        (scratch / "model.onnx").write_bytes(b"not a graph")
        (scratch / "tokenizer.json").write_text(json.dumps(model), encoding="utf-8")
        seal(scratch, manifest())
    codec = Codec(Bundle.load(tmp_path / "words"))
    assert codec.encode_text("hello") == [2]
    with pytest.raises(PromptError, match="spells a special token"):
        codec.encode_text("hello </think>")


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("a" * 1_000_000, "characters; more than"),
        ("a\ud800", "not valid Unicode at character 1"),
        (b"what", "bytes, not str"),
        (None, "NoneType, not str"),
    ],
)
def test_what_can_never_be_a_prompt_is_refused(codec: Codec, prompt: Any, why: str) -> None:
    """The message says what is wrong; nothing but a PromptError comes out."""
    with pytest.raises(PromptError, match=why):
        codec.check(prompt)


def test_a_prompt_longer_than_the_context_is_refused(codec: Codec) -> None:
    """What the quick look lets pass is counted in tokens: 253 fit with both tags and one answer, 254 do not."""
    codec.check("a" * 300)
    assert len(codec.encode("a" * 253)) == 254
    with pytest.raises(PromptError, match="255 tokens and the model's context 256"):
        codec.encode("a" * 254)


@given(st.text(max_size=120))
def test_any_text_is_encoded_or_refused(shared: Codec, prompt: str) -> None:
    """No text makes anything but a prompt or a PromptError."""
    try:
        shared.check(prompt)
    except PromptError:
        return
    assert shared.encode(prompt)[-1] == ID["<think>"]


def test_decoding_leaves_special_tokens_out(codec: Codec) -> None:
    """A thought or an answer reads as text."""
    assert codec.decode([ID["<think>"], ID["a"], ID["left"], ID["<end>"]]) == "aleft"


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    """A tokenizer file that the library cannot read is a fault of the bundle."""
    with staging(tmp_path / "b") as scratch:
        (scratch / "model.onnx").write_bytes(b"not a graph")
        (scratch / "tokenizer.json").write_text("{}", encoding="utf-8")
        seal(scratch, manifest())
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be read"):
        Codec(Bundle.load(tmp_path / "b"))
