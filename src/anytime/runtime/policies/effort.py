"""Any policy at an effort of the caller's choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from anytime.runtime.bank import Candidate
from anytime.runtime.policies.policy import Plan, Policy, Verdict, View


class AtEffort(msgspec.Struct, frozen=True):
    """``policy``, whose thoughts are asked for with ``effort`` instead of the bundle's own."""

    policy: Policy
    effort: str

    def begin(self, view: View) -> Plan | Literal["conclude"]:
        plan = self.policy.begin(msgspec.structs.replace(view, effort=self.effort))
        return msgspec.structs.replace(plan, effort=self.effort) if isinstance(plan, Plan) else plan

    def judge(self, view: View) -> Verdict:
        return self.policy.judge(view)

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        return self.policy.choose(found)
