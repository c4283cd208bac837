"""What a periodic task costs and brings: closed forms over a profile and a forecast that are known exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from anytime.bundle import Chat, Frame
from anytime.errors import AnswerFormatError, PromptError, TaskFileError
from anytime.runtime.answers.formats import Choices, Regex, Text
from anytime.runtime.forecast import UNKNOWN, Forecast, fresh_terms
from anytime.runtime.prompt import Codec
from anytime.runtime.workload import PeriodicTask, task_of
from anytime.scheduler.admission import HANDOVER_NS, ThoughtLimits, Work, floor_ns, longest_stretch_ns, thought_ns
from anytime.scheduler.profile import LatencyProfile
from tests.conftest import MS, write_bundle
from tests.doubles import flat_curve, flat_forecast

MOST = 256  # tokens of the tiny bundle's context


def asked(**changes: Any) -> PeriodicTask:
    fields: dict[str, Any] = {
        "name": "one",
        "period_ns": 100 * MS,
        "deadline_ns": 80 * MS,
        "phase_ns": 5 * MS,
        "prompt": "abc",
        "answer": Choices("left", "right"),
        "priority": 3,
        "min_quality": None,
    }
    return PeriodicTask(**{**fields, **changes})


def rising(length: int = 40) -> Forecast:
    """Right with probability 0.5 without thought, and the likelier the longer it is."""
    flat = flat_forecast(0.5, length)
    curve = flat.calibration.efforts[""]
    first_bend = len(fresh_terms(0.5, "text", 1, 1.0)) - 3 * 5
    fresh = tuple(2.0 if i == first_bend else weight for i, weight in enumerate(curve.fresh))
    efforts = {"": msgspec.structs.replace(curve, fresh=fresh)}
    return Forecast(msgspec.structs.replace(flat.calibration, efforts=efforts))


def test_the_mandatory_part_is_the_floor(codec: Codec, profile: LatencyProfile) -> None:
    """Prefill, instant answer, handing over and delivery of the question's tokens; times and priority as asked."""
    task = task_of(asked(), codec, profile, None, MOST)
    work = Work(len(codec.encode("abc")), 0, 1, 0, MOST)
    assert task.cost_ns == floor_ns(work, profile)
    assert task.cost_ns == HANDOVER_NS + profile.latency().upper_ns(work.prompt_tokens + 1, 0) + profile.delivery_ns
    assert (task.period_ns, task.deadline_ns, task.phase_ns, task.priority) == (100 * MS, 80 * MS, 5 * MS, 3)


def test_a_number_of_tokens_is_the_whole_prompt(codec: Codec, profile: LatencyProfile) -> None:
    """As long as the question's, it costs the same."""
    tokens = len(codec.encode("abc"))
    assert task_of(asked(prompt=tokens), codec, profile, None, MOST) == task_of(asked(), codec, profile, None, MOST)


def test_what_cannot_be_interrupted_is_that_of_a_whole_thought(codec: Codec, profile: LatencyProfile) -> None:
    """Granted or not, a job may think to the end of its context; a forecast changes nothing of it."""
    work = Work(len(codec.encode("abc")), 0, 1, 0, MOST)
    for forecast in (None, rising()):
        task = task_of(asked(), codec, profile, forecast, MOST)
        assert task.run_ns == longest_stretch_ns(work, profile, ThoughtLimits(MOST))
        assert task.run_ns >= 8 * profile.latency().upper_ns(1, work.prompt_tokens + 60)


def test_uncalibrated_means_no_quality_and_no_stages(codec: Codec, profile: LatencyProfile) -> None:
    """Nothing is made up: without a forecast, or of another kind of answers, there is only the mandatory part."""
    numbers_only = rising()
    curve = numbers_only.calibration.efforts[""]
    known = msgspec.structs.replace(curve, length={"grammar": curve.length["grammar"]})
    numbers_only = Forecast(msgspec.structs.replace(numbers_only.calibration, efforts={"": known}))
    for forecast in (None, numbers_only):
        task = task_of(asked(), codec, profile, forecast, MOST)
        assert (task.quality, task.stages) == (None, ())
        with pytest.raises(TaskFileError, match="anytime calibrate"):
            task_of(asked(min_quality=0.5), codec, profile, forecast, MOST)


def test_stages_cost_what_admission_says_and_bring_what_the_forecast_says(
    codec: Codec, profile: LatencyProfile
) -> None:
    """Each stage is a thought of the forecast at its predicted cost; together they reach the longest."""
    forecast = rising()
    task = task_of(asked(min_quality=0.6), codec, profile, forecast, MOST)
    work = Work(len(codec.encode("abc")), 0, 1, 0, MOST)
    assert task.quality == pytest.approx(0.5)
    assert task.stages
    assert task.min_quality == 0.6
    for number, stage in enumerate(task.stages, 1):
        assert task.thought_ns(number) == thought_ns(work, stage.tokens, profile)
        assert stage.quality == forecast.fresh(UNKNOWN, work.prompt_tokens, "choices", "", stage.tokens)
    assert task.stages[-1].tokens == 60  # one and a half times the expected length


def test_thought_stays_in_the_context(codec: Codec, profile: LatencyProfile) -> None:
    """Where the prompt leaves room for few tokens, no stage has more; where for none, there are no stages."""
    task = task_of(asked(prompt=230), codec, profile, rising(), MOST)
    assert 0 < max(stage.tokens for stage in task.stages) <= MOST - 230 - 1 - 2
    full = task_of(asked(prompt=254), codec, profile, rising(), MOST)
    assert full.stages == ()
    assert full.quality == pytest.approx(0.5)


def test_another_effort_is_asked_for_and_paid(tmp_path: Path, profile: LatencyProfile) -> None:
    """Changing the prompt's effort costs a run of what differs, at its upper bound, ahead of the thought."""
    low, high = Frame("", "y<think>"), Frame("", "x<think>")
    chat = Chat("", "", high, "</think>", (1,), {"low": low, "high": high})
    codec = Codec(write_bundle(tmp_path / "efforts", chat=chat))
    curves = {"low": flat_curve(0.5, 40, 0.9), "high": flat_curve(0.5, 40, 0.6)}
    forecast = Forecast(msgspec.structs.replace(flat_forecast(0.5, 40).calibration, efforts=curves))
    task = task_of(asked(prompt="what"), codec, profile, forecast, MOST)
    work = Work(len("what") + 2, 0, 1, 0, MOST)
    (stage,) = task.stages
    assert (stage.effort, stage.tokens) == ("low", 3)  # the least that is looked at, as more brings no more
    assert stage.cost_ns == profile.latency().upper_ns(2, len("what")) + thought_ns(work, 3, profile)
    assert task.quality == pytest.approx(0.6)  # of the bundle's own effort


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        ({"prompt": 256}, PromptError, "256 tokens"),
        ({"prompt": 250, "answer": Text(16)}, PromptError, "context"),
        ({"prompt": "a" * 300}, PromptError, "302|301"),
        ({"prompt": 1}, PromptError, "frame alone has 1"),
        ({"prompt": " "}, PromptError, "empty"),
        ({"answer": Text(0)}, AnswerFormatError, "at least 1"),
        ({"answer": Regex("a*")}, AnswerFormatError, "no longest match"),
    ],
)
def test_what_can_never_be_asked_is_refused(
    changes: dict[str, Any], error: type[Exception], complaint: str, codec: Codec, profile: LatencyProfile
) -> None:
    """A prompt that does not fit its context or its frame, and a format without an answer, are named."""
    with pytest.raises(error, match=complaint):
        task_of(asked(**changes), codec, profile, None, MOST)
