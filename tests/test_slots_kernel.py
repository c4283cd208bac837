"""The slots: what is published is read, whole or not at all, whatever becomes of the worker; held to a plain reader."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime.ext.slots import ADMITTED, FINAL, FINISHED, TAKEN, VALID, Slots, lay_out
from tests.doubles import PATIENCE_S

ROOT = Path(__file__).parents[1]
COUNT, REQUEST_BYTES, ANSWER_BYTES = 3, 128, 192
FAR_NS = 2**62
HEADER_BYTES, SLOT_BYTES = 64, 128
BUFFER = struct.Struct("<QQqqdIIII8x")
CHECKED_BYTES = 52
Found = tuple[int, int, int, float, bytes, bytes]


@pytest.fixture
def slots() -> Iterator[Slots]:
    made = make()
    yield made
    made.close()


def make() -> Slots:
    memory = os.memfd_create("test")
    lay_out(memory, COUNT, REQUEST_BYTES, ANSWER_BYTES)
    return Slots(memory, [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(1 + COUNT)])


def raw(slots: Slots) -> mmap.mmap:
    """The same memory, to look at and to damage."""
    return mmap.mmap(slots.fd, 0)


def slot_at(slot: int) -> int:
    return HEADER_BYTES + slot * (SLOT_BYTES + REQUEST_BYTES + 2 * (BUFFER.size + ANSWER_BYTES))


def buffer_at(slot: int, sequence: int) -> int:
    return slot_at(slot) + SLOT_BYTES + REQUEST_BYTES + (sequence % 2) * (BUFFER.size + ANSWER_BYTES)


def sequence_at(slot: int) -> int:
    """Where the sequence of a slot stands in the memory."""
    return slot_at(slot) + 72


def reference_read(memory: mmap.mmap, slot: int, serial: int) -> Found | None:
    """What ``Slots.read`` promises, in plain Python: the current answer, else the one before, if it is whole."""
    (sequence,) = struct.unpack_from("<Q", memory, sequence_at(slot))
    for wanted in (sequence, sequence - 1):
        start = buffer_at(slot, wanted)
        generation, held, _, published_ns, confidence, flags, text, detail, crc = BUFFER.unpack_from(memory, start)
        if wanted < 1 or (generation, held) != (serial, wanted) or text + detail > ANSWER_BYTES:
            continue
        data = memory[start + BUFFER.size : start + BUFFER.size + text + detail]
        if zlib.crc32(data, zlib.crc32(memory[start : start + CHECKED_BYTES])) == crc:
            return wanted, flags, published_ns, confidence, data[:text], data[text:]
    return None


texts = st.binary(max_size=ANSWER_BYTES // 2)


@given(
    answers=st.lists(st.tuples(st.integers(1, 3), texts, texts, st.floats(0, 1), st.integers(0, 7)), max_size=4),
    damage=st.lists(st.tuples(st.integers(0, 2 * (BUFFER.size + ANSWER_BYTES) - 1), st.integers(0, 255)), max_size=3),
    serial=st.integers(1, 3),
)
def test_reads_what_the_reference_reads(
    answers: list[tuple[int, bytes, bytes, float, int]], damage: list[tuple[int, int]], serial: int
) -> None:
    """Any answers, any damage, any request: kernel and plain reader agree."""
    slots = make()
    memory = raw(slots)
    for generation, text, detail, confidence, flags in answers:
        assert slots.publish(1, generation, confidence, flags, text, detail)
    for place, value in damage:
        memory[buffer_at(1, 0) + place] = value
    assert slots.read(1, serial) == reference_read(memory, 1, serial)
    slots.close()


def test_an_answer_comes_back_as_it_was_published(slots: Slots) -> None:
    """Text, details, confidence and flags, with the slot's deadline and a stamp of the monotonic clock."""
    assert slots.ask(2, 7, 123_456, b"what?")
    before_ns = time.monotonic_ns()
    assert slots.publish(2, 7, 0.75, FINAL | VALID, b"left", b"details")
    found = slots.read(2, 7)
    assert found is not None
    sequence, flags, published_ns, confidence, text, detail = found
    assert (sequence, flags, confidence, text, detail) == (1, FINAL | VALID, 0.75, b"left", b"details")
    assert before_ns <= published_ns <= time.monotonic_ns()
    assert BUFFER.unpack_from(raw(slots), buffer_at(2, 1))[2] == 123_456
    assert slots.read(2, 8) is None  # another request's
    assert slots.read(1, 7) is None  # another slot


def test_the_latest_answer_is_read_and_fits_or_is_refused(slots: Slots) -> None:
    """Each publication takes the place of the one before; one that does not fit changes nothing."""
    for i in range(5):
        assert slots.publish(0, 1, 0.5, 0, b"%d" % i, b"")
    assert slots.publish(0, 1, 0.5, 0, b"x" * 150, b"y" * 42)
    assert not slots.publish(0, 1, 0.5, 0, b"x" * 150, b"y" * 43)
    assert (slots.read(0, 1) or (0,))[0] == 6


@pytest.mark.parametrize("sequence_first", [False, True])
def test_a_kill_after_any_byte_leaves_the_answer_before(slots: Slots, sequence_first: bool) -> None:
    """A worker that dies after k bytes of an answer, for every k: the answer before is read, whole.

    Also where the sequence reached the memory before the bytes did: only the whole new answer is then read instead.
    """
    memory = raw(slots)
    for text in (b"oldest", b"before"):
        slots.publish(0, 1, 0.5, VALID, text, b"details of " + text)
    before = slots.read(0, 1)
    start = buffer_at(0, 3)
    old = memory[start : start + BUFFER.size + ANSWER_BYTES]
    slots.publish(0, 1, 0.9, VALID, b"newest, and longer", b"its details")
    newest, used = slots.read(0, 1), BUFFER.size + len(b"newest, and longer" + b"its details")
    new = memory[start : start + BUFFER.size + ANSWER_BYTES]
    struct.pack_into("<Q", memory, sequence_at(0), 3 if sequence_first else 2)
    assert before is not None
    assert newest is not None
    for k in range(len(new) + 1):
        memory[start : start + len(new)] = new[:k] + old[k:]
        whole = sequence_first and memory[start : start + used] == new[:used]
        assert slots.read(0, 1) == (newest if whole else before), k


def test_every_flipped_bit_is_seen(slots: Slots) -> None:
    """No bit of header, text or details can change without the answer before being read instead."""
    memory = raw(slots)
    slots.publish(0, 1, 0.5, VALID, b"before", b"")
    before = slots.read(0, 1)
    slots.publish(0, 1, 0.9, VALID, b"newest", b"details")
    start = buffer_at(0, 2)
    for place in [*range(CHECKED_BYTES + 4), *range(BUFFER.size, BUFFER.size + 13)]:
        for bit in range(8):
            memory[start + place] ^= 1 << bit
            assert slots.read(0, 1) == before, (place, bit)
            memory[start + place] ^= 1 << bit
    assert (slots.read(0, 1) or (0,))[0] == 2


def test_both_buffers_damaged_is_no_answer(slots: Slots) -> None:
    """Where neither verifies there is nothing to return, rather than something wrong."""
    memory = raw(slots)
    for text in (b"before", b"newest"):
        slots.publish(0, 1, 0.5, VALID, text, b"")
    for sequence in (1, 2):
        memory[buffer_at(0, sequence) + BUFFER.size] ^= 1
    assert slots.read(0, 1) is None


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 warns of forks with threads
def test_a_reader_never_sees_half_an_answer(slots: Slots) -> None:
    """Read while another process publishes as fast as it can, which is killed at random: each is whole, none older."""
    serial, seen = 5, 0
    for _ in range(5):
        child = os.fork()
        if child == 0:
            rng = random.Random(1)
            while True:
                text = bytes([rng.randrange(256)]) * rng.randrange(1, 100)
                slots.publish(1, serial, 0.5, 0, text, text[:50])
        until_ns = time.monotonic_ns() + PATIENCE_S * 10**9
        for _ in range(2000):
            assert slots.wait(1, serial, seen, False, until_ns)
            found = slots.read(1, serial)
            if found is None:  # overwritten 64 times while it was copied
                continue
            sequence, _, _, _, text, detail = found
            assert sequence >= seen
            assert text == text[:1] * len(text)
            assert detail == text[:50]
            seen = sequence
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert slots.read(1, serial) is not None
    assert seen > 1000


def test_a_request_reaches_the_worker_once(slots: Slots) -> None:
    """Until it is marked a worker finds it, with its deadline; then no more, and the caller sees how far it is."""
    assert slots.request(0) is None
    assert slots.ask(0, 9, 77, b"what?")
    slots.wait_for_requests()
    assert slots.request(0) == (9, 77, b"what?")
    assert slots.stage(0, 9) == 0
    for stage in (TAKEN, ADMITTED, FINISHED):
        slots.mark(0, 9, stage)
        assert slots.stage(0, 9) == stage
        assert slots.request(0) is None
    assert slots.stage(0, 8) == 0
    assert (slots.asked(0), slots.deadline_ns(0)) == (9, 77)


def test_a_request_that_does_not_fit_is_not_written(slots: Slots) -> None:
    """The area's size is the limit, to the byte."""
    assert slots.ask(0, 1, 0, b"x" * REQUEST_BYTES)
    assert not slots.ask(0, 2, 0, b"x" * (REQUEST_BYTES + 1))
    assert slots.request(0) == (1, 0, b"x" * REQUEST_BYTES)


def test_cancelled_and_lost_are_of_one_request(slots: Slots) -> None:
    """Calling one off says nothing about the next one in the slot."""
    slots.ask(0, 1, 0, b"")
    slots.cancel(0, 1)
    assert slots.is_cancelled(0, 1)
    assert not slots.is_cancelled(0, 2)
    slots.lose(0, 1)
    assert slots.is_lost(0, 1)
    assert not slots.is_lost(0, 2)
    assert slots.request(0) is None  # nobody serves what was lost


def test_memory_that_holds_no_slots_is_refused() -> None:
    """Empty, cut short, of another version, or with too few eventfds: an error, never a crash."""
    memory = os.memfd_create("test")
    with pytest.raises(OSError, match="cannot be mapped"):
        Slots(memory, [])
    os.ftruncate(memory, 4096)
    with pytest.raises(ValueError, match="does not hold slots"):
        Slots(memory, [])
    lay_out(memory, COUNT, REQUEST_BYTES, ANSWER_BYTES)
    with pytest.raises(ValueError, match="3 slots need 4 eventfds, not 0"):
        Slots(memory, [])
    os.ftruncate(memory, 1024)
    with pytest.raises(ValueError, match="does not hold slots"):
        Slots(memory, [])
    os.close(memory)


def test_a_slot_that_is_not_there_is_an_error(slots: Slots) -> None:
    """Out of range is an IndexError from every method, not a stray write."""
    calls = (("ask", (1, 0, b"")), ("read", (1,)), ("mark", (1, 1)), ("publish", (1, 0.5, 0, b"", b"")))
    for method, rest in (*calls, ("first_rung_ns", ()), ("woken_ns", ())):
        with pytest.raises(IndexError, match="there are 3 slots, no 3"):
            getattr(slots, method)(COUNT, *rest)


@pytest.mark.parametrize("language", ["c99", "c++11"])
def test_the_header_is_c_and_cpp(compiler: str, language: str, tmp_path: Path) -> None:
    """The example compiles as both, without a warning, so that a controller in either can include the header."""
    kind = "c++" if "++" in language else "c"
    source = ROOT / "examples" / "c" / "read_answers.c"
    strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", f"-I{ROOT / 'src' / 'anytime' / 'ext'}"]
    subprocess.run([compiler, f"-std={language}", *strict, "-x", kind, "-c", source, "-o", tmp_path / "o"], check=True)


def test_a_controller_in_c_reads_the_answer(compiler: str, slots: Slots, tmp_path: Path) -> None:
    """Another process, in C, attaches by path: the best answer, also behind a damaged one; none where there is none."""
    program, source = tmp_path / "read_answers", ROOT / "examples" / "c" / "read_answers.c"
    subprocess.run([compiler, "-std=c99", f"-I{ROOT / 'src' / 'anytime' / 'ext'}", source, "-o", program], check=True)

    def read() -> tuple[int, list[str]]:
        done = subprocess.run(
            [program, f"/proc/{os.getpid()}/fd/{slots.fd}"], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout.splitlines()

    assert read() == (1, [])
    slots.ask(2, 41, 5_000, b"what?")
    slots.publish(2, 41, 0.5, VALID, b"left", b"details")
    code, (before,) = read()
    assert code == 0
    assert before.startswith("slot 2 request 41 valid so-far confidence 0.500000 published ")
    assert before.endswith(" deadline 5000 text left")
    slots.publish(2, 41, 0.75, VALID | FINAL, "rechts, näher".encode(), b"details")
    _, (after,) = read()
    assert " valid final confidence 0.750000 " in after
    assert after.endswith("text rechts, näher")
    raw(slots)[buffer_at(2, 2) + BUFFER.size] ^= 1
    assert read() == (0, [before])
    assert subprocess.run([program, source], capture_output=True, check=False).returncode == 2
