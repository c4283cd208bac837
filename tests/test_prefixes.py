"""The prefix cache, on an engine that shows what it runs."""

from __future__ import annotations

import pytest

from anytime.ext.latency import Latency
from anytime.runtime.engine import Row
from anytime.runtime.prefixes import Prefix, Prefixes, common
from anytime.runtime.prompt import Codec
from anytime.scheduler.profile import LatencyProfile
from anytime.testing import MockClock, ScriptedEngine
from tests.conftest import LONG, MS, MakeReasoner, thinker
from tests.doubles import LEFT_OR_RIGHT

SYSTEM = list(range(20, 40))


class CountingEngine(ScriptedEngine):
    """Counts the sequences that are open."""

    opened = 0

    def open(self):  # type: ignore[no-untyped-def]
        self.opened += 1
        return super().open()

    def fork(self, seq, n=1):  # type: ignore[no-untyped-def]
        self.opened += n
        return super().fork(seq, n)

    def restore(self, snapshot):  # type: ignore[no-untyped-def]
        self.opened += 1
        return super().restore(snapshot)

    def close(self, seq):  # type: ignore[no-untyped-def]
        self.opened -= 1
        super().close(seq)


@pytest.fixture
def engine(latency: Latency) -> CountingEngine:
    return CountingEngine(MockClock(), latency, len)


def parked(engine: ScriptedEngine, prefixes: Prefixes, prompt: list[int]) -> None:
    seq = prefixes.take(prompt)
    engine.run([Row(seq, [*prompt[seq.length :], 99])], 1)
    prefixes.park(seq, prompt)


def test_the_beginning_in_common_is_taken_up(engine: CountingEngine) -> None:
    """A second prompt finds what it shares with the first, and exactly that."""
    prefixes = Prefixes(engine)
    parked(engine, prefixes, [*SYSTEM, 1, 2, 3])
    seq = prefixes.take([*SYSTEM, 1, 5, 6])
    assert seq.length == len(SYSTEM) + 1
    assert list(seq.state) == [*SYSTEM, 1]


def test_the_same_prompt_again_runs_its_last_token(engine: CountingEngine) -> None:
    """The last token is never cached, because its logits begin the thought."""
    prefixes = Prefixes(engine)
    parked(engine, prefixes, SYSTEM)
    assert prefixes.take(SYSTEM).length == len(SYSTEM) - 1


def test_little_in_common_is_not_worth_it(engine: CountingEngine) -> None:
    """Seven tokens are run again; what was parked stays for who shares more."""
    prefixes = Prefixes(engine)
    parked(engine, prefixes, SYSTEM)
    assert prefixes.take([*SYSTEM[:7], 1, 2]).length == 0
    assert prefixes.take([*SYSTEM[:8], 1, 2]).length == 8


def test_memory_is_bounded(engine: CountingEngine) -> None:
    """However many different prompts come, a quarter of the rows at most stays parked, the latest ones."""
    prefixes = Prefixes(engine)
    for n in range(20):
        parked(engine, prefixes, [n] * 12)
        assert engine.opened <= engine.spec.max_rows // 4
    assert prefixes.take([19] * 12).length == 11
    assert prefixes.take([0] * 12).length == 0


def test_what_a_bundle_ships_stays(engine: CountingEngine) -> None:
    """The shipped prefix serves every request that begins with it, also after others."""
    seq = engine.open()
    engine.run([Row(seq, SYSTEM)], 1)
    prefixes = Prefixes(engine, Prefix(tuple(SYSTEM), engine.snapshot(seq)))
    engine.close(seq)
    for n in range(12):
        parked(engine, prefixes, [n] * 12)
    for n in range(3):
        seq = prefixes.take([*SYSTEM[:15], n, n])
        assert list(seq.state) == SYSTEM[:15]
        engine.close(seq)
    assert engine.opened <= 1 + engine.spec.max_rows // 4


def test_a_request_pays_only_for_what_is_new(make_reasoner: MakeReasoner, codec: Codec) -> None:
    """The second of two like questions skips their beginning in engine, floor and answer."""
    reasoner, engine, _ = make_reasoner(thinker(LONG, lambda n: "left"))
    question = "abcdefghijklmnopqrst"
    first = reasoner.answer(f"{question}?", budget=0.05, answer=LEFT_OR_RIGHT)
    runs = len(engine.runs)
    second = reasoner.answer(f"{question}a", budget=0.05, answer=LEFT_OR_RIGHT)
    assert (first.tokens.cached, second.tokens.cached) == (0, 20)
    assert engine.runs[runs] == (3, 20)  # the last letter, the tag that begins the thought, the tag that ends it
    assert second.valid
    assert second.token_cap > first.token_cap


def test_a_refused_request_leaves_the_cache_alone(make_reasoner: MakeReasoner) -> None:
    """What came too late to be run neither adds to the cache nor takes from it."""
    reasoner, _, _ = make_reasoner(thinker(LONG, lambda n: "left"))
    question = "abcdefghijklmnopqrst"
    reasoner.answer(question, budget=0.05, answer=LEFT_OR_RIGHT)
    assert reasoner.answer(question, budget=0.0008, answer=LEFT_OR_RIGHT).stopped == "rejected"
    assert reasoner.answer(question, budget=0.05, answer=LEFT_OR_RIGHT).tokens.cached == 20


@pytest.mark.parametrize(("a", "b", "length"), [("", "", 0), ("ab", "ab", 2), ("abc", "abd", 2), ("ab", "abc", 2)])
def test_common(a: str, b: str, length: int) -> None:
    """Up to the first difference or the end of the shorter one."""
    assert common([*map(ord, a)], [*map(ord, b)]) == length


def test_a_prompt_runs_in_chunks(codec: Codec, latency: Latency, profile: LatencyProfile) -> None:
    """No run of a long prompt is longer than the profile's chunk, and the answer is as good as from one run."""
    import msgspec

    from tests.doubles import decode_alone

    fit = msgspec.structs.replace(profile.fit, gamma=20_000.0)
    short = msgspec.structs.replace(profile, fit=fit)
    assert short.chunk == 16
    prompt = "abcdefghij" * 7
    _, bank, engine, _ = decode_alone(thinker("ab", lambda n: "left"), 900 * MS, codec, short, prompt=prompt)
    prefill = [tokens for tokens, _ in engine.runs[: (71 + 1) // 16 + 1]]
    assert prefill == [16, 16, 16, 16, 8]
    assert max(engine.runs)[0] == 16
    assert bank.offered[-1].text == "left"
