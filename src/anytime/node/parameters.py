"""The node's parameters: declared once, with their bounds and what they are for, and read from a ROS 2 file.

Their names are flat, and what ROS calls read-only is read-only once the node is configured.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from anytime.errors import AnswerFormatError, ParameterError
from anytime.runtime.answers.formats import AnswerFormat, Choices, JsonSchema, Regex, Text
from anytime.runtime.engine import EngineName
from anytime.runtime.intake import Overload

Value: TypeAlias = "bool | int | float | str | list[str]"
Seconds: TypeAlias = Annotated[float, Meta(ge=0.0, le=86_400.0)]
Span: TypeAlias = Annotated[float, Meta(ge=0.001, le=86_400.0)]
Probability: TypeAlias = Annotated[float, Meta(ge=0.0, le=1.0)]
TopicName: TypeAlias = Annotated[str, Meta(pattern=r"^(~/|/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$")]

ACTIONS = ("LANE_LEFT", "IDLE", "LANE_RIGHT", "FASTER", "SLOWER")


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every parameter, with its default. Times are in seconds."""

    use_sim_time: Annotated[bool, Meta(description="Stamps are in the time of /clock, not the system's.")] = False
    bundle: Annotated[str, Meta(description="Directory of the model; empty: the reference reasoner.")] = ""
    threads: Annotated[int, Meta(ge=0, le=1024, description="Threads of the engine; 0: all cores but one.")] = 0
    engine: Annotated[
        EngineName, Meta(description="What runs it: onnxruntime, or on a GPU tensorrt, cuda or tensorrt-rtx.")
    ] = "onnxruntime"
    isolated: Annotated[bool, Meta(description="Think in a process of its own.")] = False
    speculate: Annotated[bool, Meta(description="Let the thought guess ahead where it pays.")] = False
    overload: Annotated[Overload, Meta(description="Who gives way when a topic and goals do not all fit.")] = "degrade"
    budget_s: Annotated[Span, Meta(description="From the stamp to the deadline, if none is given.")] = 0.2
    margin_s: Annotated[Seconds, Meta(description="Of each budget, kept back for publishing and the network.")] = 0.002
    period_s: Annotated[
        Span, Meta(description="How often input comes: offered as the deadline of decisions, and watched.")
    ] = 0.2
    policy: Annotated[str, Meta(description="How the time is spent, as anytime run --policy has it.")] = "auto"
    min_confidence: Annotated[Probability, Meta(description="Answers below it give way to the fallback.")] = 0.0
    fallback: Annotated[str, Meta(description="The answer where the model has none in time.")] = ""
    choices: Annotated[list[str], Meta(description="Answers to questions that bring no choices; empty: others.")] = []
    regex: Annotated[str, Meta(description="Or a pattern that they match.")] = ""
    schema: Annotated[str, Meta(description="Or the JSON schema that they follow, as text.")] = ""
    max_tokens: Annotated[int, Meta(ge=1, le=4096, description="Longest of these answers, or of free text.")] = 16
    actions: Annotated[list[str], Meta(description="Answers to scenes.")] = msgspec.field(
        default_factory=lambda: list(ACTIONS)
    )
    max_text: Annotated[int, Meta(ge=1, le=1_000_000, description="Characters of the longest question.")] = 65_536
    max_vehicles: Annotated[int, Meta(ge=1, le=10_000, description="Vehicles of the largest scene.")] = 64
    max_goals: Annotated[int, Meta(ge=1, le=32, description="Actions under way at a time.")] = 4
    stamp_tolerance_s: Annotated[Seconds, Meta(description="How far in the future a stamp may be.")] = 0.005
    warm_up: Annotated[int, Meta(ge=1, le=10_000, description="Questions asked on activation, for up to 10 s.")] = 100
    warm_up_question: Annotated[str, Meta(description="What is asked then; empty: a scene of 12 vehicles.")] = ""
    warn_share: Annotated[Probability, Meta(description="Bad decisions or inputs of 10 s above which to warn.")] = 0.0
    error_share: Annotated[Probability, Meta(description="And above which it is an error.")] = 0.1
    trace: Annotated[bool, Meta(description="Publish a trace of every decision.")] = True
    record: Annotated[str, Meta(description="Record to this directory, a rosbag2 of MCAP; empty: record nothing.")] = ""
    question_topic: Annotated[TopicName, Meta(description="Where questions come from.")] = "~/question"
    scene_topic: Annotated[TopicName, Meta(description="Where scenes come from.")] = "~/scene"
    decision_topic: Annotated[TopicName, Meta(description="Where decisions go.")] = "~/decision"
    trace_topic: Annotated[TopicName, Meta(description="Where traces go.")] = "~/trace"

    def format(self) -> AnswerFormat:
        """What answers to questions look like that bring no choices of their own.

        Raises:
            ParameterError: several are given, or one that cannot be.
        """
        given = [name for name in ("choices", "regex", "schema") if getattr(self, name)]
        if len(given) > 1:
            raise ParameterError(f"the parameters {' and '.join(given)} are given: give one of them")
        try:
            if self.choices:
                return Choices(*self.choices)
            if self.regex:
                return Regex(self.regex, self.max_tokens)
            return JsonSchema(self.schema, self.max_tokens) if self.schema else Text(self.max_tokens)
        except AnswerFormatError as error:
            raise ParameterError(f"the parameter {given[0]} cannot be used: {error}") from error

    def scene_format(self) -> AnswerFormat:
        """What answers to scenes look like.

        Raises:
            ParameterError: there are fewer than two actions, or some twice.
        """
        try:
            return Choices(*self.actions)
        except AnswerFormatError as error:
            raise ParameterError(f"the parameter actions cannot be used: {error}") from error


# These may change while the node is configured.
LIVE = frozenset({"margin_s", "min_confidence", "fallback", "warn_share", "error_share", "trace"})


def parameters_of(given: Mapping[str, Any], base: Parameters | None = None) -> Parameters:
    """Parameters of these values, the others as in ``base`` or their defaults.

    Raises:
        ParameterError: one does not exist, or cannot have its value.
    """
    known = Parameters.__struct_fields__
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ParameterError(f"there is no parameter {name!r}: {hint}")
    values = {**({} if base is None else msgspec.structs.asdict(base)), **given}
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ParameterError(f"the parameter {name} is {value!r}: give a finite number")
    try:
        made = msgspec.convert(values, Parameters)
    except msgspec.ValidationError as error:
        raise ParameterError(f"a parameter cannot have its value: {error}") from error
    _check(made)
    return made


def _check(parameters: Parameters) -> None:
    """What no single parameter shows."""
    parameters.format()
    parameters.scene_format()
    if parameters.margin_s >= parameters.budget_s:
        raise ParameterError(
            f"margin_s is {parameters.margin_s}, no less than budget_s, {parameters.budget_s}: no time is left to think"
        )
    if parameters.warn_share > parameters.error_share:
        raise ParameterError(
            f"warn_share is {parameters.warn_share}, above error_share, {parameters.error_share}: exchange them"
        )


def changed(parameters: Parameters, given: Mapping[str, Any], configured: bool) -> Parameters:
    """Parameters with some changed.

    Raises:
        ParameterError: as ``parameters_of``; or the node is configured, and one of them is read-only then.
    """
    fixed = sorted(given.keys() - LIVE) if configured else []
    if fixed and not given.keys() - set(Parameters.__struct_fields__):
        raise ParameterError(f"the parameter {fixed[0]} is read-only while the node is configured: clean it up first")
    return parameters_of(given, parameters)


class Declared(msgspec.Struct, frozen=True):
    """A parameter as ROS declares it."""

    name: str
    default: Value
    description: str
    read_only: bool  # once configured
    bounds: tuple[float, float] | None


def declared() -> list[Declared]:
    """All parameters, in their order."""
    defaults, found = Parameters(), []
    for field in msgspec.inspect.type_info(Parameters).fields:  # type: ignore[attr-defined]
        inner = field.type.type if isinstance(field.type, msgspec.inspect.Metadata) else field.type
        schema = getattr(field.type, "extra_json_schema", None) or {}
        low, high = getattr(inner, "ge", None), getattr(inner, "le", None)
        found.append(
            Declared(
                field.name,
                getattr(defaults, field.name),
                schema.get("description", ""),
                field.name not in LIVE,
                None if low is None or high is None else (low, high),
            )
        )
    return found


def read_parameters(file: Path, node: str) -> dict[str, Any]:
    """What a ROS 2 parameter file says for the node of this full name, like ``/anytime``; later sections win.

    Raises:
        ParameterError: it cannot be read, or is no parameter file.
    """
    try:
        sections = msgspec.yaml.decode(file.read_bytes())
    except ImportError as error:
        raise ParameterError(f"reading {file} takes PyYAML: pip install 'anytime[node]'") from error
    except (OSError, msgspec.DecodeError) as error:
        raise ParameterError(f"the parameter file {file} cannot be read: {error}") from error
    given: dict[str, Any] = {}
    if not isinstance(sections, dict):
        raise ParameterError(f"{file} is no parameter file: begin with '/**:' and 'ros__parameters:' below it")
    for name, section in sections.items():
        if not isinstance(section, dict) or not isinstance(section.get("ros__parameters"), dict):
            raise ParameterError(f"{file} has no 'ros__parameters:' below {name!r}: put parameters below that")
        if str(name).lstrip("/") in ("**", "*", node.lstrip("/")):
            given.update(section["ros__parameters"])
    return given
