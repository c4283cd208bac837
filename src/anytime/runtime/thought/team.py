"""The lines of thought of one request in the engine: one as a rule, or several that think side by side.

Probes and closes ride along with the token that was due anyway: the engine runs ``[pending, close tag]``, the first
logits continue the thought and the last ones begin an answer, and the tag is forgotten again. A single greedy line
takes several steps in a row (``Solo``); lines side by side take one step at a time, together.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from anytime.errors import StepTerminated
from anytime.runtime.answer import Source
from anytime.runtime.answers.writing import Written, run_each, write_answers
from anytime.runtime.bank import Candidate
from anytime.runtime.engine import Burst, FloatArray, Row, Seq
from anytime.runtime.job import Job, Machine
from anytime.runtime.policies.policy import Plan
from anytime.runtime.sampling import Sampler, Sampling
from anytime.runtime.thought.chain import Chain
from anytime.runtime.thought.solo import Solo


class Team:
    """Lines of thought behind one prompt, whose beginning ``seq`` may hold already."""

    def __init__(self, job: Job, machine: Machine, seq: Seq, prompt: Sequence[int]) -> None:
        self._job, self._machine, self._seq, self.prompt = job, machine, seq, prompt
        self._engine, self._codec = machine.engine, machine.codec
        self._close = machine.codec.close_ids
        self.effort = machine.codec.effort  # that the prompt asks for
        self._chains: list[Chain] = []  # being thought
        self._rested: Chain | None = None  # ended, and still in the engine
        self._solo: Solo | None = None
        self._plan = Plan()
        self._started = 0  # lines, since the request began
        self._instant = ""
        self._first: FloatArray = np.empty(0, dtype=np.float32)  # logits of a thought's first token

    def feed(self) -> bool:
        """Run a chunk of the prompt; False, and nothing is run, when ``begin`` runs all that is left."""
        return self._chunk([*self.prompt, *self._close], 1 + len(self._close))

    def begin(self) -> list[Candidate]:
        """Run the prompt with the close tag; the instant answer, which rests on no thought."""
        logits = self._prefill([*self.prompt, *self._close], 1 + len(self._close))
        self._first = logits[0].copy()
        chain = Chain(self._seq, self._codec, Sampler(Sampling()))
        found = self._answers([chain], [logits[-1]], "instant")
        self._instant = chain.last_answer
        self._engine.truncate(self._seq, len(self.prompt))
        return found

    def _prefill(self, tokens: Sequence[int], want: int) -> FloatArray:
        """Run what the engine does not hold of these tokens; the logits at the last ``want``."""
        while self._chunk(tokens, want):
            if self._job.cancelled:
                raise StepTerminated("cancelled between two chunks of the prompt")
        (logits,) = self._run([Row(self._seq, tokens[self._seq.length :], want)])
        return logits

    def _chunk(self, tokens: Sequence[int], want: int) -> bool:
        """Run the next chunk of these tokens unless it is the last, behind which logits are wanted; whether it was."""
        held = self._seq.length
        size, *more = self._machine.profile.chunks(len(tokens) - held, want)
        if more:
            self._run([Row(self._seq, tokens[held : held + size])])
        return bool(more)

    def reframing(self, effort: str) -> tuple[int, int]:
        """Tokens that the prompt has in common with one that asks for this effort, and those then to be run."""
        return self._codec.reframing(len(self.prompt), self.effort, effort)

    def start(self, plan: Plan) -> None:
        """Begin a plan's lines from the prompt; those before it are forgotten."""
        self.stop()
        if plan.effort is not None and plan.effort != self.effort:
            self._ask_for(plan.effort)
        self._plan = plan
        sampling = plan.sampling or self._job.sampling
        if plan.width > 1:
            self._machine.prefixes.clear()
        rest = self._engine.fork(self._seq, plan.width - 1) if plan.width > 1 else []
        for seq in (self._seq, *rest):
            sampler = Sampler(msgspec.structs.replace(sampling, seed=sampling.seed + self._started))
            chain = Chain(seq, self._codec, sampler, line=self._started, last_answer=self._instant)
            chain.choose_next(self._first)
            self._chains.append(chain)
            self._started += 1
        self._job.thought, self._job.effort, self._job.lines = self._chains[0].thought, self.effort, plan.width
        greedy = plan.width == 1 and sampling.temperature == 0.0
        self._solo = Solo(self._chains[0], self._job, self._machine, self.prompt) if greedy else None
        self._drop_faulty()

    def _ask_for(self, effort: str) -> None:
        same, _ = self.reframing(effort)
        self.prompt = self._codec.reframe(self.prompt, self.effort, effort)
        self.effort = effort
        self._engine.truncate(self._seq, same)
        self._first = self._prefill(self.prompt, 1)[-1].copy()

    def stop(self) -> None:
        """Forget the lines being thought."""
        for chain in self._chains:
            self._leave(chain)
        self._chains, self._rested = [], None
        self._engine.truncate(self._seq, min(self._seq.length, len(self.prompt)))

    def extend(self, text: str) -> None:
        """Take the end of the line that ended last back, and think on behind ``text``."""
        chain = self._rested
        assert chain is not None, "no line has ended, or its row was given back"
        words = self._codec.encode_text(text)
        self._engine.truncate(chain.seq, len(self.prompt) + len(chain.thought))
        (logits,) = self._run([Row(chain.seq, words)])
        for token in words:
            self._commit(chain, token)
        chain.choose_next(logits[-1])
        chain.extended += 1
        self._chains, self._rested = [chain], None
        self._drop_faulty()

    @property
    def width(self) -> int:
        return len(self._chains)

    @property
    def tokens(self) -> int:
        """Thought tokens of the longest line."""
        return max((len(chain.thought) for chain in self._chains), default=0)

    @property
    def context(self) -> int:
        """Tokens in the engine of the longest line."""
        return max((chain.seq.length for chain in self._chains), default=len(self.prompt))

    @property
    def extended(self) -> int:
        chains = self._chains or ([self._rested] if self._rested else [])
        return max((chain.extended for chain in chains), default=0)

    @property
    def resumable(self) -> bool:
        """Whether ``extend`` is possible."""
        return self._rested is not None

    @property
    def over(self) -> bool:
        """Whether a line ends by itself here."""
        return any(chain.ends for chain in self._chains)

    @property
    def since_probe(self) -> int:
        return max(chain.since_probe for chain in self._chains)

    @property
    def at_boundary(self) -> bool:
        """Whether the token that is due ends a line of text, in the line of thought that waits longest for a probe."""
        return max(self._chains, key=lambda chain: chain.since_probe).at_boundary

    def advance(self, steps: int, left_ns: int, room: int) -> None:
        """Think on by one token, or up to ``steps``; guesses ahead stay within ``left_ns`` and ``room`` tokens."""
        if self._solo is not None:
            self._solo.advance(steps, left_ns, room)
        else:
            found = self._run([Row(chain.seq, [chain.pending]) for chain in self._chains])
            for chain, logits in zip(self._chains, found, strict=True):
                self._commit(chain, chain.pending)
                chain.choose_next(logits[0])
        self._drop_faulty()

    def ahead(self) -> Burst | None:
        """What its only line would run next, if it is such as others can be run beside."""
        return self._solo.ahead() if self._solo is not None else None

    def took(self, taken: Sequence[int]) -> None:
        """Its burst was run, beside others; these are the tokens."""
        assert self._solo is not None
        self._solo.took(taken)
        self._drop_faulty()

    def probe(self, source: Source) -> list[Candidate]:
        """A step whose tokens bring the close tag along, and what every line would answer now."""
        chains, ends = self._chains, [chain.seq.length + 1 for chain in self._chains]
        tokens = [[chain.pending, *self._close] for chain in chains]
        first, last = run_each(self._run, [chain.seq for chain in chains], tokens)
        for chain, logits in zip(chains, first, strict=True):
            self._commit(chain, chain.pending)
            chain.since_probe = 0
            chain.choose_next(logits)
        found = self._answers(chains, last, source)
        for chain, end in zip(chains, ends, strict=True):
            self._engine.truncate(chain.seq, end)
        self._drop_faulty()
        return found

    def finish(self, every: bool) -> list[Candidate]:
        """Close the lines that end by themselves here, or all of them where they stand, and answer for good."""
        chains = [chain for chain in self._chains if every or chain.ends]
        complete = [chain.ends for chain in chains]
        for chain in chains:
            if chain.ends:
                self._engine.truncate(chain.seq, chain.seq.length - chain.strip_tag())
        _, last = run_each(self._run, [chain.seq for chain in chains], [self._close for _ in chains])
        found = self._answers(chains, last, "thought", complete)
        for chain in chains:
            self._chains.remove(chain)
            if chain.seq is self._seq:
                self._rested = chain
            self._leave(chain)
        return found

    def _answers(
        self, chains: Sequence[Chain], logits: Sequence[FloatArray], source: Source, complete: Sequence[bool] = ()
    ) -> list[Candidate]:
        """The answers behind the close tags, their first tokens from ``logits``."""
        samplers = [chain.sampler for chain in chains] if self._plan.draw_answers else None
        seqs = [chain.seq for chain in chains]
        rated = []
        for i, written in enumerate(write_answers(self._run, seqs, logits, self._job.answer, samplers)):
            self._job.answer_tokens += written.tokens
            self._job.faults += written.fault
            if written.text is not None:
                rated.append(self._rated(chains[i], written.text, written, source, bool(complete and complete[i])))
        return rated

    def _rated(self, chain: Chain, text: str, written: Written, source: Source, complete: bool) -> Candidate:
        candidate = Candidate(
            text,
            written.likelihood,
            source,
            len(chain.thought),
            written.tokens,
            likelihood=written.likelihood,
            effort=self.effort,
            complete=complete,
            agreed=chain.agree(text),
            line=chain.line,
            thought=chain.thought,
        )
        forecast = self._machine.forecast
        return forecast.rated(candidate, self._job.prompt_tokens, self._job.answer.kind) if forecast else candidate

    def _run(self, rows: Sequence[Row]) -> list[FloatArray]:
        return self._machine.run(rows, self._job.generation)

    def _commit(self, chain: Chain, token: int) -> None:
        chain.commit(token)
        self._job.thought_tokens += 1

    def _drop_faulty(self) -> None:
        """Let lines go whose next token could not be chosen."""
        for chain in [chain for chain in self._chains if chain.pending < 0]:
            self._job.faults += 1
            self._chains.remove(chain)
            self._leave(chain)

    def _leave(self, chain: Chain) -> None:
        if chain.seq is not self._seq:
            self._engine.close(chain.seq)
