"""The reading of a curve: its three regimes (flat, falling, blowing up) and the learning rates between them.

Facts only; :mod:`lrfinder.advice.advise` decides what to train with. Every decision compares differences of losses
with other differences of losses and learning rates by their ratios, so ``a * loss + b`` (a > 0) changes no learning
rate here, and multiplying every learning rate by c multiplies every answer by c. No torch.

The stability edge of a curve that blows up is computed from the growth of the loss:
:mod:`lrfinder.analysis.stability`. With batch normalisation, with a saturating loss, and with an optimizer whose step
does not grow with the gradient (Adam, sign methods), the loss rises as a small power of the LR instead. Its growth rate
then shows no limit, and the edge is where the smoothed loss exceeds its lowest level by 15 % of the drop. On digit
classifiers this edge moved least between seeds; at 5 % and less it followed single batches, and an edge from the growth
rate moved up to three times as much.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

import numpy as np

from lrfinder.analysis.groups import rule_of
from lrfinder.analysis.probe import probe_curve, shows_gain
from lrfinder.analysis.series import Series, check_curve, dead_from, series_of
from lrfinder.analysis.smoothing import convolved
from lrfinder.analysis.stability import Floats, growth_edge
from lrfinder.numbers import clamp_lr
from lrfinder.record.curve import LossCurve, StopReason
from lrfinder.record.sweep import losses_until_diverged

__all__ = ["DROP_NOISES", "Reading", "read_curve"]

_LEVEL = 5  # losses whose median is the level at the end of the curve; fewer show nothing
DROP_NOISES = 2.5  # a flat curve shows a drop of more noises than that by chance in 1 % of sweeps
_FAINT_NOISES = 1.2  # the same for means over a decade
_RISE_NOISES = 4.0  # the same for the rise that ends the curve: the lowest level is the luckiest of many
_STEEP_RISE_NOISES = 16.0  # for the last two alone, of a curve cut off as it takes off
_LONG_RISE_NOISES = 3.0  # and for a long end, whose median is better known
_RISE_PART = 0.1  # part of the drop that must be given back, as in the sweep's own rule
_LOW_PART = 0.2  # of the drop: the middle of the low region moves a third less between seeds than the lowest point
_ONSET_PART = 0.05  # the flat regime ends when this part of the drop is gone ...
_LEAVE_PART = 0.15  # ... and the lowest level when this part of it has come back; see above
_LEAVE_NOISES = 1.5  # both at least this many noises, about three standard errors of the smoothed curve


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Reading of a curve: facts without advice.

    Args:
        lrs: learning rates as :meth:`LossCurve.pairs` has them, shape (m,).
        losses: raw losses that show their effect, shape (m,). Of a training that raises the loss (``maximize=True``),
            these and all levels have their sign turned.
        smooth: losses smoothed without lag, shape (m,).
        width: smoothing window in iterations.
        update_rule: of the optimizer, ``"proportional"`` or ``"adaptive"``.
        noise_std: standard deviation of the batch noise, in units of the loss.
        level: loss at the start, the median of the first five; nan without losses.
        total_drop: ``level`` minus the lowest smoothed loss; >= 0.
        onset_lr: where the loss starts to fall (end of the flat regime); None when it does not fall.
        steepest_lr: where it falls fastest per decade of LR; None when it does not fall.
        lowest_lr: where the smoothed loss is lowest; None when it does not fall.
        low_region: (low, high) of the stretch around it where the smoothed loss is within a fifth of the drop of its
            lowest; None when it does not fall.
        edge_lr: stability edge, where the rise that ends the curve begins; None when the curve never turned.
        edge_interval: (low, high) around the edge: how far it moves with the stretch of the rise it is read from.
        diverged_lr: where the loss had given back most of its fall for good, as a sweep that stops early defines it;
            None when it never had.
        dead_lr: from where on the loss was the same for every batch: the network gave one output for every input. The
            edge and ``diverged_lr`` are no higher. None when it never was.
        probed: whether all of it is about the loss of the probe, where that shows a gain; else about that of the curve.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    width: int
    update_rule: str
    noise_std: float
    level: float
    total_drop: float
    onset_lr: float | None
    steepest_lr: float | None
    lowest_lr: float | None
    low_region: tuple[float, float] | None
    edge_lr: float | None
    edge_interval: tuple[float, float] | None
    diverged_lr: float | None
    dead_lr: float | None = None
    probed: bool = False


class _Fall(NamedTuple):
    onset: float | None = None
    steepest: float | None = None
    lowest: float | None = None
    region: tuple[float, float] | None = None


class _Edge(NamedTuple):
    lr: float | None = None
    interval: tuple[float, float] | None = None


def read_curve(curve: LossCurve) -> Reading:
    """Read a curve. Any curve can be read; a value that it does not show is None.

    Example:
        >>> from lrfinder.record.curve import SweepConfig
        >>> from lrfinder.record.sweep import Sweep
        >>> sweep = Sweep(SweepConfig(start_lr=0.001, end_lr=10.0, num_iter=101))
        >>> weight = 1.0  # gradient descent on weight**2, stable below lr 1
        >>> while not sweep.done:
        ...     sweep.record(weight**2)
        ...     weight -= sweep.last_lr * 2 * weight
        >>> round(read_curve(sweep.curve()).edge_lr, 2)
        1.0
    """
    check_curve(curve)
    shown = probe_curve(curve)
    if shown is not None and shows_gain(curve, (probe := _read(shown)).total_drop, probe.lowest_lr):
        return replace(probe, probed=True)
    return _read(curve)


def _read(curve: LossCurve) -> Reading:
    whole = series_of(curve)
    dead = dead_from(whole)
    series = whole if dead is None else series_of(curve, dead)
    fall = _fall(series)
    edge = _edge(curve, series)
    diverged, dead_lr = _diverged_lr(curve, whole.lrs), None
    if dead is not None:
        dead_lr = float(whole.lrs[dead])
        edge = edge if edge.lr is not None else _Edge(dead_lr, (float(whole.lrs[dead - 1]), dead_lr))
        diverged = min(dead_lr, diverged or dead_lr)
    if edge.lr is not None and edge.interval is not None and fall.region is not None:
        # A net that explodes within two steps outgrows every quadratic, and its limit is solved for far too low. Where
        # most of the fall was still to come, it was not unstable.
        low, high = (max(end, fall.region[0]) for end in edge.interval)
        edge = _Edge(max(edge.lr, fall.region[0]), (low, high))
    return Reading(
        lrs=tuple(whole.lrs.tolist()),
        losses=tuple((whole.losses / whole.scale).tolist()),
        smooth=tuple((whole.smooth / whole.scale).tolist()),
        width=whole.width,
        update_rule=rule_of(curve),
        noise_std=series.unscaled(series.noise),
        level=series.level / series.scale,
        total_drop=series.unscaled(series.drop),
        onset_lr=fall.onset,
        steepest_lr=fall.steepest,
        lowest_lr=fall.lowest,
        low_region=fall.region,
        edge_lr=edge.lr,
        edge_interval=edge.interval,
        diverged_lr=diverged,
        dead_lr=dead_lr,
    )


def _fall(series: Series) -> _Fall:
    """Onset, steepest and lowest LR of a curve that falls, and where it is low."""
    if len(series.losses) < _LEVEL or series.drop <= DROP_NOISES * series.noise:
        return _faint_fall(series)
    lrs, smoothed = series.lrs, series.smooth
    low = int(smoothed.argmin())
    region = _low_region(lrs, smoothed, float(smoothed.min()) + _LOW_PART * series.drop)
    left = series.level - max(_ONSET_PART * series.drop, min(_LEAVE_NOISES * series.noise, 0.5 * series.drop))
    flat = np.flatnonzero(smoothed[: low + 1] > left)
    onset = int(flat[-1]) + 1 if len(flat) else 0
    if low == 0:
        return _Fall(float(lrs[0]), float(lrs[0]), float(lrs[0]), region)
    from scipy.ndimage import uniform_filter1d  # late, for a fast import

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # denormal learning rates may be equal
        slopes = np.gradient(smoothed[: low + 1], np.log10(lrs[: low + 1]))
    slopes = uniform_filter1d(slopes, series.width, mode="nearest")  # differences bring noise back
    steepest = onset + int(slopes[onset:].argmin())
    return _Fall(float(lrs[onset]), float(lrs[steepest]), float(lrs[low]), region)


def _faint_fall(series: Series) -> _Fall:
    """The same of a fall that only means over a whole decade show: the noise hides it from the narrow smoother."""
    width = 2 * series.width
    if len(series.losses) < max(2 * width, 1):
        return _Fall()
    means = convolved(series.losses, np.full(width, 1 / width))
    centres = series.lrs[width // 2 : width // 2 + len(means)]
    drop = float(means[0] - means.min())
    if drop <= _FAINT_NOISES * series.noise:
        return _Fall()
    low = int(means.argmin())
    onset = float(centres[np.flatnonzero(means[: low + 1] > means[0] - 0.5 * drop)[-1]])
    return _Fall(
        onset, onset, float(centres[low]), _low_region(centres, means, float(means.min()) + _LOW_PART * drop)
    )


def _low_region(lrs: Floats, smoothed: Floats, level: float) -> tuple[float, float]:
    """Ends of the stretch around the lowest point that stays below the level."""
    low = int(smoothed.argmin())
    above = np.flatnonzero(smoothed > level)
    first = int(above[above < low].max(initial=-1)) + 1
    last = int(above[above > low].min(initial=len(lrs))) - 1
    return float(lrs[first]), float(lrs[last])


def _turned(curve: LossCurve, series: Series) -> bool:
    """Whether the curve ends in a rise."""
    if len(series.losses) < _LEVEL:
        return False
    if curve.stop is StopReason.DIVERGED or curve.stop.is_failure:
        return True
    # Against the points before them: where the loss still falls steeply, the last five are above the very last. A loss
    # that saturates is noisy up there, and a longer end shows better that it stays.
    ends = ((2, _STEEP_RISE_NOISES), (_LEVEL, _RISE_NOISES), (2 * series.width, _LONG_RISE_NOISES))
    return any(
        median(series.losses[-n:].tolist()) - float(series.smooth[: max(len(series.smooth) - n, 1)].min())
        > max(noises * series.noise, _RISE_PART * series.drop)
        for n, noises in ends
    )


def _edge(curve: LossCurve, series: Series) -> _Edge:
    """The stability edge and its interval."""
    if not _turned(curve, series):
        return _Edge()
    lrs, losses, smoothed, sigma, drop = series.lrs, series.losses, series.smooth, series.noise, series.drop
    lowest = np.minimum.accumulate(smoothed)
    # The last point near the lowest level so far: whatever rose before it and came back was a spike.
    last = int(np.flatnonzero(smoothed <= lowest + max(_LEAVE_PART * drop, _LEAVE_NOISES * sigma))[-1])
    left, ratio = float(lrs[last]), float(lrs[-1]) / float(lrs[-2])
    if rule_of(curve) == "adaptive":
        return _Edge(left, (clamp_lr(left / ratio), clamp_lr(left * ratio)))
    edge, low, high = growth_edge(
        lrs, losses, smoothed, last, level=float(lowest[last]), noise=sigma, drop=drop, momentum=curve.momentum
    )
    return _Edge(edge, (clamp_lr(low / ratio), clamp_lr(high * ratio)))


def _diverged_lr(curve: LossCurve, lrs: Floats) -> float | None:
    # A sweep with early stop that did not end in divergence never diverged.
    watched = curve.config.early_stop and curve.stop is not StopReason.DIVERGED
    count = None if watched else losses_until_diverged(curve.losses, maximize=curve.maximized)
    if count is not None:
        # Of the pairs of LR and loss there is one less where the loss was measured before the update.
        return float(lrs[count - 1 - (len(curve.losses) - len(lrs))])
    return float(lrs[-1]) if curve.stop.is_failure and len(lrs) else None
