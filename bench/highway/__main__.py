"""``python -m bench.highway``: does reasoning by the deadline drive better than reflex, and than late reasoning?"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from anytime.scheduler.clock import NS_PER_MS
from bench.highway.figures import ASKED, figures, live_figures, notes, of, table
from bench.highway.runs import Finished, run_all
from bench.report import Report, parser
from examples.highway.contenders import CONTENDERS, THINKERS
from examples.highway.setting import THOUGHT_NS, open_setting

FIRST_SEED = 13_000  # those below were driven while the loop was built and its policy chosen
SEEDS, LIVE_SEEDS, QUICK_SEEDS = 100, 10, 2
# More of those that the figures compare: few drives end in a crash, and those decide.
MORE_SEEDS = {"reasoner": 700, "instant": 700, "teacher": 700, "unconstrained": 300}
QUICK = ("reasoner", "instant", "unconstrained", "teacher")
PACE = f"as on a machine X times slower than this; default: so that a whole thought takes {THOUGHT_NS // NS_PER_MS} ms"
PROCESSES = "how many simulate side by side; default: as many as the cores have engines' threads for"
SEEDS_HELP = f"drives of each; default {SEEDS}, {', '.join(f'{n} of {name}' for name, n in MORE_SEEDS.items())}"
LIVE = ("reasoner", "instant", "unconstrained")


def options() -> argparse.Namespace:
    wanted = parser("highway", __doc__ or "")
    wanted.add_argument("--contenders", metavar="NAME,NAME", help=f"some of: {', '.join(CONTENDERS)}")
    wanted.add_argument("--seeds", type=int, metavar="N", help=SEEDS_HELP)
    wanted.add_argument("--live", type=int, metavar="N", help=f"seeds that are driven live too, default {LIVE_SEEDS}")
    wanted.add_argument("--live-contenders", metavar="NAME,NAME", help=f"who does, default {','.join(LIVE)}")
    wanted.add_argument("--pace", type=float, metavar="X", help=PACE)
    wanted.add_argument("--processes", type=int, metavar="N", help=PROCESSES)
    wanted.add_argument("--keep", type=Path, metavar="FILE", help="finished drives, a line each; not driven again")
    wanted.add_argument("--profile", type=Path, metavar="FILE", help="another latency profile")
    given = wanted.parse_args()
    given.contenders = chosen(wanted, given.contenders, QUICK if given.quick else CONTENDERS, CONTENDERS)
    given.live_contenders = chosen(wanted, given.live_contenders, LIVE, tuple(THINKERS))
    if given.pace is not None and given.pace < 1.0:
        wanted.error(f"--pace is {given.pace}: 1 is this machine, and more is slower")
    if given.processes is not None and given.processes < 1:
        wanted.error(f"--processes is {given.processes}: at least 1")
    given.seeds = given.seeds or (QUICK_SEEDS if given.quick else None)
    given.live = given.live if given.live is not None else 0 if given.quick else LIVE_SEEDS
    return given


def chosen(
    wanted: argparse.ArgumentParser, given: str | None, default: Sequence[str], known: Sequence[str]
) -> list[str]:
    """Contenders by name."""
    names = given.split(",") if given else list(default)
    if unknown := set(names) - set(known):
        wanted.error(f"nobody is called {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    return names


def main() -> int:
    given = options()
    report = Report("highway", given.json)
    setting = open_setting(given.pace, given.profile)
    print(
        f"a whole thought takes {setting.thought_ns / 1e6:.1f} ms at pace {setting.pace:g}: "
        f"a scene every {setting.period_ns / 1e6:.1f} ms",
        flush=True,
    )
    contenders = [name for name in given.contenders if setting.own(name) or ASKED not in given.contenders]
    finished = Finished(given.keep, setting.identity)
    seeds = {name: given.seeds or MORE_SEEDS.get(name, SEEDS) for name in contenders}
    wanted = [
        (name, FIRST_SEED + i, False) for i in range(max(seeds.values())) for name in contenders if i < seeds[name]
    ]
    wanted += [(name, FIRST_SEED + i, True) for i in range(given.live) for name in given.live_contenders]
    run_all(setting, finished, wanted, given.processes or max(1, (os.cpu_count() or 1) // setting.profile.key.threads))
    episodes = [finished.episodes[key] for key in wanted]
    drives, live = of(episodes, live=False), of(episodes, live=True)
    samples = {"identity": setting.identity, "episodes": [msgspec.to_builtins(one) for one in episodes]}
    reached = [*figures(drives), *live_figures(live, drives)]
    said = notes(drives, live, setting)
    said += [f"{name} is {ASKED}: the period is as long" for name in given.contenders if name not in contenders]
    return report.finish(reached, samples, table(drives, live, setting), said)


if __name__ == "__main__":
    raise SystemExit(main())
