"""What condition the machine is in for measuring and planning: which target it is, its clocks, and what is amiss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from anytime.errors import TargetError
from anytime.targets import jetson
from anytime.targets.host import Host, detect
from anytime.targets.jetson import Clock
from anytime.targets.nvml import Nvml
from anytime.targets.target import Target, load_targets


class Condition(msgspec.Struct, frozen=True):
    """``target`` is empty where none describes this machine. Clocks in MHz; None: not told."""

    target: str
    gpu: str
    jetson_linux: str
    jetpack: str
    power_mode: str
    gpu_clock: Clock | None
    memory_clock: Clock | None
    throttling: tuple[str, ...]
    warnings: tuple[str, ...]


def condition(host: Host, targets: Sequence[Target], root: Path = jetson.ROOT, nvml: Nvml | None = None) -> Condition:
    """Look at the machine; nothing is changed, and what cannot be read is left out or said in a warning."""
    board, linux = jetson.compatible(root), jetson.release(root)
    gpu = nvml.name if nvml is not None else ""
    target = recognized(targets, board, gpu, host.architecture)
    gpu_clock, memory_clock = jetson.gpu_clock(root), jetson.memory_clock(root)
    held = jetson.throttling(root)
    warnings: list[str] = []
    if nvml is not None and gpu_clock is None:
        limits = nvml.limits()
        try:
            now = nvml.read()
        except TargetError as error:
            warnings.append(str(error))
        else:
            gpu_clock = Clock(now.gpu_mhz, None, limits.gpu_mhz, _at_most(now.gpu_mhz, limits.gpu_mhz))
            memory_clock = Clock(now.memory_mhz, None, limits.memory_mhz, _at_most(now.memory_mhz, limits.memory_mhz))
            held = (*held, *now.reasons)
    lock = "sudo jetson_clocks" if linux else "sudo nvidia-smi -lgc MHZ' and 'sudo nvidia-smi -lmc MHZ"
    warnings += _about_clocks(gpu_clock, memory_clock, lock, bool(linux))
    warnings += [f"clocks are or were held down: {reason}; check cooling and power supply" for reason in held]
    warnings += _about_mode(target, host.power_mode)
    if host.governor not in ("performance", "unknown"):
        warnings.append(f"the processor's governor is {host.governor!r}: 'sudo cpupower frequency-set -g performance'")
    return Condition(
        target=target.name if target else "",
        gpu=gpu,
        jetson_linux=linux,
        jetpack=jetson.jetpack(linux),
        power_mode=host.power_mode,
        gpu_clock=gpu_clock,
        memory_clock=memory_clock,
        throttling=held,
        warnings=tuple(warnings),
    )


def here() -> Condition:
    """The condition of the machine at hand, with its GPU where NVML can be asked."""
    try:
        gpu = Nvml()
    except TargetError:  # none, or no way to ask it: most machines
        gpu = None
    try:
        return condition(detect(), load_targets(), nvml=gpu)
    finally:
        if gpu is not None:
            gpu.close()


def recognized(targets: Sequence[Target], board: Sequence[str], gpu: str, architecture: str) -> Target | None:
    """The target that a board or a GPU is, by the longest of the words that fit; else the generic one."""
    fits = [
        (len(word), target)
        for target in targets
        for word in target.recognized_by
        if word == gpu or any(word in entry for entry in board)
    ]
    if fits:
        return max(fits, key=lambda fit: fit[0])[1]
    generic = [target for target in targets if not target.recognized_by and target.architecture == architecture]
    return None if gpu or any("tegra" in entry for entry in board) or not generic else generic[0]


def _at_most(mhz: int | None, most_mhz: int | None) -> bool | None:
    """A clock below its highest is certainly not locked there; NVML does not tell of one that is at it."""
    return False if mhz is not None and most_mhz is not None and mhz < most_mhz else None


def _about_clocks(gpu: Clock | None, memory: Clock | None, lock: str, on_jetson: bool) -> Iterator[str]:
    for name, clock in (("GPU", gpu), ("memory", memory)):
        if clock is not None and clock.locked is False:
            bounds = f"{clock.mhz} of up to {clock.most_mhz} MHz"
            yield f"the {name} clock is not locked ({bounds}), and times vary with it: '{lock}' holds it"
    if on_jetson and (memory is None or memory.locked is None):
        yield (
            "whether the memory clock is locked cannot be read without root, and it matters as much as the GPU's: "
            "'sudo anytime targets --detect', or 'sudo jetson_clocks --show'"
        )


def _about_mode(target: Target | None, name: str) -> Iterator[str]:
    """A mode that caps a clock below what the target has."""
    if target is None or not target.power_modes or name == "unknown":
        return
    if name not in [mode.name for mode in target.power_modes]:
        known = ", ".join(mode.name for mode in target.power_modes)
        yield f"the power mode {name!r} is none that is known of {target.name!r} ({known}): its figures may not hold"
        return
    mode = target.mode(name)
    for what, cap, figure in (("GPU", mode.gpu_mhz, target.gpu_mhz), ("memory", mode.emc_mhz, target.emc_mhz)):
        if cap is not None and figure is not None and cap < 0.99 * figure.value:
            yield (
                f"the power mode {name!r} caps the {what} clock at {cap:g} of {figure.value:g} MHz: runs that wait for "
                f"it take {figure.value / cap:.2f} times as long as at the highest; 'sudo nvpmodel -m ID' changes it"
            )
