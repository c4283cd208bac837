"""``anytime calibrate``: learn from questions with known answers what a bundle's own answers are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.progress import Progress
from rich.table import Table

from anytime.cli.common import err, measuring, out, reported, with_answers
from anytime.runtime.forecast import Calibration
from anytime.runtime.loading import find_profile, open_bundle


@reported
def calibrate(
    questions: Annotated[list[Path], typer.Option(help="A .jsonl file of questions with answers; may be repeated.")],
    output: Annotated[Path, typer.Option("--out", help="Directory of the calibrated bundle.")],
    bundle: Annotated[Path | None, typer.Argument(help="A bundle; default: the reference.", show_default=False)] = None,
    samples: Annotated[int, typer.Option(help="Thoughts drawn for a question, beside the greedy one.")] = 4,
    recordings: Annotated[Path | None, typer.Option(help="Keep recordings here, and go on from those kept.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the engine; default: all cores but one.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A malformed line is an error.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the calibration as one JSON object.")] = False,
) -> None:
    """Make a calibrated copy of BUNDLE: its confidences are probabilities, and thoughts stop when they stop paying.

    Use questions like those that the bundle will be asked, and never the ones it is tested with.
    """
    from anytime.calibrate.calibrated import write_calibrated
    from anytime.calibrate.control import learn
    from anytime.calibrate.fit import fit
    from anytime.calibrate.record import Recorder
    from anytime.calibrate.replay import Replayer
    from anytime.calibrate.store import recorded

    asked = [question for file in questions for question in with_answers(file, strict)]
    loaded = open_bundle(bundle, threads)
    with measuring() as progress:
        profile = find_profile(loaded, None, False, progress)
    recorder = Recorder(loaded.engine, loaded.codec, samples=samples)
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("recording", total=len(asked))
        found = recorded(asked, recorder, recordings, lambda done: bar.update(task, completed=done))
    replayer = Replayer(profile, loaded.codec, None, loaded.engine.spec)
    with err.status("fitting"):
        fitted = fit(found, replayer, ", ".join(file.name for file in questions))
        calibration = learn(found, replayer, fitted)
    made = write_calibrated(loaded.bundle, calibration, output)
    if as_json:
        print(json.dumps({**msgspec.to_builtins(calibration), "bundle": made.id, "path": str(made.path)}))
        return
    out.print(_reliability(calibration))
    out.print(f"wrote {made.path} ({made.id[:12]})", soft_wrap=True)


def _reliability(calibration: Calibration) -> Table:
    """The reliability diagram."""
    table = Table(
        title=f"Answers of questions that the fit had not seen; expected error {calibration.expected_error:.3f}"
    )
    for heading in ("answers", "said to be right", "were right", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for one in calibration.reliability:
        bar = "#" * round(40 * one.right)
        table.add_row(str(one.count), f"{100 * one.predicted:.1f} %", f"{100 * one.right:.1f} %", bar)
    return table
