"""Drives, each driven once: finished ones are kept in a file, a line each, and not driven again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.report import progress
from examples.highway.contenders import IDM, THINKERS, reflex
from examples.highway.episode import AtOnce, Episode, OneByOne, drive
from examples.highway.live import LiveDriver
from examples.highway.setting import Setting

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


def simulated(setting: Setting, name: str, seed: int) -> Episode:
    """One drive in lock-step simulated time."""
    if name not in THINKERS:
        driver = None if name == IDM else AtOnce(reflex(name, seed))
        return drive(name, seed, setting.period_ns, driver, pace=setting.pace)
    thinker = setting.thinker(name, seed)
    try:
        episode = drive(name, seed, setting.period_ns, OneByOne(thinker), pace=setting.pace)
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


def run_all(setting: Setting, finished: Finished, wanted: Sequence[Key]) -> None:
    """Drive what is not finished, in this order: seed by seed, so that a run broken off is still paired."""
    with progress() as bar:
        task = bar.add_task("driving", total=len(wanted))
        for name, seed, live in wanted:
            bar.update(task, description=f"{'live' if live else 'simulated'}, seed {seed}: {name}", refresh=True)
            if (name, seed, live) not in finished.episodes:
                one = on_the_wall_clock if live else simulated
                finished.add(one(setting, name, seed))
            bar.update(task, advance=1, refresh=True)
