"""The policies that are compared, each with the settings it is tuned over on the calibration questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anytime.runtime.policies.adaptive import ConfidenceExit, Consensus, ValueOfComputation
from anytime.runtime.policies.auto import Auto
from anytime.runtime.policies.budget import BudgetForcing, Difficulty, Fixed, PredictedLength, SplitBudget
from anytime.runtime.policies.effort import AtEffort
from anytime.runtime.policies.meta import MetaReasoner
from anytime.runtime.policies.parallel import (
    BestOf,
    NoThinking,
    SelfConsistency,
    ShortestFirst,
    WeightedVote,
    WidthDepth,
)
from anytime.runtime.policies.policy import Policy
from anytime.runtime.policies.until import UntilDeadline

AUTO = "auto"
_CUTS = (0, 32, 64, 128, 512)

# At a deadline that binds, tuned for the mean accuracy over the budgets.
_AUTO: Sequence[Policy] = [Auto(cost, sure) for cost in (0.0, 3e-5, 1e-4) for sure in (0.99, 0.995, 0.999, 0.9998)]
_BASELINES: Mapping[str, Sequence[Policy]] = {
    "until-deadline": [UntilDeadline()],
    "fixed": [Fixed(tokens) for tokens in _CUTS],
    "budget-forcing": [BudgetForcing()],
    "split": [SplitBudget(share) for share in (0.5, 0.9)],
    "predicted-length": [PredictedLength(k) for k in (0.75, 1.0, 1.5)],
    "difficulty": [Difficulty(stretch) for stretch in (0.5, 1.0, 2.0)],
    "deer": [ConfidenceExit(threshold) for threshold in (0.9, 0.97, 0.999)],
    "consensus": [Consensus(probes) for probes in (3, 8)],
    "value": [ValueOfComputation(cost) for cost in (0.0, 1e-4)],
    "no-thinking": [NoThinking(k) for k in (1, 8)],
    "self-consistency": [SelfConsistency(k) for k in (2, 8)],
    "esc": [SelfConsistency(k, "window") for k in (2, 4)],
    "adaptive-consistency": [SelfConsistency(k, "posterior") for k in (4, 8)],
    "short-first": [ShortestFirst(m, k) for m, k in ((1, 2), (3, 4))],
    "best-of": [BestOf(k) for k in (2, 8)],
    "weighted-vote": [WeightedVote(k) for k in (2, 8)],
    "meta-reasoner": [MetaReasoner()],
    "width-depth": [WidthDepth(slack) for slack in (1.0, 1.25)],
}

# At a loose deadline, tuned for the fewest tokens at the accuracy of the whole thought.
_COSTS = (1e-5, 2e-5, 3e-5, 5e-5, 7e-5, 1e-4, 1.5e-4, 2e-4, 3e-4, 5e-4, 1e-3)
_THRESHOLDS = (0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999)
# Whoever stops at a probability of 98 % is right in 98 %, and cannot keep the accuracy of a thought that is in 99 %.
_AUTO_SAVERS: Sequence[Policy] = [
    Auto(cost, sure) for cost in (5e-5, 1e-4, 1.5e-4, 2e-4, 3e-4) for sure in (0.995, 0.998, 0.999, 0.9995, 0.9998)
]
_SAVERS: Mapping[str, Sequence[Policy]] = {
    "fixed": [Fixed(tokens) for tokens in (*_CUTS, 96, 192, 256, 320, 384)],
    "predicted-length": [PredictedLength(k) for k in (0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5)],
    "difficulty": [Difficulty(stretch) for stretch in (0.25, 0.5, 0.75, 1.0)],
    "deer": [ConfidenceExit(threshold) for threshold in _THRESHOLDS],
    "consensus": [Consensus(probes) for probes in (2, 3, 4, 5, 6, 8, 10, 12, 16)],
    "value": [ValueOfComputation(cost) for cost in _COSTS],
    "short-first": [ShortestFirst(1, 2)],
    "meta-reasoner": [MetaReasoner()],
}
_CUTS_FINELY: Sequence[Policy] = [Fixed(tokens) for tokens in (0, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384)]


def contenders(efforts: Sequence[str]) -> dict[str, list[Policy]]:
    """Each with its settings; a baseline's effort is a setting like the others, ``auto`` chooses its own."""
    return {AUTO: list(_AUTO), **_at(_BASELINES, efforts)}


def savers(efforts: Sequence[str]) -> dict[str, list[Policy]]:
    return {AUTO: list(_AUTO_SAVERS), **_at(_SAVERS, efforts)}


def cuts(efforts: Sequence[str]) -> list[Policy]:
    """A cut after every so many tokens, at every effort."""
    return [policy for every in _at({"fixed": _CUTS_FINELY}, efforts).values() for policy in every]


def _at(baselines: Mapping[str, Sequence[Policy]], efforts: Sequence[str]) -> dict[str, list[Policy]]:
    return {
        name: [AtEffort(policy, effort) for effort in efforts for policy in every] for name, every in baselines.items()
    }
