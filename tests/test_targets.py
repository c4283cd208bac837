"""Targets and the host."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import anytime.targets
from anytime.errors import TargetError, UsageError
from anytime.targets import Clocks, Reading, clocks, detect, host, jetson, load_targets, target_named
from anytime.targets.target import JetPack, PowerMode, read_target
from tests.doubles_nvml import FakeNvml, NVMLError

FOLDER = Path(anytime.targets.__file__).parent
NAMED = {
    "agx-orin-32",
    "agx-orin-64",
    "generic-x86",
    "h200",
    "orin-nano",
    "orin-nano-super",
    "orin-nx-16",
    "raspberry-pi-5",
    "rtx-4060",
    "rtx-4090",
    "thor",
}

CPUINFO = "/proc/cpuinfo"
X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Intel(R) Xeon(R)\n"
ORIN = "processor\t: 0\nBogoMIPS\t: 62.50\nCPU part\t: 0xd42\n"


def test_every_target_file_loads() -> None:
    """Each TOML in the folder is a target under its file's name, with every field said."""
    targets = load_targets()
    names = [path.stem for path in FOLDER.glob("*.toml")]
    assert set(names) >= NAMED
    assert [target.name for target in targets] == sorted(names)
    for target in targets:
        assert target.title
        assert target.status
        assert target.architecture in {"x86_64", "aarch64"}
        assert target.engine in {"onnxruntime", "tensorrt"}


def test_every_figure_has_a_public_source() -> None:
    """Figures, power modes and JetPacks name one, every one is named, and leads somewhere."""
    for target in load_targets():
        used = {found.source for _, found in target.figures()} | ({target.precisions_source} - {""})
        assert used == set(target.sources), target.name
        assert all("https://" in text or "Guide" in text or "docs/" in text for text in target.sources.values())
        assert all(isinstance(found, (PowerMode, JetPack)) or found.value > 0 for _, found in target.figures())


def test_jetsons_have_modes_by_name_and_jetpacks() -> None:
    """One mode is the default, names differ, and every JetPack says its Python and TensorRT."""
    jetsons = [target for target in load_targets() if target.power_modes]
    assert {target.name for target in jetsons} == {name for name in NAMED if "orin" in name or name == "thor"}
    for target in jetsons:
        names = [mode.name for mode in target.power_modes]
        assert len(set(names)) == len(names)
        assert [mode.default for mode in target.power_modes].count(True) == 1
        assert target.architecture == "aarch64"
        assert set(target.python) <= {"3.10", "3.12"}
        assert set(target.tensorrt) <= {"10.3", "10.13", "10.16"}


def test_what_jetpacks_bring_is_said_once_and_in_order() -> None:
    """JetPack 6 has Python 3.10 and TensorRT 10.3, 7.2 has 3.12 and 10.16; Thor begins with 7."""
    nano, thor = target_named("orin-nano-super"), target_named("thor")
    assert (nano.python, nano.tensorrt) == (("3.10", "3.12"), ("10.3", "10.16"))
    assert (thor.python, thor.tensorrt) == (("3.12",), ("10.13", "10.16"))
    assert target_named("generic-x86").python == ()


def test_the_same_mode_name_means_other_clocks_elsewhere() -> None:
    """15W caps an Orin Nano's memory and leaves an Orin NX's at its highest."""
    nano, nx = target_named("orin-nano-super").mode("15W"), target_named("orin-nx-16").mode("15W")
    assert (nano.gpu_mhz, nano.emc_mhz) == (612, 2133)
    assert (nx.gpu_mhz, nx.emc_mhz) == (612, None)


WHOLE = (
    'title = "A board"\narchitecture = "aarch64"\nengine = "tensorrt"\nstatus = "described"\n'
    'memory_gb = { value = 8, source = "a" }\n[sources]\na = "https://example.com"\n'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WHOLE.replace("memory_gb", "memory_gib"), "memory_gib"),
        (WHOLE.replace("value = 8", "value = 8, unit = 'GB'"), "unit"),
        (WHOLE.replace("value = 8", 'value = "8"'), "memory_gb"),
        (WHOLE.replace('source = "a"', 'source = "b"'), "'b'"),
        (WHOLE.replace(', source = "a"', ""), "source"),
        (WHOLE.replace('title = "A board"\n', ""), "title"),
        (WHOLE.replace('"tensorrt"', '"cuda"'), "cuda"),
        (WHOLE.replace("[sources]", 'precisions = ["fp16"]\n[sources]'), "precisions_source"),
        (WHOLE.replace("[sources]", 'precisions = ["bf16"]\n[sources]'), "bf16"),
        (WHOLE.replace("[sources]", '[[power_modes]]\nname = "15W"\nsource = "c"\n[sources]'), "power mode 15W"),
        (WHOLE.replace("=", ""), "malformed"),
        ("", "title"),
    ],
)
def test_a_malformed_target_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    """Unknown fields, wrong types, a figure without a source, no TOML: the error names the file and what is wrong."""
    file = tmp_path / "board.toml"
    file.write_text(WHOLE, encoding="utf-8")
    assert read_target(file).name == "board"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(TargetError, match=message) as caught:
        read_target(file)
    assert "board.toml" in str(caught.value)


def test_a_target_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Absent, or no text."""
    with pytest.raises(TargetError, match="cannot be read"):
        read_target(tmp_path / "board.toml")
    (tmp_path / "board.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TargetError, match="malformed"):
        read_target(tmp_path / "board.toml")


def test_unknown_names_are_wrong_use() -> None:
    """Of a target, and of a mode: with the names there are."""
    with pytest.raises(UsageError, match=r"'toaster'.*orin-nano-super"):
        target_named("toaster")
    with pytest.raises(UsageError, match=r"'60W'.*MAXN, MODE_15W"):
        target_named("agx-orin-64").mode("60W")
    with pytest.raises(UsageError, match="none is known"):
        target_named("generic-x86").mode("15W")


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


def test_a_gpu_s_clocks_are_read_beside_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a Jetson's files; of a discrete GPU through NVML; and none where NVML cannot be asked."""
    monkeypatch.setattr(host, "_read", lambda path: "")
    monkeypatch.setattr(jetson, "gpu_clock", lambda: jetson.Clock(918))
    monkeypatch.setattr(jetson, "memory_clock", lambda: None)
    assert clocks().reading() == Reading(918, None)
    monkeypatch.setattr(jetson, "gpu_clock", lambda: None)
    assert clocks().reading() == Reading()
    monkeypatch.setattr(host, "_read", lambda path: "NVRM version" if "nvidia" in path else "")
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(clock={1: 1500, 2: 3201}))
    assert clocks().reading() == Reading(1500, 3201)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(clock=NVMLError("GPU is lost")))
    assert clocks().reading() == Reading()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert clocks().reading() == Reading()
