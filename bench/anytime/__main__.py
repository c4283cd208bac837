"""Every policy at twelve deadlines, on recorded thoughts under the measured latency profile.

``python -m bench.anytime [--quick] [--json FILE] [--plot FILE.svg]``. The first run records the model on every
question, which takes about half an hour; later ones take recordings from the cache.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from anytime import Reasoner
from anytime.calibrate.replay import Replayer
from anytime.calibrate.typical import factor_of, pace_of
from anytime.runtime.loading import find_profile, forecast_of, open_bundle
from anytime.runtime.policies.effort import AtEffort
from anytime.runtime.policies.policy import Policy
from anytime.runtime.policies.until import UntilDeadline
from anytime.scheduler.admission import Work, floor_ns
from bench.anytime import calibration, figures, live
from bench.anytime.contenders import AUTO, cuts
from bench.anytime.plot import draw
from bench.anytime.runs import Run, run_all
from bench.anytime.sets import DOMAINS, QUESTIONS, Set, load_set
from bench.anytime.tuning import cross_fitted, for_index, for_tokens
from bench.anytime.unsafe import unsafe
from bench.report import Report, parser

BUDGETS = 12
SAMPLES = 16
LOOSE = 4  # times the highest budget
_ENDLESS_NS = 3_600 * 10**9
_QUICK = 60


def main() -> int:
    options = parser("anytime", __doc__ or "")
    options.add_argument("--plot", type=Path, metavar="FILE", help="draw accuracy against the budget (.svg or .png)")
    args = options.parse_args()
    report = Report("anytime", args.json)
    loaded = open_bundle(None, threads=1)
    profile = find_profile(loaded, None, False)
    forecast = forecast_of(loaded.bundle)
    assert forecast is not None, "the reference bundle is calibrated"
    count, samples = (_QUICK, 4) if args.quick else (None, SAMPLES)
    known, held = (
        [load_set(loaded, QUESTIONS / f"{domain}.{split}.jsonl", domain, count, samples) for domain in DOMAINS]
        for split in ("calibration", "heldout")
    )
    spec, pace, factor = loaded.engine.spec, pace_of(profile), factor_of(profile)
    replayer = Replayer(profile, loaded.codec, forecast, spec, pace=pace, factor=factor)
    budgets = {one.domain: _budgets(one, replayer) for one in known}
    with Reasoner(loaded.engine, loaded.codec, profile, loaded.bundle) as reasoner:
        checks = live.validate(reasoner, replayer, held, budgets, 20 if args.quick else 600)
    halves = cross_fitted(known, replayer)
    tuned = for_index(known, halves, budgets)
    runs = _runs(held, tuned, replayer, budgets)
    cut, savers = {}, {}
    fixed = cuts(loaded.codec.efforts)
    for tuning, one in zip(known, held, strict=True):
        cut[one.domain] = run_all(f"{one.domain}, cuts", fixed, replayer, one.recordings, budgets[one.domain])
        savers[one.domain] = _savers(tuning, one, halves, replayer, LOOSE * budgets[one.domain][-1])
    calibrated, calibrated_notes = calibration.figures(held, replayer, forecast)
    reached = [
        figures.valid_figure(runs),
        figures.monotone_figure(runs),
        *figures.index_figures(runs),
        *figures.regret_figures(runs, cut),
        figures.saving_figure("drive", {name: run for name, (_, run) in savers["drive"].items()}),
        *calibrated,
        *live.figures(checks),
    ]
    notes = [
        "tokens: of all lines of thought and all answers; over: thought after the answer had become right for good; "
        "under: stopped on a wrong answer that more thought would have put right",
        *(f"{name} was tuned to {_settings(policy)}" for name, policy in tuned.items() if _settings(policy)),
        *_saver_notes(savers),
        *calibrated_notes,
        *live.notes(checks),
        *_unsafe_notes(held[0], runs),
    ]
    if args.plot:
        draw(runs, budgets, args.plot, report.environment)
    return report.finish(reached, {**_samples(runs, budgets), "live": live.samples(checks)}, _table(runs), notes)


def _budgets(one: Set, replayer: Replayer) -> list[int]:
    """Log-spaced from the highest floor of a question to the 95th percentile of a whole thought's time, ns."""
    floor = max(
        floor_ns(
            Work(r.plain.prompt_tokens, 0, len(replayer.codec.close_ids), r.answer_steps, replayer.spec.max_context),
            replayer.planning.profile,
        )
        for r in one.recordings
    )
    whole = [replayer.replay(r, UntilDeadline(), _ENDLESS_NS).elapsed_ns for r in one.recordings]
    top = max(float(np.quantile(whole, 0.95)), 1.5 * floor)
    return [int(value) for value in np.geomspace(1.02 * floor, top, BUDGETS)]


def _runs(
    sets: Sequence[Set], policies: dict[str, Policy], replayer: Replayer, budgets: dict[str, list[int]]
) -> figures.Runs:
    by_domain = {
        one.domain: run_all(one.domain, list(policies.values()), replayer, one.recordings, budgets[one.domain])
        for one in sets
    }
    return {name: {domain: runs[i] for domain, runs in by_domain.items()} for i, name in enumerate(policies)}


def _savers(
    known: Set, held: Set, halves: Sequence[Replayer], replayer: Replayer, budget_ns: int
) -> dict[str, tuple[Policy, Run]]:
    chosen = for_tokens(known, halves, budget_ns)
    runs = run_all(f"{held.domain}, loose", list(chosen.values()), replayer, held.recordings, [budget_ns])
    return {name: (policy, run) for (name, policy), run in zip(chosen.items(), runs, strict=True)}


def _settings(policy: Policy) -> str:
    if isinstance(policy, AtEffort):
        inner = _settings(policy.policy)
        return f"effort={policy.effort}" + (f", {inner}" if inner else "")
    return repr(policy).partition("(")[2].removesuffix(")")


def _saver_notes(savers: dict[str, dict[str, tuple[Policy, Run]]]) -> list[str]:
    return [
        f"{domain}, loose deadline, {name} ({_settings(policy)}): {run.spent.mean():.1f} tokens, "
        f"{100 * figures.index(run):.2f} % right"
        for domain, by_name in savers.items()
        for name, (policy, run) in by_name.items()
    ]


def _unsafe_notes(drive: Set, runs: figures.Runs) -> list[str]:
    """Unsafe actions per budget, of auto and of the plain anytime algorithm."""
    notes = []
    for name in (AUTO, "until-deadline"):
        rates = [
            100 * np.mean([unsafe(q.question, a) for q, a in zip(drive.questions, row, strict=True) if a is not None])
            for row in runs[name]["drive"].answers
        ]
        shown = ", ".join(f"{rate:.1f}" for rate in rates)
        notes.append(f"drive, unsafe actions of {name} from the lowest budget to the highest, %: {shown}")
    return notes


def _samples(runs: figures.Runs, budgets: dict[str, list[int]]) -> dict[str, object]:
    """Accuracy, tokens and times by budget; what is right of which question would be megabytes."""
    policies = {
        name: {
            domain: {
                "right": [float(value) for value in run.right.mean(axis=1)],
                "tokens": [float(value) for value in run.spent.mean(axis=1)],
                "elapsed_ms": [float(value) / 1e6 for value in run.elapsed_ns.mean(axis=1)],
            }
            for domain, run in by_domain.items()
        }
        for name, by_domain in runs.items()
    }
    return {"budgets_ms": {domain: [b / 1e6 for b in every] for domain, every in budgets.items()}, "policies": policies}


def _table(runs: figures.Runs) -> Table:
    table = Table(title="The answer returned, over twelve deadlines from the floor to the 95th percentile of a thought")
    for heading in ("policy", "domain", "index", "right at 1st, 7th, 12th, %", "tokens", "over", "under, %"):
        table.add_column(heading, justify="left" if heading in {"policy", "domain"} else "right")
    for name in sorted(runs, key=lambda name: -float(np.mean([figures.index(run) for run in runs[name].values()]))):
        for domain, run in runs[name].items():
            rows = run.right
            some = ", ".join(f"{100 * rows[i].mean():.1f}" for i in (0, len(rows) // 2, len(rows) - 1))
            table.add_row(
                name,
                domain,
                f"{figures.index(run):.4f}",
                some,
                f"{run.spent.mean():.1f}",
                f"{run.over.mean():.1f}",
                f"{100 * run.under.mean():.2f}",
            )
    return table


if __name__ == "__main__":
    sys.exit(main())
