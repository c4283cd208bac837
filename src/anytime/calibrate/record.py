"""Recording: whole thoughts of a bundle on questions, and what it would have answered all along them.

One greedy thought a question and effort, and as many drawn ones as wanted, several side by side. From a recording any
policy can be replayed (``replay``) and a calibration fitted (``fit``), without running the model again.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from anytime.runtime.answers.compiling import compile_format
from anytime.runtime.answers.cursors import Compiled
from anytime.runtime.answers.formats import Text
from anytime.runtime.answers.writing import run_each, write_answers
from anytime.runtime.engine import Burst, Engine, FloatArray, Row, Seq
from anytime.runtime.prompt import Codec
from anytime.runtime.questions import Question
from anytime.runtime.sampling import Sampler, Sampling
from anytime.runtime.thought.chain import Chain

SPACING = 8  # thought tokens between probes of a recording, beside those at the ends of lines
SAMPLES, TEMPERATURE = 16, 0.6
WAIT = "Wait"  # takes the end of a thought back (s1, 2501.19393)
_BURST = 64


class Probe(msgspec.Struct, frozen=True, array_like=True):
    """What the model would answer after so many thought tokens; ``text`` None: nothing that is an answer."""

    tokens: int
    text: str | None
    likelihood: float
    answer_tokens: int


class Pass(msgspec.Struct, frozen=True):
    """A whole thought; ``boundaries`` are the numbers of tokens before which stands the end of a line of text."""

    thought_tokens: int
    complete: bool
    boundaries: tuple[int, ...]
    probes: tuple[Probe, ...]  # the first at 0 tokens, the last at all of them

    def answer(self, tokens: int) -> Probe:
        """What it would have answered after so many tokens: what it answered at the probe before."""
        return self.probes[bisect.bisect_right(self.probes, tokens, key=lambda probe: probe.tokens) - 1]


class Thoughts(msgspec.Struct, frozen=True):
    """What one question was thought of with one effort: the greedy pass first, then the drawn ones.

    ``waited`` is the greedy thought with its end taken back by "Wait".
    """

    prompt_tokens: int
    passes: tuple[Pass, ...]
    waited: Pass | None


class Recording(msgspec.Struct, frozen=True):
    """The thoughts of one question by effort, the bundle's own first, and the answers that are right of all given."""

    id: str
    kind: str
    answer_steps: int
    right: frozenset[str]
    efforts: dict[str, Thoughts]

    @property
    def plain(self) -> Thoughts:
        """With the effort that the bundle thinks with unless another is asked for."""
        return next(iter(self.efforts.values()))


Grade = Callable[[Question, str], bool]


def exactly(question: Question, text: str) -> bool:
    """Right is what equals the question's answer."""
    return text == question.answer


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records questions on an engine, with no deadline."""

    engine: Engine
    codec: Codec
    grade: Grade = exactly
    samples: int = SAMPLES
    temperature: float = TEMPERATURE

    def record(self, question: Question) -> Recording:
        """All passes of a question.

        Raises:
            PromptError, AnswerFormatError: the question cannot be asked of this bundle.
        """
        answer = compile_format(question.format() or Text(), self.codec)
        own = self.codec.effort
        efforts = {
            effort: self._thoughts(answer, self.codec.encode(question.question, effort))
            for effort in (own, *(effort for effort in self.codec.efforts if effort != own))
        }
        passes = [one for thoughts in efforts.values() for one in (*thoughts.passes, thoughts.waited) if one]
        given = {probe.text for one in passes for probe in one.probes if probe.text is not None}
        right = frozenset(text for text in given if self.grade(question, text))
        return Recording(question.id, answer.kind, answer.answer_steps, right, efforts)

    def _thoughts(self, answer: Compiled, prompt: list[int]) -> Thoughts:
        base = self.engine.open()
        try:
            (logits,) = self.engine.run([Row(base, prompt)], 0)
            first = logits[-1].copy()
            (greedy,) = _chains(self.codec, [base], [Sampling()], first)
            passes = self._passes(answer, [greedy], len(prompt), greedy=True)
            waited = self._waited(answer, greedy, prompt) if passes[0].complete else None
            rest = [Sampling(self.temperature, seed=1 + i) for i in range(self.samples)]
            width = self.engine.spec.max_rows - 1
            for start in range(0, len(rest), width):
                drawn = rest[start : start + width]
                self.engine.truncate(base, len(prompt))
                seqs = self.engine.fork(base, len(drawn))
                passes += self._passes(answer, _chains(self.codec, seqs, drawn, first), len(prompt), greedy=False)
                for seq in seqs:
                    self.engine.close(seq)
        finally:
            self.engine.close(base)
        return Thoughts(len(prompt), tuple(passes), waited)

    def _waited(self, answer: Compiled, greedy: Chain, prompt: Sequence[int]) -> Pass | None:
        """The greedy thought, going on behind "Wait" where it ended; None where there is little room for that."""
        words = self.codec.encode_text(WAIT)
        self.engine.truncate(greedy.seq, len(prompt))
        if len(prompt) + len(greedy.thought) + len(words) > self.engine.spec.max_context // 2:
            return None
        (logits,) = self.engine.run([Row(greedy.seq, [*greedy.thought, *words])], 0)
        for token in words:
            greedy.commit(token)
        greedy.choose_next(logits[-1])
        return self._passes(answer, [greedy], len(prompt), greedy=True)[0]

    def _passes(self, answer: Compiled, chains: Sequence[Chain], prompt_tokens: int, greedy: bool) -> list[Pass]:
        """Think to the end, then answer from every cut, the last first."""
        self._think(chains, answer, greedy)
        complete = [chain.ends for chain in chains]
        for chain in chains:
            if chain.ends:
                chain.strip_tag()
        boundaries = [
            tuple(i for i, token in enumerate(chain.thought) if token in self.codec.boundary_ids) for chain in chains
        ]
        probes = self._probes(answer, chains, boundaries, prompt_tokens)
        return [
            Pass(len(chain.thought), complete[i], boundaries[i], tuple(probes[i])) for i, chain in enumerate(chains)
        ]

    def _think(self, chains: Sequence[Chain], answer: Compiled, greedy: bool) -> None:
        behind = len(self.codec.close_ids) + answer.answer_steps + 2
        ends = [*self.codec.stop_ids, self.codec.close_tag_ids[-1]]
        room = self.engine.spec.max_context - behind
        while going := [chain for chain in chains if not chain.ends and chain.pending >= 0 and chain.seq.length < room]:
            if greedy:
                (chain,) = going
                steps = min(_BURST, room - chain.seq.length)
                (taken,) = self.engine.extend([Burst(chain.seq, chain.pending, ends)], steps, 0)
                for token in (chain.pending, *taken[:-1]):
                    chain.commit(token)
                chain.pending = taken[-1]
                continue
            found = self.engine.run([Row(chain.seq, [chain.pending]) for chain in going], 0)
            for chain, logits in zip(going, found, strict=True):
                chain.commit(chain.pending)
                chain.choose_next(logits[0])

    def _probes(
        self,
        answer: Compiled,
        chains: Sequence[Chain],
        boundaries: Sequence[tuple[int, ...]],
        prompt_tokens: int,
    ) -> list[list[Probe]]:
        """The answers at every cut of every chain, found from the end backwards, so that cutting costs nothing."""
        cuts = [
            sorted({0, n, *range(SPACING, n, SPACING), *(i + 1 for i in ends if i < n)}, reverse=True)
            for n, ends in ((len(chain.thought), ends) for chain, ends in zip(chains, boundaries, strict=True))
        ]
        probes: list[list[Probe]] = [[] for _ in chains]
        for turn in range(max(map(len, cuts))):
            here = [i for i in range(len(chains)) if turn < len(cuts[i])]
            for i in here:
                self.engine.truncate(chains[i].seq, prompt_tokens + cuts[i][turn])
            seqs = [chains[i].seq for i in here]
            _, last = run_each(self._run, seqs, [self.codec.close_ids for _ in here])
            for i, written in zip(here, write_answers(self._run, seqs, last, answer), strict=True):
                probes[i].insert(0, Probe(cuts[i][turn], written.text, written.likelihood, written.tokens))
        return probes

    def _run(self, rows: Sequence[Row]) -> list[FloatArray]:
        return self.engine.run(rows, 0)


def _chains(codec: Codec, seqs: Sequence[Seq], samplings: Sequence[Sampling], first: FloatArray) -> list[Chain]:
    """Lines of thought that begin behind a prompt whose last logits are ``first``."""
    chains = [Chain(seq, codec, Sampler(sampling)) for seq, sampling in zip(seqs, samplings, strict=True)]
    for chain in chains:
        chain.choose_next(first)
    return chains
