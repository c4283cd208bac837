"""The parity matrix: however the same text reaches the engine, the same greedy tokens come out.

Two ways may part where the two likeliest tokens are closer than rounding can tell (1e-3).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anytime.ext import ort
from anytime.ext.logits import greedy
from anytime.runtime.engine import Burst, Engine, Row, Seq
from anytime.runtime.loading import Loaded, open_bundle
from anytime.runtime.ort.engine import OrtEngine
from anytime.runtime.ort.shared import _ApartCache
from anytime.runtime.prefixes import Prefix, Prefixes
from anytime.runtime.questions import read_questions
from anytime.runtime.reasoner import Reasoner
from tests.checkpoints import save_checkpoint

# Logits nearer than this are tied. The reference is in int8, whose products round what comes in: by how many tokens run
# at once, its logits differ by tenths at the most.
TIE, QUANTIZED_TIE = 1e-3, 0.1
STEPS = 24
QUESTIONS = Path(__file__).parents[1] / "data" / "questions"
KINDS = ("reference", "fused", "unfused")
CHUNKS = (1, 7, 10_000)
WIDTHS = (1, 2, 4, 8)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Loaded]:
    """The reference in int8, and a random Llama in fp32 with its attention fused and as Optimum exports it."""
    pytest.importorskip("torch")
    from anytime.export import export_checkpoint
    from anytime.export.fuse import NoMatch

    def refuse(*_: object) -> None:
        raise NoMatch("a shape of its own")

    root = tmp_path_factory.mktemp("parity")
    checkpoint = save_checkpoint("llama", root / "llama")
    export_checkpoint(checkpoint, root / "fused")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anytime.export.graph.fuse", refuse)
        export_checkpoint(checkpoint, root / "unfused")
    paths = {"reference": None, "fused": root / "fused", "unfused": root / "unfused"}
    return {kind: open_bundle(path, threads=1) for kind, path in paths.items()}


def prompts(one: Loaded) -> list[list[int]]:
    """Eight prompts of different lengths that begin alike."""
    rng = np.random.default_rng(3)
    begin = [int(i) for i in rng.integers(3, one.engine.spec.vocab_size, 20)]
    return [[*begin, *(int(i) for i in rng.integers(3, one.engine.spec.vocab_size, 3 * n + 2))] for n in range(8)]


Expected = list[tuple[int, float]]  # each token, and by how much it was likelier than the second


def plainly(engine: Engine, prompt: list[int]) -> Expected:
    """The prompt in one run, then one step at a time."""
    seq, expected, tokens = engine.open(), [], prompt
    for _ in range(STEPS):
        logits = engine.run([Row(seq, tokens)], 1)[0][0]
        second, first = np.partition(logits, -2)[-2:]
        tokens = [greedy(logits)]
        expected.append((tokens[0], float(first - second)))
    engine.close(seq)
    return expected


def tie_of(kind: str) -> float:
    return QUANTIZED_TIE if kind == "reference" else TIE


def agree(got: list[int], expected: Expected, tie: float) -> bool:
    """The same tokens, as far as no tie made them part."""
    for token, (wanted, margin) in zip(got, expected, strict=True):
        if token != wanted:
            return margin < tie
    return True


def prefill(engine: Engine, seq: Seq, prompt: list[int], chunk: int) -> int:
    """What of the prompt is not there yet, in chunks; the token that follows."""
    for start in range(seq.length, len(prompt), chunk):
        logits = engine.run([Row(seq, prompt[start : start + chunk])], 1)[0]
    return greedy(logits[-1])


def ways() -> Iterator[tuple[int, bool, int, str, bool]]:
    return itertools.product(CHUNKS, (False, True), WIDTHS, ("cold", "parked", "shipped"), (False, True))


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_gives_the_same_tokens(kind: str, loaded: dict[str, Loaded]) -> None:
    """Chunked or whole, forked or not, alone or beside others, cached prefix or not, in a burst or step by step."""
    one, tie = loaded[kind], tie_of(kind)
    engine = one.engine
    texts = prompts(one)
    expected = [plainly(engine, prompt) for prompt in texts]
    for chunk, forked, width, cached, burst in ways():
        if forked and (width == 8 or cached != "cold"):
            continue  # there are eight rows
        got = decode(engine, texts[:width], chunk, forked, cached if width < 4 else "cold", burst)
        for row in range(width):
            assert agree(got[row], expected[row], tie), (chunk, forked, width, cached, burst, row)


def decode(
    engine: Engine, texts: list[list[int]], chunk: int, forked: bool, cached: str, burst: bool
) -> list[list[int]]:
    """Greedy tokens of several prompts at once."""
    seqs = [opened(engine, prompt, cached) for prompt in texts]
    taken = [[prefill(engine, seq, prompt, chunk)] for seq, prompt in zip(seqs, texts, strict=True)]
    if forked:
        originals = seqs
        seqs = [engine.fork(seq)[0] for seq in originals]
        for seq in originals:
            engine.run([Row(seq, [5, 6, 7])], 1)  # must not show in the fork
    while len(taken[0]) < STEPS:
        if burst:
            for seq, tokens in zip(seqs, taken, strict=True):
                tokens.extend(engine.extend([Burst(seq, tokens[-1], [])], min(5, STEPS - len(tokens)), 1)[0])
        else:
            logits = engine.run([Row(seq, tokens[-1:]) for seq, tokens in zip(seqs, taken, strict=True)], 1)
            for tokens, row in zip(taken, logits, strict=True):
                tokens.append(greedy(row[0]))
    for seq in [*seqs, *(originals if forked else [])]:
        engine.close(seq)
    return taken


def opened(engine: Engine, prompt: list[int], cached: str) -> Seq:
    """A sequence that holds nothing, or what an earlier request or a bundle left of the prompt."""
    if cached == "cold":
        return engine.open()
    seq = engine.open()
    engine.run([Row(seq, prompt[:15] if cached == "shipped" else [*prompt[:17], 9, 9, 9])], 1)
    if cached == "shipped":
        prefixes = Prefixes(engine, Prefix(tuple(prompt[:15]), engine.snapshot(seq)))
        engine.close(seq)
        taken = prefixes.take(prompt)
        assert prefixes._shipped is not None
        engine.close(prefixes._shipped.seq)
    else:
        prefixes = Prefixes(engine)
        prefixes.park(seq, [*prompt[:17], 9, 9, 9])
        taken = prefixes.take(prompt)
    assert taken.length == (15 if cached == "shipped" else 17)
    return taken


@pytest.mark.parametrize("kind", ["reference", "fused"])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_cache_updated_in_place_gives_the_same_tokens(kind: str, chunk: int, loaded: dict[str, Loaded]) -> None:
    """Input and output in one buffer, or apart."""
    one = loaded[kind]
    bundle = one.bundle
    manifest = bundle.manifest
    apart = OrtEngine(bundle, threads=1)
    session = apart._cache._session  # type: ignore[attr-defined]
    context = manifest.max_context
    apart._cache = _ApartCache(session, ort.Control(), manifest.kv, 1, context, manifest.vocab_size)
    for prompt in prompts(one)[:3]:
        seq = apart.open()
        taken = [prefill(apart, seq, prompt, chunk)]
        while len(taken) < STEPS:
            taken.append(greedy(apart.run([Row(seq, taken[-1:])], 1)[0][0]))
        apart.close(seq)
        assert agree(taken, plainly(one.engine, prompt), tie_of(kind))


@pytest.mark.parametrize("domain", ["drive", "sums"])
def test_speculation_writes_the_same_thought(domain: str, loaded: dict[str, Loaded]) -> None:
    """Guessing ahead changes how fast a thought is written, not what it says."""
    one = loaded["reference"]
    for question in read_questions(QUESTIONS / f"{domain}.test.jsonl")[:40:4]:
        thoughts = []
        for speculate in (False, True):
            with Reasoner.load(speculate=speculate) as reasoner:
                answer = reasoner.answer(
                    question.question,
                    budget=20.0,
                    answer=question.format(),  # type: ignore[arg-type]
                    policy="until-deadline",
                )
            assert answer.stopped == "complete"
            thoughts.append(one.codec.encode_text(answer.thought))
        prompt = one.codec.encode(question.question)
        first = next((i for i, (a, b) in enumerate(zip(*thoughts, strict=False)) if a != b), None)
        if first is not None:
            seq = one.engine.open()
            logits = one.engine.run([Row(seq, [*prompt, *thoughts[0][:first]])], 1)[0][0]
            one.engine.close(seq)
            second, likeliest = np.partition(logits, -2)[-2:]
            assert likeliest - second < QUANTIZED_TIE
        else:
            assert len(thoughts[0]) == len(thoughts[1])
