"""Targets: devices and their settings, one TOML each, and what the host says it is."""

from anytime.targets.host import Host, detect
from anytime.targets.target import Target, load_targets

__all__ = ["Host", "Target", "detect", "load_targets"]
