"""Drives, each driven once: finished ones are kept in a file, a line each, and not driven again."""

from __future__ import annotations

import functools
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from bench.report import progress
from examples.highway.contenders import IDM, THINKERS, reflex
from examples.highway.episode import AtOnce, Episode, OneByOne, drive
from examples.highway.live import LiveDriver
from examples.highway.setting import Setting

Wanted = TypeVar("Wanted")
Driven = TypeVar("Driven")
Key = tuple[str, int, bool]  # contender, seed, live


class Finished:
    """The file of finished drives; without one, they are kept for this run only.

    ``identity`` says of what: a file of another one is refused.
    """

    def __init__(self, file: Path | None, identity: str) -> None:
        self._file, self._identity = file, identity
        self.episodes: dict[Key, Episode] = {}
        if file is not None and file.exists():
            self._read(file)

    def _read(self, file: Path) -> None:
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # the last line of a run that was broken off while writing it
            if record["identity"] != self._identity:
                raise SystemExit(f"{file} is of {record['identity']}, this is {self._identity}: move it away")
            self._keep(msgspec.convert(record["episode"], Episode))

    def _keep(self, episode: Episode) -> None:
        self.episodes[episode.contender, episode.seed, episode.live] = episode

    def add(self, episode: Episode) -> None:
        """A drive has ended."""
        self._keep(episode)
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            text = self._file.read_text(encoding="utf-8") if self._file.exists() else ""
            broken = bool(text) and not text.endswith("\n")
            record = {"identity": self._identity, "episode": msgspec.to_builtins(episode)}
            with self._file.open("a", encoding="utf-8") as out:
                out.write("\n" * broken + json.dumps(record) + "\n")


def simulated(setting: Setting, wanted: tuple[str, int]) -> Episode:
    """One drive in lock-step simulated time, by contender and seed."""
    name, seed = wanted
    driving = functools.partial(drive, name, seed, setting.period_ns, pace=setting.pace, duration_s=setting.duration_s)
    if name not in THINKERS:
        return driving(None if name == IDM else AtOnce(reflex(name, seed)))
    thinker = setting.driver(THINKERS[name], seed)
    try:
        episode = driving(OneByOne(thinker))
        return msgspec.structs.replace(episode, refused=thinker.refused)
    finally:
        thinker.close()


def on_the_wall_clock(setting: Setting, name: str, seed: int) -> Episode:
    """One drive on the wall clock."""
    driver = LiveDriver(setting, name, seed)
    try:
        episode = drive(name, seed, setting.period_ns, driver, pace=setting.pace, live=True, wait=driver.wait)
        return msgspec.structs.replace(episode, refused=driver.refused)
    finally:
        driver.close()


def run_all(setting: Setting, finished: Finished, wanted: Sequence[Key], processes: int) -> None:
    """Drive what is not finished: the simulated drives side by side, then the live ones, each alone on the machine.

    Seed by seed, so that a run broken off is still paired.
    """
    missing = [key for key in wanted if key not in finished.episodes]
    with progress() as bar:
        task = bar.add_task("simulated", total=len(wanted), completed=len(wanted) - len(missing))
        in_simulated_time = [(name, seed) for name, seed, live in missing if not live]
        for episode in side_by_side(setting, simulated, in_simulated_time, processes):
            finished.add(episode)
            bar.update(task, advance=1, description=f"simulated, seed {episode.seed}", refresh=True)
        for name, seed, live in missing:
            if live:
                bar.update(task, description=f"live, seed {seed}: {name}", refresh=True)
                finished.add(on_the_wall_clock(setting, name, seed))
                bar.update(task, advance=1, refresh=True)


def side_by_side(
    setting: Setting, one: Callable[[Setting, Wanted], Driven], wanted: Sequence[Wanted], processes: int
) -> Iterator[Driven]:
    """Simulated drives in their order. Nothing of what else the machine does reaches simulated time."""
    if processes == 1 or len(wanted) < 2:
        for each in wanted:
            yield one(setting, each)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, _opened_as, (setting,)) as pool:
        yield from pool.map(functools.partial(_in_it, one), wanted)


_opened: list[Setting] = []  # of a process that drives for another


def _opened_as(setting: Setting) -> None:
    _opened.append(setting)


def _in_it(one: Callable[[Setting, Wanted], Driven], wanted: Wanted) -> Driven:
    return one(_opened[0], wanted)
