"""Losses that repeat: the period of an unshuffled or sorted loader, from the losses alone. No torch."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
from numpy.typing import NDArray

from lrfinder.analysis.smoothing import convolved, scale_of

__all__ = ["repeat_period"]

_MANY = 2000  # steps whose autocorrelation takes a Fourier transform
_PERIOD = 0.6  # autocorrelation of the steps at a whole period
_CHANCE = 3.5  # and above so many standard deviations of that of independent losses, 0.2 % of which reach it
_PERIOD_POINTS = 40  # fewer are too few to compare two periods


def repeat_period(losses: NDArray[np.float64]) -> int:
    """Iterations after which the steps between losses repeat; 0 when they do not.

    Args:
        losses: raw losses before any blow-up, shape (m,).
    """
    if len(losses) < _PERIOD_POINTS:
        return 0
    # First differences: a trend leaves them nearly alone, and losses in blocks (sorted classes) keep their jumps.
    steps = np.diff(losses * scale_of(losses))
    steps = steps - median(steps.tolist())
    limit = 4 * median(np.abs(steps).tolist()) / 0.6745
    steps = np.clip(steps, -limit, limit)
    power = float(np.mean(steps**2))
    if power == 0:
        return 0
    lags = range(2, len(losses) // 2)
    sums = _autocorrelation(steps)  # sums[lag] = sum(steps[lag:] * steps[:-lag])
    match = {lag: float(sums[lag]) / (len(steps) - lag) / power for lag in lags}
    for lag in lags:
        # Steps of a smooth curve match at every lag; a period stands out from the lags beside it.
        beside = max(match.get(lag - 1, -1.0), match.get(lag + 1, -1.0))
        # Steps of independent losses are correlated at a lag of 1, which adds a half to the variance at the others.
        by_chance = _CHANCE * math.sqrt(1.5 / (len(steps) - lag))
        if match[lag] > max(_PERIOD, by_chance) and match[lag] - beside > _PERIOD / 2:
            return lag
    return 0


def _autocorrelation(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(steps) <= _MANY:
        return np.correlate(steps, steps, "full")[len(steps) - 1 :]
    return convolved(np.pad(steps, (0, len(steps) - 1)), steps[::-1])
