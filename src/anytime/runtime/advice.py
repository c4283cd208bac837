"""What a measured profile warns of, each warning with its cure."""

from __future__ import annotations

import math

import numpy as np

from anytime.ext.latency import Latency
from anytime.runtime.regimes import FIRST, IDLE, LOADED, WARM
from anytime.scheduler.profile import Cell, Fit, Regime
from anytime.targets import Host

_FIRST_SLOW, _IDLE_SLOW, _LOADED_SLOW = 1.5, 1.25, 2.0  # times what the warm engine takes


def advice(host: Host, fit: Fit, steps: list[Cell], regimes: list[Regime], latency: Latency) -> list[str]:
    """Warnings about the machine, about what the margins cover, and about regimes far from the warm one."""
    return [*_about_host(host), *_about_steps(fit, steps), *_about_regimes(regimes, latency)]


def _about_host(host: Host) -> list[str]:
    found = []
    if host.governor not in ("performance", "unknown"):
        found.append(
            f"the clock governor is {host.governor!r}: 'sudo cpupower frequency-set -g performance' steadies it"
        )
    if host.load > host.cores / 2:
        found.append(f"the load is {host.load:.1f} on {host.cores} cores: end other programs and profile again")
    if host.cores == 1:
        found.append("there is one core, so the engine competes with the caller: give the process a second one")
    return found


def _about_steps(fit: Fit, steps: list[Cell]) -> list[str]:
    found = []
    if fit.step_margin > 1.5:
        found.append(
            f"a step in a hundred takes over {fit.step_margin:.1f} times the typical time: pin the process "
            "(taskset) and end other programs"
        )
    first, last = (float(np.median(cell.times_ns)) for cell in (steps[0], steps[-1]))
    if last > 1.15 * first:
        found.append(f"steps became {last / first:.2f} times slower while measuring: check cooling and clocks")
    if not math.isclose(fit.p, 0.0) and fit.q == 0.0:
        found.append("the fit found no constant cost in a step, which is implausible: profile again")
    return found


def _about_regimes(regimes: list[Regime], latency: Latency) -> list[str]:
    found, tails = [], {regime.name: regime.tail for regime in regimes}
    warm = tails[WARM]
    first = next(regime for regime in regimes if regime.name == FIRST)
    times = _of_all(first, latency)
    if times > _FIRST_SLOW:
        found.append(
            f"the first request after loading takes {times:.1f} times its prediction: ask one question before traffic"
        )
    penalty, gap = max((tail.p50 / warm.p50, name) for name, tail in tails.items() if name.startswith(IDLE))
    if penalty > _IDLE_SLOW:
        found.append(
            f"a step after {gap.removeprefix(IDLE).strip()} of idling takes {penalty:.1f} times as long as among "
            "others: keep cores out of deep C-states ('sudo cpupower idle-set -D 10') and the clocks up (governor "
            "'performance')"
        )
    loaded = tails.get(LOADED)
    if loaded and loaded.p99 > _LOADED_SLOW * warm.p99:
        found.append(
            f"while all cores are busy a step in a hundred takes over {loaded.p99:.1f} times its prediction, "
            f"{warm.p99:.1f} without load: pin the process (taskset) to cores kept free of others (isolcpus)"
        )
    return found


def _of_all(regime: Regime, latency: Latency) -> float:
    """Measured over predicted time of all cells together."""
    predicted_ns = sum(sum(cell.predicted_ns(latency)) for cell in regime.cells)
    return sum(sum(cell.times_ns) for cell in regime.cells) / predicted_ns
