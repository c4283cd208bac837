"""Watch a drive: ``python -m examples.highway --driver reasoner --seed 0 [--live] [--record FILE.json]``."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import Console
from rich.live import Live

from anytime.scheduler.clock import MONOTONIC
from examples.highway.contenders import CONTENDERS, IDM, THINKERS, reflex
from examples.highway.episode import DURATION_S, AtOnce, Driver, Episode, Moment, OneByOne, drive, steps_a_period
from examples.highway.live import LiveDriver
from examples.highway.recording import Recorder
from examples.highway.setting import Setting, open_setting
from examples.highway.thinking import SimulatedDriver
from examples.highway.view import viewer

_FRAMES_HZ = 15


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.highway", description="Watch a drive.")
    parser.add_argument("--driver", choices=CONTENDERS, default="reasoner")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--pace", type=float, metavar="X", help="as on a machine X times slower; default: see docs/highway.md"
    )
    parser.add_argument("--seconds", type=float, default=DURATION_S)
    parser.add_argument("--live", action="store_true", help="think on the wall clock, not in simulated time")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write what happened here, for render.py")
    given = parser.parse_args()
    if given.live and given.driver not in THINKERS:
        parser.error(f"{given.driver} does not think: --live is for {', '.join(THINKERS)}")
    console = Console()
    setting = open_setting(given.pace)
    console.print(
        f"At pace {setting.pace:g} a whole thought takes {setting.thought_ns / 1e6:.0f} ms (median): a scene every "
        f"{setting.period_ns / 1e6:.0f} ms, and {given.driver} drives."
    )
    episode, recorder = watched(console, setting, given)
    if given.record:
        given.record.write_bytes(msgspec.json.encode(recorder.recording(episode)))
    end = "no crash" if episode.success else f"a crash after {episode.driven_s:.1f} s"
    console.print(
        f"{end}, {episode.mean_speed_m_s:.1f} m/s, {episode.decisions} decisions; "
        f"in {episode.held} of {episode.periods} periods none came and the one before held"
    )


def watched(console: Console, setting: Setting, given: argparse.Namespace) -> tuple[Episode, Recorder]:
    """Drive, shown as it happens."""
    driver, thinker = _driver(setting, given)
    recorder = Recorder()
    every = max(1, round(steps_a_period(setting.period_ns) / (setting.period_ns / 1e9) / _FRAMES_HZ))
    title = f"{given.driver}, seed {given.seed}"
    try:
        with Live(console=console, refresh_per_second=_FRAMES_HZ) as screen:
            show = viewer(title, screen.update, every)

            def watch(moment: Moment) -> None:
                recorder.watch(moment)
                show(moment)

            episode = drive(
                given.driver,
                given.seed,
                setting.period_ns,
                driver,
                pace=setting.pace,
                live=given.live,
                duration_s=given.seconds,
                wait=thinker.wait if isinstance(thinker, LiveDriver) else _real_time(),
                watch=watch,
            )
    finally:
        if thinker is not None:
            thinker.close()
    return episode, recorder


def _driver(setting: Setting, given: argparse.Namespace) -> tuple[Driver | None, SimulatedDriver | LiveDriver | None]:
    """Who drives, and what must be closed behind it."""
    if given.live:
        live = LiveDriver(setting, given.driver, given.seed)
        return live, live
    if given.driver in THINKERS:
        thinker = setting.driver(THINKERS[given.driver], given.seed)
        return OneByOne(thinker), thinker
    return (None if given.driver == IDM else AtOnce(reflex(given.driver, given.seed))), None


def _real_time() -> Callable[[int], None]:
    """Simulated time shown no faster than real time."""
    begun_ns, never = MONOTONIC.now(), threading.Event()

    def wait(at_ns: int) -> None:
        MONOTONIC.wait_until(never, begun_ns + at_ns)

    return wait


if __name__ == "__main__":
    main()
