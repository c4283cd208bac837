"""``python -m bench.age``: what does it cost at the wheel that a decision is old, and how old do policies make it?

In simulated time, on seeds of no comparison: first the rule that the model was taught, driving with decisions that come
late; then, policy by policy, the model driving by itself, with its decisions beside that rule's at the scenes it meets.
By this the policy was chosen with which ``bench.highway`` drives.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import msgspec
from rich.table import Table

from anytime.node.messages import Scene
from anytime.scheduler.clock import NS_PER_MS
from bench.highway.figures import interval, paired
from bench.highway.runs import side_by_side
from bench.report import Report, parser, progress
from examples.highway.contenders import INSTANT, Said, Thinker, teacher
from examples.highway.episode import LONGEST_PERIOD_NS, Episode, OneByOne, Thinking, drive
from examples.highway.setting import Setting, open_setting

Kind = TypeVar("Kind", bound=Hashable)
Drive = TypeVar("Drive")
FIRST_SEED, SEEDS, POLICY_SEEDS, QUICK_SEEDS = 2_000_000, 100, 30, 1
POLICIES = (INSTANT, "auto:sure=0.8", "auto:sure=0.9", "auto:sure=0.95", "auto:sure=0.99", "auto")


class Late(msgspec.Struct, frozen=True):
    """The taught rule, which takes its time; ``at_first``: for its first decision, too."""

    delay_ms: int
    at_first: bool = True

    def ask(self, scene: Scene, stamped_ns: int, at_ns: int) -> Said:
        delay_ns = self.delay_ms * NS_PER_MS if self.at_first or stamped_ns else 0
        return Said(stamped_ns, at_ns + delay_ns, teacher(scene))

    def __str__(self) -> str:
        if not self.delay_ms:
            return "the rule at once"
        return f"the rule, {self.delay_ms} ms late" + ("" if self.at_first else " but at first")


AT_ONCE = Late(0)
ENDS = ("drives", "no crash", "success × speed", "less the rule at once, 95 %")
LATE = (AT_ONCE, Late(100), Late(200), Late(200, at_first=False), Late(400), Late(600))


class Told(msgspec.Struct, frozen=True):
    """A decision of the model: whether the taught rule decides so too, and how old its scene was when it came."""

    like_the_teacher: bool
    age_ms: float


class Watched:
    """A thinker whose decisions are held beside the taught rule's."""

    def __init__(self, thinker: Thinking) -> None:
        self._thinker = thinker
        self.told: list[Told] = []

    def ask(self, scene: Scene, stamped_ns: int, at_ns: int) -> Said:
        said = self._thinker.ask(scene, stamped_ns, at_ns)
        if said.action is not None:
            self.told.append(Told(said.action == teacher(scene), (said.over_ns - stamped_ns) / NS_PER_MS))
        return said


class Driven(msgspec.Struct, frozen=True):
    """A drive of the model with what it decided."""

    episode: Episode
    told: list[Told]


def options() -> argparse.Namespace:
    wanted = parser("age", "What does a decision's age cost at the wheel, and how old do policies let it become?")
    wanted.add_argument("--seeds", type=int, metavar="N", help=f"drives of each late rule, default {SEEDS}")
    wanted.add_argument("--policies", nargs="+", metavar="NAME:k=v", help="instead of those of the table")
    wanted.add_argument("--policy-seeds", type=int, metavar="N", help=f"drives of each, default {POLICY_SEEDS}")
    given = wanted.parse_args()
    given.seeds = given.seeds if given.seeds is not None else QUICK_SEEDS if given.quick else SEEDS
    of_policies = QUICK_SEEDS if given.quick else POLICY_SEEDS
    given.policy_seeds = given.policy_seeds if given.policy_seeds is not None else of_policies
    given.policies = given.policies or list(POLICIES)
    for option, count in (("--seeds", given.seeds), ("--policy-seeds", given.policy_seeds)):
        if count < 1:
            wanted.error(f"{option} is {count}: at least 1")
    return given


def late_drive(setting: Setting, wanted: tuple[Late, int]) -> Episode:
    """A drive by rule and seed."""
    rule, seed = wanted
    return drive("teacher", seed, LONGEST_PERIOD_NS, OneByOne(rule), duration_s=setting.duration_s)


def policy_drive(setting: Setting, wanted: tuple[str, int]) -> Driven:
    """A drive by policy and seed, with the period as the budget."""
    policy, seed = wanted
    driver = setting.driver(Thinker(policy, None), seed)
    watched = Watched(driver)
    try:
        episode = drive(
            policy, seed, setting.period_ns, OneByOne(watched), pace=setting.pace, duration_s=setting.duration_s
        )
    finally:
        driver.close()
    if driver.refused:
        raise SystemExit(f"nobody drives with {policy}: {driver.refused}")
    return Driven(episode, watched.told)


def drives(
    setting: Setting, one: Callable[[Setting, tuple[Kind, int]], Drive], kinds: Sequence[Kind], seeds: int, label: str
) -> dict[Kind, list[Drive]]:
    """So many drives of each kind, in the order of their seeds."""
    wanted = [(kind, FIRST_SEED + i) for i in range(seeds) for kind in kinds]
    found: dict[Kind, list[Drive]] = {kind: [] for kind in kinds}
    processes = max(1, (os.cpu_count() or 1) // setting.profile.key.threads)
    with progress() as bar:
        driven = bar.track(side_by_side(setting, one, wanted, processes), total=len(wanted), description=label)
        for (kind, _), drive in zip(wanted, driven, strict=True):
            found[kind].append(drive)
            bar.refresh()
    return found


def table(late: Mapping[Late, Sequence[Episode]], driven: Mapping[str, Sequence[Driven]]) -> Table:
    """Ages in ms, success × speed in m/s."""
    made = Table(title="The taught rule with its decisions late, and the model by policy")
    made.add_column("decides", no_wrap=True)
    for heading in ("age", "mean age", "like the rule", *ENDS):
        made.add_column(heading, justify="right")
    for rule, episodes in late.items():
        made.add_row(str(rule), f"{rule.delay_ms}", "", "", *_ends(episodes, late[AT_ONCE]))
    for policy, found in driven.items():
        told = [one for each in found for one in each.told]
        made.add_row(policy, *_decided(told), *_ends([each.episode for each in found], late[AT_ONCE]))
    return made


def _decided(told: Sequence[Told]) -> list[str]:
    ages = [one.age_ms for one in told]
    alike = statistics.fmean(one.like_the_teacher for one in told)
    return [f"{statistics.median(ages):.0f}", f"{statistics.fmean(ages):.0f}", f"{alike:.1%}"]


def _ends(episodes: Sequence[Episode], at_once: Sequence[Episode]) -> list[str]:
    safe = sum(one.success for one in episodes) / len(episodes)
    score = statistics.fmean(one.score for one in episodes)
    less, least, most = interval(paired(episodes, at_once))
    cost = "" if episodes is at_once else f"{less:+.2f} ({least:+.2f} … {most:+.2f})"
    return [f"{len(episodes)}", f"{safe:.1%}", f"{score:.2f}", cost]


def main() -> int:
    given = options()
    report = Report("age", given.json)
    setting = open_setting()
    driven = drives(setting, policy_drive, given.policies, given.policy_seeds, "policies")
    late = drives(setting, late_drive, LATE, given.seeds, "late decisions")
    samples = {
        "identity": setting.identity,
        "late": {str(rule): [one.score for one in episodes] for rule, episodes in late.items()},
        "policies": msgspec.to_builtins(driven),
    }
    return report.finish([], samples, table(late, driven))


if __name__ == "__main__":
    raise SystemExit(main())
