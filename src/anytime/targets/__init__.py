"""Targets: devices and their settings, one TOML each, and what the host says it is."""

from anytime.targets.condition import Condition, condition, here, recognized
from anytime.targets.host import Clocks, Host, available_bytes, clocks, detect, memory_bytes
from anytime.targets.reading import Reading, slowdown
from anytime.targets.target import Target, load_targets, target_named

__all__ = [
    "Clocks",
    "Condition",
    "Host",
    "Reading",
    "Target",
    "available_bytes",
    "clocks",
    "condition",
    "detect",
    "here",
    "load_targets",
    "memory_bytes",
    "recognized",
    "slowdown",
    "target_named",
]
