"""Policies by name, as the command line has them: ``deer`` or ``deer:threshold=0.9``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import msgspec

from anytime.errors import UsageError
from anytime.runtime.policies.policy import Policy

# Where each is defined; loaded when first asked for, because most programs use one.
POLICIES = {
    "auto": "auto.Auto",
    "until-deadline": "until.UntilDeadline",
    "fixed": "budget.Fixed",
    "budget-forcing": "budget.BudgetForcing",
    "split": "budget.SplitBudget",
    "predicted-length": "budget.PredictedLength",
    "difficulty": "budget.Difficulty",
    "deer": "adaptive.ConfidenceExit",
    "consensus": "adaptive.Consensus",
    "value": "adaptive.ValueOfComputation",
    "no-thinking": "parallel.NoThinking",
    "self-consistency": "parallel.SelfConsistency",
    "short-first": "parallel.ShortestFirst",
    "best-of": "parallel.BestOf",
    "weighted-vote": "parallel.WeightedVote",
    "width-depth": "parallel.WidthDepth",
    "meta-reasoner": "meta.MetaReasoner",
}
CALIBRATED = frozenset(
    {"value", "predicted-length", "difficulty", "width-depth", "meta-reasoner"}
)  # of no use without a calibration
_EFFORT = "effort"


def policy_named(spec: str, calibrated: bool, efforts: Sequence[str]) -> Policy:
    """The policy of this name and settings; ``effort``, one of the bundle's, is a setting of every one.

    ``auto`` on a bundle that is not calibrated thinks until the deadline.

    Raises:
        UsageError: there is no such policy or setting, or it needs a calibrated bundle.
    """
    name, _, settings = spec.partition(":")
    if name not in POLICIES:
        near = difflib.get_close_matches(name, POLICIES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"there is no policy {name!r}: {hint}the policies are {', '.join(POLICIES)}")
    if name in CALIBRATED and not calibrated:
        raise UsageError(f"the policy {name!r} needs a calibrated bundle: make one with 'anytime calibrate'")
    if name == "auto" and not calibrated:
        name = "until-deadline"
    module, _, kind = POLICIES[name].partition(".")
    policy: type[Any] = getattr(import_module(f"anytime.runtime.policies.{module}"), kind)
    given = _settings(name, policy, settings)
    effort = given.pop(_EFFORT, None)
    if effort is not None and effort not in efforts:
        known = f"it has {', '.join(efforts)}" if len(efforts) > 1 else "it has one only"
        raise UsageError(f"this bundle has no effort {effort!r}: {known}")
    made: Policy = policy(**given)
    if effort is None:
        return made
    from anytime.runtime.policies.effort import AtEffort

    return AtEffort(made, effort)


def _settings(name: str, policy: type[Any], text: str) -> dict[str, Any]:
    """``threshold=0.9,k=4`` as arguments, of the type that each default has."""
    known: dict[str, Any] = {_EFFORT: "", **{field.name: field.default for field in msgspec.structs.fields(policy)}}
    given: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        if key not in known:
            raise UsageError(f"the policy {name!r} has no setting {key!r}: it has {', '.join(known)}")
        try:
            given[key] = type(known[key])(value)
        except ValueError as error:
            raise UsageError(f"the setting {key!r} of the policy {name!r} is {value!r}: give a number") from error
    return given
