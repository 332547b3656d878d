"""Defaults of every schedule kind, each number with its source. Standard library only.

One function per kind takes a :class:`Plan` and returns the spec of the stock torch scheduler; ``DEFAULT_SPECS`` lists
them. The formulas are in :mod:`lrfinder.schedules.specs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lrfinder.checks import check_choice, check_count, check_lr, check_scales
from lrfinder.errors import ConfigError
from lrfinder.schedules.plan import Plan, check_length
from lrfinder.schedules.schedule import Schedule
from lrfinder.schedules.specs import (
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Linear,
    MultiStep,
    OneCycle,
    Plateau,
    Restarts,
    SchedulerSpec,
    Step,
)
from lrfinder.schedules.updates import Updates
from lrfinder.tables.kinds import KINDS

__all__ = ["DEFAULT_SPECS", "make_schedule"]


def make_schedule(
    kind: str,
    *,
    peak_lr: float,
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    warmup_steps: int | None = None,
    group_scales: Sequence[float] = (1.0,),
    updates: Updates = Updates(),
    **options: Any,
) -> Schedule:
    """The schedule of that kind for a training of that length, with a sourced default for every number left out.

    The arguments are those of :func:`lrfinder.recipe`, where units and ranges are given; those of the updates are one
    value here.

    Raises:
        ConfigError: an unknown kind or option, a number outside its range, or a length that is missing.

    Example:
        >>> make_schedule("step", peak_lr=0.1, epochs=90).spec
        Step(step_size=30, gamma=0.1)
    """
    check_choice("kind", kind, KINDS)
    peak_lr = check_lr("peak_lr", peak_lr)
    length, interval = check_length(kind, total_steps, epochs, steps_per_epoch)
    plan = Plan(kind, length, interval, warmup_steps, options)
    spec = DEFAULT_SPECS[kind](plan)
    plan.check_all_taken()
    return Schedule(
        kind=kind,
        peak_lr=peak_lr,
        interval=interval,
        spec=spec,
        total_steps=length,
        epochs=None if epochs is None else int(epochs),
        warmup_steps=plan.warmup,
        group_scales=check_scales(group_scales),
        updates=updates,
        notes=tuple(plan.notes),
    )


def _onecycle(plan: Plan) -> SchedulerSpec:
    return OneCycle(
        total_steps=plan.steps,
        pct_start=plan.take("pct_start", 0.3, "torch"),
        div_factor=plan.take("div_factor", 25.0, "torch"),
        final_div_factor=plan.take("final_div_factor", 1e4, "torch"),
        **_momentum(plan),
    )


def _momentum(plan: Plan) -> dict[str, Any]:
    return {
        "cycle_momentum": plan.take("cycle_momentum", None, "cycled where the optimizer has one"),
        "base_momentum": plan.take("base_momentum", 0.85, "Smith, arXiv:1803.09820"),
        "max_momentum": plan.take("max_momentum", 0.95, "Smith, arXiv:1803.09820"),
    }


def _cosine(plan: Plan) -> SchedulerSpec:
    eta_min = plan.take("eta_min", 0.0, "to zero: arXiv:2502.15938")
    return plan.warmed_up((plan.warmup, Cosine(T_max=plan.main, eta_min=eta_min)))


def _linear(plan: Plan) -> SchedulerSpec:
    end_factor = plan.take("end_factor", 0.0, "to zero: arXiv:2310.07831, arXiv:2502.15938")
    return plan.warmed_up((plan.warmup, Linear(start_factor=1.0, end_factor=end_factor, total_iters=plan.main)))


def _step(plan: Plan) -> SchedulerSpec:
    # Rounded up: a third drop in the very last steps would be of no use.
    step_size = plan.take("step_size", -(-plan.main // 3), "thirds, as 30 of 90 in torchvision's reference training")
    gamma = plan.take("gamma", 0.1, "torch")
    return plan.warmed_up((plan.warmup, Step(step_size=step_size, gamma=gamma)))


def _multistep(plan: Plan) -> SchedulerSpec:
    if plan.steps < 3:
        raise ConfigError(f"multistep needs a length of at least 3 {plan.interval}s; got {plan.steps}. Take 'step'.")
    default = (plan.steps // 2, plan.steps * 3 // 4)
    given = plan.take("milestones", default, "50 % and 75 %, as He et al., arXiv:1512.03385, on CIFAR-10")
    gamma = plan.take("gamma", 0.1, "torch")
    milestones = MultiStep(milestones=given, gamma=gamma).milestones
    if milestones[0] <= plan.warmup or milestones[-1] >= plan.steps:
        raise ConfigError(
            f"milestones must lie after the warm-up and before the end, between {plan.warmup} and {plan.steps}; "
            f"got {list(milestones)}. They count {plan.interval}s from the start of the training. Move them there, or "
            "lower warmup_steps."
        )
    counted = tuple(milestone - plan.warmup for milestone in milestones)
    return plan.warmed_up((plan.warmup, MultiStep(milestones=counted, gamma=gamma)))


def _exponential(plan: Plan) -> SchedulerSpec:
    gamma = plan.take("gamma", 0.01 ** (1 / plan.main), "reaches 1 % of the peak at the end; our choice")
    return plan.warmed_up((plan.warmup, Exponential(gamma=gamma)))


def _plateau(plan: Plan) -> SchedulerSpec:
    if plan.length is None:
        patience, source = 10, "torch"
    else:
        patience, source = max(3, plan.length // 20), "5 % of the epochs, at least 3; our choice"
    return Plateau(
        factor=plan.take("factor", 0.2, "gentler than torch's 0.1; our choice"),
        patience=plan.take("patience", patience, source),
        cooldown=plan.take("cooldown", 1, "our choice"),
        min_factor=plan.take("min_factor", 0.001, "our choice"),
        mode=plan.take("mode", "min", "torch"),
    )


def _cyclic(plan: Plan) -> SchedulerSpec:
    # Rounded up, so that the last cycle is cut short at its low end instead of being followed by part of another one.
    spec = Cyclic(
        step_size_up=plan.take("step_size_up", -(-plan.steps // 8), "4 cycles: Smith, arXiv:1506.01186"),
        base_factor=plan.take("base_factor", 0.25, "a quarter: Smith, arXiv:1506.01186"),
        mode=plan.take("mode", "triangular2", "Smith, arXiv:1506.01186"),
        **_momentum(plan),
    )
    if spec.mode == "triangular2" and plan.steps >= 2048 * spec.step_size_up:  # torch overflows at 2.0 ** 1024
        raise ConfigError(
            f"'triangular2' halves the triangles 1023 times at most; got step_size_up={spec.step_size_up} for "
            f"{plan.steps} steps. Raise step_size_up, or give mode='triangular'."
        )
    return spec


def _restarts(plan: Plan) -> SchedulerSpec:
    T_mult = check_count("T_mult", plan.take("T_mult", 2, "SGDR, arXiv:1608.03983"))
    # n cycles take T_0 * (1 + T_mult + ... + T_mult ** (n - 1)) steps.
    units = {n: sum(T_mult**i for i in range(n)) for n in (3, 2)}
    for n, unit in units.items():
        if plan.steps % unit == 0:
            default, source = plan.steps // unit, f"so that {n} cycles fill the training"
            break
    else:
        default = -(-plan.steps // units[3])
        missing = default * units[3] - plan.steps
        source = f"3 cycles, the last cut short by {missing}, as {plan.steps} is not a multiple of {units[3]}"
    T_0 = plan.take("T_0", default, source)
    return Restarts(T_0=T_0, T_mult=T_mult, eta_min=plan.take("eta_min", 0.0, "torch"))


def _wsd(plan: Plan) -> SchedulerSpec:
    default = max(1, plan.steps // 5)
    cooldown = check_count(
        "cooldown_steps", plan.take("cooldown_steps", default, "20 %, linear to zero: arXiv:2405.18392")
    )
    start = plan.steps - cooldown
    if start < plan.warmup:
        raise ConfigError(
            f"cooldown_steps and warmup_steps must fit into total_steps={plan.steps}; "
            f"got {cooldown} and {plan.warmup}. Lower one of them or train longer."
        )
    decay = Linear(start_factor=1.0, end_factor=0.0, total_iters=cooldown)
    stable = ((plan.warmup, Constant()),) if start > plan.warmup else ()
    return plan.warmed_up(*stable, (start, decay))


def _constant(plan: Plan) -> SchedulerSpec:
    return plan.warmed_up((plan.warmup, Constant()))


DEFAULT_SPECS: dict[str, Callable[[Plan], SchedulerSpec]] = {
    "onecycle": _onecycle,
    "cosine": _cosine,
    "step": _step,
    "multistep": _multistep,
    "exponential": _exponential,
    "linear": _linear,
    "plateau": _plateau,
    "cyclic": _cyclic,
    "restarts": _restarts,
    "wsd": _wsd,
    "constant": _constant,
}
