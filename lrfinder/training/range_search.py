"""Range of learning rates to sweep where none is given: a line search on the first batch, and the range around it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch

from lrfinder.analysis.series import FEWEST_POINTS
from lrfinder.checks import check_lr
from lrfinder.errors import ConfigError
from lrfinder.param_groups import epsilon, group_scales, maximizes, optimizer_parameters, set_lr
from lrfinder.record.curve import SweepConfig
from lrfinder.tables.optimizers import divisor
from lrfinder.training.batches import Batches
from lrfinder.training.critical import RESOLUTION, critical_lr
from lrfinder.training.failures import infinite_where_it_diverges
from lrfinder.training.norms import total_norm
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state import Snapshot
from lrfinder.training.step import TrainStep

__all__ = ["MOST_ITER", "SweepRequest", "choose_range", "find_range"]

MOST_ITER = 100
"""Iterations of a chosen range, which is extended up to that while the curve has not turned."""

_PER_DECADE = 12  # twice as many made no better advice on real trainings, and half as many lost edges
_AROUND = {  # the range around the critical LR of the first batch, by update rule
    "proportional": (1e-3, 10**0.5),  # the edge lay at 1/30 to 15 times it: momentum and later batches are steeper
    "adaptive": (10**-2.5, 10.0),  # at 1/10 to 30 times it: the first step is Adam's largest
}
_LOWER = 0.1  # trained weights are often destroyed at a tenth of the LR that fresh ones tolerate
_WIDEST = (1e-7, 10.0)  # where no update of any size raises the loss: the usual range of other finders
_LINEAR_ITER = 100
_SMALLEST_RATIO = 1e-290  # of weights to gradients; the learning rates of the search have to be finite and above 0
_FEWEST_ITER = FEWEST_POINTS + 1  # fewer give no advice


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """The sweep as the user requested it, checked before any training; None for numbers to be chosen.

    Args:
        start_lr: first learning rate, > 0.
        end_lr: last learning rate, > ``start_lr``.
        num_iter: iterations, >= 2.
        mode: ``"exp"`` or ``"linear"``.
        early_stop: stop once the loss has clearly diverged.

    Raises:
        ConfigError: a number out of its range.
    """

    start_lr: float | None = None
    end_lr: float | None = None
    num_iter: int | None = None
    mode: str = "exp"
    early_stop: bool = True

    def __post_init__(self) -> None:
        for name in ("start_lr", "end_lr"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_lr(name, getattr(self, name)))
        if not isinstance(self.early_stop, bool):
            raise ConfigError(f"early_stop must be True or False; got {self.early_stop!r}.")
        start_lr, end_lr = self.start_lr, self.end_lr
        SweepConfig(
            start_lr=start_lr if start_lr is not None else (end_lr or 1.0) / 10,
            end_lr=end_lr if end_lr is not None else (start_lr or 0.1) * 10,
            num_iter=self.num_iter if self.num_iter is not None else 10,
            mode=self.mode,
        )


def find_range(
    setup: TrainingSetup,
    step: TrainStep,
    batches: Batches,
    state: Snapshot,
    request: SweepRequest,
    *,
    lower: bool = False,
) -> tuple[SweepConfig, int]:
    """The sweep to run, and the iterations it may be extended by. Trains only where an end of the range is missing.

    Args:
        setup: what is trained, and how.
        step: one iteration of it.
        batches: where the sweep's batches come from. Those used here are not lost: the sweep starts with them.
        state: snapshot from which every update starts, and which is restored at the end.
        request: what the user gave.
        lower: start a chosen range lower, for trained weights.
    """
    searching = request.start_lr is None or request.end_lr is None
    critical = _measured_critical_lr(setup, step, batches, state) if searching else None
    return choose_range(critical, request, rule=setup.update_rule, lower=lower)


def _measured_critical_lr(setup: TrainingSetup, step: TrainStep, batches: Batches, state: Snapshot) -> float | None:
    try:
        coming = batches.peek(setup.accumulation_steps)
    except StopIteration:
        return None
    ranks, scales, sign = setup.ranks, group_scales(setup.optimizer), -1.0 if maximizes(setup.optimizer) else 1.0

    def loss_now() -> float:
        # The same dropout masks in every pass, or their noise would pass for an effect of the LR.
        state.rewind_random()
        return sign * ranks.mean(partial(step.loss, coming))

    state.rewind_random()
    loss_before = sign * step.plain_backward(coming).item()
    scale = _weights_over_gradients(setup, step)
    if ranks.together:  # equal on all: the gradients are not where the step leaves to reduce them, or clears them
        bounded = min(max(scale, 1e-37), 1e37)  # as float32 holds it
        scale = ranks.mean_of(torch.full((), bounded, dtype=torch.float32, device=setup.device)).item()
    # Two passes with the state carried on, and one from where every update starts.
    still = [loss_now(), loss_now()]
    state.rewind()
    noise = max(abs(loss - loss_before) for loss in (*still, loss_now()))
    moves = noise > RESOLUTION * abs(loss_before)

    def loss_at(lr: float) -> float:
        drift = 0.0
        if moves:  # by hidden state, a counter or noise that no snapshot reaches
            state.rewind()
            drift = loss_now() - loss_before
        state.rewind()
        set_lr(setup.optimizer, lr, scales)
        step.update(coming)
        return loss_now() - drift

    # One rank alone cannot repeat what raised.
    finite = infinite_where_it_diverges(loss_at) if not ranks.together else loss_at
    critical = critical_lr(finite, loss_before, noise=noise, scale=scale)
    state.rewind()
    return critical


def _weights_over_gradients(setup: TrainingSetup, step: TrainStep) -> float:
    """Norm of the weights divided by that of the gradients, as the optimizer divides them; 1 for an adaptive one."""
    if setup.update_rule != "proportional":
        return 1.0
    weights, gradients = total_norm(optimizer_parameters(setup.optimizer)), step.gradient_norm()
    ratio = weights / gradients if weights > 0 and gradients > 0 else 1.0
    ratio *= divisor(epsilon(setup.optimizer)) or 1.0
    return ratio if _SMALLEST_RATIO < ratio < 1 / _SMALLEST_RATIO else 1.0


def choose_range(
    critical: float | None, request: SweepRequest, *, rule: str, lower: bool = False
) -> tuple[SweepConfig, int]:
    """The sweep to run, and the iterations it may be extended by. A number that is given is obeyed.

    Without ``num_iter`` there are 12 iterations per decade, and 100 in linear mode.

    Args:
        critical: from :func:`critical_lr`; None when it was not found or not measured.
        request: what the user gave.
        rule: update rule of the optimizer, ``"proportional"`` or ``"adaptive"``; see :mod:`lrfinder.tables.optimizers`.
        lower: start a decade lower.

    Example:
        >>> config, extend = choose_range(0.1, SweepRequest(), rule="proportional")
        >>> f"{config.start_lr:.2g} to {config.end_lr:.2g}", config.num_iter, extend
        ('0.0001 to 0.32', 43, 57)
    """
    start_lr, end_lr, linear = request.start_lr, request.end_lr, request.mode == "linear"
    below, above = _AROUND[rule]
    below *= _LOWER if lower else 1.0
    low, high = (critical * below, critical * above) if critical is not None else _WIDEST
    span = high / low
    end = end_lr if end_lr is not None else (high if start_lr is None or start_lr < high else start_lr * span)
    start = start_lr if start_lr is not None else (low if low < end else end / span)
    if linear and start_lr is None:
        start = end / _LINEAR_ITER
    decades = math.log10(end) - math.log10(start)  # end / start may overflow
    whole = _LINEAR_ITER if linear else max(round(_PER_DECADE * decades) + 1, _FEWEST_ITER)
    chosen = end_lr is None and request.num_iter is None
    whole = min(whole, MOST_ITER) if chosen else whole
    num_iter = whole if request.num_iter is None else request.num_iter
    config = SweepConfig(
        start_lr=start, end_lr=end, num_iter=num_iter, mode=request.mode, early_stop=request.early_stop
    )
    return config, MOST_ITER - whole if chosen else 0
