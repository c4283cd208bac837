"""Between text and tokens: the chat's frame, the think tags, and a prompt that cannot smuggle in special tokens."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

from tokenizers import Tokenizer

from anytime.bundle import TOKENIZER, Bundle
from anytime.errors import BundleError, PromptError
from anytime.runtime.prefixes import common

DEFAULT = ""  # the effort of a bundle whose template knows none


class Codec:
    """Encodes questions and decodes thoughts for one bundle.

    The template's text around the question is encoded once; the question itself is encoded by a copy of the tokenizer
    that knows no added tokens, so that ``<think>`` typed by a user is just text. ``efforts`` names the frames there are
    around a question, and ``effort`` the one that is used unless another is asked for.
    """

    def __init__(self, bundle: Bundle) -> None:
        raw = bundle.file(TOKENIZER).read_text(encoding="utf-8")
        chat = bundle.manifest.chat
        self._tokenizer = _open(raw, bundle)
        self._plain = _open(_without_added_tokens(raw), bundle)
        self._special_ids = frozenset(self._tokenizer.get_added_tokens_decoder())
        frames = {**chat.efforts, DEFAULT: chat.frame}
        self._frames = {name: (self._ids(frame.before), self._ids(frame.after)) for name, frame in frames.items()}
        self.efforts = tuple(frames) if chat.frame not in chat.efforts.values() else tuple(chat.efforts)
        self.effort = next((name for name in self.efforts if frames[name] == chat.frame), DEFAULT)
        self.close_ids = self._ids(chat.close)
        self.close_tag_ids = self._ids(chat.close.strip())
        self.stop_ids = frozenset(chat.stop_ids)
        self.vocab_size = bundle.manifest.vocab_size
        self.tokenizer_json = raw
        self._max_context = bundle.manifest.max_context
        self._longest_token = max(map(len, self._tokenizer.get_vocab()), default=1)
        self.boundary_ids = frozenset(
            i for i in range(self._tokenizer.get_vocab_size()) if "\n" in self._tokenizer.decode([i])
        )

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def check(self, prompt: str) -> None:
        """Refuse, without tokenizing it, what can never be a prompt.

        Raises:
            PromptError: it is not text, empty, not valid Unicode, or certainly longer than the context.
        """
        if not isinstance(prompt, str):
            raise PromptError(f"the prompt is {type(prompt).__name__}, not str: decode it first")
        if not prompt.strip():
            raise PromptError("the prompt is empty: ask something")
        most = self._max_context * self._longest_token
        if len(prompt) > most:
            raise PromptError(f"the prompt has {len(prompt)} characters; more than {most} can never fit: shorten it")
        try:
            prompt.encode("utf-8")
        except UnicodeEncodeError as error:
            raise PromptError(
                f"the prompt is not valid Unicode at character {error.start}: decode the input as UTF-8"
            ) from error

    def encode(self, prompt: str, effort: str | None = None) -> list[int]:
        """The whole prompt, up to and including the tag that begins the thought.

        Raises:
            PromptError: it leaves no room in the context.
        """
        before, after = self._frames[self.effort if effort is None else effort]
        whole = [*before, *self.encode_text(prompt), *after]
        if len(whole) + len(self.close_ids) + 1 > self._max_context:
            raise PromptError(
                f"the prompt has {len(whole)} tokens and the model's context {self._max_context}: shorten it"
            )
        return whole

    def reframe(self, prompt: Sequence[int], held: str, wanted: str) -> list[int]:
        """An encoded prompt of one effort as that of another."""
        (old_before, old_after), (before, after) = self._frames[held], self._frames[wanted]
        return [*before, *prompt[len(old_before) : len(prompt) - len(old_after)], *after]

    def reframing(self, prompt_tokens: int, held: str, wanted: str) -> tuple[int, int]:
        """Of a prompt of so many tokens, how many are the same with another effort, and how many then must be run."""
        (old_before, old_after), (before, after) = self._frames[held], self._frames[wanted]
        length = prompt_tokens - len(old_before) - len(old_after) + len(before) + len(after)
        same = common(old_before, before)
        if old_before == before:
            same = prompt_tokens - len(old_after) + common(old_after, after)
        return same, length - same

    def reframings(self, prompt_tokens: int) -> tuple[tuple[int, int], ...]:
        """``reframing`` of every change of effort, for a prompt of so many tokens with the bundle's own."""
        lengths = {effort: sum(self.reframing(prompt_tokens, self.effort, effort)) for effort in self.efforts}
        return tuple(self.reframing(lengths[held], held, to) for held, to in itertools.permutations(self.efforts, 2))

    def encode_text(self, text: str) -> list[int]:
        """Text as text: no special token comes out, whatever was typed."""
        ids = list(self._plain.encode(text, add_special_tokens=False).ids)
        if not self._special_ids.isdisjoint(ids):
            raise PromptError("the text spells a special token that this tokenizer cannot write as text: remove it")
        return ids

    def decode(self, ids: list[int]) -> str:
        """Tokens as text, special tokens left out."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


def _open(raw: str, bundle: Bundle) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(raw)
    except Exception as error:  # tokenizers raises bare Exception
        raise BundleError(f"{bundle.file(TOKENIZER)} cannot be read ({error}); export the checkpoint again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _without_added_tokens(raw: str) -> str:
    model = json.loads(raw)
    model["added_tokens"] = []
    model["post_processor"] = None
    return json.dumps(model)
