"""The node's topics by their full names, and the quality of service of each.

What is offered is strict, so that readers may ask for it; what is asked for is lax, so that every writer matches.
"""

from __future__ import annotations

from anytime.node.messages import Decision, DiagnosticArray, Kept, Question, Scene, Session, Steps, Time, Trace
from anytime.node.parameters import Parameters
from anytime.node.transport import Qos, Topic, Topics
from anytime.scheduler.clock import seconds_to_ns

_LAX = Qos(reliable=False, depth=10)


def topics_of(parameters: Parameters, node: str) -> Topics:
    """The topics of a node of this full name."""
    decisions = Qos(
        reliable=True,
        deadline_ns=seconds_to_ns(parameters.period_s),
        lifespan_ns=seconds_to_ns(parameters.budget_s),
    )
    return Topics(
        question=Topic(full_name(parameters.question_topic, node), Question, _LAX),
        scene=Topic(full_name(parameters.scene_topic, node), Scene, _LAX),
        clock=Topic("/clock", Time, _LAX) if parameters.use_sim_time else None,
        decision=Topic(full_name(parameters.decision_topic, node), Decision, decisions),
        trace=Topic(full_name(parameters.trace_topic, node), Trace, Qos(reliable=False, depth=10)),
        diagnostics=Topic("/diagnostics", DiagnosticArray, Qos(reliable=True)),
    )


def record_topic(message: Kept, node: str) -> Topic | None:
    """The topic of a message that only a record has; None for the others."""
    if isinstance(message, (Session, Steps)):
        kind = type(message)
        return Topic(f"{node}/{kind.__name__.lower()}", kind, Qos(reliable=True))
    return None


def full_name(topic: str, node: str) -> str:
    """``~/x`` is the node's own, ``x`` stands in its namespace, ``/x`` is full already."""
    if topic.startswith("/"):
        return topic
    if topic.startswith("~/"):
        return f"{node}/{topic[2:]}"
    return f"{node.rpartition('/')[0]}/{topic}"
