"""What a curve shows: its three regimes (flat, falling, blowing up) and the learning rates between them.

Facts and no opinion: what to train with is :mod:`lrfinder.advice`. Every decision compares differences of losses with
other differences of losses and learning rates by their ratios, so ``a * loss + b`` (a > 0) changes no learning rate
here, and multiplying every learning rate by c multiplies every answer by c. No torch.

How the stability edge is found. Waiting until the rise is visible is too late: gradient descent on a quadratic has
forgotten the unstable direction by the time the LR reaches its limit, and from there the error has to grow through all
the orders of magnitude that it had lost; the loss comes back to its noise at up to ten times the limit. But *how fast*
it grows says where growth began: at x times the limit, one step of plain gradient descent multiplies the error by
2x - 1, whatever the dimension, and with momentum by the larger root of a quadratic (:func:`_growth`). So the edge is
solved for from the steepest stretch of the visible rise. On simulated sweeps that passed the limit (dimension 1 to 100,
equal and spread curvatures, momentum 0 to 0.9, gradient and loss noise from none to more than the whole loss, 12 to 50
steps per decade) nearly all came within a factor 1.15 of it, where the last point near the lowest level rarely came
within 1.3. With Nesterov momentum, which the curve does not tell from the plain one, the edge reads about 1.3 too high.

Nets with batch normalisation, saturating losses, and optimizers whose step does not grow with the gradient (Adam, sign
methods) rise like a small power of the LR instead. There growth rates say nothing about a limit, and the edge is where
the smoothed loss leaves its lowest level by 15 % of the drop: on digit classifiers that moved least between seeds (5 %
and less chase single batches), while the growth rate moved up to three times as much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from lrfinder.curve import LossCurve, StopReason
from lrfinder.smoothing import noise, smooth, window
from lrfinder.sweep import losses_until_diverged
from lrfinder.tables.optimizers import update_rule

__all__ = ["Reading", "read_curve"]

_LEVEL = 5  # losses whose median is a level, at both ends of the curve
_DROP_NOISES = 2.5  # a flat curve shows a drop of more noises than that by chance in 1 % of sweeps
_FAINT_NOISES = 1.2  # and of means over a decade so many
_RISE_NOISES = 4.0  # the same for the rise that ends the curve: the lowest level is the luckiest of many
_STEEP_RISE_NOISES = 16.0  # for the last two alone, of a curve cut off as it takes off
_LONG_RISE_NOISES = 3.0  # and for a long end, whose median is better known
_RISE_PART = 0.1  # part of the drop that must be given back, as in the sweep's own rule
_FLOOR_PART = 0.2  # of the drop: the floor's middle moves a third less between seeds than the lowest point
_ONSET_PART = 0.05  # the flat regime ends when this part of the drop is gone ...
_LEAVE_PART = 0.15  # ... and the lowest level when this part of it has come back; see above
_LEAVE_NOISES = 1.5  # both at least this many noises, about three standard errors of the smoothed curve
_VISIBLE = 10.0  # noises above the lowest level at which growth rates can be trusted: 5 doubled the misses above 1.15
_STEPS = 6  # iterations over which growth is measured; 3 and 4 chased single lucky batches
_TALL_DROPS, _TALL_NOISES = 3.0, 30.0  # rates are read up to the third loss ...
_TALL_POINTS = 3  # ... that is so far above the lowest level: a sweep stops not much later
_GENTLE, _EXPLOSIVE = 2.5, 4.0  # growth as a power of the LR: below, no instability; above, nothing but one
BLURRED = 3.0  # readings this factor apart: a rise in two parts, of which noise would pick one; their middle is taken
_ENSEMBLE = tuple((steps, visible) for steps in (2, 4, 6, 8) for visible in (5.0, 10.0, 20.0))

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a curve shows, without an opinion.

    Args:
        lrs: learning rates as :meth:`LossCurve.pairs` has them, shape (m,).
        losses: raw losses that show their effect, shape (m,).
        smooth: losses smoothed without lag, shape (m,).
        noise: standard deviation of the batch noise, in units of the loss.
        drop: level at the start minus the lowest smoothed level; >= 0.
        onset_lr: where the loss starts to fall (end of the flat regime); None when it does not fall.
        steepest_lr: where it falls fastest per decade of LR; None when it does not fall.
        lowest_lr: where the smoothed loss is lowest; None when it does not fall.
        floor: (low, high) of the stretch around it where the smoothed loss is within a fifth of the drop of its lowest.
        edge_lr: stability edge, where the rise that ends the curve sets in; None when the curve never turned.
        edge_interval: (low, high) around the edge: how far it moves with the stretch of the rise it is read from.
        diverged_lr: where the loss had given back most of its fall for good, as a sweep that stops early defines it;
            None when it never had.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    noise: float
    drop: float
    onset_lr: float | None
    steepest_lr: float | None
    lowest_lr: float | None
    floor: tuple[float, float] | None
    edge_lr: float | None
    edge_interval: tuple[float, float] | None
    diverged_lr: float | None


def read_curve(curve: LossCurve) -> Reading:
    """What the curve shows. Any curve can be read; what it does not show is None.

    Example:
        >>> from lrfinder.curve import SweepConfig
        >>> from lrfinder.sweep import Sweep
        >>> sweep = Sweep(SweepConfig(start_lr=0.001, end_lr=10.0, num_iter=101))
        >>> weight = 1.0  # gradient descent on weight**2, stable below lr 1
        >>> while not sweep.done:
        ...     sweep.record(weight**2)
        ...     weight -= sweep.last_lr * 2 * weight
        >>> round(read_curve(sweep.curve()).edge_lr, 2)
        1.0
    """
    lrs, losses = (np.asarray(values, dtype=np.float64) for values in curve.pairs())
    smoothed = smooth(losses, window(curve.pairs()[0])) if len(losses) else losses
    sigma = noise(losses)
    drop = max(median(losses[:_LEVEL].tolist()) - float(smoothed.min()), 0.0) if len(losses) else 0.0
    onset = steepest = lowest = floor = None
    if len(losses) >= _LEVEL and drop > _DROP_NOISES * sigma:
        level = median(losses[:_LEVEL].tolist())
        onset, steepest, lowest = _fall(lrs, smoothed, level, drop, sigma)
        floor = _floor(lrs, smoothed, float(smoothed.min()) + _FLOOR_PART * drop)
    else:
        onset, steepest, lowest, floor = _faint_fall(lrs, losses, 2 * window(curve.pairs()[0]), sigma)
    edge, interval = _edge(curve, lrs, losses, smoothed, drop, sigma)
    if edge is not None and interval is not None and floor is not None:
        # A net that explodes within two steps outgrows every quadratic, and its limit is solved for far too low. Where
        # most of the fall was still to come, it was not unstable.
        edge, interval = max(edge, floor[0]), (max(interval[0], floor[0]), max(interval[1], floor[0]))
    return Reading(
        lrs=tuple(lrs.tolist()),
        losses=tuple(losses.tolist()),
        smooth=tuple(smoothed.tolist()),
        noise=sigma,
        drop=drop,
        onset_lr=onset,
        steepest_lr=steepest,
        lowest_lr=lowest,
        floor=floor,
        edge_lr=edge,
        edge_interval=interval,
        diverged_lr=_diverged_lr(curve, lrs),
    )


def _fall(lrs: Floats, smoothed: Floats, start: float, drop: float, sigma: float) -> tuple[float, float, float]:
    """Onset, steepest and lowest LR of a curve that falls."""
    low = int(smoothed.argmin())
    left = start - max(_ONSET_PART * drop, min(_LEAVE_NOISES * sigma, 0.5 * drop))
    flat = np.flatnonzero(smoothed[: low + 1] > left)
    onset = int(flat[-1]) + 1 if len(flat) else 0
    if low == 0:
        return float(lrs[0]), float(lrs[0]), float(lrs[0])
    from scipy.ndimage import uniform_filter1d  # late, as in smoothing

    slopes = np.gradient(smoothed[: low + 1], np.log10(lrs[: low + 1]))
    slopes = uniform_filter1d(slopes, window(lrs.tolist()), mode="nearest")  # differences bring noise back
    steepest = onset + int(slopes[onset:].argmin())
    return float(lrs[onset]), float(lrs[steepest]), float(lrs[low])


def _faint_fall(
    lrs: Floats, losses: Floats, width: int, sigma: float
) -> tuple[float | None, float | None, float | None, tuple[float, float] | None]:
    """The same of a fall that only means over a whole decade show: the noise hides it from the narrow smoother."""
    if len(losses) < 2 * width:
        return None, None, None, None
    means = np.convolve(losses, np.full(width, 1 / width), "valid")
    centres = lrs[width // 2 : width // 2 + len(means)]
    drop = float(means[0] - means.min())
    if drop <= _FAINT_NOISES * sigma:
        return None, None, None, None
    low = int(means.argmin())
    onset = int(np.flatnonzero(means[: low + 1] > means[0] - 0.5 * drop)[-1])
    place = float(centres[low])
    return (
        float(centres[onset]),
        float(centres[onset]),
        place,
        _floor(centres, means, float(means.min()) + _FLOOR_PART * drop),
    )


def _floor(lrs: Floats, smoothed: Floats, level: float) -> tuple[float, float]:
    """Ends of the stretch around the lowest point that stays below the level."""
    low = int(smoothed.argmin())
    above = np.flatnonzero(smoothed > level)
    first = int(above[above < low].max(initial=-1)) + 1
    last = int(above[above > low].min(initial=len(lrs))) - 1
    return float(lrs[first]), float(lrs[last])


def _edge(
    curve: LossCurve, lrs: Floats, losses: Floats, smoothed: Floats, drop: float, sigma: float
) -> tuple[float | None, tuple[float, float] | None]:
    """The stability edge and its interval."""
    if len(losses) < _LEVEL:
        return None, None
    ended = curve.stop in (StopReason.DIVERGED, StopReason.NONFINITE)
    # Against the points before them: where the loss still falls steeply, the last five are above the very last. A loss
    # that saturates is noisy up there, and a longer end shows better that it stays.
    ends = ((2, _STEEP_RISE_NOISES), (_LEVEL, _RISE_NOISES), (2 * window(curve.pairs()[0]), _LONG_RISE_NOISES))
    rose = any(
        median(losses[-n:].tolist()) - float(smoothed[: max(len(smoothed) - n, 1)].min())
        > max(noises * sigma, _RISE_PART * drop)
        for n, noises in ends
    )
    if not ended and not rose:
        return None, None
    lowest = np.minimum.accumulate(smoothed)
    # The last point near the lowest level so far: whatever rose before it and came back was a spike.
    last = int(np.flatnonzero(smoothed <= lowest + max(_LEAVE_PART * drop, _LEAVE_NOISES * sigma))[-1])
    floor = float(lowest[last])
    # How a net blows up far above its start says nothing about where it began: faster than any quadratic.
    tall = np.flatnonzero(losses - floor > max(_TALL_DROPS * drop, _TALL_NOISES * sigma))
    tall = tall[tall > last]
    stop = int(tall[_TALL_POINTS - 1]) + 1 if len(tall) >= _TALL_POINTS else len(losses)
    # While other directions still fall, the level under the rise is known no better than it moves.
    moved = abs(float(smoothed[max(last - _STEPS, 0)] - smoothed[last]))
    left = float(lrs[last])
    rung = float(lrs[-1] / lrs[-2])
    if update_rule(curve.optimizer) == "adaptive":
        return left, (left / rung, left * rung)
    edges = []
    for steps, visible in ((_STEPS, _VISIBLE), *_ENSEMBLE):
        # A thousandth of the drop keeps rounding out of the growth rates of a curve without noise.
        above = max(visible * sigma, 0.5 * moved, 1e-3 * drop)
        edges.append(_growth_edge(lrs[:stop], losses[:stop] - floor, last, steps, above, curve.momentum, left))
    low, high = min(edges), max(edges)
    edge = edges[0] if high < BLURRED * low else math.sqrt(low * high)
    return edge, (low / rung, high * rung)


def _diverged_lr(curve: LossCurve, lrs: Floats) -> float | None:
    count = losses_until_diverged(curve.losses)
    if count is not None:
        # Of the pairs of LR and loss there is one less where the loss was measured before the update.
        return float(lrs[count - 1 - (len(curve.losses) - len(lrs))])
    return float(lrs[-1]) if curve.stop is StopReason.NONFINITE and len(lrs) else None


def _growth_edge(
    lrs: Floats, excess: Floats, last: int, steps: int, above: float, momentum: float, left: float
) -> float:
    """Edge from the steepest stretch of the rise behind point ``last``, at most ``steps`` iterations long."""
    logs = np.log(np.maximum(excess, max(above, 1e-300)))
    visible = excess > above
    best, stretch, run, whole = 0.0, None, None, False
    for end in range(last + 1, len(lrs)):
        if not visible[end]:
            continue
        # Points that are not visible yet count as just visible: so much growth there was at least. That finds the
        # edge of a cliff, one jump from the floor onto a plateau.
        first = max(end - steps, last)
        hidden = np.flatnonzero(~visible[first:end])
        if len(hidden) and first + hidden[-1] + 1 < end:
            run = (first + int(hidden[-1]) + 1, end)
        rate = float(logs[end] - logs[first]) / (end - first)
        if rate > best:
            best, stretch = rate, (first, end)
        whole = whole or not len(hidden)
    # A rise cut off before it was visible for that long is read from what there is of it.
    if not whole and run is not None:
        stretch = run
    if stretch is None:
        return left
    first, end = stretch
    power = float(logs[end] - logs[first]) / math.log(lrs[end] / lrs[first])
    share = min(max((power - _GENTLE) / (_EXPLOSIVE - _GENTLE), 0.0), 1.0)
    if share == 0.0:
        return left
    limit = _solve(lrs[first + 1 : end + 1], float(logs[end] - logs[first]), momentum)
    return math.exp(share * math.log(limit) + (1 - share) * math.log(left))


def _growth(parts: Floats, momentum: float) -> Floats:
    """Factor by which the error grows in one step at an LR that is this part of the stability limit; 1 below it.

    Heavy ball on curvature h has the characteristic polynomial z**2 - (1 + mu - lr * h) * z + mu. Its limit is
    lr = 2 * (1 + mu) / h, where the root reaches -1; momentum 0 gives 2 * part - 1.
    """
    middle = 2 * (1 + momentum) * np.maximum(parts, 1.0) - (1 + momentum)
    return (middle + np.sqrt(middle**2 - 4 * momentum)) / 2


def _solve(lrs: Floats, growth: float, momentum: float) -> float:
    """Stability limit under which steps with these LRs multiply the excess loss by ``exp(growth)``."""
    low, high = math.log(lrs[0] / 100), math.log(lrs[-1])
    for _ in range(30):
        middle = (low + high) / 2
        # The loss is quadratic in the error.
        if 2 * float(np.log(_growth(lrs / math.exp(middle), momentum)).sum()) > growth:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
