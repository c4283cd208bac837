"""What starting costs, each time in a fresh process: our imports, and the way to the reference's first token."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable

from anytime.bundle import Bundle
from anytime.ext import attention
from bench.peers.child import ContenderError
from bench.report import Figure

MOST_LOAD_RATIO, MOST_IMPORT_MS = 1.5, 30.0
_NS_PER_MS = 1e6
_TIMED = "import time; begin = time.perf_counter_ns()\n{}\nprint(time.perf_counter_ns() - begin)"
_OURS = """
from anytime.runtime.engine import Row
from anytime.runtime.loading import open_bundle
engine = open_bundle(None, {threads}).engine
engine.run([Row(engine.open(), list(range(5, 69)), 1)], 1)
"""
_BARE = """
import numpy
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = {threads}
options.register_custom_ops_library({library!r})
onnxruntime.InferenceSession({graph!r}, options, providers=["CPUExecutionProvider"])
"""

Starts = dict[str, list[int]]  # nanoseconds from the first line to the last, by what was started


def measure(rounds: int, threads: int, progress: Callable[[], None]) -> Starts:
    """Every start once a round, in fresh processes; a first round, which warms the disk's cache, does not count.

    Raises:
        BundleError: there is no reference bundle.
        ContenderError: one of the processes failed.
    """
    bundle = Bundle.reference()
    graph = str(bundle.file(bundle.manifest.graphs[0].file))
    programs = {
        "reference": _OURS.format(threads=threads),
        "bare session": _BARE.format(threads=threads, graph=graph, library=attention.__file__),
        "import numpy, anytime": "import numpy\nimport anytime",
        "import numpy": "import numpy",
    }
    starts: Starts = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, program in programs.items():
            spent = _start(program)
            if number:
                starts[name].append(spent)
        progress()
    return starts


def _start(program: str) -> int:
    command = [sys.executable, "-c", _TIMED.format(program)]
    done = subprocess.run(command, cwd=tempfile.gettempdir(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ContenderError(f"a fresh process failed: {(done.stderr.strip() or 'it says nothing').splitlines()[-1]}")
    return int(done.stdout)


def figures(starts: Starts) -> list[Figure]:
    ms = {name: statistics.median(times) / _NS_PER_MS for name, times in starts.items()}
    ratio = ms["reference"] / ms["bare session"]
    imports = ms["import numpy, anytime"] - ms["import numpy"]
    return [
        Figure(
            "reference bundle to the first token over imports and a bare session",
            ratio,
            f"≤ {MOST_LOAD_RATIO}",
            ratio <= MOST_LOAD_RATIO,
        ),
        Figure(
            "what import anytime adds to import numpy, ms", imports, f"≤ {MOST_IMPORT_MS:g}", imports <= MOST_IMPORT_MS
        ),
    ]


def note(starts: Starts) -> str:
    medians = ", ".join(f"{name} {statistics.median(times) / _NS_PER_MS:.0f} ms" for name, times in starts.items())
    return f"start-up, medians of {len(starts['reference'])} fresh processes each: {medians}"
