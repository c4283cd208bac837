"""What every request runs on, and one request on its way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias

import msgspec

from anytime.ext.latency import Latency
from anytime.runtime.answer import Stopped
from anytime.runtime.answers.cursors import Compiled
from anytime.runtime.bank import AnswerBank
from anytime.runtime.engine import Burst, Engine, FloatArray, Row, Seq, Snapshot
from anytime.runtime.forecast import Forecast
from anytime.runtime.policies.policy import Policy
from anytime.runtime.prefixes import Prefixes
from anytime.runtime.prompt import Codec
from anytime.runtime.sampling import Sampling
from anytime.runtime.tape import Tape
from anytime.scheduler.admission import Work
from anytime.scheduler.clock import Clock
from anytime.scheduler.pace import Pace
from anytime.scheduler.profile import LatencyProfile


class Ahead(msgspec.Struct, frozen=True):
    """Greedy steps that a request would take next: at most ``count``, of which its deadline may leave less."""

    burst: Burst
    count: int


LookAhead: TypeAlias = Callable[[], Ahead | None]
Steps: TypeAlias = Generator[LookAhead | None, Sequence[int] | None, None]


class Machine(msgspec.Struct, frozen=True):
    """An engine, its tokens, its speeds and a clock.

    ``prefixes`` is what is prefilled already, ``forecast`` what a calibrated bundle knows of its own answers.
    ``speculate`` lets a greedy thought guess ahead (``lookup``).
    """

    engine: Engine
    codec: Codec
    pace: Pace
    clock: Clock
    prefixes: Prefixes
    forecast: Forecast | None = None
    speculate: bool = False

    @property
    def profile(self) -> LatencyProfile:
        """The speeds to plan with."""
        return self.pace.profile

    @property
    def latency(self) -> Latency:
        """Costs of one line."""
        return self.pace.latency()

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        """``Engine.run``, and its time taken note of."""
        width, tokens, context = len(rows), len(rows[0].tokens), rows[0].seq.length
        started_ns = self.clock.now()
        found = self.engine.run(rows, generation)
        self.pace.ran(tokens, context, width, self.clock.now() - started_ns)
        return found

    def extend(self, bursts: Sequence[Burst], count: int, generation: int) -> list[list[int]]:
        """``Engine.extend``, and its time taken note of."""
        context = sum(burst.seq.length for burst in bursts) // len(bursts)
        width = (len(bursts) > 1 and self.engine.span([burst.seq for burst in bursts])) or len(bursts)
        started_ns = self.clock.now()
        taken = self.engine.extend(bursts, count, generation)
        self.pace.stepped(len(taken[0]), context, width, self.clock.now() - started_ns)
        return taken

    def seat(self, job: Job, leaving: Job | None) -> None:
        """Let a request go on in the engine, where it was set aside, and set another aside for it."""
        if leaving is not None and leaving.seq is not None and leaving.aside is None:
            leaving.aside = self.engine.snapshot(leaving.seq)
            self.engine.close(leaving.seq)
        if job.aside is not None and job.seq is not None:
            self.prefixes.make_room()
            found = self.engine.restore(job.aside)
            job.seq.length, job.seq.state, job.aside = found.length, found.state, None

    @property
    def rows(self) -> int:
        """Lines that one request can think side by side now: those with a row, of a number the profile has measured."""
        return min(1 + self.free_rows, self.widest)

    @property
    def widest(self) -> int:
        """Rows of one step, at most, of which the profile knows the cost."""
        return self.profile.fit.widths[-1][0]

    @property
    def free_rows(self) -> int:
        """Rows of the engine that no request holds; prefixes that are parked there give way."""
        return self.engine.free_rows + self.prefixes.parked

    def work(self, prompt_tokens: int, answer: Compiled, cached_tokens: int = 0) -> Work:
        """What a prompt of so many tokens asks of the engine with this answer format."""
        close, most = len(self.codec.close_ids), self.engine.spec.max_context
        return Work(prompt_tokens, cached_tokens, close, answer.answer_steps, most)

    def latency_of(self, width: int) -> Latency:
        """Costs of so many lines side by side."""
        return self.pace.latency(max(1, width))


class Job(msgspec.Struct, eq=False):
    """One request. The engine's thread writes the second part, the caller reads it."""

    generation: int
    request_id: str
    prompt: Sequence[int]
    ready_ns: int  # the answer must be in the bank by now
    answer: Compiled
    sampling: Sampling
    policy: Policy
    bank: AnswerBank
    priority: int = 0
    topic: str | None = None
    tape: Tape | None = None  # where what happens to it is taken down
    called_off: Stopped | None = None  # why nobody waits for more of it
    hurried: bool = False  # it is to answer where it stands

    done: threading.Event = msgspec.field(default_factory=threading.Event)
    news: threading.Event = msgspec.field(default_factory=threading.Event)  # a better answer, or the end
    moved: threading.Event = msgspec.field(default_factory=threading.Event)  # another deadline, or the end
    steps: Steps | None = None  # what it does in the engine, one step at a time
    look_ahead: LookAhead | None = None  # what comes next, as told behind the last of them
    until_ns: int = 0  # others need the engine from here on; at most ``ready_ns``
    started: bool = False
    seq: Seq | None = None  # what it has in the engine, where it is but one line of thought
    aside: Snapshot | None = None  # what that held, while somebody else has its row
    answered: bool = False  # the instant answer was tried
    resume_ns: int = 0  # its time is used up, and it stands still until others leave it so much
    effort: str | None = None  # of the thought under way
    lines: int = 1  # of thought side by side, that it began with
    cached_tokens: int = 0  # of the prompt, which an earlier request had run
    thought: list[int] = msgspec.field(default_factory=list)  # as far as the (first) line of thought has come
    thought_tokens: int = 0  # of all lines of thought
    answer_tokens: int = 0  # of all answers
    token_cap: int = 0
    faults: int = 0  # lines of thought dropped because the model's logits were no numbers
    stopped: Stopped = "deadline"
    reason: str = ""

    def __post_init__(self) -> None:
        self.until_ns = self.ready_ns

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt)

    @property
    def cancelled(self) -> bool:
        return self.called_off is not None

    def end(self) -> None:
        """Nothing more will come; whoever waits is woken."""
        self.stopped = self.called_off or self.stopped
        self.done.set()
        self.news.set()
        self.moved.set()
