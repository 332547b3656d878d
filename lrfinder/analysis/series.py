"""The numbers of a curve that every regime is read from. No torch."""

from __future__ import annotations

import math
import sys
from statistics import median
from typing import NamedTuple

import numpy as np

from lrfinder.analysis.smoothing import noise, scale_of, smooth, window
from lrfinder.analysis.stability import Floats
from lrfinder.record.curve import LossCurve

__all__ = ["Series", "series_of"]

_FIRST = 5  # losses whose median is the level at the start


class Series(NamedTuple):
    """The numbers of a curve that every regime is read from; losses are in units of ``1 / scale``."""

    lrs: Floats
    losses: Floats
    smooth: Floats
    width: int
    noise: float
    level: float
    drop: float
    scale: float = 1.0

    def unscaled(self, value: float) -> float:
        """A difference of losses in their own unit."""
        return min(value / self.scale, sys.float_info.max)


def series_of(curve: LossCurve) -> Series:
    """Series of a curve; of a training that raises its loss, with the sign turned."""
    pairs = curve.pairs()
    lrs, losses = (np.asarray(values, dtype=np.float64) for values in pairs)
    losses = -losses if curve.maximized else losses
    if not len(losses):
        return Series(lrs, losses, losses, 1, 0.0, math.nan, 0.0)
    scale = scale_of(losses)
    losses = losses * scale
    width = window(pairs[0])
    smoothed = smooth(losses, width)
    level = median(losses[:_FIRST].tolist())
    return Series(lrs, losses, smoothed, width, noise(losses), level, max(level - float(smoothed.min()), 0.0), scale)
