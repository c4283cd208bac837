"""Targets: devices and their settings, one TOML each, and what the host says it is."""

from anytime.targets.host import Clocks, Host, available_bytes, clocks, detect, memory_bytes
from anytime.targets.target import Target, load_targets

__all__ = ["Clocks", "Host", "Target", "available_bytes", "clocks", "detect", "load_targets", "memory_bytes"]
