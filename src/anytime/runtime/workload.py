"""What a periodic task asks of a bundle on a device: costs from the latency profile, worth from the forecast."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from anytime.errors import PromptError, TaskFileError
from anytime.runtime.answers.compiling import compile_format
from anytime.runtime.answers.formats import AnswerFormat
from anytime.runtime.forecast import UNKNOWN, Forecast
from anytime.runtime.prompt import Codec
from anytime.scheduler.admission import ThoughtLimits, Work, floor_ns, longest_stretch_ns, thought_ns
from anytime.scheduler.profile import LatencyProfile
from anytime.scheduler.taskset import Task, stages_of

_PARTS, _MOST_PARTS = 16, 24  # of the expected length of a thought, up to which so many are looked at


class PeriodicTask(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a task file. ``prompt``: a question, or the tokens of a whole prompt with the chat's frame around it."""

    name: str
    period_ns: int
    deadline_ns: int
    phase_ns: int
    prompt: str | int
    answer: AnswerFormat
    priority: int
    min_quality: float | None


def task_of(
    asked: PeriodicTask, codec: Codec, profile: LatencyProfile, forecast: Forecast | None, max_context: int
) -> Task:
    """The task as the scheduler sees it: nothing cached, every run at its upper bound.

    ``forecast`` None, or of no answers of this kind: nothing is known of its quality, and it has no optional stages.

    Raises:
        PromptError: the prompt cannot be encoded, or is too long for the context, or shorter than its frame.
        AnswerFormatError: nothing can match the answer's format, or its length is not bounded.
        TaskFileError: a quality is asked for of which nothing is known.
    """
    answer = compile_format(asked.answer, codec)
    prompt_tokens = _prompt_tokens(asked.prompt, codec)
    work = Work(prompt_tokens, 0, len(codec.close_ids), answer.answer_steps, max_context)
    if prompt_tokens + work.close_tokens + max(1, work.answer_steps) > max_context:
        raise PromptError(
            f"the prompt has {prompt_tokens} tokens and the answer up to {work.answer_steps + 1}, "
            f"more than the model's context of {max_context}: shorten one of them"
        )
    task = Task(
        name=asked.name,
        period_ns=asked.period_ns,
        deadline_ns=asked.deadline_ns,
        phase_ns=asked.phase_ns,
        priority=asked.priority,
        cost_ns=floor_ns(work, profile),
        run_ns=longest_stretch_ns(work, profile, ThoughtLimits(max_context, codec.reframings(prompt_tokens))),
        min_quality=asked.min_quality or 0.0,
    )
    if forecast is None or any(answer.kind not in curve.length for curve in forecast.calibration.efforts.values()):
        if asked.min_quality is not None:
            raise TaskFileError(
                f"min_quality is {asked.min_quality}, and the bundle is not calibrated with answers of the kind "
                f"{answer.kind!r}: calibrate it with such questions ('anytime calibrate'), or leave min_quality out"
            )
        return task
    quality = forecast.fresh(UNKNOWN, prompt_tokens, answer.kind, codec.effort, 0)
    stages = stages_of(quality, _thoughts(work, answer.kind, codec, profile, forecast))
    return msgspec.structs.replace(task, quality=quality, stages=stages)


def _prompt_tokens(prompt: str | int, codec: Codec) -> int:
    if isinstance(prompt, str):
        codec.check(prompt)
        return len(codec.encode(prompt))
    frame = len(codec.encode("?")) - len(codec.encode_text("?"))
    if prompt <= frame:
        raise PromptError(
            f"prompt_tokens is {prompt}: the chat's frame alone has {frame}, and the question comes on top"
        )
    return prompt


def _thoughts(
    work: Work, kind: str, codec: Codec, profile: LatencyProfile, forecast: Forecast
) -> Iterator[tuple[int, float, int, str]]:
    """Thoughts of every effort: cost, quality, tokens, effort."""
    latency = profile.latency()
    for effort in codec.efforts:
        framing, same, again = [0], work.prompt_tokens, 0
        if effort != codec.effort:
            same, again = codec.reframing(work.prompt_tokens, codec.effort, effort)
            sizes = profile.chunks(again, 1)
            framing = [latency.upper_ns(size, same + sum(sizes[:i])) for i, size in enumerate(sizes)]
        reframed = msgspec.structs.replace(work, prompt_tokens=same + again)
        room = work.max_context - 2 - reframed.prompt_tokens - work.close_tokens - work.answer_steps
        expected = forecast.length(work.prompt_tokens, kind, effort)
        lengths = {min(room, math.ceil(part * expected / _PARTS)) for part in range(1, _MOST_PARTS + 1)}
        for tokens in sorted(length for length in lengths if length > 0):
            yield (
                sum(framing) + thought_ns(reframed, tokens, profile),
                forecast.fresh(UNKNOWN, work.prompt_tokens, kind, effort, tokens),
                tokens,
                effort,
            )
