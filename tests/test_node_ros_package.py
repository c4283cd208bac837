"""What colcon and ros2 need: package.xml, setup.py, the launch file on a double of launch, the parameter file."""

from __future__ import annotations

import configparser
import importlib
import re
import runpy
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import anytime
from anytime.node.parameters import parameters_of, read_parameters
from tests.doubles_rclpy import installed
from tests.doubles_rclpy_world import MESSAGES

ROS = Path(__file__).parents[1] / "ros"
PACKAGE = ROS / "anytime_ros"
SOURCES = Path(anytime.__file__).parent / "node" / "ros"


@pytest.mark.parametrize("name", ["anytime_ros", "anytime_msgs"])
def test_package_xml(name: str) -> None:
    """Format 3, with the elements that it requires, each once and in this order, and our version."""
    root = ET.parse(ROS / name / "package.xml").getroot()
    assert (root.tag, root.get("format")) == ("package", "3")
    required = ["name", "version", "description", "maintainer", "license"]
    assert [child.tag for child in root][: len(required)] == required
    assert (root.findtext("name"), root.findtext("version")) == (name, anytime.__version__)
    assert re.fullmatch(r"[^@]+@[^@]+", root.find("maintainer").get("email", ""))  # type: ignore[union-attr]
    assert root.findtext("license") == "Apache-2.0"
    builds = {"anytime_ros": "ament_python", "anytime_msgs": "ament_cmake"}
    assert root.findtext("export/build_type") == builds[name]


def test_every_ros_package_that_is_imported_is_depended_on() -> None:
    """By the node and by the launch file."""
    depended = {it.text for it in ET.parse(PACKAGE / "package.xml").getroot().findall("exec_depend")}
    text = "\n".join(file.read_text(encoding="utf-8") for file in [*SOURCES.glob("*.py"), *PACKAGE.rglob("*.py")])
    imported = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE))
    named = set(re.findall(r"\"(\w+)/(?:msg|srv|action)/", text))
    from anytime.node.messages import ROS_TYPES

    named |= {name.split("/")[0] for name in ROS_TYPES.values()}
    ros = {name for name in imported if name == "rclpy" or name.startswith(("rcl_", "launch", "lifecycle_"))}
    assert ros | named <= depended


def test_setup_installs_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file that it names exists, and the entry point can be loaded where rclpy can."""
    given: dict[str, Any] = {}
    monkeypatch.setattr("setuptools.setup", lambda **kwargs: given.update(kwargs))
    runpy.run_path(str(PACKAGE / "setup.py"))
    assert (given["name"], given["version"]) == ("anytime_ros", anytime.__version__)
    for _, files in given["data_files"]:
        assert all((PACKAGE / file).is_file() for file in files), files
    targets = dict(given["data_files"])
    assert targets["share/ament_index/resource_index/packages"] == ["resource/anytime_ros"]
    assert all((PACKAGE / package / "__init__.py").is_file() for package in given["packages"])
    name, _, path = given["entry_points"]["console_scripts"][0].partition(" = ")
    module, _, function = path.partition(":")
    with installed():
        assert callable(getattr(importlib.import_module(module), function))
    assert name == "node"
    config = configparser.ConfigParser()
    config.read(PACKAGE / "setup.cfg")
    assert config["develop"]["script_dir"] == config["install"]["install_scripts"] == "$base/lib/anytime_ros"


def test_the_parameter_file() -> None:
    """Its parameters exist, have values that they may have, and types that ROS takes for them."""
    given = read_parameters(PACKAGE / "config" / "anytime.yaml", "/anytime")
    made = parameters_of(given)
    assert given
    assert all(type(value) is type(getattr(made, name)) for name, value in given.items())


class Made:
    """Something that the launch file made: its keyword and positional arguments, each of which is known."""

    KNOWN: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        assert kwargs.keys() <= set(self.KNOWN), kwargs.keys() - set(self.KNOWN)
        self.args, self.kwargs = args, kwargs


def made(name: str, *known: str) -> type[Made]:
    return type(name, (Made,), {"KNOWN": known})


def test_the_launch_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts the entry point, configures it, and activates it once it is configured, and only then."""
    node_arguments = ("package", "executable", "name", "namespace", "parameters", "output", "remappings", "arguments")
    contents: dict[str, dict[str, Any]] = {
        "launch": {"LaunchDescription": made("LaunchDescription")},
        "launch.actions": {
            "DeclareLaunchArgument": made("DeclareLaunchArgument", "default_value", "description"),
            "EmitEvent": made("EmitEvent", "event"),
            "RegisterEventHandler": made("RegisterEventHandler"),
        },
        "launch.events": {"matches_action": lambda action: ("matches", action)},
        "launch.substitutions": {"LaunchConfiguration": made("LaunchConfiguration", "default")},
        "launch_ros": {},
        "launch_ros.actions": {"LifecycleNode": made("LifecycleNode", *node_arguments)},
        "launch_ros.event_handlers": {
            "OnStateTransition": made(
                "OnStateTransition", "entities", "target_lifecycle_node", "transition", "start_state", "goal_state"
            )
        },
        "launch_ros.events": {},
        "launch_ros.events.lifecycle": {"ChangeState": made("ChangeState", "lifecycle_node_matcher", "transition_id")},
        "ament_index_python": {},
        "ament_index_python.packages": {"get_package_share_directory": lambda name: f"/share/{name}"},
    }
    for name, names in contents.items():
        module = ModuleType(name)
        for attribute, value in names.items():
            setattr(module, attribute, value)
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("lifecycle_msgs", "lifecycle_msgs.msg"):
        monkeypatch.setitem(sys.modules, name, MESSAGES[name])
    description = runpy.run_path(str(PACKAGE / "launch" / "anytime.launch.py"))["generate_launch_description"]()
    (entities,) = description.args
    kinds = [type(entity).__name__ for entity in entities]
    assert kinds[-3:] == ["RegisterEventHandler", "LifecycleNode", "EmitEvent"]  # the handler is there in time
    handler, node, configure = entities[-3].args[0].kwargs, entities[-2], entities[-1].kwargs["event"].kwargs
    assert (node.kwargs["package"], node.kwargs["executable"]) == ("anytime_ros", "node")
    assert configure == {"lifecycle_node_matcher": ("matches", node), "transition_id": 1}
    assert (handler["target_lifecycle_node"], handler["start_state"], handler["goal_state"]) == (
        node,
        "configuring",
        "inactive",
    )
    activate = handler["entities"][0].kwargs["event"].kwargs
    assert activate == {"lifecycle_node_matcher": ("matches", node), "transition_id": 3}
    declared = {entity.args[0]: entity.kwargs["default_value"] for entity in entities[:-3]}
    assert declared["params_file"] == "/share/anytime_ros/config/anytime.yaml"
    used = [node.kwargs["name"], node.kwargs["namespace"], *node.kwargs["parameters"]]
    assert {it.args[0] for it in used} == declared.keys()


def test_it_says_that_it_was_not_run_on_ros() -> None:
    """Wherever somebody would rely on it."""
    root = ROS.parent
    for file in (root / "docs" / "node.md", SOURCES / "__init__.py", PACKAGE / "package.xml"):
        assert "ot yet run on a real ROS 2" in file.read_text(encoding="utf-8"), file
