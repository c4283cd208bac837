"""The peers bench judges honestly: ratios round by round, figures only of both sides, and nobody dropped silently."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.peers import startup
from bench.peers.cache import kept
from bench.peers.child import Child, ContenderError
from bench.peers.convert import command_of
from bench.peers.environments import PINS
from bench.peers.figures import figures, took_part
from bench.peers.protocol import Operations
from bench.peers.roster import CONTENDERS, OURS, SCRIPTS, Contender, groups
from bench.peers.samples import Measured, p99, step_ratio
from bench.peers.shapes import LARGE, REFERENCE
from bench.peers.table import notes, table
from bench.peers.weights import header, parameters

US, MS = 1_000, 1_000_000
FAKE = """
from bench.peers.protocol import serve

class Counting:
    def __init__(self, path, threads, context):
        if path == "broken":
            raise ValueError("no such model")
        print("a library talks")
        self.context = context

    def start(self, tokens):
        self.length = len(tokens)
        return self.step(0)

    def step(self, token):
        assert self.length < self.context, "the context is full"
        self.length += 1
        return token + 1

serve(Counting)
"""


def measured(
    engine: str, bits: int, step_us: float, tokens: int = 100, rounds: int = 3, drift: float = 1.0
) -> Measured:
    """A contender whose every step takes as long, each round ``drift`` times as long as the one before."""
    one = Measured(Contender(engine, f"{bits}-bit", bits), disk=5_000_000, memory=9_000_000, greedy=[1, 2, 3])
    one.load_ns = [MS * 500]
    for number in range(rounds):
        now = round(step_us * US * drift**number)
        one.limit_ns.append(round(10 * US * bits * drift**number))
        for context in one.step_ns:
            one.step_ns[context].append([now] * 32)
        for length in one.prefill_ns:
            one.prefill_ns[length].append(length * now)
        for ms in one.tokens:
            one.tokens[ms].append(tokens * ms // 200)
    return one


def judged(shape: str, *every: Measured) -> dict[str, float | str]:
    """What the figures of a shape measured, by the part of their names behind the shape."""
    return {figure.name.removeprefix(f"{shape}: "): figure.measured for figure in figures(shape, every)}


STEP = "token to token at context 64, ours over the best peer's"
TOKENS = "tokens inside 200 ms, ours over the best peer's"
EQUAL = "token to token at context 64 with {} bits, ours over the best peer's"
LIMIT = "token to token at context 64, our fastest over reading its weights"


def test_our_best_meets_the_best_of_all_peers() -> None:
    """On the reference, our fastest precision is held against the fastest peer at any precision."""
    ours = [measured(OURS, 4, 80, 240), measured(OURS, 32, 200, 90)]
    peers = [measured("genai", 8, 100, 200), measured("transformers", 32, 900, 20)]
    found = judged(REFERENCE, *ours, *peers)
    assert found[STEP] == pytest.approx(0.8)
    assert found[TOKENS] == pytest.approx(1.2)
    assert all(figure.holds for figure in figures(REFERENCE, [*ours, *peers]))


def test_a_slower_engine_misses() -> None:
    """An engine no faster than its peer misses every figure of the reference."""
    found = figures(REFERENCE, [measured(OURS, 4, 100), measured("genai", 4, 100)])
    assert len(found) == 3
    assert not any(figure.holds for figure in found)


def test_the_large_shape_compares_equal_bits() -> None:
    """A peer of 4 bits does not count against ours of 8, however fast it is."""
    every = [measured(OURS, 4, 90), measured("genai", 4, 100), measured(OURS, 8, 150), measured("openvino", 8, 120)]
    found = judged(LARGE, *every)
    assert found[EQUAL.format(4)] == pytest.approx(0.9)
    assert found[EQUAL.format(8)] == pytest.approx(1.25)


def test_the_limit_is_of_our_fastest_precision() -> None:
    """Our fastest step is held against reading the weights of its own bits."""
    found = judged(LARGE, measured(OURS, 4, 90), measured(OURS, 8, 150))
    assert found == {LIMIT: pytest.approx(90 / 40)}


def test_no_figure_without_both_sides() -> None:
    """A run without peers, or without us, has no figure that compares."""
    assert judged(REFERENCE, measured(OURS, 4, 80)) == {}
    assert judged(REFERENCE, measured("genai", 4, 80)) == {}
    assert judged(LARGE, measured("genai", 4, 80)) == {}


def test_drift_does_not_change_a_ratio() -> None:
    """On a machine that slows down from round to round, each round compares what ran side by side."""
    ours, peer = measured(OURS, 4, 80, drift=1.7), measured("genai", 4, 100, drift=1.7)
    assert step_ratio(ours, peer, 64) == pytest.approx(0.8, rel=1e-4)


def test_p99_is_a_value_that_was_measured() -> None:
    """Of a hundred values the second largest is not exceeded by 99; of a few it is the largest."""
    assert p99(list(range(100))) == 98
    assert p99([3, 1, 2]) == 3


def test_whoever_is_missing_is_a_miss() -> None:
    """A contender that was asked for and could not be measured makes the bench miss a figure."""
    assert took_part(13, 13).holds
    assert not took_part(12, 13).holds


def test_start_up_figures_go_by_medians() -> None:
    """One slow process among several changes neither figure."""
    starts = {
        "reference": [290 * MS, 300 * MS, 900 * MS],
        "bare session": [200 * MS] * 3,
        "import numpy, anytime": [131 * MS] * 3,
        "import numpy": [100 * MS] * 3,
    }
    load, imports = startup.figures(starts)
    assert (load.measured, load.holds) == (1.5, True)
    assert (imports.measured, imports.holds) == (pytest.approx(31), False)


def test_a_row_for_each_contender() -> None:
    """The table names every contender once, below its shape, in a width that fits a page."""
    shapes = {
        REFERENCE: [measured(OURS, 4, 80), measured("transformers", 32, 900)],
        LARGE: [measured(OURS, 4, 8e4)],
    }
    page = io.StringIO()
    Console(file=page, width=120).print(table(shapes, 1))
    text = page.getvalue()
    names = ("reference", "anytime 4-bit", "transformers 32-bit", "0.6b", "anytime 4-bit")
    first_cells = [line.strip() for line in text.splitlines() if line.strip().startswith(names)]
    assert [line.startswith(name) for line, name in zip(first_cells, names, strict=True)] == [True] * 5
    assert "…" not in text


def test_notes_tell_where_tokens_part() -> None:
    """Each contender's tokens are counted up to the first that is not transformers'."""
    exact = Measured(Contender("transformers", "fp32", 32), 1, greedy=[4, 5, 6])
    other = measured("genai", 32, 80)
    other.greedy = [4, 5, 7]
    exact.step_ns, exact.limit_ns = other.step_ns, other.limit_ns
    assert any(line.endswith("genai 32-bit 2") for line in notes({REFERENCE: [exact, other]}))


def test_large_groups_are_of_about_equal_bits() -> None:
    """The reference is measured with everybody loaded; of the large shape only those who are compared are."""
    assert groups(REFERENCE, SCRIPTS) == [list(CONTENDERS)]
    assert [{c.bits for c in group} for group in groups(LARGE, SCRIPTS)] == [{4}, {8}, {16, 32}]
    assert groups(LARGE, [OURS])[0] == [Contender(OURS, "int4", 4)]


def test_versions_are_pinned() -> None:
    """Every package of a peer's environment has a version, and PyTorch is installed before anything that wants it."""
    for calls in PINS.values():
        assert all("==" in package for call in calls for package in call if not package.startswith("--"))
        wants_torch = any(package.startswith("torch==") for call in calls for package in call)
        assert calls[0] == ("torch==2.13.0",) or not wants_torch


def test_our_export_names_a_precision_only_where_it_chooses_one() -> None:
    """fp32 is what export does by itself."""
    assert command_of(Contender(OURS, "fp32", 32), "in", "out") == ["anytime.cli.main", "export", "in", "out"]
    assert command_of(Contender(OURS, "int4", 4), "in", "out")[-2:] == ["--precision", "int4"]


def test_what_is_kept_is_whole(tmp_path: Path) -> None:
    """A conversion that fails half-way leaves nothing behind; one that succeeds is not made again."""
    path = tmp_path / "models" / "one"

    def half(out: Path) -> None:
        out.write_text("half", encoding="utf-8")
        raise ContenderError("broke")

    with pytest.raises(ContenderError):
        kept(path, half)
    assert list(path.parent.iterdir()) == []
    kept(path, lambda out: out.write_bytes(b"whole"))
    assert kept(path, half).read_text(encoding="utf-8") == "whole"


def test_the_weights_of_a_checkpoint_are_counted(tmp_path: Path) -> None:
    """A safetensors header gives shapes, offsets and the number of parameters."""
    text = b'{"__metadata__":{},"a":{"dtype":"BF16","shape":[3,4],"data_offsets":[0,24]}}'
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))
    assert parameters(tmp_path) == 12
    tensors, start = header(tmp_path / "model.safetensors")
    assert (tensors["a"]["data_offsets"], start) == ([0, 24], 8 + len(text))


class TestProtocol:
    """A fake contender in a process of its own, which may use nothing but the standard library."""

    @pytest.fixture
    def child(self):  # type: ignore[no-untyped-def]
        child = Child([sys.executable, "-S", "-c", FAKE])
        yield child
        child.close()

    def test_round_trip(self, child: Child) -> None:
        """Every operation gives what it promises, and what a library prints is no reply."""
        assert child.ask("load", path="some", threads=1, context=128, vocab=50) == 1
        assert child.ask("prefill", tokens=64) > 0
        assert len(child.ask("steps", context=64, count=5)) == 5
        assert child.ask("greedy", tokens=[9, 9], count=4) == [1, 2, 3, 4]
        assert child.ask("memory") > 1_000_000

    def test_a_full_context_begins_again(self, child: Child) -> None:
        """A budget for more tokens than the context holds does not run over its end."""
        child.ask("load", path="some", threads=1, context=128, vocab=50)
        assert child.ask("budget", ms=50, prompt=64) > 128

    def test_an_error_is_told(self, child: Child) -> None:
        """What a library raises reaches the bench, and the child can still be asked."""
        with pytest.raises(ContenderError, match="ValueError: no such model"):
            child.ask("load", path="broken", threads=1, context=128, vocab=50)
        assert child.ask("load", path="some", threads=1, context=128, vocab=50) == 1

    def test_an_end_is_told(self) -> None:
        """A process that ends is a contender that cannot be measured, not a hang."""
        child = Child([sys.executable, "-S", "-c", "import sys; sys.stdin.readline(); sys.exit(7)"])
        with pytest.raises(ContenderError, match="exit status 7"):
            child.ask("load")
        child.close()

    def test_silence_has_an_end(self) -> None:
        """A process that does not reply is ended after the limit."""
        child = Child([sys.executable, "-S", "-c", "import sys; sys.stdin.readline(); sys.stdin.readline()"])
        with pytest.raises(ContenderError, match="no reply to load within"):
            child.ask("load", limit_s=0.05)
        child.close()


def test_a_budget_counts_only_tokens_in_time() -> None:
    """A model whose first token comes after the deadline has none."""

    class Slow:
        def __init__(self, path: str, threads: int, context: int) -> None:
            self.starts = 0

        def start(self, tokens: list[int]) -> int:
            self.starts += 1
            return sum(i * i for i in range(20_000)) % 7

        def step(self, token: int) -> int:
            return token

    operations = Operations(Slow)
    operations.load("", 1, 128, 50)
    assert operations.budget(ms=0, prompt=64) == 0
