"""A checkpoint's chat template, rendered once when it is exported."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer

from anytime.bundle import Chat, Frame
from anytime.errors import ExportError
from anytime.export.checkpoint import chat_of, frame
from tests.conftest import tokenizer_json

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer_json()), bos_token="<pad>"
    )


def test_the_frame_is_what_stands_around_the_question(tokenizer: Any) -> None:
    """Special tokens by name, and the prompt for the answer, are the template's to write."""
    template = (
        "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}x{% endif %}"
    )
    assert frame(tokenizer, template, "<think>") == Frame("<pad>", "x<think>")


KNOWING = "{{ messages[0].content }}{{ reasoning_effort or 'high' }}<think>"


def chat(tokenizer: Any, template: str, path: Path, **prompted: str) -> Chat:
    tokenizer.chat_template = template
    tokenizer.eos_token = "<end>"
    source: Any = SimpleNamespace(tokenizer=tokenizer, path=path)
    return chat_of(source, "<think>", "</think>", prompted, 1)


def test_the_efforts_of_a_template_are_found(tokenizer: Any, tmp_path: Path) -> None:
    """What it writes for each ``reasoning_effort``; the bundle's own is what it writes for none."""
    found = chat(tokenizer, KNOWING, tmp_path)
    assert {name: frame.after for name, frame in found.efforts.items()} == {
        "low": "low<think>",
        "medium": "medium<think>",
        "high": "high<think>",
    }
    assert found.frame == found.efforts["high"]


def test_a_template_without_efforts_has_those_that_are_named(tokenizer: Any, tmp_path: Path) -> None:
    """None of its own; a text behind the question is one more."""
    plain = "{{ messages[0].content }}<think>"
    assert chat(tokenizer, plain, tmp_path).efforts == {}
    assert chat(tokenizer, plain, tmp_path, brief="Be brief.").efforts == {"brief": Frame("", "\nBe brief.<think>")}


@pytest.mark.parametrize(
    "template",
    [
        "hello",
        "{{ messages[0].content }}{{ messages[0].content }}",
        "{{ messages[0].content[2:] }}",
        "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}",
    ],
)
def test_a_template_that_hides_or_repeats_the_question_is_refused(tokenizer: Any, template: str) -> None:
    """The question must stand in the prompt exactly once."""
    with pytest.raises(ExportError, match="does not show the question exactly once"):
        frame(tokenizer, template, "<think>")


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}{{ messages[0].content }}",
        "{{ messages.append(1) }}{{ messages[0].content }}",
        "{{ cycler.__init__.__globals__.os.getcwd() }}{{ messages[0].content }}",
        "{% for i in range(10**9) %}x{% endfor %}{{ messages[0].content }}",
        "{{ 1 / 0 }}{{ messages[0].content }}",
        "{{ messages[0].content + 1 }}",
        "{% for m in messages %}",
        "{{ raise_exception('only with tools') }}",
    ],
)
def test_a_template_that_misbehaves_is_refused(tokenizer: Any, template: str) -> None:
    """A template runs in a sandbox, and whatever goes wrong in it is a fault of the checkpoint."""
    with pytest.raises(ExportError, match="cannot be rendered"):
        frame(tokenizer, template, "<think>")
