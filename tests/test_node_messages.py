"""The message package, held to its mirrors in plain Python and to what ROS tools make of it."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from anytime.node import messages
from anytime.node.messages import ROS_TYPES, STATUS, Asked, Decision, Header, Question, Time, decision_of
from anytime.runtime.answer import Answer, Stopped, Tokens
from anytime.runtime.tape import Kind
from tests.conftest import MS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ros" / "anytime_msgs"
# How Python has the base types of ROS.
BASES: dict[str, type] = {"string": str, "float64": float, "bool": bool, "octet": int, "byte": int}
INTEGERS = {"uint8", "uint32", "int32", "int64", "uint64"}


@pytest.fixture(scope="module")
def store() -> Typestore:
    """ROS 2's types with ours."""
    store = get_typestore(Stores.ROS2_JAZZY)
    found: dict[str, Any] = {}
    for file in (PACKAGE / "msg").glob("*.msg"):
        found.update(get_types_from_msg(file.read_text(encoding="utf-8"), f"anytime_msgs/msg/{file.stem}"))
    question, decision = (PACKAGE / "srv" / "Ask.srv").read_text(encoding="utf-8").split("---")
    found.update(get_types_from_msg(question, "anytime_msgs/msg/Ask_Request"))
    found.update(get_types_from_msg(decision, "anytime_msgs/msg/Ask_Response"))
    action = (PACKAGE / "action" / "Reason.action").read_text(encoding="utf-8").split("---")
    for part, text in zip(("Goal", "Result", "Feedback"), action, strict=True):
        found.update(get_types_from_msg(text, f"anytime_msgs/action/Reason_{part}"))
    store.register(found)
    return store


def test_the_package_stands_at_the_top_level() -> None:
    """``ros/anytime_msgs`` is a relative link to what the wheel ships."""
    assert PACKAGE.is_symlink()
    assert not PACKAGE.readlink().is_absolute()
    assert PACKAGE.resolve() == Path(messages.__file__).parent / "anytime_msgs"


def test_colcon_finds_every_interface() -> None:
    """CMakeLists.txt names every file and no other; package.xml is of format 3 and declares what they use."""
    listed = set(
        re.findall(r'"((?:msg|srv|action)/\w+\.\w+)"', (PACKAGE / "CMakeLists.txt").read_text(encoding="utf-8"))
    )
    assert listed == {
        str(file.relative_to(PACKAGE)) for kind in ("msg", "srv", "action") for file in PACKAGE.glob(f"{kind}/*")
    }
    root = ET.parse(PACKAGE / "package.xml").getroot()
    assert root.get("format") == "3"
    assert root.findtext("name") == "anytime_msgs"
    used = {
        name
        for file in listed
        for name in re.findall(r"^(\w+)/\w+", (PACKAGE / file).read_text(encoding="utf-8"), re.MULTILINE)
    }
    declared = {element.text for element in root.findall("depend")}
    assert used - {"anytime_msgs"} <= declared
    assert "rosidl_interface_packages" in {element.text for element in root.findall("member_of_group")}


def test_the_version_is_the_package_s() -> None:
    """package.xml and anytime agree."""
    import anytime

    assert ET.parse(PACKAGE / "package.xml").getroot().findtext("version") == anytime.__version__


def same(ros: Any, python: Any, store: Typestore) -> bool:
    """Whether a ROS field's type is that of the mirror's field."""
    kind, inner = ros
    if kind.name == "NAME":
        return ROS_TYPES.get(python) == inner
    if kind.name == "BASE":
        return python is int if inner[0] in INTEGERS else BASES[inner[0]] is python
    return same(inner[0], get_args(python)[0], store)


@pytest.mark.parametrize("mirror", ROS_TYPES, ids=lambda mirror: mirror.__name__)
def test_mirrors_have_the_fields_of_the_messages(mirror: type[msgspec.Struct], store: Typestore) -> None:
    """Names, order and types, for ours and for the few of ROS."""
    _, fields = store.fielddefs[ROS_TYPES[mirror]]
    python = {field.name: field for field in msgspec.structs.fields(mirror)}
    assert list(python) == [name for name, _ in fields]
    for name, ros in fields:
        declared = python[name].type
        if getattr(declared, "__origin__", None) is not list and not isinstance(declared, type):
            declared = str  # a Literal
        assert same(ros, declared, store), name


def test_the_status_enum_covers_every_way_to_stop(store: Typestore) -> None:
    """Each of Answer's words is a constant of Decision, with the mirror's number; Steps has the only other enum."""
    constants, _ = store.fielddefs["anytime_msgs/msg/Decision"]
    assert {name.lower(): value for name, _, value in constants} == {"thinking": messages.THINKING, **STATUS}
    assert set(STATUS) == set(get_args(Stopped))
    assert {kind for _, kind, _ in constants} == {"uint8"}
    steps, _ = store.fielddefs["anytime_msgs/msg/Steps"]
    assert {name: value for name, _, value in steps} == {kind.name: kind.value for kind in Kind}
    for ros in ROS_TYPES.values():
        if ros.startswith("anytime_msgs") and not ros.endswith(("Decision", "Steps")):
            assert store.fielddefs[ros][0] == []


def test_the_service_carries_the_messages(store: Typestore) -> None:
    """A question there, a decision back."""
    for part, kind in (("Request", "Question"), ("Response", "Decision")):
        ((name, (_, inner)),) = store.fielddefs[f"anytime_msgs/msg/Ask_{part}"][1]
        assert (name, inner) == (kind.lower(), f"anytime_msgs/msg/{kind}")


def test_the_action_carries_the_messages(store: Typestore) -> None:
    """Goal: question, deadline, minimum confidence; result and feedback are decisions."""
    goal = dict(store.fielddefs["anytime_msgs/action/Reason_Goal"][1])
    assert list(goal) == ["question", "deadline", "min_confidence"]
    assert goal["question"][1] == "anytime_msgs/msg/Question"
    for part in ("Result", "Feedback"):
        ((name, (_, kind)),) = store.fielddefs[f"anytime_msgs/action/Reason_{part}"][1]
        assert (name, kind) == ("decision", "anytime_msgs/msg/Decision")


def answer(**changes: Any) -> Answer:
    fields: dict[str, Any] = {
        "text": "left",
        "stopped": "early",
        "source": "probe",
        "effort": "low",
        "confidence": 0.75,
        "calibrated": True,
        "reason": "because",
        "thought": "ab",
        "tokens": Tokens(prompt=5, thought=7, discarded=2),
        "token_cap": 40,
        "faults": 0,
        "late": False,
        "overrun": False,
        "received_ns": 1,
        "deadline_ns": 2,
        "delivered_ns": 3,
        "request_id": "q",
        "bundle_id": "b",
    }
    return Answer(**{**fields, **changes})


def test_an_answer_becomes_a_decision(store: Typestore) -> None:
    """Times count from the input's stamp, not from when the reasoner was asked; all of it crosses CDR."""
    question = Question(header=Header(Time(5, 6), "base"), trace_id="t", text="what")
    asked = Asked(question, 100 * MS, 300 * MS)
    got = decision_of(answer(), asked, Time(7, 8), 250 * MS)
    assert (got.header, got.input_stamp) == (Header(Time(7, 8), "base"), Time(5, 6))
    assert (got.request_id, got.trace_id, got.bundle_id) == ("q", "t", "b")
    assert (got.status, got.source, got.answer, got.confidence) == (2, "probe", "left", 0.75)
    assert (got.budget_s, got.elapsed_s, got.slack_s, got.late) == (0.2, 0.15, 0.05, False)
    assert (got.tokens_used, got.tokens_planned, got.reason) == (9, 40, "because")
    raw = store.serialize_cdr(rosbags_of(got, store), "anytime_msgs/msg/Decision")
    assert store.deserialize_cdr(raw, "anytime_msgs/msg/Decision").answer == "left"


def rosbags_of(message: msgspec.Struct, store: Typestore) -> Any:
    """A mirror as rosbags' own class, field by field."""
    values = {
        name: rosbags_of(value, store) if isinstance(value, msgspec.Struct) else value
        for name, value in msgspec.structs.asdict(message).items()
    }
    return store.types[ROS_TYPES[type(message)]](**values)


def test_what_is_not_the_model_s_has_no_confidence() -> None:
    """A fallback's is NaN; a decision ready after its deadline says so."""
    asked = Asked(Question(text="what"), 0, 200 * MS)
    got: Decision = decision_of(answer(source="fallback", confidence=0.0), asked, Time(), 201 * MS)
    assert math.isnan(got.confidence)
    assert got.late
    assert got.slack_s == pytest.approx(-0.001)


def test_the_best_so_far_says_that_thinking_goes_on() -> None:
    """Feedback of an action has a status of its own."""
    asked = Asked(Question(text="what"), 0, 200 * MS)
    assert decision_of(answer(), asked, Time(), 1, thinking=True).status == messages.THINKING
