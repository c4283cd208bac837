"""Estimates as tables and as JSON, each marked as one."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from anytime.bundle import Bundle
from anytime.cli.common import err, out
from anytime.errors import UsageError
from anytime.runtime.prompt import Codec
from anytime.scheduler.admission import BUDGETS_MS, HANDOVER_NS, Grant, Work, admit, floor_ns
from anytime.scheduler.clock import NS_PER_MS, seconds_to_ns
from anytime.scheduler.estimate import estimated_profile
from anytime.targets import Target
from anytime.targets.published import checks


def estimate_of(
    bundle: Bundle, target: Target, mode: str | None, prompt_tokens: int, budget_s: float | None
) -> dict[str, Any]:
    """What the bundle would take on a target, as a JSON object; ``docs/targets.md`` has its fields.

    Raises:
        TargetError: the target does not say enough.
        UsageError: no such mode, or a prompt that does not fit the context.
    """
    profile = estimated_profile(bundle, target, mode)
    close_tokens = len(Codec(bundle).close_ids)
    most = bundle.manifest.max_context - close_tokens - 1
    if not 1 <= prompt_tokens <= most:
        raise UsageError(f"the prompt has {prompt_tokens} tokens: with this bundle it must have between 1 and {most}")
    work = Work(prompt_tokens, 0, close_tokens, 0, bundle.manifest.max_context)
    latency = profile.latency()
    prefill_ns = latency.run_ns(prompt_tokens + close_tokens, 0)
    budgets_ns = [ms * NS_PER_MS for ms in BUDGETS_MS] if budget_s is None else [seconds_to_ns(budget_s)]
    caps = {}
    for budget_ns in budgets_ns:
        outcome = admit(work, budget_ns - profile.delivery_ns - HANDOVER_NS, profile)
        caps[f"{budget_ns / NS_PER_MS:g}"] = outcome.token_cap if isinstance(outcome, Grant) else None
    return {
        "estimated": True,
        "bundle": bundle.id,
        "target": target.name,
        "mode": mode,
        "default_mode": next((one.name for one in target.power_modes if one.default), None),
        "precision": profile.key.precision,
        "unverified": sorted(_unverified(target, mode)),
        "prompt_tokens": prompt_tokens,
        "prefill_ms": prefill_ns / NS_PER_MS,
        "step_ms": latency.run_ns(1, prompt_tokens) / NS_PER_MS,
        "floor_ms": floor_ns(work, profile) / NS_PER_MS,
        "token_cap": caps,
        "warning": profile.warnings[0],
    }


def _unverified(target: Target, mode: str | None) -> set[str]:
    """The figures behind an estimate that could not be read on the page they are from."""
    used = {"bandwidth_gb_s", "fp16_tflops"} | ({"gpu_mhz", "emc_mhz", "tpcs"} if mode else set())
    return {name for name, found in target.figures() if name in used and found.unverified}


def print_estimate(found: dict[str, Any]) -> None:
    mode = f" in {found['mode']}" if found["mode"] else ""
    table = Table()
    table.add_column("budget", justify="right")
    table.add_column("token cap, estimated", justify="right")
    for budget, cap in found["token_cap"].items():
        table.add_row(f"{budget} ms", "below floor" if cap is None else str(cap))
    out.print(f"estimated, not measured: {found['precision']} weights on {found['target']}{mode}", soft_wrap=True)
    out.print(
        f"prefill of {found['prompt_tokens']} tokens {found['prefill_ms']:.1f} ms, a step "
        f"{found['step_ms']:.2f} ms ({1e3 / found['step_ms']:.0f} tokens/s), floor {found['floor_ms']:.1f} ms",
        soft_wrap=True,
    )
    out.print(table)
    if found["default_mode"] and not found["mode"]:
        out.print(f"at its highest clocks; its default mode is another: --mode {found['default_mode']}", soft_wrap=True)
    if found["unverified"]:
        out.print(f"not read on the page named as their source: {', '.join(found['unverified'])}")
    err.print(Text.assemble(("warning: ", "yellow"), found["warning"]), soft_wrap=True)


def published_rows() -> list[dict[str, Any]]:
    """Each published row with its estimate, as JSON objects."""
    return [
        {
            "target": check.published.target,
            "model": check.published.model,
            "prompt_tokens": check.published.prompt_tokens,
            "fitted": check.fitted,
            "tokens_s": check.published.tokens_s,
            "estimated_tokens_s": check.tokens_s,
            "step_error": check.step_error,
            "prefill_ms": check.published.prefill_ms,
            "estimated_prefill_ms": check.prefill_ms,
            "prefill_error": check.prefill_error,
            "source": check.published.source,
        }
        for check in checks()
    ]


def print_published(rows: list[dict[str, Any]]) -> None:
    """Published figures beside estimates; errors are those of times."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("target")
    table.add_column("model")
    for heading in ("prompt", "tokens/s", "estimated", "step", "prefill ms", "estimated", "prefill"):
        table.add_column(heading, justify="right")
    for row in rows:
        name = row["target"] + (" *" if row["fitted"] else "")
        decode = (f"{row['tokens_s']:.1f}", f"{row['estimated_tokens_s']:.1f}", _percent(row["step_error"]))
        prefill = (f"{row['prefill_ms']:.1f}", f"{row['estimated_prefill_ms']:.1f}", _percent(row["prefill_error"]))
        table.add_row(name, row["model"], str(row["prompt_tokens"]), *decode, *prefill)
    out.print(table)
    out.print("* fitted to these rows; of the others nothing was used. Errors of times: + is slower than published")


def _percent(share: float) -> str:
    return f"{round(share, 2) + 0.0:+.0%}"  # no minus before a zero
