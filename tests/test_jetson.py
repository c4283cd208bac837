"""What a Jetson tells in its files, and what is said of a machine's condition."""

from __future__ import annotations

from pathlib import Path

import pytest

from anytime.targets import Condition, Host, condition, jetson, load_targets, recognized
from anytime.targets.files import number, read, words
from anytime.targets.jetson import Clock
from anytime.targets.nvml import Nvml
from tests.doubles_nvml import FakeNvml, NVMLError

NANO_SUPER = "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"
CONF = (
    "# < POWER_MODEL ID=7 NAME=COMMENT >\n"
    "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n"
    "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< PM_CONFIG DEFAULT=1 >\n"
)
GPU = "sys/class/devfreq/17000000.gpu"
EMC = "sys/kernel/debug/bpmp/debug/clk/emc"


def tree(root: Path, **files: str) -> Path:
    """A file system with these files."""
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


def orin_nano_super(root: Path, **changes: str) -> Path:
    """An Orin Nano Super as root sees it, its clocks locked by jetson_clocks."""
    files = {
        "proc/device-tree/compatible": NANO_SUPER,
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
        f"{GPU}/cur_freq": "1020000000\n",
        f"{GPU}/min_freq": "1020000000\n",
        f"{GPU}/max_freq": "1020000000\n",
        f"{GPU}/governor": "nvhost_podgov\n",
        f"{EMC}/rate": "3199000000\n",
        f"{EMC}/min_rate": "204000000\n",
        f"{EMC}/max_rate": "3199000000\n",
        f"{EMC}/mrq_rate_locked": "1\n",
        **changes,
    }
    return tree(root, **files)


def host(power_mode: str = "MAXN_SUPER", governor: str = "performance", architecture: str = "aarch64") -> Host:
    return Host("Cortex-A78AE", architecture, 6, 7.4, power_mode, governor, 0.1)


def seen(root: Path, **about: str) -> Condition:
    return condition(host(**about), load_targets(), root)


def test_a_board_in_order_gives_no_warning(tmp_path: Path) -> None:
    """Locked clocks, the highest mode, no throttling: everything is told, and nothing is amiss."""
    found = seen(orin_nano_super(tmp_path))
    assert (found.target, found.jetson_linux, found.jetpack) == ("orin-nano-super", "36.4.3", "6.2")
    assert found.gpu_clock == Clock(1020, 1020, 1020, True)
    assert found.memory_clock == Clock(3199, 204, 3199, True)
    assert found.warnings == ()


def test_clocks_that_are_not_locked_are_said_each(tmp_path: Path) -> None:
    """GPU and memory, with the bounds and the cure; another governor than those that hold a clock."""
    loose = {f"{GPU}/min_freq": "306000000", f"{GPU}/cur_freq": "612000000", f"{EMC}/mrq_rate_locked": "0"}
    warnings = seen(orin_nano_super(tmp_path, **loose), governor="schedutil").warnings
    assert len(warnings) == 3
    assert "the GPU clock is not locked (612 of up to 1020 MHz)" in warnings[0]
    assert "the memory clock is not locked (3199 of up to 3199 MHz)" in warnings[1]
    assert all("jetson_clocks" in warning for warning in warnings[:2])
    assert "'schedutil'" in warnings[2]


def test_a_memory_clock_that_only_root_sees_is_said(tmp_path: Path) -> None:
    """Without privilege the cap is known, and nothing else."""
    root = orin_nano_super(tmp_path)
    for file in (root / EMC).iterdir():
        file.unlink()
    tree(root, **{"sys/kernel/nvpmodel_clk_cap/emc": "2133000000"})
    found = seen(root)
    assert found.memory_clock == Clock(None, None, 2133, None)
    assert ["cannot be read without root" in warning for warning in found.warnings] == [True]


def test_a_mode_that_caps_clocks_is_said(tmp_path: Path) -> None:
    """By how much runs that wait for memory or GPU take longer."""
    warnings = seen(orin_nano_super(tmp_path), power_mode="15W").warnings
    assert [word in text for word, text in zip(("GPU", "memory"), warnings, strict=True)] == [True, True]
    assert "1.67 times" in warnings[0]
    assert "2133 of 3199 MHz" in warnings[1]
    assert "1.50 times" in warnings[1]


def test_a_mode_that_the_target_does_not_know_is_said(tmp_path: Path) -> None:
    """As when a board's configuration is the vendor's own."""
    (warning,) = seen(orin_nano_super(tmp_path), power_mode="MODE_22W").warnings
    assert "'MODE_22W'" in warning
    assert "MAXN_SUPER" in warning


def test_throttling_is_said_with_its_reason(tmp_path: Path) -> None:
    """Thermal alerts that are on, and over-current events; fans and clock limits are no alerts."""
    thermal, monitors = "sys/class/thermal/cooling_device", "sys/class/hwmon/hwmon"
    root = orin_nano_super(
        tmp_path,
        **{
            f"{thermal}0/type": "pwm-fan",
            f"{thermal}0/cur_state": "3",
            f"{thermal}1/type": "gpu-throttle-alert",
            f"{thermal}1/cur_state": "1",
            f"{thermal}2/type": "cpu-throttle-alert",
            f"{thermal}2/cur_state": "0",
            f"{thermal}3/type": "hot-surface-alert",
            f"{thermal}3/cur_state": "what?",
            f"{monitors}0/name": "ina3221",
            f"{monitors}0/oc1_event_cnt": "5",
            f"{monitors}3/name": "soctherm_oc",
            f"{monitors}3/oc1_event_cnt": "0",
            f"{monitors}3/oc3_event_cnt": "37",
        },
    )
    found = seen(root)
    assert found.throttling == (
        "gpu-throttle-alert is on",
        "oc3: 37 over-current or under-voltage events",
    )
    assert len([text for text in found.warnings if "cooling and power supply" in text]) == 2


def test_thor_s_clocks_are_in_devfreq(tmp_path: Path) -> None:
    """GPU and memory alike; a governor that follows no load holds a clock."""
    root = tree(
        tmp_path,
        **{
            "proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0",
            "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000",
            "sys/class/devfreq/gpu-gpc-0/min_freq": "315000000",
            "sys/class/devfreq/gpu-gpc-0/max_freq": "1575000000",
            "sys/class/devfreq/gpu-gpc-0/governor": "performance",
            "sys/class/devfreq/bwmgr/cur_freq": "4266000000",
            "sys/class/devfreq/bwmgr/min_freq": "665000000",
            "sys/class/devfreq/bwmgr/max_freq": "4266000000",
            "sys/class/devfreq/bwmgr/governor": "simple_ondemand",
        },
    )
    found = seen(root, power_mode="MAXN")
    assert found.target == "thor"
    assert found.gpu_clock == Clock(1575, 315, 1575, True)
    assert found.memory_clock == Clock(4266, 665, 4266, False)


@pytest.mark.parametrize(
    ("board", "gpu", "architecture", "name"),
    [
        (
            ["nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"],
            "",
            "aarch64",
            "orin-nano-super",
        ),
        (["nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005", "nvidia,tegra234"], "", "aarch64", "orin-nano"),
        (["nvidia,p3768-0000+p3767-0000-super", "nvidia,p3767-0000", "nvidia,tegra234"], "", "aarch64", "orin-nx-16"),
        (["nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"], "", "aarch64", "agx-orin-64"),
        (["nvidia,p3737-0000+p3701-0004", "nvidia,tegra234"], "", "aarch64", "agx-orin-32"),
        (["raspberrypi,5-model-b", "brcm,bcm2712"], "", "aarch64", "raspberry-pi-5"),
        ([], "NVIDIA GeForce RTX 4060", "x86_64", "rtx-4060"),
        ([], "NVIDIA GeForce RTX 4060 Ti", "x86_64", None),
        ([], "NVIDIA H200", "x86_64", "h200"),
        ([], "", "x86_64", "generic-x86"),
        (["rockchip,rk3588"], "", "aarch64", "generic-arm64"),
        (["nvidia,p2888-0001", "nvidia,tegra194"], "", "aarch64", None),
        ([], "", "riscv64", None),
    ],
)
def test_machines_are_recognized(board: list[str], gpu: str, architecture: str, name: str | None) -> None:
    """By device tree or GPU; other boards of NVIDIA and other GPUs are no target, other machines are generic ones."""
    found = recognized(load_targets(), board, gpu, architecture)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("status", "conf", "name"),
    [
        ("pmode:0002", CONF, "MAXN_SUPER"),
        ("pmode:0000 fmode:fan_mode_quiet", CONF, "15W"),
        ("pmode:0007", CONF, "mode 7"),
        ("pmode:0001", "", "mode 1"),
        ("", CONF, "unknown"),
        ("MAXN", "", "MAXN"),
    ],
)
def test_a_power_mode_goes_by_its_name(status: str, conf: str, name: str) -> None:
    """nvpmodel's status has a number, which means another mode on another board."""
    assert jetson.power_mode(status, conf) == name


@pytest.mark.parametrize(
    ("text", "version", "jetpack"),
    [
        ("# R36 (release), REVISION: 4.7, GCID: 1", "36.4.7", "6.2.1"),
        ("# R38 (release), REVISION: 4.0, GCID: 43443517", "38.4.0", "7.1"),
        ("# R39 (release), REVISION: 2.1, GCID: 1", "39.2.1", "7.2"),
        ("# R35 (release), REVISION: 4.1, GCID: 1", "35.4.1", ""),
        ("# R36 (release), REVISION: 44.1, GCID: 1", "36.44.1", ""),
        ("nonsense", "", ""),
    ],
)
def test_releases_are_read(tmp_path: Path, text: str, version: str, jetpack: str) -> None:
    """Jetson Linux's version, and the JetPack it belongs to where that is known."""
    tree(tmp_path, **{"etc/nv_tegra_release": text})
    assert jetson.release(tmp_path) == version
    assert jetson.jetpack(version) == jetpack


def test_a_machine_without_any_of_the_files_is_described(tmp_path: Path) -> None:
    """Nothing is told, nothing raises, nothing is amiss."""
    found = seen(tmp_path, power_mode="unknown", architecture="x86_64")
    assert found == Condition("generic-x86", "", "", "", "unknown", None, None, (), ())


def test_files_of_nonsense_are_told_as_nothing(tmp_path: Path) -> None:
    """Texts where numbers should be, directories where files should be, bytes that are no text."""
    root = orin_nano_super(tmp_path, **{f"{GPU}/cur_freq": "fast", f"{GPU}/max_freq": "-1", f"{EMC}/rate": "1e9"})
    (root / "sys/class/devfreq/17000000.ga10b/cur_freq").mkdir(parents=True)
    (root / EMC / "mrq_rate_locked").write_bytes(b"\xff\xfe")
    found = seen(root)
    assert found.gpu_clock is None
    assert found.memory_clock == Clock(None, 204, 3199, None)
    assert (read(root / GPU), number(root / GPU), words(root / GPU)) == ("", None, ())


def on_gpu(**answers: object) -> Condition:
    nvml = Nvml(module=FakeNvml(**answers))
    return condition(host("unknown", architecture="x86_64"), load_targets(), Path("/nonexistent"), nvml)


def test_a_discrete_gpu_is_described() -> None:
    """At its highest clocks NVML cannot tell whether they are locked, and nothing is amiss."""
    found = on_gpu()
    assert (found.target, found.gpu) == ("h200", "NVIDIA H200")
    assert (found.gpu_clock, found.memory_clock) == (Clock(1980, None, 1980, None), Clock(3201, None, 3201, None))
    assert found.warnings == ()


def test_a_discrete_gpu_below_its_clocks_is_warned_of() -> None:
    """They are then not locked at the highest; what holds them down is named."""
    found = on_gpu(clock={1: 345, 2: 3201}, reasons=0x20)
    assert "the GPU clock is not locked (345 of up to 1980 MHz)" in found.warnings[0]
    assert "nvidia-smi -lgc" in found.warnings[0]
    assert "software thermal slowdown" in found.warnings[1]
    assert found.throttling == ("software thermal slowdown",)


def test_a_discrete_gpu_that_tells_nothing_is_a_warning() -> None:
    """The rest is described all the same."""
    found = on_gpu(clock=NVMLError("Not Supported"))
    assert found.target == "h200"
    assert "tells no clocks" in found.warnings[0]


def test_a_gpu_s_name_need_not_be_told() -> None:
    """The machine is then described as one without."""
    found = on_gpu(name=NVMLError("Not Supported"))
    assert (found.gpu, found.target) == ("", "generic-x86")
