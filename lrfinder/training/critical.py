"""The critical learning rate: the smallest at which a single update makes the loss of its own batch worse. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

__all__ = ["RESOLUTION", "critical_lr"]

RESOLUTION = 1e-4
"""Changes below this part of the loss count as rounding."""

_LOWEST_LR, _HIGHEST_LR = 1e-10, 1e6  # searched decade by decade, where weights and gradients are of similar size
_USUAL_SCALE = (1e-3, 1e3)  # ratios of weights to gradients that need no other range
_CLEAR_RISE = 4.0  # a rise must be this many times the largest change seen at any smaller LR, or without an update
_HALVINGS = 2  # bisections in log LR inside the decade found: to a factor of 10 ** (1 / 4)
_LATE = 999.0  # a clear rise at an LR this much above the place where the loss stayed worse shows that it grows slowly
_LOST_PART = 0.03  # of the best improvement: of a log-likelihood a tenfold LR took no more
_SEEN_TWICE = 2  # learning rates, the highest included, that must show that a bounded loss got worse


def critical_lr(
    loss_at: Callable[[float], float], loss_before: float, *, noise: float = 0.0, scale: float = 1.0
) -> float | None:
    """Smallest learning rate at which one update makes the loss of its own batch worse.

    On a quadratic of curvature h along the step this is 2/h. Found by raising the LR tenfold from far below until the
    loss clearly rises, then bisecting: forward passes only, about ten. A loss that is bounded or grows slowly may never
    rise clearly; it counts as worse where it has left its lowest level for good.

    Args:
        loss_at: LR -> loss of a batch after a single update, made on that batch with that LR.
        loss_before: loss of the batch before the update.
        noise: how far the loss moves without any update; >= 0.
        scale: size of the weights over that of the gradients, > 0, which moves the range of the search.

    Returns:
        The critical LR to a factor of about 1.8, or None where no LR up to 1e6 (or ``scale`` times that) makes the loss
        worse.

    Example:
        >>> round(critical_lr(lambda lr: (1 - 20 * lr) ** 2, 1.0), 2)  # curvature 40 along the step, critical at 0.1
        0.13

    Reference:
        The idea of placing the LR by forward passes along the update: Kalra and Barkeshli, arXiv:2406.09405.
    """
    if not (math.isfinite(loss_before) and math.isfinite(noise)):
        return None
    floor = max(RESOLUTION * abs(loss_before), _CLEAR_RISE * noise)
    lrs: list[float] = []
    rises: list[float] = []
    for lr in _decades(scale):
        lrs.append(lr)
        rises.append(loss_at(lr) - loss_before)
        if (found := _clear_rise(rises, floor)) is not None:
            break
    level = floor
    lost, lost_level = _lost_for_good(rises, floor)
    if lost is not None and (found is None or lrs[found] > _LATE * lrs[lost]):
        found, level = lost, lost_level
    return None if found is None else _bisect(loss_at, loss_before + level, lrs[found] / 10, lrs[found])


def _decades(scale: float) -> Iterator[float]:
    """Learning rates to try, tenfold each."""
    low, high = _USUAL_SCALE
    lr = _LOWEST_LR if scale >= low else _LOWEST_LR * 10.0 ** math.floor(math.log10(scale))
    last = _HIGHEST_LR if scale <= high else _HIGHEST_LR * 10.0 ** math.ceil(math.log10(scale))
    while lr <= last:
        yield lr
        lr *= 10


def _clear_rise(rises: list[float], floor: float) -> int | None:
    """Place of a rise above everything seen before, known by the last of the rises or by the one before it."""
    last = len(rises) - 1
    if _stands_out(rises, last, floor) and (not math.isfinite(rises[last]) or _moved(rises[:last], floor)):
        return last
    # The first change of all has nothing to be compared with but the next one: rounding of a loss of few digits does
    # not grow with the LR.
    first = last - 1
    if first >= 0 and _stands_out(rises, first, floor) and not _moved(rises[:first], floor):
        return first if not rises[last] <= _CLEAR_RISE * rises[first] else None
    return None


def _stands_out(rises: list[float], at: int, floor: float) -> bool:
    largest_change = max(map(abs, rises[:at]), default=0.0)
    return not (rises[at] <= floor or rises[at] <= _CLEAR_RISE * largest_change)


def _moved(rises: list[float], floor: float) -> bool:
    return any(abs(rise) > floor for rise in rises)


def _lost_for_good(rises: list[float], floor: float) -> tuple[int | None, float]:
    """First place from which on the loss stays above its best before, or above the start without one; the level there.

    A loss that is bounded never rises far, and one that grows slowly does so only at far higher learning rates.
    """
    for at in range(1, len(rises) + 1 - _SEEN_TWICE):
        best = min(rises[:at])
        level = best + max(floor, -_LOST_PART * best) if best < -floor else floor
        if all(not rise <= level for rise in rises[at:]):
            return at, level
    return None, floor


def _bisect(loss_at: Callable[[float], float], level: float, good: float, bad: float) -> float:
    for _ in range(_HALVINGS):
        middle = math.sqrt(good * bad)
        # Written so that nan counts as bad.
        if loss_at(middle) <= level:
            good = middle
        else:
            bad = middle
    return math.sqrt(good * bad)
