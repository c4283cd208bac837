"""The Foxglove layout, held to the topics and fields that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from anytime.node import messages
from anytime.node.parameters import Parameters
from anytime.node.topics import topics_of

LAYOUT = Path(__file__).parents[1] / "examples" / "foxglove" / "anytime.json"
TOPICS = {
    topic.name: topic.message for topic in msgspec.structs.asdict(topics_of(Parameters(), "/anytime")).values() if topic
}


def panels(layout: Any) -> Iterator[str]:
    """The panels of a layout's tree, each once."""
    if isinstance(layout, str):
        yield layout
    else:
        yield from panels(layout["first"])
        yield from panels(layout["second"])


def paths(value: Any) -> Iterator[str]:
    """Everything in a panel that names a topic."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("value", "topicPath", "topicToRender"):
                yield inner
            else:
                yield from paths(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner)


def leads(path: str) -> bool:
    """Whether a message path leads to a topic of the node, and to a field of its message."""
    match = re.fullmatch(r"(/[a-z_/]+)((?:\.[a-z_]+)*)", path)
    if match is None or match.group(1) not in TOPICS:
        return False
    kind: Any = TOPICS[match.group(1)]
    for name in match.group(2).split(".")[1:]:
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return False
        hints = get_type_hints(kind, vars(messages))
        if name not in hints:
            return False
        kind = hints[name]
    return True


def test_the_layout_names_what_there_is() -> None:
    """Every message path leads to a field, and every panel is in the tree once."""
    layout = json.loads(LAYOUT.read_text(encoding="utf-8"))
    found = list(paths(layout["configById"]))
    assert len(found) > 10
    assert [path for path in found if not leads(path)] == []
    assert sorted(panels(layout["layout"])) == sorted(layout["configById"])


def test_the_layout_has_the_deadline_timeline() -> None:
    """Status as states, slack beside the budget, the messages, and diagnostics."""
    by_kind: dict[str, list[str]] = {}
    for panel, config in json.loads(LAYOUT.read_text(encoding="utf-8"))["configById"].items():
        by_kind.setdefault(panel.split("!")[0], []).extend(paths(config))
    assert "/anytime/decision.status" in by_kind["StateTransitions"]
    assert {"/anytime/trace.slack_s", "/anytime/trace.budget_s"} <= set(by_kind["Plot"])
    assert {"/anytime/decision", "/anytime/trace"} <= set(by_kind["RawMessages"])
    assert by_kind["DiagnosticSummary"] == ["/diagnostics"]


def test_the_walk_sees_a_wrong_path() -> None:
    """A topic or a field that is not there leads nowhere."""
    assert leads("/anytime/decision.header.stamp.sec")
    for path in ("/anytime/decision.slack", "/anytime/answer", "/anytime/decision.status.value", "decision.status"):
        assert not leads(path)
