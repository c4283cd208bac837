"""A tape as the message Steps, and back."""

from __future__ import annotations

import msgspec

from anytime.node.messages import Header, Steps, Time
from anytime.runtime.isolated.messages import pack_format, unpack_format
from anytime.runtime.tape import Action, Kind, Left, Outcome, Tape, Turn


def steps_of(tape: Tape, stamp: Time) -> Steps:
    """A tape that was shown, recorded at ``stamp``."""
    left = tape.left or Left("", 0, 0, 0, 0, 0)
    return Steps(
        header=Header(stamp),
        request_id=tape.request_id,
        prompt=tape.prompt,
        format=msgspec.json.encode(pack_format(tape.format)).decode(),
        policy=tape.policy,
        min_confidence=tape.min_confidence,
        fallback=tape.fallback,
        submitted_ns=tape.submitted_ns,
        ready_ns=tape.ready_ns,
        position=tape.position,
        during=tape.during,
        cached=tape.cached,
        ended=tape.ended,
        called_off=tape.called_off,
        reason=tape.reason,
        failure=tape.failure,
        turns=[turn.position for turn in tape.turns],
        turns_until_ns=[turn.until_ns for turn in tape.turns],
        waits_ns=tape.waits_ns,
        actions=[int(action.kind) for action in tape.actions],
        actions_tokens=[action.tokens for action in tape.actions],
        actions_context=[action.context for action in tape.actions],
        actions_width=[action.width for action in tape.actions],
        actions_took_ns=[action.took_ns for action in tape.actions],
        actions_outcome=[int(action.outcome) for action in tape.actions],
        actions_reading=[action.reading for action in tape.actions],
        plans=tape.plans,
        plans_action=tape.plans_at,
        left_cut=left.cut,
        left_readings=left.readings,
        left_found=left.found,
        left_thought=left.thought_tokens,
        left_answer=left.answer_tokens,
        left_ns=left.at_ns,
    )


def tape_of(steps: Steps) -> Tape:
    """The tape that a message was made of.

    Raises:
        ValueError: its columns do not belong together, or a number in them means nothing.
    """
    columns = (
        steps.actions,
        steps.actions_tokens,
        steps.actions_context,
        steps.actions_width,
        steps.actions_took_ns,
        steps.actions_outcome,
        steps.actions_reading,
    )
    return Tape(
        request_id=steps.request_id,
        prompt=list(steps.prompt),
        format=unpack_format(msgspec.json.decode(steps.format)),
        policy=steps.policy,
        min_confidence=steps.min_confidence,
        fallback=steps.fallback,
        submitted_ns=steps.submitted_ns,
        ready_ns=steps.ready_ns,
        position=steps.position,
        during=steps.during,
        cached=steps.cached,
        ended=steps.ended,
        called_off=steps.called_off,
        reason=steps.reason,
        failure=steps.failure,
        turns=[Turn(*turn) for turn in zip(steps.turns, steps.turns_until_ns, strict=True)],
        waits_ns=list(steps.waits_ns),
        actions=[
            Action(Kind(kind), tokens, context, width, took_ns, Outcome(outcome), reading)
            for kind, tokens, context, width, took_ns, outcome, reading in zip(*columns, strict=True)
        ],
        plans=list(steps.plans),
        plans_at=list(steps.plans_action),
        left=Left(
            steps.left_cut,
            steps.left_readings,
            steps.left_found,
            steps.left_thought,
            steps.left_answer,
            steps.left_ns,
        ),
    )
