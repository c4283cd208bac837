"""Clocks from tegrastats: every release's lines, and a child that is absent, prints garbage or dies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime.errors import TargetError
from anytime.targets import Reading, slowdown, tegrastats
from anytime.targets.tegrastats import Tegrastats, parse

REST = "RAM 4521/7620MB (lfb 2x4MB) SWAP 0/3810MB (cached 0MB) CPU [3%@1510,off,1%@1510]"
JETPACK_5 = f"{REST} EMC_FREQ 12%@3199 GR3D_FREQ 99%@1300 AO@45C GPU@48C VDD_GPU_SOC 15000mW/15000mW"
JETPACK_6 = f"04-17-2026 10:15:23 {REST} EMC_FREQ 30%@2133 GR3D_FREQ 87%@[918,915] cpu@47.5C VDD_IN 4567mW/4567mW"
JETPACK_6_IDLE = f"{REST} EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] VIC off APE 174 cpu@40C"
THOR = f"04-21-2026 15:50:52 {REST} EMC_FREQ @4266 GR3D_FREQ @[1574,1574,1572] NVENC0_FREQ @314 VIC off gpu@38.875C"
UNPRIVILEGED = f"{REST} EMC_FREQ 0% GR3D_FREQ 35% AO@47C CPU@52C"


@pytest.mark.parametrize(
    ("line", "reading"),
    [
        (JETPACK_5, Reading(1300, 3199, True)),
        (JETPACK_6, Reading(915, 2133, True)),
        (JETPACK_6_IDLE, Reading(None, 2133, False)),
        (THOR, Reading(1572, 4266, None)),
        (UNPRIVILEGED, Reading(None, None, True)),
        (f"{REST} GR3D_FREQ @[300,off,600]", Reading(300, None, None)),
        (f"{REST} GR3D_FREQ 0%@[1020] EMC_FREQ 0%@3199", Reading(1020, 3199, False)),
        (f"{REST} EMC_FREQ 0%@3199", Reading(None, 3199, None)),
        (REST, None),
        ("", None),
        ("GR3D_FREQ EMC_FREQ", None),
        ("Error: cannot open /dev/nvhost", None),
    ],
)
def test_every_release_s_lines_are_read(line: str, reading: Reading | None) -> None:
    """GPU clock (the slowest part that is on), memory clock and load, as far as a line tells them."""
    assert parse(line) == reading


@given(st.text(), st.sampled_from([JETPACK_5, JETPACK_6, THOR, "GR3D_FREQ", "EMC_FREQ"]), st.integers(0, 200))
def test_any_line_is_read_or_passed_over(text: str, line: str, at: int) -> None:
    """Whatever stands in a line, parsing it never raises."""
    parse(line[:at] + text + line[at:])


@pytest.mark.parametrize(
    ("full", "now", "times"),
    [
        (Reading(1020, 3199), Reading(1020, 3199), 1.0),
        (Reading(1020, 3199), Reading(510, 3199), 2.0),
        (Reading(1020, 3199), Reading(918, 2133), 3199 / 2133),
        (Reading(1020, 3199), Reading(2040, 3199), 1.0),
        (Reading(1020, None), Reading(510, 100), 2.0),
        (Reading(), Reading(510, 100), 1.0),
        (Reading(1020, 3199), Reading(), 1.0),
    ],
)
def test_a_slowdown_is_the_largest_ratio(full: Reading, now: Reading, times: float) -> None:
    """Of GPU and memory clock, then over now; never below 1, and of clocks that both tell."""
    assert slowdown(full, now) == pytest.approx(times)


def program(folder: Path, body: str) -> str:
    """An executable of this name, as ``tegrastats`` is one."""
    file = folder / "tegrastats"
    file.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    file.chmod(0o755)
    return str(file)


def test_a_child_s_lines_are_read_until_it_is_closed(tmp_path: Path) -> None:
    """Readings come line by line; after ``close`` they end without an error, and the child is gone."""
    (tmp_path / "lines").write_text(f"{JETPACK_5}\nwhat?\n{JETPACK_6}\n", encoding="utf-8")
    source = Tegrastats([program(tmp_path, f"cat {tmp_path}/lines; exec tail -f /dev/null")])
    found = []
    for reading in source:
        found.append(reading)
        if len(found) == 2:
            source.close()
    assert found == [parse(JETPACK_5), parse(JETPACK_6)]
    source.close()
    assert source._child.returncode is not None


def test_a_child_that_cannot_be_started_says_so(tmp_path: Path) -> None:
    """Absent, or no program: an error that names it."""
    with pytest.raises(TargetError, match=r"cannot be started .*clocks are not watched"):
        Tegrastats([str(tmp_path / "tegrastats")])


def test_a_child_that_dies_says_so(tmp_path: Path) -> None:
    """What it told before is read, then an error with its exit code."""
    readings = iter(Tegrastats([program(tmp_path, f"echo '{JETPACK_5}'; exit 7")]))
    assert next(readings) == parse(JETPACK_5)
    with pytest.raises(TargetError, match=r"exit code 7.*no longer watched"):
        next(readings)


def test_a_child_that_prints_garbage_is_given_up(tmp_path: Path) -> None:
    """Fifty lines in a row without a clock, of whatever bytes, are an error; the child is ended."""
    source = Tegrastats([program(tmp_path, r"while :; do printf 'no clocks \377\n'; done")])
    with pytest.raises(TargetError, match="prints no clocks"):
        next(iter(source))
    assert source._child.returncode is not None


def test_it_is_looked_for_where_programs_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the search path, executable."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not tegrastats.available()
    os.chmod(program(tmp_path, ":"), 0o644)
    assert os.getuid() == 0 or not tegrastats.available()
    program(tmp_path, ":")
    assert tegrastats.available()
