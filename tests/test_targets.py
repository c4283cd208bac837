"""Targets and the host."""

from __future__ import annotations

from pathlib import Path

import pytest

import anytime.targets
from anytime.targets import detect, host, load_targets

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
