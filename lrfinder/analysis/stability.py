"""The stability edge, solved for from how fast the loss grows above it.

Waiting until a rise is visible is too late: gradient descent on a quadratic has forgotten the unstable direction by the
time the LR reaches its limit, and from there the error has to grow through all the orders of magnitude that it had
lost. The loss rises out of its noise at up to ten times the limit. But how fast it grows shows where growth began.

Growth law. Heavy ball with momentum mu on a quadratic of curvature h has the characteristic polynomial

    z**2 - (1 + mu - lr * h) * z + mu

and is stable up to the limit lr = 2 * (1 + mu) / h, where its root reaches -1. At x times the limit the error is
multiplied in each step by the larger root

    g(x) = (m + sqrt(m**2 - 4 * mu)) / 2,   m = 2 * (1 + mu) * x - (1 + mu),   x >= 1

which is 2 * x - 1 without momentum, whatever the dimension. The loss is quadratic in the error, so steps with the
learning rates lr_i multiply it by the product of g(lr_i / limit)**2. The limit is solved for from the steepest stretch
of the rise.

On simulated sweeps that passed the limit (dimension 1 to 100, equal and spread curvatures, momentum 0 to 0.9, gradient
and loss noise from none to more than the whole loss, 12 to 50 steps per decade) nearly all came within a factor 1.15 of
it. The last point near the lowest level rarely came within 1.3. With Nesterov momentum, which cannot be recognised
from a curve, the limit is read about 1.3 too high.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.numbers import clamp_lr, geometric_mean

__all__ = ["BLURRED", "Floats", "growth", "growth_edge", "solve_limit"]

_GENTLE, _EXPLOSIVE = 2.5, 4.0  # growth as a power of the LR: below, no instability; above, nothing but one
_VISIBLE = 10.0  # noises above the lowest level at which growth rates can be trusted: 5 doubled the misses above 1.15
_STEPS = 6  # iterations over which growth is measured; 3 and 4 followed single lucky batches
_TALL_DROPS, _TALL_NOISES = 3.0, 30.0  # rates are read up to the third loss ...
_TALL_POINTS = 3  # ... that is so far above the lowest level: a sweep stops not much later
_ENSEMBLE = tuple((steps, visible) for steps in (2, 4, 6, 8) for visible in (5.0, 10.0, 20.0))
BLURRED = 3.0
"""Readings of an edge this factor apart come from a rise in two parts, of which noise would pick one."""

Floats = NDArray[np.float64]


class _Stretch(NamedTuple):
    """Points ``first`` to ``end`` of a rise, both included."""

    first: int
    end: int


def growth_edge(
    lrs: Floats,
    losses: Floats,
    smoothed: Floats,
    last: int,
    *,
    level: float,
    noise: float,
    drop: float,
    momentum: float,
) -> tuple[float, float, float]:
    """Stability edge, and the lowest and highest of its readings from other stretches of the rise.

    Args:
        lrs: learning rates, shape (m,).
        losses: raw losses, shape (m,).
        smoothed: smoothed losses, shape (m,).
        last: last point near the lowest level, behind which the rise begins.
        level: that lowest level.
        noise: standard deviation of the batch noise; >= 0.
        drop: fall of the loss from its start to its lowest; >= 0.
        momentum: of the optimizer, from 0 to 1.
    """
    # A net that blows up far above its start does so faster than any quadratic, so that part shows no limit.
    tall = np.flatnonzero(losses - level > max(_TALL_DROPS * drop, _TALL_NOISES * noise))
    tall = tall[tall > last]
    stop = int(tall[_TALL_POINTS - 1]) + 1 if len(tall) >= _TALL_POINTS else len(losses)
    # While other directions still fall, the level under the rise is known no better than it moves.
    moved = abs(float(smoothed[max(last - _STEPS, 0)] - smoothed[last]))
    edges = []
    for steps, visible in ((_STEPS, _VISIBLE), *_ENSEMBLE):
        # A thousandth of the drop keeps rounding out of the growth rates of a curve without noise.
        above = max(visible * noise, 0.5 * moved, 1e-3 * drop)
        edges.append(_limit(lrs[:stop], losses[:stop] - level, last, steps=steps, above=above, momentum=momentum))
    low, high = min(edges), max(edges)
    return edges[0] if high < BLURRED * low else geometric_mean(low, high), low, high


def _limit(lrs: Floats, excess: Floats, last: int, *, steps: int, above: float, momentum: float) -> float:
    """Stability limit from the steepest stretch of the rise, at most ``steps`` iterations long.

    It is ``lrs[last]`` where the excess does not grow as an instability does.
    """
    left = float(lrs[last])
    logs = np.log(np.maximum(excess, max(above, 1e-300)))
    stretch = _steepest(logs, excess > above, last, steps)
    if stretch is None:
        return left
    first, end = stretch
    gain = float(logs[end] - logs[first])
    power = gain / max(math.log(float(lrs[end]) / float(lrs[first])), 1e-300)  # denormal learning rates may be equal
    share = min(max((power - _GENTLE) / (_EXPLOSIVE - _GENTLE), 0.0), 1.0)
    if share == 0.0:
        return left
    limit = solve_limit(lrs[first + 1 : end + 1], gain, momentum)
    return math.exp(share * math.log(limit) + (1 - share) * math.log(left))


def _steepest(logs: Floats, visible: NDArray[np.bool_], last: int, steps: int) -> _Stretch | None:
    """Stretch of at most ``steps`` iterations in which the log of the excess grows fastest per iteration."""
    best, stretch, run, whole = 0.0, None, None, False
    for end in range(last + 1, len(logs)):
        if not visible[end]:
            continue
        # Points that are not visible yet count as just visible: that much growth at least. This finds the
        # edge of a cliff, one jump from the lowest level onto a plateau.
        first = max(end - steps, last)
        hidden = np.flatnonzero(~visible[first:end])
        if len(hidden) and first + hidden[-1] + 1 < end:
            run = _Stretch(first + int(hidden[-1]) + 1, end)
        rate = float(logs[end] - logs[first]) / (end - first)
        if rate > best:
            best, stretch = rate, _Stretch(first, end)
        whole = whole or not len(hidden)
    # A rise cut off before it was visible for that long is read from what there is of it.
    return run if not whole and run is not None else stretch


def growth(parts: Floats, momentum: float) -> Floats:
    """Factor g by which the error grows in one step at these parts x of the stability limit; 1 below it.

    Example:
        >>> growth(np.array([0.5, 1.0, 1.5]), 0.0).tolist()
        [1.0, 1.0, 2.0]
    """
    m = 2 * (1 + momentum) * np.maximum(parts, 1.0) - (1 + momentum)
    return (m + np.sqrt(m**2 - 4 * momentum)) / 2


def solve_limit(lrs: Floats, gain: float, momentum: float) -> float:
    """Stability limit under which steps with these learning rates multiply the excess loss by ``exp(gain)``."""
    low, high = math.log(clamp_lr(float(lrs[0]) / 100)), math.log(lrs[-1])
    for _ in range(30):
        middle = (low + high) / 2
        # The loss is quadratic in the error.
        if 2 * float(np.log(growth(lrs / math.exp(middle), momentum)).sum()) > gain:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
