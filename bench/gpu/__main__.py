"""On an NVIDIA GPU: decode steps against the memory's bandwidth, captured graphs, and lateness.

Every engine that runs on a GPU is tried, and what does not load is reported as "not run" with the reason. Without
``--bundle`` the model is made on the spot: Qwen3-0.6B's shape with random weights in fp16, a tiny one with ``--quick``.
Exits with 77 when no figure came out, so that nothing was reached and nothing missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec
from rich.table import Table

from anytime.errors import AnytimeError
from anytime.runtime.engine import EngineName
from bench.gpu import figures
from bench.gpu.bandwidth import Bandwidth, bandwidth
from bench.gpu.card import card
from bench.gpu.child import Found, found
from bench.report import Figure, Report, parser

T = TypeVar("T")
ENGINES: tuple[EngineName, ...] = tuple(name for name in get_args(EngineName) if name != "onnxruntime")
CARD, BANDWIDTH, STEPS, GRAPHS, LATENESS = "card", "bandwidth", "decode step", "captured graph", "lateness"
OF_AN_ENGINE = (STEPS, GRAPHS, LATENESS)
NOTHING_RAN = 77  # what test harnesses take for "skipped"


class Bench:
    """What was measured, part by part, and what was not, with the reason."""

    def __init__(self, quick: bool, engines: Sequence[EngineName], bundle: Path | None) -> None:
        self.quick, self.engines, self.bundle = quick, engines, bundle
        self.figures: list[Figure] = []
        self.notes: list[str] = []
        self.parts: list[dict[str, Any]] = []
        self.samples: dict[str, Any] = {"parts": self.parts}

    def ran(self, part: str, outcome: str, engine: str = "") -> None:
        self.parts.append({"part": part, "engine": engine, "outcome": outcome, "ran": True})

    def not_run(self, part: str, reason: str, engine: str = "") -> None:
        self.parts.append({"part": part, "engine": engine, "outcome": f"not run: {reason}", "ran": False})

    def attempt(self, part: str, action: Callable[[], T], told: Callable[[T], str]) -> T | None:
        """What came out of an action; None where it could not be done, which is then said."""
        try:
            done = action()
        except AnytimeError as error:
            self.not_run(part, str(error))
            return None
        self.ran(part, told(done))
        self.samples[part] = msgspec.to_builtins(done)
        return done

    def run(self) -> None:
        """All parts that there can be."""
        seen = self.attempt(CARD, card, lambda card: card.told())
        if seen is None:
            reason = "there is no GPU to be used here, see the card"
            self.not_run(BANDWIDTH, reason)
            self.no_engine(self.engines, reason)
            return
        self.notes += seen.condition.warnings
        measured = self.attempt(BANDWIDTH, bandwidth, figures.told_bandwidth)
        if self.bundle is not None:
            self.measure(self.engines, self.bundle, measured)
            return
        with tempfile.TemporaryDirectory() as scratch:
            self.measure_made(Path(scratch), measured)

    def measure_made(self, scratch: Path, measured: Bandwidth | None) -> None:
        """Of a model made on the spot; a large one is made only where some engine loads a tiny one."""
        state, loading = scratch / "state", self.engines
        try:
            from bench.random_model import QWEN3_0_6B, TINY, random_bundle

            bundle = random_bundle(scratch / "tiny", TINY, "fp16", "tensorrt")
            loading = [engine for engine in self.engines if self.opens(engine, bundle, state)]
            if loading and not self.quick:
                print("making a model of 0.6 B parameters, which takes minutes", file=sys.stderr, flush=True)
                bundle = random_bundle(scratch / "0.6b", QWEN3_0_6B, "fp16", "tensorrt")
        except (AnytimeError, ImportError) as error:
            self.no_engine(loading, f"no model can be made here ({error}): give a bundle with --bundle")
            return
        self.measure(loading, bundle, measured, state)

    def opens(self, engine: EngineName, bundle: Path, state: Path) -> bool:
        tried = found(engine, bundle, "opened", state)
        if tried.reason:
            self.no_engine([engine], tried.reason)
        return not tried.reason

    def no_engine(self, engines: Sequence[EngineName], reason: str) -> None:
        """Nothing of these could be run."""
        for engine in engines:
            for part in OF_AN_ENGINE:
                self.not_run(part, reason, engine)

    def measure(
        self, engines: Sequence[EngineName], bundle: Path, measured: Bandwidth | None, state: Path | None = None
    ) -> None:
        for engine in engines:
            print(f"measuring {engine}", file=sys.stderr, flush=True)
            self.engine(engine, found(engine, bundle, "quick" if self.quick else "measured", state), measured)

    def engine(self, engine: EngineName, of: Found, measured: Bandwidth | None) -> None:
        """Rows, figures and notes of one, as far as it came."""
        self.samples[engine] = msgspec.to_builtins(of)
        judged = figures.step_figures(engine, of, measured)
        for steps in of.steps:
            self.ran(f"{STEPS} behind {steps.context}", figures.told_steps(steps), engine)
        if of.steps and not judged:
            why = "the bandwidth is not known" if measured is None else "its weights are not fp16"
            self.not_run(f"{STEPS} against the bandwidth", why, engine)
        if of.spec is not None:
            self.ran(GRAPHS, figures.told_graphs(of.spec.provider), engine)
        if of.asked:
            self.ran(LATENESS, figures.told_lateness(of.asked), engine)
            self.notes += figures.lateness_notes(engine, of.asked)
        for part, there in ((STEPS, of.steps), (GRAPHS, of.spec), (LATENESS, of.asked)):
            if not there:
                self.not_run(part, of.reason, engine)
        self.figures += [*judged, *figures.lateness_figures(engine, of.asked)]

    def table(self) -> Table:
        made = Table("part", "engine", "outcome", show_lines=True)
        for part in self.parts:
            made.add_row(part["part"], part["engine"], part["outcome"])
        return made


def options(given: Sequence[str] | None = None) -> argparse.Namespace:
    wanted = parser("gpu", __doc__ or "")
    wanted.add_argument("--bundle", type=Path, help="measure this instead of random weights; tied embeddings, fp16")
    wanted.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES, help="default: all of them")
    return wanted.parse_args(given)


def main() -> int:
    given = options()
    report = Report("gpu", given.json)
    bench = Bench(given.quick, given.engines, given.bundle)
    bench.run()
    code = report.finish(bench.figures, bench.samples, bench.table(), bench.notes)
    return code if bench.figures else NOTHING_RAN


if __name__ == "__main__":
    raise SystemExit(main())
