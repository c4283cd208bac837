"""``python -m bench.age``: what does it cost at the wheel that a decision is old, and how old do policies make it?

In simulated time, on seeds of no comparison: first the rule that the model was taught, driving with decisions that come
late; then, policy by policy, the model's decisions beside that rule's at scenes which the rule meets. By this the
policy was chosen with which ``bench.highway`` drives.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

import msgspec
from rich.table import Table

from anytime.node.messages import Scene
from anytime.scheduler.clock import NS_PER_MS, NS_PER_S
from bench.highway.figures import interval, paired
from bench.report import Report, parser, progress
from examples.highway.contenders import INSTANT, WHEN_IN_DOUBT, Said, Thinker, teacher
from examples.highway.episode import LONGEST_PERIOD_NS, AtOnce, Episode, Moment, OneByOne, drive
from examples.highway.setting import Setting, open_setting
from examples.highway.traffic import scene_of

FIRST_SEED, SEEDS, QUICK_SEEDS = 2_000_000, 100, 1
SCENES, QUICK_SCENES, SCENES_OF_A_SEED = 400, 5, 40
POLICIES = (
    INSTANT,
    "auto:sure=0.8",
    WHEN_IN_DOUBT,
    "auto:sure=0.95",
    "auto:sure=0.99",
    "auto",
    "auto:token_cost=0.001",
    "value:sure=0.9",
    "value:token_cost=0.001",
    "deer:threshold=0.95",
)


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
LATE = (AT_ONCE, Late(100), Late(200), Late(200, at_first=False), Late(400), Late(600))


class Told(msgspec.Struct, frozen=True):
    """A decision of the model: whether the taught rule decides so too, and how old its scene was when it came."""

    like_the_teacher: bool
    age_ms: float


def options() -> argparse.Namespace:
    wanted = parser("age", "What does a decision's age cost at the wheel, and how old do policies let it become?")
    wanted.add_argument("--seeds", type=int, metavar="N", help=f"drives of each late rule, default {SEEDS}")
    wanted.add_argument("--scenes", type=int, metavar="N", help=f"that each policy decides, default {SCENES}")
    given = wanted.parse_args()
    given.seeds = given.seeds if given.seeds is not None else QUICK_SEEDS if given.quick else SEEDS
    given.scenes = given.scenes if given.scenes is not None else QUICK_SCENES if given.quick else SCENES
    if min(given.seeds, given.scenes) < 1:
        wanted.error(f"--seeds is {given.seeds} and --scenes {given.scenes}: at least 1 of each")
    return given


def late_drive(wanted: tuple[Late, int]) -> Episode:
    """A drive by rule and seed."""
    rule, seed = wanted
    return drive("teacher", seed, LONGEST_PERIOD_NS, OneByOne(rule))


def late_drives(seeds: Sequence[int]) -> dict[Late, list[Episode]]:
    """Drives of the taught rule by how late its decisions come."""
    wanted = [(rule, seed) for seed in seeds for rule in LATE]
    found: dict[Late, list[Episode]] = {rule: [] for rule in LATE}
    with progress() as bar, ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        driven = bar.track(pool.map(late_drive, wanted), total=len(wanted), description="late drives")
        for (rule, _), episode in zip(wanted, driven, strict=True):
            found[rule].append(episode)
            bar.refresh()
    return found


def met(count: int) -> list[Scene]:
    """So many scenes that the taught rule meets."""
    scenes: list[Scene] = []
    for seed in range(FIRST_SEED, FIRST_SEED + -(-count // SCENES_OF_A_SEED)):
        of_this: list[Scene] = []

        def keep(moment: Moment, of_this: list[Scene] = of_this) -> None:
            if moment.at_ns % LONGEST_PERIOD_NS == 0:
                of_this.append(scene_of(moment.environment))

        drive("teacher", seed, LONGEST_PERIOD_NS, AtOnce(teacher), watch=keep)
        scenes += random.Random(seed).sample(of_this, min(SCENES_OF_A_SEED, len(of_this)))
    return scenes[:count]


def decisions(setting: Setting, policy: str, scenes: Sequence[Scene]) -> Iterator[Told]:
    """What the model decides with this policy and the period as its budget, one scene at a time."""
    driver, now_ns = setting.driver(Thinker(policy, None), FIRST_SEED), 0
    for scene in scenes:
        said = driver.ask(scene, now_ns, now_ns)
        yield Told(said.action == teacher(scene), (said.over_ns - now_ns) / NS_PER_MS)
        now_ns = said.over_ns + NS_PER_S
    driver.close()


def table(late: Mapping[Late, Sequence[Episode]], told: Mapping[str, Sequence[Told]]) -> Table:
    """Ages in ms, success × speed in m/s."""
    made = Table(title="The taught rule with its decisions late, and the model's decisions by policy")
    made.add_column("decides", no_wrap=True)
    for heading in ("age", "mean age", "like the rule", "no crash", "success × speed", "less the rule at once, 95 %"):
        made.add_column(heading, justify="right")
    for rule, episodes in late.items():
        safe = sum(one.success for one in episodes) / len(episodes)
        score = statistics.fmean(one.score for one in episodes)
        less, least, most = interval(paired(episodes, late[AT_ONCE]))
        cost = "" if rule == AT_ONCE else f"{less:+.2f} ({least:+.2f} … {most:+.2f})"
        made.add_row(str(rule), f"{rule.delay_ms}", "", "", f"{safe:.1%}", f"{score:.2f}", cost)
    for policy, found in told.items():
        ages = [one.age_ms for one in found]
        alike = statistics.fmean(one.like_the_teacher for one in found)
        made.add_row(policy, f"{statistics.median(ages):.0f}", f"{statistics.fmean(ages):.0f}", f"{alike:.1%}")
    return made


def main() -> int:
    given = options()
    report = Report("age", given.json)
    setting = open_setting()
    late = late_drives(range(FIRST_SEED, FIRST_SEED + given.seeds))
    scenes = met(given.scenes)
    with progress() as bar:
        told = {
            policy: list(bar.track(decisions(setting, policy, scenes), total=len(scenes), description=policy))
            for policy in POLICIES
        }
    samples = {
        "identity": setting.identity,
        "late": {str(rule): [one.score for one in episodes] for rule, episodes in late.items()},
        "decisions": msgspec.to_builtins(told),
    }
    notes = [f"{given.seeds} drives of each rule, {len(scenes)} scenes of which {SCENES_OF_A_SEED} are of a drive"]
    return report.finish([], samples, table(late, told), notes)


if __name__ == "__main__":
    raise SystemExit(main())
