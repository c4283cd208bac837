"""Targets and the host."""

from __future__ import annotations

from pathlib import Path

import pytest

import anytime.targets
from anytime.targets import Clocks, clocks, detect, host, load_targets

CPUINFO = "/proc/cpuinfo"
X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Intel(R) Xeon(R)\n"
ORIN = "processor\t: 0\nBogoMIPS\t: 62.50\nCPU part\t: 0xd42\n"


def test_every_target_file_loads() -> None:
    """Each TOML in the folder is a target under its file's name, with every field said."""
    targets = load_targets()
    names = [path.stem for path in Path(anytime.targets.__file__).parent.glob("*.toml")]
    assert names
    assert [target.name for target in targets] == sorted(names)
    for target in targets:
        assert target.title
        assert target.status
        assert target.architecture in {"x86_64", "aarch64"}
        assert target.engine in {"onnxruntime", "tensorrt"}


def test_this_host_is_described() -> None:
    """The real files of this machine make a host with sane numbers."""
    here = detect()
    assert here.processor
    assert here.cores >= 1
    assert here.memory_gib > 0
    assert "\n" not in here.processor


@pytest.mark.parametrize(
    ("files", "processor"),
    [
        ({CPUINFO: X86}, "Intel(R) Xeon(R) 6 143"),
        ({CPUINFO: X86 + "\n" + X86.replace("143", "999")}, "Intel(R) Xeon(R) 6 143"),
        ({CPUINFO: ORIN, "/proc/device-tree/model": "NVIDIA Jetson AGX Orin\0"}, "NVIDIA Jetson AGX Orin 0xd42"),
        ({CPUINFO: ORIN}, "this-machine 0xd42"),
        ({}, "this-machine"),
        ({CPUINFO: "\n\n:::\nno colon here\n: value without key\nmodel name\t:\n"}, "this-machine"),
        ({CPUINFO: "model name: A: B: C\n"}, "A: B: C"),
        ({CPUINFO: "\ufffd\ufffd\x00\n"}, "this-machine"),
    ],
)
def test_odd_cpuinfo_still_names_a_processor(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], processor: str
) -> None:
    """Model name and stepping, else the board, else the architecture; never an exception."""
    monkeypatch.setattr(host, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr(host.platform, "machine", lambda: "this-machine")
    assert detect().processor == processor


def test_what_the_host_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """No governor and no power mode are 'unknown', not empty."""
    monkeypatch.setattr(host, "_read", lambda path: "")
    assert (detect().governor, detect().power_mode) == ("unknown", "unknown")


def cpufreq(cores: dict[int, tuple[str, str, str]]) -> dict[str, str]:
    """The files of some cores: governor, current and highest frequency."""
    names = ("scaling_governor", "scaling_cur_freq", "scaling_max_freq")
    return {
        f"/sys/devices/system/cpu/cpu{core}/cpufreq/{name}": text
        for core, texts in cores.items()
        for name, text in zip(names, texts, strict=True)
    }


def test_clocks_are_those_of_the_cores_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frequencies of the cores that the process may use, every governor among them, and the board's power mode."""
    big, little = ("performance", "2400000", "2500000"), ("powersave", "800000", "1500000")
    files = cpufreq({0: little, 2: big, 5: little})
    monkeypatch.setattr(host, "_read", lambda path: files.get(path, "MAXN" if "nvpmodel" in path else ""))
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda pid: {5, 2})
    assert clocks() == Clocks("MAXN", "performance, powersave", (2400, 800), (2500, 1500))


@pytest.mark.parametrize("texts", [("", "", ""), ("", "<unknown>", "soon"), ("", "-1", "1.5")])
def test_clocks_that_cannot_be_read_are_unknown(monkeypatch: pytest.MonkeyPatch, texts: tuple[str, str, str]) -> None:
    """No file, or no number in it: 'unknown' and nothing, never an exception."""
    files = cpufreq({0: ("", "1000000", "1000000"), 1: texts})
    monkeypatch.setattr(host, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda pid: {0, 1})
    assert clocks() == Clocks("unknown", "unknown", (), ())


def test_one_core_is_left_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine takes all allowed cores but one, and one where there is only one."""
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda pid: {0, 1, 5})
    assert detect().threads() == 2
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda pid: {3})
    assert detect().threads() == 1


def test_files_that_cannot_be_read_are_empty(tmp_path: Path) -> None:
    """Missing, a directory, or not UTF-8: reading never raises."""
    (tmp_path / "binary").write_bytes(b"\xff ok \n")
    assert host._read(str(tmp_path / "missing")) == ""
    assert host._read(str(tmp_path)) == ""
    assert host._read(str(tmp_path / "binary")) == "\ufffd ok"
