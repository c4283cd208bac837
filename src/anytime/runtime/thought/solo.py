"""One greedy line of thought: several steps in a row, or a draft verified in one run where that pays."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from anytime.ext.logits import greedy
from anytime.runtime.engine import Burst, Row
from anytime.runtime.job import Job, Machine
from anytime.runtime.thought.chain import Chain
from anytime.runtime.thought.lookup import Lookup


class Solo:
    """Advances the only line of a request."""

    def __init__(self, chain: Chain, job: Job, machine: Machine, prompt: Sequence[int]) -> None:
        self._chain, self._job, self._machine = chain, job, machine
        codec = machine.codec
        self._ends = [*codec.stop_ids, codec.close_tag_ids[-1], *codec.boundary_ids]
        self._lookup = Lookup(machine.latency, prompt) if machine.speculate else None
        self._known = 0  # thought tokens that the lookup has seen

    def advance(self, steps: int, left_ns: int, room: int) -> None:
        """Up to ``steps`` tokens; guesses ahead stay within ``left_ns``, with a close behind them, and ``room``."""
        self._catch_up()
        if self._lookup is not None and (draft := self._draft(self._lookup, left_ns, room)):
            self._verify(self._lookup, draft)
            return
        (taken,) = self._machine.extend([self._burst()], steps, self._job.generation)
        self.took(taken)

    def ahead(self) -> Burst | None:
        """What it would run next; None where it guesses ahead, which others cannot be run beside."""
        return self._burst() if self._lookup is None else None

    def _burst(self) -> Burst:
        return Burst(self._chain.seq, self._chain.pending, self._ends)

    def took(self, taken: Sequence[int]) -> None:
        """The engine has run its burst, and these are the tokens."""
        for token in (self._chain.pending, *taken[:-1]):
            self._commit(token)
        self._chain.pending = taken[-1]

    def _draft(self, lookup: Lookup, left_ns: int, room: int) -> list[int]:
        """Guesses that end no thought, fit the context, and leave time for the close behind them."""
        chain, codec, latency = self._chain, self._machine.codec, self._machine.latency
        draft = lookup.draft(chain.pending, chain.seq.length)[: max(0, room - 1)]
        ending = {*codec.stop_ids, codec.close_tag_ids[-1]}
        draft = list(itertools.takewhile(lambda token: token not in ending, draft))
        behind = chain.seq.length + 1 + len(draft)
        closing_ns = latency.closing_ns(behind, len(codec.close_ids), self._job.answer.answer_steps)
        return draft if latency.upper_ns(1 + len(draft), chain.seq.length) + closing_ns <= left_ns else []

    def _verify(self, lookup: Lookup, draft: list[int]) -> None:
        """One run over the pending token and its guessed followers; keeps those that the model would have written."""
        chain, engine = self._chain, self._machine.engine
        keep, tokens = chain.seq.length + 1, [chain.pending, *draft]
        (logits,) = self._machine.run([Row(chain.seq, tokens, len(tokens))], self._job.generation)
        self._commit(chain.pending)
        right = 0
        while (token := greedy(logits[right])) == (draft[right] if right < len(draft) else None):
            self._commit(token)
            right += 1
        engine.truncate(chain.seq, keep + right)
        lookup.record(len(draft), right)
        chain.pending = token

    def _commit(self, token: int) -> None:
        self._chain.commit(token)
        self._job.thought_tokens += 1

    def _catch_up(self) -> None:
        """Show the lookup what has been thought since."""
        if self._lookup is not None:
            for token in self._chain.thought[self._known :]:
                self._lookup.push(token)
            self._known = len(self._chain.thought)
