"""What a request runs between two looks of the worker is never longer than the bound that others are promised."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anytime.bundle import Chat, Frame
from anytime.ext.latency import Latency
from anytime.runtime.answers.compiling import compile_format
from anytime.runtime.answers.formats import AnswerFormat, Choices, Regex
from anytime.runtime.bank import AnswerBank
from anytime.runtime.decode import decode
from anytime.runtime.engine import FloatArray, Row, Seq
from anytime.runtime.job import Job, Machine
from anytime.runtime.policies.budget import BudgetForcing
from anytime.runtime.policies.parallel import NoThinking, SelfConsistency
from anytime.runtime.policies.policy import CONCLUDE, DRAWN, THINK, Extend, Following, Plan, Policy, Verdict, View
from anytime.runtime.policies.until import UntilDeadline
from anytime.runtime.prefixes import Prefixes
from anytime.runtime.prompt import Codec
from anytime.runtime.sampling import Sampling
from anytime.runtime.turn import Turn
from anytime.runtime.worker import Worker
from anytime.scheduler.admission import HANDOVER_NS, ThoughtLimits, Work, conclude_ns, longest_stretch_ns
from anytime.scheduler.pace import Pace
from anytime.scheduler.profile import LatencyProfile
from anytime.testing import MockClock, ScriptedEngine
from tests.conftest import ID, MS, make_profile
from tests.doubles import PATIENCE_S, byte_level_codec

MOST, WORDS = 256, 4 + 256 + 5  # tokens of the context and of the vocabulary
NUMBER = Regex("[0-9]{1,6}")  # up to six tokens behind the first logits
FLAT = Latency(0.0, 100_000.0, 0.5 * MS, 0.0, 1.0 * MS)  # 1 ms a step; 0.5 ms a run and a tenth for each of its tokens


class CostlyEngine(ScriptedEngine):
    """Takes as long as its profile says for rows side by side and for forks, too."""

    profile: LatencyProfile

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        alone = max(self._latency.run_ns(len(row.tokens), row.seq.length) for row in rows)
        context = max(row.seq.length for row in rows)
        if len(rows) > 1:
            self._clock.advance(max(0, self.profile.rows_ns(len(rows), context) - alone))
        return super().run(rows, generation)

    def fork(self, seq: Seq, n: int = 1) -> list[Seq]:
        self._clock.advance(n * self.profile.fork_ns(seq.length))
        return super().fork(seq, n)


class WatchedWorker(Worker):
    """Remembers of every step how long it took, and the bound that held when it began."""

    def __init__(self, machine: Machine) -> None:
        self.stretches: list[tuple[int, int, Job]] = []
        super().__init__(machine)

    def _run(self, turn: Turn) -> list[bool]:
        bound_ns, began_ns = self._blocking_ns, self.machine.clock.now()
        over = super()._run(turn)
        self.stretches.append((self.machine.clock.now() - began_ns, bound_ns, turn.jobs[0]))
        return over


class Restless(Following):
    """Does one thing after the other: other efforts, lines side by side, and an end taken back."""

    def __init__(self, verdicts: Sequence[Verdict]) -> None:
        self._verdicts = verdicts

    def begin(self, view: View) -> Plan:
        verdict = self._next(view)
        return verdict if isinstance(verdict, Plan) else Plan()

    def judge(self, view: View) -> Verdict:
        return self._next(view)

    def _next(self, view: View) -> Verdict:
        return self._verdicts[len(view.found) % len(self._verdicts)]


class Scripted:
    """A thought of ``length`` tokens in lines of two letters, and a number of so many digits behind it."""

    def __init__(self, codec: Codec, length: int, digits: int) -> None:
        self._length, self._digits = length, digits
        self._letters = codec.encode_text("ab\n")
        (self._digit,) = codec.encode_text("7")

    def __call__(self, tokens: Sequence[int]) -> int:
        if ID["<think>"] not in tokens:
            return ID["<pad>"]
        said = tokens[tokens.index(ID["<think>"]) + 1 :]
        if ID["</think>"] in said:
            answered = len(said) - said.index(ID["</think>"]) - 1
            return ID["<end>"] if answered >= self._digits else self._digit
        return self._letters[len(said) % 3] if len(said) < self._length else ID["</think>"]


@pytest.fixture(scope="module", params=["behind", "before"])
def codec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """Of a bundle with two efforts, asked for behind the question, or before it, where the whole prompt is run anew."""
    before = {"low": "cde", "high": "cdf"} if request.param == "before" else {"low": "", "high": ""}
    frames = {"low": Frame(before["low"], "<think>"), "high": Frame(before["high"], "xyz<think>")}
    chat = Chat("", "", frames["low"], "</think>", (1,), frames)
    return byte_level_codec(tmp_path_factory.mktemp("stretches") / "efforts", chat=chat)


def policies() -> st.SearchStrategy[Policy]:
    verdicts = st.sampled_from(
        [THINK, THINK, CONCLUDE, Plan(effort="high"), Plan(effort="low"), Plan(4, DRAWN), Plan(limit=3), Extend("defg")]
    )
    restless = st.builds(Restless, st.lists(verdicts, min_size=1, max_size=4))
    return st.one_of(st.just(UntilDeadline()), st.just(BudgetForcing(2, "what")), restless)


def latencies() -> st.SearchStrategy[Latency]:
    """Some with small chunks, some with large ones; steps that are cheaper and dearer than runs."""
    return st.builds(
        Latency,
        st.sampled_from([0.0, 50.0]),
        st.sampled_from([20_000.0, 200_000.0]),
        st.sampled_from([100_000.0, 1.0 * MS]),
        st.sampled_from([0.0, 2_000.0]),
        st.sampled_from([100_000.0, 1.0 * MS]),
        st.sampled_from([1.0, 1.5]),
        st.sampled_from([1.0, 1.5]),
    )


requests = st.tuples(
    st.integers(1, 80),  # characters of the question
    st.sampled_from([NUMBER, Regex("[0-9]{1,2}"), Choices("777", "b")]),
    policies(),
    st.integers(5, 400),  # ms of budget
)


Asked = tuple[int, AnswerFormat, Policy, int]  # characters of the question, answer, policy, and ms of budget

asked: st.SearchStrategy[Asked] = st.tuples(
    st.integers(1, 80),
    st.sampled_from([NUMBER, Regex("[0-9]{1,2}"), Choices("777", "b")]),
    policies(),
    st.integers(5, 400),
)


def watched(
    codec: Codec, profile: LatencyProfile, asked: Sequence[Asked], thought: int, digits: int, speculate: bool = False
) -> WatchedWorker:
    """A worker that has served requests, at exactly the profile's costs without their margins."""
    clock, fit = MockClock(), profile.fit
    plain = Latency(fit.alpha, fit.beta, fit.gamma, fit.p, fit.q)
    engine = CostlyEngine(clock, plain, Scripted(codec, thought, digits), WORDS, MOST)
    engine.profile = profile
    worker = WatchedWorker(Machine(engine, codec, Pace(profile), clock, Prefixes(engine), None, speculate))
    jobs = []
    for number, (size, answer, policy, budget_ms) in enumerate(asked, 1):
        compiled, ready_ns = compile_format(answer, codec), clock.now() + budget_ms * MS
        prompt = codec.encode("b" * size)
        jobs.append(Job(number, str(number), prompt, ready_ns, compiled, Sampling(), policy, AnswerBank()))
        worker.submit(jobs[-1])
    assert all(job.done.wait(PATIENCE_S) for job in jobs)
    worker.stop()
    return worker


@settings(max_examples=100)
@given(latencies(), st.lists(asked, min_size=1, max_size=3), st.integers(0, 60), st.integers(1, 6), st.booleans())
def test_no_step_of_a_worker_is_longer_than_its_bound(
    codec: Codec, latency: Latency, asked: list[Asked], thought: int, digits: int, speculate: bool
) -> None:
    """Whatever requests ask for, and whatever policies do; that of ``anytime admit`` holds for one line at a time."""
    profile = make_profile(latency)
    worker = watched(codec, profile, asked, thought, digits, speculate)
    for took_ns, bound_ns, job in worker.stretches:
        assert took_ns <= bound_ns
        if isinstance(job.policy, (UntilDeadline, BudgetForcing)):
            work = worker.machine.work(job.prompt_tokens, job.answer)
            limits = ThoughtLimits(MOST, codec.reframings(job.prompt_tokens))
            assert took_ns <= longest_stretch_ns(work, profile, limits)


@pytest.mark.parametrize(
    ("policy", "fork"),
    [
        (BudgetForcing(1, "abcdefgh"), 0.0),
        (SelfConsistency(8), 0.0),
        (NoThinking(8), 5.0 * MS),
    ],
)
def test_words_lines_and_copies_are_counted(codec: Codec, policy: Policy, fork: float) -> None:
    """Eight words behind a close, the answers of eight lines, copies that cost more than all else: within the bound."""
    profile = make_profile(Latency(0.0, 200_000.0, 100_000.0, 0.0, 100_000.0))
    profile = msgspec.structs.replace(profile, fit=msgspec.structs.replace(profile.fit, fork=(0.0, fork)))
    worker = watched(codec, profile, [(1, NUMBER, policy, 400)], 30, 6)
    assert all(took_ns <= bound_ns for took_ns, bound_ns, _ in worker.stretches)
    assert max(took_ns for took_ns, _, _ in worker.stretches) > 2 * MS


def alone(codec: Codec, latency: Latency, budget_ns: int, size: int, margin: float = 1.0) -> tuple[Job, Machine]:
    """A request for a number of six digits, on an engine without margins; the profile has some."""
    wary = Latency(latency.alpha, latency.beta, latency.gamma, latency.p, latency.q, margin, margin)
    profile, clock = make_profile(wary), MockClock()
    engine = ScriptedEngine(clock, latency, Scripted(codec, 200, 6), WORDS, MOST)
    machine = Machine(engine, codec, Pace(profile), clock, Prefixes(engine))
    answer, policy = compile_format(NUMBER, codec), UntilDeadline()
    return Job(1, "1", codec.encode("b" * size), budget_ns, answer, Sampling(), policy, AnswerBank()), machine


def stretches(job: Job, machine: Machine) -> list[int]:
    """How long every step of a request takes."""
    marks = [machine.clock.now(), *(machine.clock.now() for _ in decode(job, machine)), machine.clock.now()]
    return [after - before for before, after in itertools.pairwise(marks)]


def bound(job: Job, machine: Machine, tokens: int = MOST) -> int:
    return longest_stretch_ns(machine.work(job.prompt_tokens, job.answer), machine.profile, ThoughtLimits(tokens))


def test_the_last_chunk_and_the_whole_instant_answer_are_one_stretch(codec: Codec) -> None:
    """For a long prompt that is the longest: its one run of half a millisecond and a tenth a token, and 1 ms a step."""
    job, machine = alone(codec, FLAT, 300 * MS, 45)
    expected_ns = MS // 2 + (job.prompt_tokens + 1) * MS // 10 + job.answer.answer_steps * MS
    assert job.answer.answer_steps >= 5
    assert max(stretches(job, machine)) == stretches(*alone(codec, FLAT, 300 * MS, 45))[0] == expected_ns
    assert bound(job, machine) == expected_ns


def test_a_close_with_its_whole_answer_is_one_stretch(codec: Codec) -> None:
    """For a short prompt and long steps of the answer; the bound has words behind it, too."""
    close_dear = Latency(0.0, 10_000.0, 20.0 * MS, 0.0, 1.0 * MS)
    job, machine = alone(codec, close_dear, 150 * MS, 1)
    closing_ns = 20 * MS + 2 * 10_000 + job.answer.answer_steps * MS
    words_ns = 20 * MS + 8 * 10_000
    assert bound(job, machine) == closing_ns + words_ns
    assert max(stretches(job, machine)[1:]) == closing_ns


def test_what_is_known_of_a_prompt_makes_its_last_chunk_no_longer_than_the_bound() -> None:
    """33 tokens in chunks of 16 end with one of a single token; with 17 of them known, with one of 16."""
    profile = make_profile(Latency(0.0, 100_000.0, 0.1 * MS, 0.0, 1_000.0))
    assert profile.chunks(33, 2)[-1] < 16 == profile.chunk
    whole = longest_stretch_ns(Work(32, 0, 1, 5, MOST), profile, ThoughtLimits(0))
    assert whole >= profile.latency().upper_ns(16, 17) + 5 * 1_000


def test_tokenizing_is_the_least_there_is() -> None:
    """Nothing interrupts it either."""
    quick = make_profile(Latency(0.0, 1.0, 1.0, 0.0, 1.0))
    assert longest_stretch_ns(Work(200, 0, 1, 3, MOST), quick, ThoughtLimits(MOST)) == HANDOVER_NS


def test_steps_in_a_row_are_one_stretch() -> None:
    """Eight of them, for a short prompt and an answer of one token; behind a thought, but in the context."""
    latency = Latency(0.0, 1_000.0, 1_000.0, 10_000.0, 5.0 * MS)
    found = longest_stretch_ns(Work(5, 0, 1, 0, MOST), make_profile(latency), ThoughtLimits(20))
    assert found == 8 * (5 * MS + 25 * 10_000)
    full = longest_stretch_ns(Work(5, 0, 1, 0, MOST), make_profile(latency), ThoughtLimits(10_000))
    assert full == 8 * (5 * MS + (MOST - 3) * 10_000)


def test_another_effort_and_other_lines_come_behind_a_close() -> None:
    """The tokens run anew, the copies, and the close of the lines there were, are added up."""
    latency = Latency(0.0, 100_000.0, 1.0 * MS, 0.0, 1.0 * MS)
    profile, work = make_profile(latency), Work(20, 0, 1, 5, MOST)
    one = longest_stretch_ns(work, profile, ThoughtLimits(10, ((2, 60),)))
    assert one == latency.closing_ns(30, 1, 5) + latency.upper_ns(60, 2)
    four = longest_stretch_ns(work, profile, ThoughtLimits(10, ((2, 60),), lines=4, forks=3))
    assert four == profile.latency(4).closing_ns(30, 1, 5) + latency.upper_ns(60, 2) + 3 * profile.fork_ns(62)


def test_changes_of_effort_are_all_thought_of(codec: Codec) -> None:
    """From each effort to each other one, for prompts as long as they are with it."""
    prompts = {effort: codec.encode("what", effort) for effort in codec.efforts}
    changes = codec.reframings(len(prompts[codec.effort]))
    assert {same + again for same, again in changes} == {len(prompt) for prompt in prompts.values()}
    assert len(changes) == 2


def test_closes_of_the_reserve_are_steps_of_their_own(codec: Codec) -> None:
    """Where the upper bound left time for several, each is within the bound, and others may come between."""
    job, machine = alone(codec, FLAT, 60 * MS, 5, margin=2.5)
    taken = stretches(job, machine)
    closes = [candidate for candidate in job.bank.found if candidate.source == "thought"]
    assert len(closes) >= 2
    closing_ns = FLAT.closing_ns(10, 1, job.answer.answer_steps)
    assert taken[-len(closes) :] == [closing_ns] * len(closes)
    assert max(taken) <= bound(job, machine)


def test_a_reserve_whose_time_others_took_is_not_spent(codec: Codec) -> None:
    """Between two closes the time has passed: no other is begun, and the answer of the first stays."""
    job, machine = alone(codec, FLAT, 60 * MS, 5, margin=2.5)
    steps = decode(job, machine)
    while not any(candidate.source == "thought" for candidate in job.bank.found):
        next(steps)
    assert isinstance(machine.clock, MockClock)
    machine.clock.advance(job.until_ns - machine.clock.now())
    with pytest.raises(StopIteration):
        next(steps)
    assert machine.clock.now() == job.ready_ns
    assert job.stopped == "deadline"
    assert [candidate.source for candidate in job.bank.found].count("thought") == 1


def test_hurrying_waits_for_what_cannot_be_interrupted() -> None:
    """Then the close comes, with its whole answer."""
    profile = make_profile(FLAT)
    assert conclude_ns(Work(20, 0, 1, 5, MOST), 30, profile, 7 * MS) == 7 * MS + FLAT.closing_ns(50, 1, 5)
