"""The numbers of a curve that every regime is read from. No torch."""

from __future__ import annotations

import math
import sys
from statistics import median
from typing import NamedTuple

import numpy as np

from lrfinder.analysis.smoothing import noise, scale_of, smooth, window
from lrfinder.analysis.stability import Floats
from lrfinder.errors import ConfigError
from lrfinder.record.curve import LossCurve

__all__ = ["FEWEST_POINTS", "Series", "check_curve", "dead_from", "series_of"]

FEWEST_POINTS = 9
"""Readable points below which nothing is advised. 10 iterations leave 9: the last update shows no training loss."""

_FIRST = 5  # losses whose median is the level at the start
_STEPS = 8  # differences of neighbouring losses that show the batch noise at the start
_DEAD_STEPS = 10  # and that have to be small in a row; at twelve per decade, most of one
_DEAD_PART = 0.1  # of the usual difference, that is small
_ROUNDED = 0.25  # part of equal neighbours from which on the losses move by their rounding, and equal ones say nothing


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


def check_curve(value: object) -> None:
    """Refuse what is no curve, as the result that has one.

    Raises:
        ConfigError: it is no :class:`LossCurve`.
    """
    if not isinstance(value, LossCurve):
        raise ConfigError(f"a curve is needed, as result.curve is one; got a {type(value).__name__}.")


def series_of(curve: LossCurve, end: int | None = None) -> Series:
    """Series of a curve up to a point; of a training that raises its loss, with the sign turned."""
    pairs = tuple(values[:end] for values in curve.pairs())
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


def dead_from(series: Series) -> int | None:
    """First point from which on the loss is the same for every batch, at the level of the start or above it.

    The network then gives one output for every input, as after an update that leaves all its ReLUs at 0. None of 366
    sweeps of the calibration runs does so.
    """
    steps = np.abs(np.diff(series.losses))
    if len(steps) < _STEPS + _DEAD_STEPS:
        return None
    usual = median(steps[:_STEPS].tolist())
    small = (steps < _DEAD_PART * usual) & (series.losses[1:] > series.level - 2 * usual)
    runs = np.convolve(small[_STEPS:], np.ones(_DEAD_STEPS), mode="valid") == _DEAD_STEPS
    if not runs.any():
        return None
    first = _STEPS + int(runs.argmax())
    return first if (steps[:first] == 0).mean() < _ROUNDED else None
