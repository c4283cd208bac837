"""One line of thought: what it has thought, the token that is due, and where it stands in the engine."""

from __future__ import annotations

import msgspec

from anytime.runtime.engine import FloatArray, Seq
from anytime.runtime.prompt import Codec
from anytime.runtime.sampling import Sampler


class Chain(msgspec.Struct, eq=False):
    """``pending`` was chosen and has not been run (-1: none could be); the thought holds what has been run."""

    seq: Seq
    codec: Codec
    sampler: Sampler
    pending: int = -1
    line: int = 0
    thought: list[int] = msgspec.field(default_factory=list)
    since_probe: int = 0
    extended: int = 0  # times its end was taken back
    last_answer: str = ""
    agreed: int = 0  # answers in a row that were the same as the last one

    def commit(self, token: int) -> None:
        """A token has been run."""
        self.thought.append(token)
        self.since_probe += 1

    def choose_next(self, logits: FloatArray) -> None:
        """Draw the token that is due."""
        self.pending = self.sampler.next(logits)

    @property
    def ends(self) -> bool:
        """Whether the pending token ends the thought."""
        if self.pending in self.codec.stop_ids:
            return True
        tag = self.codec.close_tag_ids
        n = len(tag)
        return self.pending == tag[-1] and (n == 1 or self.thought[1 - n :] == tag[:-1])

    def strip_tag(self) -> int:
        """Take the tag's own tokens out of the thought again; how many of them were run."""
        run = 0 if self.pending in self.codec.stop_ids else len(self.codec.close_tag_ids) - 1
        del self.thought[len(self.thought) - run :]
        return run

    @property
    def at_boundary(self) -> bool:
        """Whether the pending token ends a line."""
        return self.pending in self.codec.boundary_ids

    def agree(self, text: str) -> int:
        """Take note of an answer; how many before it, without a break, were the same."""
        self.agreed = self.agreed + 1 if text == self.last_answer else 0
        self.last_answer = text
        return self.agreed
