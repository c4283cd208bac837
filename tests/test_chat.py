"""A checkpoint's chat template, rendered once when it is exported."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer

from anytime.bundle import Frame
from anytime.errors import ExportError
from anytime.export.checkpoint import frame
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
