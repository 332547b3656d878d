"""Which learning rates to sweep when the user names none: pure arithmetic around a line search somebody else runs."""

from __future__ import annotations

import math
from collections.abc import Callable

from lrfinder.curve import SweepConfig

__all__ = ["choose_range", "critical_lr"]

_PER_DECADE = 12  # twice as many made no better advice on real trainings, and half as many lost edges
_AROUND = {  # the range around the critical LR of the first batch, by how the optimizer makes its steps
    "proportional": (1e-3, 10**0.5),  # the edge lay at 1/30 to 15 times it: momentum and later batches are steeper
    "adaptive": (10**-2.5, 10.0),  # at 1/10 to 30 times it: the first step is Adam's largest
}
_MOST_ITER = 100  # of a range of our own choosing, which grows up to that while the curve has not turned
_WIDEST = (1e-7, 10.0)  # where no update of any size moves the loss: what the other finders sweep
_LINEAR_ITER = 100

_LOWEST_LR, _HIGHEST_LR = 1e-10, 1e6  # searched decade by decade: any optimizer, any scale of the loss
_CLEAR_RISE = 4.0  # a rise must be this many times the largest change seen at any smaller LR
_HALVINGS = 2  # bisections in log LR inside the decade found: to a factor of 10 ** (1 / 4)


def critical_lr(loss_at: Callable[[float], float], loss_before: float, *, resolution: float = 1e-4) -> float | None:
    """Smallest learning rate at which one update makes the loss of its own batch worse.

    On a quadratic of curvature h along the step this is 2/h. Found by raising the LR tenfold from far below until the
    loss clearly rises, then bisecting: forward passes only, about ten.

    Args:
        loss_at: LR -> loss of a batch after a single update, made on that batch with that LR.
        loss_before: loss of the batch before the update.
        resolution: changes below this part of ``abs(loss_before)`` count as rounding.

    Returns:
        The critical LR to a factor of about 1.8, or None where no LR up to 1e6 makes the loss rise.

    Example:
        >>> round(critical_lr(lambda lr: (1 - 20 * lr) ** 2, 1.0), 2)  # curvature 40 along the step, critical at 0.1
        0.13

    Reference:
        The idea of placing the LR by forward passes along the update: Kalra and Barkeshli, arXiv:2406.09405.
    """
    if not math.isfinite(loss_before):
        return None
    floor = resolution * abs(loss_before)
    largest_change = 0.0
    lr = _LOWEST_LR
    while lr <= _HIGHEST_LR:
        rise = loss_at(lr) - loss_before
        if not math.isfinite(rise) or (rise > floor and rise > _CLEAR_RISE * largest_change):
            return _bisect(loss_at, loss_before + floor, lr / 10, lr)
        largest_change = max(largest_change, abs(rise))
        lr *= 10
    return None


def _bisect(loss_at: Callable[[float], float], level: float, good: float, bad: float) -> float:
    for _ in range(_HALVINGS):
        middle = math.sqrt(good * bad)
        # Written so that nan counts as bad.
        if loss_at(middle) <= level:
            good = middle
        else:
            bad = middle
    return math.sqrt(good * bad)


def choose_range(
    critical: float | None,
    *,
    start_lr: float | None = None,
    end_lr: float | None = None,
    num_iter: int | None = None,
    mode: str = "exp",
    early_stop: bool = True,
    kind: str = "adaptive",
) -> tuple[SweepConfig, int]:
    """The sweep to run, and the rungs it may be extended by. Whatever the user gave stays as it is.

    Args:
        critical: from :func:`critical_lr`; None when it was not found or not looked for.
        start_lr: first LR, or None to choose it.
        end_lr: last LR, or None to choose it.
        num_iter: iterations, or None for 12 per decade (100 in linear mode).
        mode: ``"exp"`` or ``"linear"``.
        early_stop: handed on.
        kind: update rule, ``"proportional"`` or ``"adaptive"``; see :mod:`lrfinder.tables.optimizers`.

    Example:
        >>> config, extend = choose_range(0.1, kind="proportional")
        >>> f"{config.start_lr:.2g} to {config.end_lr:.2g}", config.num_iter, extend
        ('0.0001 to 0.32', 43, 57)
    """
    below, above = _AROUND[kind]
    low, high = (critical * below, critical * above) if critical is not None else _WIDEST
    span = high / low
    end = end_lr if end_lr is not None else (high if start_lr is None or start_lr < high else start_lr * span)
    start = start_lr if start_lr is not None else (low if low < end else end / span)
    if mode == "linear" and start_lr is None:
        start = end / _LINEAR_ITER
    whole = _LINEAR_ITER if mode == "linear" else round(_PER_DECADE * math.log10(end / start)) + 1
    chosen = end_lr is None and num_iter is None
    whole = min(whole, _MOST_ITER) if chosen else whole
    extend = _MOST_ITER - whole if chosen else 0
    config = SweepConfig(
        start_lr=start,
        end_lr=end,
        num_iter=num_iter if num_iter is not None else max(whole, 10),
        mode=mode,
        early_stop=early_stop,
    )
    return config, extend
