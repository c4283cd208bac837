"""Runs the engine on the real onnxruntime-gpu over ``stand_in_cuda.c``: ``python -m tests.real_ort BUNDLE``.

What it does is written to stderr, between what the stand-in writes there.
"""

from __future__ import annotations

import sys
import threading

import onnxruntime

from anytime.bundle import Bundle
from anytime.runtime.engine import Burst, Row
from anytime.runtime.ortgpu.engine import cuda_options, graph_of, ort_engine
from anytime.runtime.ortgpu.provider import CUDA
from anytime.runtime.ortgpu.session import open_session
from tests.doubles_ort import HostDevice


def say(text: str) -> None:
    print(f"test: {text}", file=sys.stderr, flush=True)


def main(path: str) -> None:
    bundle, device = Bundle.load(path), HostDevice()
    graph = graph_of(bundle)
    options = cuda_options(device.stream)
    say(f"stream {device.stream}")
    engine = ort_engine(
        bundle, graph, device, lambda: open_session(onnxruntime, CUDA, bundle.file(graph.file), options)
    )
    say(engine.spec.version)
    seq = engine.open()
    say("long")
    engine.run([Row(seq, list(range(1, 21)))], 1)
    (fork,) = engine.fork(seq)
    say("step")
    engine.run([Row(seq, [5])], 1)
    say("short")
    engine.run([Row(seq, [5, 6, 7], 3)], 1)
    say("burst")
    engine.extend([Burst(seq, 5, []), Burst(fork, 5, [])], 2, 1)
    say("another thread")
    other = threading.Thread(target=lambda: engine.run([Row(seq, [5])], 1))
    other.start()
    other.join()
    say("done")


if __name__ == "__main__":
    main(sys.argv[1])
