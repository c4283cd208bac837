"""The types of messages as ROS 2 defines them: Jazzy's, and ours from the ``.msg`` files that the package ships."""

from __future__ import annotations

import functools
from importlib import resources

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

CLOCK = "rosgraph_msgs/msg/Clock"
_PACKAGE = "anytime_msgs"


@functools.cache
def store() -> Typestore:
    """One for all, with everything that ``anytime_msgs`` holds."""
    found = get_typestore(Stores.ROS2_JAZZY)
    for file in (resources.files("anytime.node") / _PACKAGE / "msg").iterdir():
        name = f"{_PACKAGE}/msg/{file.name.removesuffix('.msg')}"
        found.register(get_types_from_msg(file.read_text(encoding="utf-8"), name))
    return found
