"""Ends of the axes that curves are drawn on, as values. No matplotlib, no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrfinder.analysis.regimes import Reading
from lrfinder.record.curve import LossCurve

__all__ = ["STRIP", "loss_limits", "lr_axis"]

STRIP = 0.06  # height of the strip that names the regimes, as a part of the axes
_OFF_SCALE = 2.0  # a loss range this many times the readable one is cut off, or the fall would look flat
_FLAT_NOISES = 20.0  # height of the axes of a curve that neither falls nor rises, in standard deviations of its noise


def lr_axis(curves: Sequence[LossCurve], marked: Sequence[float]) -> tuple[str, tuple[float, float]]:
    """Scale of the axis, linear when every sweep was, and its ends: every point and every mark, and a margin."""
    ends = [*marked, *(lr for curve in curves for lr in curve.lrs)]
    ends = ends or [end for curve in curves for end in (curve.config.start_lr, curve.config.end_lr)]
    low, high = min(ends), max(ends)
    if any(curve.config.mode == "exp" for curve in curves):
        factor = (high / low) ** 0.02 if high > low else 2.0
        return "log", (low / factor, high * factor)
    margin = 0.02 * (high - low) or 0.1 * high
    return "linear", (low - margin, high + margin)


def loss_limits(reading: Reading) -> tuple[float, float] | None:
    """Ends of the part that can be read: down to the lowest loss, with room for the rise and the regime strip."""
    if len(reading.losses) < 2:
        return None
    losses, smooth, lrs = (np.asarray(values) for values in (reading.losses, reading.smooth, reading.lrs))
    before_rise = lrs <= reading.lowest_lr if reading.lowest_lr is not None else np.zeros(len(lrs), dtype=bool)
    if before_rise.sum() < 3:  # it never fell: show the start
        before_rise = np.arange(len(lrs)) <= max(len(lrs) // 3, 5)
    # A quantile of raw losses: neither a spike nor a blow-up, which smoothing spreads to both sides, sets the scale.
    low, high = float(smooth.min()), float(np.quantile(losses[before_rise], 0.98))
    span = max(high - low, 0.0)
    highest, lowest = float(losses.max()), float(losses.min())
    high = highest if highest - low <= _OFF_SCALE * span else low + 1.3 * span
    low = lowest if low - lowest <= span else low - 0.3 * span
    span = (high - low) or max(abs(high), 1.0) * 0.1
    never_moved = reading.onset_lr is None and reading.edge_lr is None
    if never_moved and (missing := _FLAT_NOISES * reading.noise_std - span) > 0:
        low, span = low - missing / 2, span + missing  # noise drawn at full height is taken for a trend
        high = low + span
    return low - (STRIP + 0.06) * span, high + 0.05 * span
