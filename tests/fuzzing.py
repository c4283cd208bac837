"""What takes in bytes of others, as functions of bytes that must never do more than refuse them.

The tests feed them from hypothesis (``test_fuzz``). Guided by coverage, for as long as wanted, where atheris is
installed: ``python -m tests.fuzzing slots|tasks|requests -max_total_time=60``.
"""

from __future__ import annotations

import functools
import math
import mmap
import os
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from anytime.cli.taskfile import read_tasks
from anytime.errors import TaskFileError, UsageError
from anytime.ext.latency import Latency
from anytime.ext.slots import Slots, lay_out
from anytime.runtime.answers.formats import AnswerFormat, Choices, Regex, Text
from anytime.runtime.prompt import Codec
from anytime.runtime.reasoner import Reasoner
from anytime.testing import MockClock, ScriptedEngine
from tests.conftest import LONG, make_profile, thinker, write_bundle

COUNT, REQUEST_BYTES, ANSWER_BYTES = 2, 64, 64
SOON_S = 0.05


def slots(data: bytes) -> None:
    """Memory that another process wrote anything into, whether it was sound when it was opened or not."""
    memory = os.memfd_create("fuzz")
    lay_out(memory, COUNT, REQUEST_BYTES, ANSWER_BYTES)
    sound, data = data[:1] < b"\x80", data[1:]
    bells = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(1 + COUNT)]
    if not sound:
        _overwrite(memory, data)
    try:
        opened = Slots(memory, bells)
    except ValueError:
        for fd in (memory, *bells):
            os.close(fd)
        return
    if sound:
        _overwrite(memory, data, behind=64)  # the header was checked when it was opened
    try:
        for slot in range(opened.count):
            _use(opened, slot)
    finally:
        opened.close()


def _overwrite(memory: int, data: bytes, behind: int = 0) -> None:
    with mmap.mmap(memory, 0) as view:
        place = min(behind, len(view))
        part = data[: len(view) - place]
        view[place : place + len(part)] = part


def _use(opened: Slots, slot: int) -> None:
    serial = opened.asked(slot)
    for wanted in (0, 1, serial):
        found = opened.read(slot, wanted)
        assert found is None or len(found[4]) + len(found[5]) <= opened.answer_bytes
        opened.is_cancelled(slot, wanted)
        opened.is_lost(slot, wanted)
        opened.stage(slot, wanted)
    request = opened.request(slot)
    assert request is None or len(request[2]) <= opened.request_bytes
    opened.wait(slot, serial, 0, False, 0)
    opened.mend()
    opened.ask(slot, 7, 1, b"again")
    for _ in range(3):  # a count of answers that was overwritten may come round to none
        assert opened.publish(slot, 7, 0.5, 0, b"text", b"detail")
        again = opened.read(slot, 7)
        if again is not None:
            break
    assert again is not None
    assert again[4:] == (b"text", b"detail")


def tasks(data: bytes) -> None:
    """A task file of anything."""
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(data)
        file.flush()
        try:
            for task in read_tasks(Path(file.name)):
                assert 0 < task.deadline_ns <= task.period_ns
        except TaskFileError as refused:
            if file.name not in str(refused):
                raise


@functools.cache
def reasoner() -> Reasoner:
    """One for all, on a mock clock: whoever disturbs it disturbs the next."""
    latency = Latency(alpha=1.0, beta=20_000.0, gamma=1_000_000.0, p=100.0, q=1_000_000.0)
    bundle = write_bundle(Path(tempfile.mkdtemp()) / "tiny")
    clock = MockClock(start_ns=10**9)
    engine = ScriptedEngine(clock, latency, thinker(LONG, lambda n: "left"), vocab_size=64, max_context=256)
    return Reasoner(engine, Codec(bundle), make_profile(latency, bundle.id, engine.spec), bundle, clock)


def requests(data: bytes) -> None:
    """A request of anything: its question, its time, its answer's format, its names."""
    head, body = data[:10].ljust(10, b"\0"), data[10:].decode("utf-8", "surrogateescape")
    time_s, kind, bits = struct.unpack("<dBB", head)
    words = body.split("|")
    when = {"deadline": time_s} if bits & 1 else {"budget": time_s}
    if not math.isfinite(time_s) or abs(time_s) < 1e6:
        _ask(body, (kind, words), when, words[0] if bits & 2 else None, body if bits & 4 else None)
    answer = reasoner().answer("what", budget=SOON_S, answer=Choices("left", "right"))
    assert answer.valid, answer.reason


def _format(kind: int, words: list[str]) -> AnswerFormat:
    makers: list[Callable[[], AnswerFormat]] = [
        lambda: Choices("left", "right"),
        lambda: Choices(*words[:3]),
        lambda: Regex(words[-1]),
        lambda: Text(kind),
    ]
    return makers[kind % len(makers)]()


def _ask(body: str, answer: tuple[int, list[str]], when: dict[str, float], topic: str | None, name: str | None) -> None:
    try:
        found = reasoner().answer(body, answer=_format(*answer), fallback="none", topic=topic, request_id=name, **when)
        assert found.valid or found.text == "none"
    except UsageError as refused:
        if not str(refused):
            raise


TARGETS: dict[str, Callable[[bytes], None]] = {"slots": slots, "tasks": tasks, "requests": requests}


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
