"""What the model says behind any tokens, worked out once: many clients ask the same questions many times."""

from __future__ import annotations

from collections.abc import Sequence

from anytime.runtime.engine import Engine, FloatArray, Row, Seq

_KEPT = 6  # sequences, of different questions
_WORTH = 0.6  # of its tokens that another sequence must begin with to be gone on with


class Node:
    """A token behind others, and what the model said behind it, as far as it was asked."""

    __slots__ = ("best", "children", "length", "logits", "parent", "token")

    def __init__(self, parent: Node | None = None, token: int = -1) -> None:
        self.parent, self.token = parent, token
        self.length: int = 0 if parent is None else parent.length + 1
        self.children: dict[int, Node] = {}
        self.logits: FloatArray | None = None
        self.best = -1

    def behind(self, token: int) -> Node:
        child = self.children.get(token)
        if child is None:
            child = self.children[token] = Node(self, token)
        return child

    def at(self, length: int) -> Node:
        """Where it came by on its way here."""
        node = self
        while node.length > length:
            assert node.parent is not None
            node = node.parent
        return node

    def tokens(self) -> list[int]:
        found, node = [], self
        while node.parent is not None:
            found.append(node.token)
            node = node.parent
        return found[::-1]


class Remembered:
    """The model, which computes nothing twice. Logits are kept only where they were wanted, else the best token."""

    def __init__(self, engine: Engine) -> None:
        self.spec = engine.spec
        self.root = Node()
        self._engine = engine
        self._open: list[tuple[Seq, list[int]]] = []  # with what each holds, the longest unused one first

    def logits(self, node: Node) -> FloatArray:
        if node.logits is None:
            node.logits = self._computed(node)
        return node.logits

    def best(self, node: Node) -> int:
        """The likeliest next token."""
        if node.best < 0:
            node.best = int((self._computed(node) if node.logits is None else node.logits).argmax())
        return node.best

    def _computed(self, node: Node) -> FloatArray:
        tokens = node.tokens()
        seq, shared = self._nearest(tokens)
        self._engine.truncate(seq, shared)
        (logits,) = self._engine.run([Row(seq, tokens[shared:], 1)], 0)
        self._open.append((seq, tokens))
        return logits[-1].copy()

    def _nearest(self, tokens: list[int]) -> tuple[Seq, int]:
        """A sequence to go on with, and how much of it stays. One token at least is run, to have logits."""
        shared = [_common(held, tokens) for _, held in self._open]
        best = max(range(len(shared)), key=shared.__getitem__, default=None)
        if best is None or (shared[best] < _WORTH * len(tokens) and len(self._open) < _KEPT):
            return self._engine.open(), 0
        if shared[best] < _WORTH * len(tokens):
            best = 0
        seq, _ = self._open.pop(best)
        return seq, min(shared[best], len(tokens) - 1)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens they begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
