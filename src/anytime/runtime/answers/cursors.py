"""Writing an answer token by token: what a compiled format is, and those of choices and free text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from anytime.errors import AnswerFormatError, PromptError
from anytime.runtime.answers.formats import Choices
from anytime.runtime.prompt import Codec

IdArray: TypeAlias = npt.NDArray[np.int64]


class Cursor(Protocol):
    """One answer being written."""

    def allowed(self) -> IdArray | None:
        """Token ids that may come next; None when all may."""
        ...

    def push(self, token: int) -> None:
        """Take the next token."""
        ...

    @property
    def done(self) -> bool: ...

    @property
    def text(self) -> str | None:
        """The answer; None when what was written is not one."""
        ...

    def confidence(self, probabilities: Sequence[float]) -> float:
        """From the probability of each token among those allowed."""
        ...


class Compiled(Protocol):
    """A format for one bundle. ``answer_steps``: engine steps an answer can need after its first token's.

    ``kind`` is choices, grammar or text.
    """

    @property
    def kind(self) -> str: ...

    @property
    def answer_steps(self) -> int: ...

    def start(self) -> Cursor: ...


def geometric_mean(probabilities: Sequence[float]) -> float:
    """The mean in the log domain, 0 for no probabilities."""
    if not probabilities:
        return 0.0
    return math.exp(sum(math.log(max(p, 1e-300)) for p in probabilities) / len(probabilities))


class _Node(msgspec.Struct):
    """A node of the choices' token tree; ``choice`` is the text that ends here, or the only one that can."""

    children: dict[int, _Node] = msgspec.field(default_factory=dict)
    ends: str | None = None

    def only(self) -> str | None:
        """The text, when just one is left."""
        node = self
        while not node.ends and len(node.children) == 1:
            node = next(iter(node.children.values()))
        return node.ends if not node.children else None

    def depth(self) -> int:
        """Tokens to push until only one text is left."""
        if self.only() is not None:
            return 0
        return 1 + max(child.depth() for child in self.children.values())


class CompiledChoices:
    """A tree of token sequences. No token is run once only one choice is left."""

    kind = "choices"

    def __init__(self, answer: Choices, codec: Codec) -> None:
        self._root = _Node()
        self._stop = min(codec.stop_ids)
        for text in answer.texts:
            node = self._root
            for token in _encode_choice(text, codec):
                node = node.children.setdefault(token, _Node())
            if node is self._root or node.ends is not None:
                raise AnswerFormatError(f"the choice {text!r} has no tokens of its own in this model: reword it")
            node.ends = text
        self.answer_steps = max(0, self._root.depth() - 1)

    def start(self) -> Cursor:
        return _ChoicesCursor(self._root, self._stop)


def _encode_choice(text: str, codec: Codec) -> list[int]:
    try:
        codec.check(text)
        return codec.encode_text(text)
    except PromptError as error:
        raise AnswerFormatError(f"the choice {text!r} cannot be encoded: {error}") from error


class _ChoicesCursor:
    def __init__(self, node: _Node, stop: int) -> None:
        self._node, self._stop = node, stop
        self._stopped = False

    def allowed(self) -> IdArray | None:
        ids = [*self._node.children, *([self._stop] if self._node.ends else [])]
        return np.array(ids, dtype=np.int64)

    def push(self, token: int) -> None:
        if token == self._stop and self._node.ends:
            self._stopped = True
        else:
            self._node = self._node.children[token]

    @property
    def done(self) -> bool:
        return self._stopped or self._node.only() is not None

    @property
    def text(self) -> str | None:
        return self._node.ends if self._stopped else self._node.only()

    def confidence(self, probabilities: Sequence[float]) -> float:
        return math.prod(probabilities)


class CompiledText:
    kind = "text"

    def __init__(self, max_tokens: int, codec: Codec) -> None:
        self._max_tokens, self._codec = max_tokens, codec
        self.answer_steps = max_tokens - 1

    def start(self) -> Cursor:
        return _TextCursor(self._max_tokens, self._codec)


class _TextCursor:
    def __init__(self, max_tokens: int, codec: Codec) -> None:
        self._max_tokens, self._codec = max_tokens, codec
        self._ids: list[int] = []
        self._stopped = False

    def allowed(self) -> IdArray | None:
        return None

    def push(self, token: int) -> None:
        if token in self._codec.stop_ids:
            self._stopped = True
        else:
            self._ids.append(token)

    @property
    def done(self) -> bool:
        return self._stopped or len(self._ids) >= self._max_tokens

    @property
    def text(self) -> str | None:
        return self._codec.decode(self._ids).strip() or None

    def confidence(self, probabilities: Sequence[float]) -> float:
        return geometric_mean(probabilities)
