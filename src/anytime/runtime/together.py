"""Questions that arrive together, with one deadline: packed into few prompts where that is sooner, then in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from anytime.errors import UsageError
from anytime.runtime.answer import Answer
from anytime.runtime.answers.formats import AnswerFormat
from anytime.runtime.packing import packable, packed_format, packed_prompt, parts, unpacked
from anytime.runtime.reasoner import Reasoner
from anytime.runtime.request import DEFAULT_FORMAT, Request
from anytime.scheduler.admission import HANDOVER_NS
from anytime.scheduler.clock import NS_PER_S
from anytime.scheduler.deadline import deadline_of
from anytime.scheduler.sharing import kept_ns

if TYPE_CHECKING:
    from typing_extensions import Unpack

_FAST = "fixed:tokens=0"
_CLEARLY = 0.8  # of the time in turn that packing may take: thoughts are longer packed, and forecasts are forecasts


class _Group(msgspec.Struct):
    """Questions (their places in the list) of one prompt, and what answering them takes."""

    places: Sequence[int]
    prompt: str
    answer: AnswerFormat
    floor_ns: int
    thought_ns: int  # from asking to the answer behind a whole thought; the floor, where no thought is wanted or known
    fast: bool = False

    @property
    def need_ns(self) -> int:
        return self.floor_ns if self.fast else self.thought_ns


def answer_together(
    reasoner: Reasoner, prompts: Sequence[str], *, slow: float = 1.0, **request: Unpack[Request]
) -> list[Answer]:
    """An answer for each of several questions, all by one deadline, in their order.

    Questions of one line are packed, as many as the bundle's model was trained for, where the time that this is
    expected to take (or the floor, where the bundle is not calibrated) is clearly less than that of one after the
    other. Groups are answered in turn, each with its share of the time by what it needs, so that time left over goes to
    those behind. The answers of a group share its thought, and its confidence, which is that of all of them being
    right.

    ``slow`` is the mixing factor of System-1.x (2407.14414): the share of the questions, the hardest by the length of
    the thought that is predicted, that are thought about; the others get fast answers, without thought.

    The other arguments and errors are those of ``Reasoner.answer``; ``accept`` is asked of each answer.

    Raises:
        UsageError: there is no question, or ``slow`` is no share.
    """
    if not prompts:
        raise UsageError("there is no question: give one or more")
    if not 0.0 <= slow <= 1.0:
        raise UsageError(f"slow is {slow}: it must be between 0 and 1")
    clock = reasoner.clock
    received_ns = clock.now()
    deadline_ns = deadline_of(received_ns, request.pop("budget", None), request.pop("deadline", None))
    answer_format = request.get("answer", DEFAULT_FORMAT)
    groups = _groups(reasoner, prompts, answer_format, slow)
    answers: dict[int, Answer] = {}
    for i, group in enumerate(groups):
        asked: Request = {**request, "answer": group.answer}
        floors, needs = [g.floor_ns for g in groups[i:]], [g.need_ns for g in groups[i:]]
        asked["deadline"] = (deadline_ns - kept_ns(floors, needs, deadline_ns - clock.now())) / NS_PER_S
        if group.fast:
            asked["policy"] = _FAST
        if (accept := request.get("accept")) is not None and len(group.places) > 1:
            asked["accept"] = _each(accept, answer_format, len(group.places))
        found = unpacked(reasoner.answer(group.prompt, **asked), answer_format, len(group.places))
        answers |= zip(group.places, found, strict=True)
    return [answers[i] for i in range(len(prompts))]


def _groups(reasoner: Reasoner, prompts: Sequence[str], answer: AnswerFormat, slow: float) -> list[_Group]:
    alone = [_group(reasoner, [i], prompt, answer) for i, prompt in enumerate(prompts)]
    hardest = sorted(range(len(prompts)), key=lambda i: alone[i].thought_ns, reverse=True)
    for i in hardest[math.ceil(slow * len(prompts)) :]:
        alone[i].fast = True
    most = reasoner.bundle.manifest.chat.packs if all(map(packable, prompts)) else 1
    groups: list[_Group] = []
    for fast in (True, False):
        of_kind = [group for group in alone if group.fast == fast]
        for start in range(0, len(of_kind), most):
            groups += _packed(reasoner, of_kind[start : start + most], answer, fast)
    return groups


def _group(reasoner: Reasoner, places: Sequence[int], prompt: str, answer: AnswerFormat) -> _Group:
    costs = reasoner.costs(prompt, answer)
    thought_s = costs.floor_s if costs.thought_s is None else costs.thought_s
    return _Group(places, prompt, answer, round(NS_PER_S * costs.floor_s), round(NS_PER_S * thought_s))


def _packed(reasoner: Reasoner, alone: Sequence[_Group], answer: AnswerFormat, fast: bool) -> Sequence[_Group]:
    """These questions as one group, where that can be and takes less time."""
    several = packed_format(answer, len(alone)) if len(alone) > 1 else None
    if several is None:
        return alone
    prompt = packed_prompt([group.prompt for group in alone])
    floor_ns = round(NS_PER_S * reasoner.floor(prompt, several))
    thinking_ns = sum(group.thought_ns - group.floor_ns for group in alone)  # one after the other, packed or not
    places = [i for group in alone for i in group.places]
    together = _Group(places, prompt, several, floor_ns, floor_ns + thinking_ns, fast)
    around_ns = HANDOVER_NS + reasoner.profile.delivery_ns  # no more than bounds of what is seldom taken: once will do
    in_turn_ns = sum(group.need_ns - around_ns for group in alone) + around_ns
    return [together] if together.need_ns < _CLEARLY * in_turn_ns else alone


def _each(accept: Callable[[str], bool], answer: AnswerFormat, count: int) -> Callable[[str], bool]:
    return lambda text: all(map(accept, parts(text, answer, count)))
