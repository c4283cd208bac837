"""What the engine adds to ONNX Runtime's own time, and what rows, cached prefixes and guessing save.

``python -m bench.engine [--quick] [--json FILE]``. The wide vocabulary is a random model of Qwen3-0.6B's shape, 151,936
tokens in int4, made on the spot (not with ``--quick``).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from anytime import Reasoner
from anytime.runtime.engine import Burst, Engine, Row
from anytime.runtime.loading import find_profile, open_bundle
from anytime.runtime.questions import read_questions
from bench.random_model import QWEN3_0_6B, random_bundle
from bench.report import ROOT, Figure, Report, parser, progress
from bench.thoughts import some

CONTEXTS = (64, 900)
WIDTHS = (1, 2, 4, 8)
MOST_OVERHEAD_US, MOST_OVERHEAD_SHARE, MOST_SLOWDOWN = 30.0, 0.01, 1.02
DOMAINS = ("drive", "sums")
_LONG_S = 60.0  # longer than any thought
_GENERATION = 1

Samples = dict[str, list[float]]


def main() -> int:
    args = parser("engine", __doc__ or "").parse_args()
    report = Report("engine", args.json)
    rounds = 100 if args.quick else 1000
    samples: dict[str, Samples] = {"reference": _overhead(None, rounds)}
    if not args.quick:
        with tempfile.TemporaryDirectory() as scratch:
            samples["wide vocabulary"] = _overhead(random_bundle(Path(scratch), QWEN3_0_6B, "int4"), rounds // 5)
    samples["rows"] = _rows(rounds)
    samples["requests"] = _requests(6 if args.quick else 60)
    return report.finish(_figures(samples), samples, _table(samples), _notes(samples))


def _time_us(action: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    action()
    return (time.perf_counter_ns() - start) / 1e3


def _overhead(bundle: Path | None, rounds: int) -> Samples:
    """Bare runs of a bound step, and steps of the engine, in turns, µs."""
    engine: Any = open_bundle(bundle, threads=1).engine
    seq = engine.open()
    control, binding = engine._control, engine._cache._step_binding(seq.state, 1)
    samples: Samples = {}
    for context in (c for c in CONTEXTS if c + 16 < engine.spec.max_context):
        engine.truncate(seq, 0)
        engine.run([Row(seq, [5] * context)], _GENERATION)

        def step(context: int = context) -> None:
            engine.extend([Burst(seq, 5, ())], 1, _GENERATION)
            engine.truncate(seq, context)

        for _ in range(rounds):
            step()  # leaves the inputs as the bare run needs them
            samples.setdefault(f"bare at {context}, µs", []).append(_time_us(lambda: binding.run(control, _GENERATION)))
            samples.setdefault(f"step at {context}, µs", []).append(_time_us(step))
    return samples


def _rows(rounds: int) -> Samples:
    """One step of several rows at once, µs."""
    engine: Engine = open_bundle(None, threads=1).engine
    base = engine.open()
    engine.run([Row(base, [5] * 200)], _GENERATION)
    samples: Samples = {}
    for width in WIDTHS:
        forks = engine.fork(base, width - 1) if width > 1 else []
        seqs = [base, *forks]
        for _ in range(rounds):
            took_us = _time_us(lambda seqs=seqs: engine.run([Row(seq, [5]) for seq in seqs], _GENERATION))  # type: ignore[misc]
            samples.setdefault(f"step of {width} rows, µs", []).append(took_us)
            for seq in seqs:
                engine.truncate(seq, 200)
        for seq in forks:
            engine.close(seq)
    return samples


def _requests(count: int) -> Samples:
    """Whole thoughts with and without guessing, and first answers with and without a cached prompt, in turns."""
    loaded = {speculate: open_bundle(None, threads=1) for speculate in (False, True)}
    profile = find_profile(loaded[False], None, False)
    samples: Samples = {}
    reasoners = {
        speculate: Reasoner(one.engine, one.codec, profile, one.bundle, speculate=speculate)
        for speculate, one in loaded.items()
    }
    with progress() as bar:
        task = bar.add_task("thoughts", total=len(DOMAINS) * count)
        for domain in DOMAINS:
            for question in some(read_questions(ROOT / "data" / "questions" / f"{domain}.test.jsonl"), count):
                for speculate, reasoner in reasoners.items():
                    name = f"{domain} thought {'guessing' if speculate else 'plainly'}, ms"
                    answer = reasoner.answer(question.question, budget=_LONG_S, answer=question.format())  # type: ignore[arg-type]
                    samples.setdefault(name, []).append(1e3 * answer.elapsed_s)
                first_ms = {
                    "cold": _first_answer_ms(loaded[False].engine, loaded[False].codec.encode(question.question), 0),
                    "cached": _first_answer_ms(loaded[False].engine, loaded[False].codec.encode(question.question), 1),
                }
                for name, took_ms in first_ms.items():
                    samples.setdefault(f"{domain} prefill {name}, ms", []).append(took_ms)
                bar.update(task, advance=1, refresh=True)
    for reasoner in reasoners.values():
        reasoner.close()
    return samples


def _first_answer_ms(engine: Engine, prompt: list[int], cached: int) -> float:
    """Prefill of a prompt of which nothing, or all but the last line's tokens, is known already."""
    seq = engine.open()
    known = len(prompt) * 3 // 4 if cached else 0
    if known:
        engine.run([Row(seq, prompt[:known])], _GENERATION)
    took_us = _time_us(lambda: engine.run([Row(seq, prompt[known:])], _GENERATION))
    engine.close(seq)
    return took_us / 1e3


def _extra_us(samples: Samples, context: int) -> float:
    return statistics.median(samples[f"step at {context}, µs"]) - statistics.median(samples[f"bare at {context}, µs"])


def _figures(samples: dict[str, Samples]) -> list[Figure]:
    figures = []
    for context in CONTEXTS:
        extra = _extra_us(samples["reference"], context)
        name = f"reference: a step minus ONNX Runtime's own run at {context}, µs"
        figures.append(Figure(name, extra, f"≤ {MOST_OVERHEAD_US:g}", extra <= MOST_OVERHEAD_US))
        if wide := samples.get("wide vocabulary"):
            share = _extra_us(wide, context) / statistics.median(wide[f"bare at {context}, µs"])
            name = f"151,936 tokens: a step minus ONNX Runtime's own run at {context}, share of it"
            figures.append(Figure(name, share, f"≤ {MOST_OVERHEAD_SHARE:g}", share <= MOST_OVERHEAD_SHARE))
    for domain in DOMAINS:
        ratio = _guessing(samples["requests"], domain)
        name = f"{domain}: time of a thought with guessing over without"
        figures.append(Figure(name, ratio, f"≤ {MOST_SLOWDOWN}", ratio <= MOST_SLOWDOWN))
    return figures


def _guessing(requests: Samples, domain: str) -> float:
    return sum(requests[f"{domain} thought guessing, ms"]) / sum(requests[f"{domain} thought plainly, ms"])


def _notes(samples: dict[str, Samples]) -> list[str]:
    rows = samples["rows"]
    one = statistics.median(rows["step of 1 rows, µs"])
    notes = []
    for width in WIDTHS[1:]:
        took = statistics.median(rows[f"step of {width} rows, µs"])
        notes.append(f"{width} rows in one step: {took / one:.2f} times one row's, {took / one / width:.2f} a row")
    requests = samples["requests"]
    for domain in DOMAINS:
        cold, cached = (statistics.median(requests[f"{domain} prefill {name}, ms"]) for name in ("cold", "cached"))
        notes.append(f"{domain}: prefill {cold:.2f} ms, {cached:.2f} ms when three quarters of the prompt are cached")
    return notes


def _table(samples: dict[str, Samples]) -> Table:
    table = Table(title="Medians, with their 10th and 90th percentiles")
    for heading in ("what", "p10", "median", "p90", "samples"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for group, found in samples.items():
        for name, values in found.items():
            tenths = statistics.quantiles(values, n=10)
            cells = [f"{value:.2f}" for value in (tenths[0], statistics.median(values), tenths[-1])]
            table.add_row(f"{group}: {name}", *cells, str(len(values)))
    return table


if __name__ == "__main__":
    sys.exit(main())
