"""One engine on one bundle, in a process of its own: what ends it, or loses the GPU, ends nobody else's measurement.

``python -m bench.gpu.child ENGINE BUNDLE OUT opened|measured|quick`` writes a ``Found`` to OUT, again after each part.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import msgspec

from anytime import Reasoner
from anytime.bundle import Bundle
from anytime.errors import AnytimeError, EngineError
from anytime.plans import PlanOptions
from anytime.runtime.engine import Burst, Engine, EngineName, EngineSpec, Row
from anytime.runtime.loading import Loaded, measure_profile, open_bundle
from anytime.runtime.questions import Question
from anytime.scheduler.profile import find
from bench.contenders import Request
from bench.guarantee import unloaded
from bench.guarantee.asking import Asked, draw, floors_of
from bench.report import ROOT, progress

Extent: TypeAlias = Literal["opened", "measured", "quick"]
CONTEXTS = (64, 512, 960)
BUDGETS_MS = (50.0, 200.0)
REQUESTS, QUICK_REQUESTS = unloaded.REQUESTS, 40
_ROUNDS, _QUICK_ROUNDS, _WARM_UP = 2_000, 50, 20
_GENERATION, _TOKEN = 1, 5
_NO_GPU = "none"  # in an engine's spec
_CHOICES = ["left", "right", "stop"]
QUESTIONS = [
    Question(id=str(n), question=f"the robot sees a wall {n} ahead, go where", choices=_CHOICES) for n in range(10)
]


class Steps(msgspec.Struct, frozen=True):
    """Decode steps of one row behind ``context`` tokens, each as the clock and as the GPU's own events have it, µs.

    ``gpu_us`` is empty where the engine has no such events.
    """

    context: int
    wall_us: list[float]
    gpu_us: list[float]


class Found(msgspec.Struct):
    """What was found of an engine. ``reason``: why there is no more; empty where all of it was measured."""

    reason: str = ""
    spec: EngineSpec | None = None
    parameters: int = 0
    steps: list[Steps] = []
    asked: list[Asked] = []


def found(engine: EngineName, bundle: Path, extent: Extent, state: Path | None = None) -> Found:
    """Measure in a child process, whose progress goes to stderr; ``state`` is where it keeps plans and profiles."""
    env = {**os.environ, "XDG_STATE_HOME": str(state)} if state is not None else None
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "found.json"
        command = [sys.executable, "-m", "bench.gpu.child", engine, str(bundle.resolve()), str(out), extent]
        code = subprocess.run(command, cwd=ROOT, env=env, stdout=sys.stderr, check=False).returncode
        made = msgspec.json.decode(out.read_bytes(), type=Found) if out.exists() else Found()
    if code:
        made.reason = f"the process that ran it ended with exit code {code}: see what it printed"
    return made


def measure(
    engine: EngineName, bundle: Path, extent: Extent, keep: Callable[[Found], None] = lambda found: None
) -> Found:
    """Measure in this process; ``keep`` is given all that there is after each part."""
    made = Found()
    try:
        loaded = _opened(engine, bundle)
        spec = loaded.engine.spec
        if spec.gpu == _NO_GPU:
            raise EngineError(f"{engine} runs on the processor ({spec.provider}): see that its parts for the GPU load")
        made.spec, made.parameters = spec, loaded.bundle.manifest.parameters
        if extent != "opened":
            keep(made)
            quick = extent == "quick"
            # First, for measuring it wants an engine that has run nothing yet.
            profile = find(loaded.key) or measure_profile(loaded, quick)
            made.steps = steps(loaded.engine, _QUICK_ROUNDS if quick else _ROUNDS)
            keep(made)
            with Reasoner(loaded.engine, loaded.codec, profile, loaded.bundle) as reasoner:
                reasoner.watch_clocks()
                made.asked = lateness(reasoner, QUICK_REQUESTS if quick else REQUESTS)
    except AnytimeError as error:
        made.reason = str(error)
    keep(made)
    return made


def _opened(engine: EngineName, bundle: Path) -> Loaded:
    """The engine; on TensorRT its plan is found, or built first, which takes minutes."""
    if engine == "tensorrt":
        from anytime.export.plan import build_plan

        build_plan(Bundle.load(bundle), PlanOptions(), progress=lambda what: print(what, file=sys.stderr, flush=True))
    return open_bundle(bundle, engine=engine)


def steps(engine: Engine, rounds: int) -> list[Steps]:
    """Steps of one row at each context that fits, the contexts in turns, so that clocks that move hit all alike."""
    by_context: dict[int, Steps] = {}
    seq = engine.open()
    contexts = [context for context in CONTEXTS if context < engine.spec.max_context]
    events = hasattr(type(engine), "elapsed_ns")  # not asked of the GPU, which may have timed nothing yet
    for number in range(-1, 10):
        for context in contexts:
            seen = by_context.setdefault(context, Steps(context, [], []))
            engine.truncate(seq, 0)
            engine.run([Row(seq, [_TOKEN] * context)], _GENERATION)
            for _ in range(_WARM_UP if number < 0 else rounds // 10):
                begun_ns = time.perf_counter_ns()
                engine.extend([Burst(seq, _TOKEN, ())], 1, _GENERATION)
                took_us = (time.perf_counter_ns() - begun_ns) / 1e3
                engine.truncate(seq, context)
                if number >= 0:
                    seen.wall_us.append(took_us)
                    if events:
                        seen.gpu_us.append(cast(Any, engine).elapsed_ns / 1e3)
    engine.close(seq)
    return list(by_context.values())


def lateness(reasoner: Reasoner, count: int) -> list[Asked]:
    """Requests and their controls, in turns."""
    requests = asked_for(count, floors_of(reasoner, QUESTIONS))
    made: list[Asked] = []
    with progress() as bar:
        pieces = [requests[start : start + unloaded.PIECE] for start in range(0, count, unloaded.PIECE)]
        for piece in bar.track(pieces, description="requests"):
            made += unloaded.pairs(reasoner, piece)
            bar.refresh()
    return made


def asked_for(count: int, floors_ns: dict[str, int]) -> list[Request]:
    """Requests whose whole budgets are within ``BUDGETS_MS``, on a logarithmic scale."""
    drawn = draw(QUESTIONS, count, BUDGETS_MS, dict.fromkeys(floors_ns, 0), "gpu")
    return [replace(request, floor_ns=floors_ns[request.question.id]) for request in drawn]


def main(arguments: Sequence[str]) -> None:
    engine, bundle, out, extent = arguments

    def keep(made: Found) -> None:
        Path(out).write_bytes(msgspec.json.encode(made))

    measure(cast(EngineName, engine), Path(bundle), cast(Extent, extent), keep)


if __name__ == "__main__":
    main(sys.argv[1:])
