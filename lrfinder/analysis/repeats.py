"""Losses that repeat: the period of an unshuffled or sorted loader, from the losses alone. No torch."""

from __future__ import annotations

from statistics import median

import numpy as np
from numpy.typing import NDArray

from lrfinder.analysis.smoothing import convolved, scale_of

__all__ = ["repeat_period"]

_MANY = 2000  # steps whose autocorrelation takes a Fourier transform
_PERIOD = 0.6  # autocorrelation of the residuals at a whole period; chance stays below 0.4 with 50 points
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
        if match[lag] > _PERIOD and match[lag] - beside > _PERIOD / 2:
            return lag
    return 0


def _autocorrelation(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(steps) <= _MANY:
        return np.correlate(steps, steps, "full")[len(steps) - 1 :]
    return convolved(np.pad(steps, (0, len(steps) - 1)), steps[::-1])
