"""Shared fixtures: a tiny bundle with a word tokenizer, and a Reasoner on a mock clock over a scripted engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from anytime.bundle import Bundle, Chat, Frame, Graph, KvLayout, Manifest, seal, staging
from anytime.ext.latency import Latency
from anytime.runtime.engine import EngineSpec
from anytime.runtime.prompt import Codec
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.profile import Cell, Fit, LatencyProfile, ProfileKey
from anytime.testing import MockClock, Script, ScriptedEngine

# How long an example takes says something about the machine, not about the promise.
settings.register_profile("anytime", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anytime")

MS = 1_000_000
SPECIAL = ["<pad>", "<end>", "<think>", "</think>"]
WORDS = [*SPECIAL, "\n", *"0123456789", *"abcdefghijklmnopqrstuvwxyz", "left", "right", "?"]
ID = {word: i for i, word in enumerate(WORDS)}


def tokenizer_json() -> str:
    """A BPE tokenizer without merges for single characters, plus two words and the special tokens."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": i, "content": word, **plain} for i, word in enumerate(SPECIAL)]
    merges = [["l", "e"], ["le", "f"], ["lef", "t"], ["r", "i"], ["ri", "g"], ["rig", "h"], ["righ", "t"]]
    parts = ["le", "lef", "ri", "rig", "righ"]
    vocab = {**ID, **{part: len(WORDS) + i for i, part in enumerate(parts)}}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": {"type": "Fuse"},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": "?",
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": vocab,
                "merges": merges,
            },
        }
    )


def manifest(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "name": "tiny",
        "architecture": "NoneForCausalLM",
        "parameters": 0,
        "made_by": "tests",
        "vocab_size": 64,
        "max_context": 256,
        "graphs": (Graph("model.onnx", "fp32", 18, "onnxruntime>=1.23", 0.0),),
        "kv": KvLayout(1, 1, 8, "float32", "growing"),
        "chat": Chat("", "", Frame("", "<think>"), "</think>", (1,)),
    }
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


def write_bundle(out: Path, **changes: object) -> Bundle:
    """A bundle whose graph is no graph: enough for everything but ONNX Runtime."""
    with staging(out) as scratch:
        (scratch / "model.onnx").write_bytes(b"not a graph")
        (scratch / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
        seal(scratch, manifest(**changes))
    return Bundle.load(out)


def make_profile(latency: Latency, bundle_id: str = "0" * 64, spec: EngineSpec | None = None) -> LatencyProfile:
    """The profile that describes ``latency`` exactly, with half a millisecond for delivery."""
    max_context = spec.max_context if spec else 256
    key = ProfileKey(bundle_id, "scripted", "1", "none", 1, "none", 1, max_context, "mock", "none", "-")
    fit = Fit(
        alpha=latency.alpha,
        beta=latency.beta,
        gamma=latency.gamma,
        p=latency.p,
        q=latency.q,
        run_margin=latency.run_margin,
        run_tail="conformal",
        step_margin=latency.step_margin,
        step_tail="conformal",
        segments=((8, 1.0),),
        widths=tuple((width, latency.p, (0.5 + 0.5 * width) * latency.q) for width in (1, 2, 4, 8)),
        fork=(10.0, 1000.0),
    )
    return LatencyProfile(
        key=key,
        created="2026-01-01T00:00:00+00:00",
        quick=False,
        environment={},
        warnings=(),
        delivery_ns=MS // 2,
        fit=fit,
        runs=(Cell(2, 0, (1,)),),
        steps=(Cell(1, 0, (1,)),),
        branches=(),
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "tiny")


@pytest.fixture
def codec(bundle: Bundle) -> Codec:
    return Codec(bundle)


@pytest.fixture
def latency() -> Latency:
    """A millisecond a step, a little more with context; 20 µs a prompt token."""
    return Latency(alpha=1.0, beta=20_000.0, gamma=1_000_000.0, p=100.0, q=1_000_000.0)


@pytest.fixture
def profile(latency: Latency) -> LatencyProfile:
    """The profile of ``latency``."""
    return make_profile(latency)


@pytest.fixture(scope="session")
def compiler() -> str:
    """A C compiler, where there is one."""
    found = shutil.which("cc")
    if found is None:
        pytest.skip("there is no C compiler")
    return found


MakeReasoner = Callable[..., tuple[Reasoner, ScriptedEngine, MockClock]]


@pytest.fixture
def make_reasoner(bundle: Bundle, latency: Latency) -> Iterator[MakeReasoner]:
    """``make(script, slowdown=...)``: a Reasoner whose engine follows the script on a mock clock."""
    made: list[Reasoner] = []

    def make(
        script: Script,
        kind: type[ScriptedEngine] = ScriptedEngine,
        clock: MockClock | None = None,
        **engine_args: object,
    ) -> tuple[Reasoner, ScriptedEngine, MockClock]:
        clock = clock or MockClock(start_ns=10**9)
        engine = kind(clock, latency, script, vocab_size=64, max_context=256, **engine_args)  # type: ignore[arg-type]
        reasoner = Reasoner(engine, Codec(bundle), make_profile(latency, bundle.id, engine.spec), bundle, clock)
        made.append(reasoner)
        return reasoner, engine, clock

    yield make
    for reasoner in made:
        reasoner.close()


def thinker(thought: str, answers: Callable[[int], str]) -> Script:
    """Thinks ``thought`` (characters), closes by itself, and after n tokens of it answers ``answers(n)``."""
    ids = [ID[c] for c in thought]

    def script(tokens: tuple[int, ...]) -> int:
        if ID["<think>"] not in tokens:  # a chunk of the prompt, whose logits nobody looks at
            return ID["<pad>"]
        start = tokens.index(ID["<think>"]) + 1
        if ID["</think>"] in tokens[start:]:
            end = tokens.index(ID["</think>"], start)
            answer = answers(end - start)
            words = [ID[answer]] if answer in ID else [ID[c] for c in answer]
            said = len(tokens) - end - 1
            return words[said] if said < len(words) else ID["<end>"]
        n = len(tokens) - start
        return ids[n] if n < len(ids) else ID["</think>"]

    return script


LONG = "ab\n" * 60


def turns_at(n: int) -> Script:
    """A script with a long thought whose answer turns from left to right after n tokens of it."""
    return thinker(LONG, lambda thought: "left" if thought < n else "right")


@pytest.fixture
def world() -> Iterator[Any]:
    """rclpy can be imported, a double of it, and nothing is there yet: see ``doubles_rclpy_world``."""
    from tests.doubles_rclpy import installed

    with installed() as made:
        yield made
