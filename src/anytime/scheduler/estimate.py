"""A latency profile that nobody measured: what a roofline estimate says, for a target that is not at hand.

It is offered before the device is measured and never taken for a measurement: its key says so, so that no engine
accepts it without being told to, and its warning says where to see how far such estimates are off.
"""

from __future__ import annotations

from anytime.bundle import Bundle
from anytime.errors import TargetError
from anytime.scheduler.clock import NS_PER_MS, utc_stamp
from anytime.scheduler.profile import Fit, LatencyProfile, ProfileKey
from anytime.targets import Target
from anytime.targets.roofline import FITTED_CAPABILITY, peaks, roofline, shape_of

ESTIMATED = "estimated"  # in place of the engine in the key
# More than any published figure took over its estimate; prompts on the generation of GPU that was fitted, on others.
STEP_MARGIN, FITTED_RUN_MARGIN, RUN_MARGIN = 1.5, 1.6, 3.4
_DELIVERY_NS = 2 * NS_PER_MS  # the most that measuring ever keeps back
_WIDTHS = (1, 2, 4, 8)


def estimated_profile(bundle: Bundle, target: Target, mode: str | None = None) -> LatencyProfile:
    """What the bundle would take on a target, in one of its power modes; by default at its highest clocks.

    Raises:
        TargetError: the target does not say enough, or does not run the bundle's precision.
        UsageError: it has no such mode.
    """
    manifest, kv = bundle.manifest, bundle.manifest.kv
    precision = manifest.graphs[0].precision
    if target.precisions and precision not in target.precisions:
        raise TargetError(
            f"the bundle's weights are {precision}, and {target.name!r} runs {', '.join(target.precisions)}: export "
            "the checkpoint with one of them"
        )
    shape = shape_of(manifest.parameters, precision, kv.layers, kv.heads, kv.head_dim)
    found = roofline(shape, peaks(target, mode))
    key = ProfileKey(
        bundle=bundle.id,
        engine=ESTIMATED,
        version="roofline",
        provider=target.engine,
        threads=1,
        precision=precision,
        max_rows=_WIDTHS[-1],
        max_context=manifest.max_context,
        processor=target.name,
        gpu=target.name,
        power_mode=mode or "highest clocks",
    )
    fit = Fit(
        alpha=found.alpha,
        beta=found.beta,
        gamma=found.gamma,
        p=found.p,
        q=found.q,
        run_margin=run_margin(target),
        run_tail=ESTIMATED,
        step_margin=STEP_MARGIN,
        step_tail=ESTIMATED,
        segments=((1, STEP_MARGIN),),
        widths=tuple((width, width * found.p, found.q) for width in _WIDTHS),
        fork=(2 * found.p, 0.0),  # a cache is read and written
    )
    return LatencyProfile(
        key=key,
        created=utc_stamp(),
        quick=False,
        environment={"system": f"{ESTIMATED}: {target.architecture}", "target": target.name},
        warnings=(
            f"estimated from published figures of {target.name!r}, not measured: 'anytime profile' there tells what "
            "holds; 'anytime targets --published' tells how far such estimates are off",
        ),
        delivery_ns=_DELIVERY_NS,
        fit=fit,
        runs=(),
        steps=(),
        branches=(),
    )


def run_margin(target: Target) -> float:
    """Upper bound of what prompts take on a target, over their estimate."""
    capability = target.compute_capability
    return FITTED_RUN_MARGIN if capability is not None and capability.value == FITTED_CAPABILITY else RUN_MARGIN


def is_estimated(profile: LatencyProfile) -> bool:
    """Whether a profile was estimated rather than measured."""
    return profile.key.engine == ESTIMATED
