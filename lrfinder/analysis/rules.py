"""The classic suggestion rules by name. The advice of this package is in :mod:`lrfinder.advice.advise`.

They are the rules of other finders with their errors corrected: slopes are per decade of LR, not per unit of LR or
per index, the smoothing does not trail, each LR is paired with the first loss that shows its effect, and no threshold
depends on the scale of the loss. No torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lrfinder.analysis.regimes import Reading, read_curve
from lrfinder.analysis.series import FEWEST_POINTS
from lrfinder.analysis.smoothing import scale_of
from lrfinder.errors import NoAdviceError
from lrfinder.numbers import clamp_lr, geometric_mean
from lrfinder.record.curve import LossCurve

__all__ = ["Suggestion", "minimum", "slide", "steepest", "valley"]

_SLIDE_DECADES = 1.2  # fastai slides 15 of its 100 iterations over 8 decades
_SLIDE_PART = 0.1  # of the steepest fall; fastai compares with 0.005 per iteration, whatever the scale of the loss


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A learning rate and where it comes from.

    Args:
        lr: the suggested learning rate.
        method: name of the rule.
        index: point of :attr:`Reading.lrs` it was read at; without a probe also that of :meth:`LossCurve.pairs`.
        reference: where the rule comes from.
    """

    lr: float
    method: str
    index: int
    reference: str


def steepest(curve: LossCurve, *, reading: Reading | None = None) -> Suggestion:
    """LR where the smoothed loss falls fastest per decade of LR.

    Args:
        curve: a range test with at least 10 readable points that falls.
        reading: what the curve shows, where it was read already.

    Returns:
        The suggestion; ``index`` refers to the ``lrs`` of the reading, shape (m,).

    Raises:
        NoAdviceError: the curve is too short, or never falls.

    Example:
        >>> import math
        >>> from lrfinder.record.curve import StopReason, SweepConfig
        >>> config = SweepConfig(start_lr=1e-5, end_lr=1.0, num_iter=126)
        >>> lrs = [config.lr_at(i) for i in range(126)]
        >>> losses = [2.0 - math.tanh(2 * (math.log10(lr) + 2.6)) for lr in lrs]  # falls fastest at 10**-2.6
        >>> curve = LossCurve(lrs=tuple(lrs), losses=tuple(losses), stop=StopReason.COMPLETED, config=config,
        ...     measured="after")
        >>> round(steepest(curve).lr, 4)
        0.0025

    Reference:
        Range test: Smith, arXiv:1506.01186. Steepest slope: fastai, ``steep``; torch-lr-finder, ``plot``.
    """
    reading = _readable(curve, reading, "steepest")
    assert reading.steepest_lr is not None
    return Suggestion(
        lr=reading.steepest_lr,
        method="steepest",
        index=reading.lrs.index(reading.steepest_lr),
        reference="Smith, arXiv:1506.01186; fastai, steep",
    )


def valley(curve: LossCurve, *, reading: Reading | None = None) -> Suggestion:
    """LR halfway (in log LR) down the valley: between where the smoothed loss starts to fall and where it is lowest.

    fastai takes the longest decreasing subsequence, whose points need not be neighbours, and counts its length as
    if they were; and since its average starts to fall at once, the answer moves with ``start_lr``. Here the valley
    is one piece, from the end of the flat regime to the lowest point.

    Args:
        curve: a range test with at least 10 readable points that falls.
        reading: what the curve shows, where it was read already.

    Returns:
        The suggestion; ``index`` refers to the ``lrs`` of the reading, shape (m,).

    Raises:
        NoAdviceError: the curve is too short, or never falls.

    Example:
        >>> import math
        >>> from lrfinder.record.curve import StopReason, SweepConfig
        >>> config = SweepConfig(start_lr=1e-5, end_lr=1.0, num_iter=126)
        >>> lrs = tuple(config.lr_at(i) for i in range(126))
        >>> losses = tuple(2.0 - math.tanh(2 * (math.log10(lr) + 2.5)) + (lr / 0.3) ** 2 for lr in lrs)
        >>> curve = LossCurve(lrs=lrs, losses=losses, stop=StopReason.COMPLETED, config=config, measured="after")
        >>> round(valley(curve).lr, 4)  # between 6e-4, where it starts to fall, and 0.04
        0.0048

    Reference:
        fastai, ``valley``.
    """
    reading = _readable(curve, reading, "valley")
    assert reading.onset_lr is not None and reading.lowest_lr is not None
    middle = geometric_mean(reading.onset_lr, reading.lowest_lr)
    index = int(np.abs(np.log(np.asarray(reading.lrs)) - math.log(middle)).argmin())
    return Suggestion(lr=reading.lrs[index], method="valley", index=index, reference="fastai, valley")


def minimum(curve: LossCurve, *, reading: Reading | None = None) -> Suggestion:
    """A tenth of the LR with the lowest smoothed loss.

    Args:
        curve: a range test with at least 10 readable points that falls.
        reading: what the curve shows, where it was read already.

    Returns:
        The suggestion; ``index`` is the lowest point of the reading, not the point at its tenth.

    Raises:
        NoAdviceError: the curve is too short, or never falls.

    Example:
        >>> import math
        >>> from lrfinder.record.curve import StopReason, SweepConfig
        >>> config = SweepConfig(start_lr=1e-5, end_lr=1.0, num_iter=126)
        >>> lrs = tuple(config.lr_at(i) for i in range(126))
        >>> losses = tuple(2.0 - math.tanh(2 * (math.log10(lr) + 2.5)) + (lr / 0.3) ** 2 for lr in lrs)
        >>> curve = LossCurve(lrs=lrs, losses=losses, stop=StopReason.COMPLETED, config=config, measured="after")
        >>> round(minimum(curve).lr, 4)  # lowest at 0.04
        0.004

    Reference:
        fastai, ``minimum``.
    """
    reading = _readable(curve, reading, "minimum")
    assert reading.lowest_lr is not None
    index = reading.lrs.index(reading.lowest_lr)
    return Suggestion(lr=clamp_lr(reading.lowest_lr / 10), method="minimum", index=index, reference="fastai, minimum")


def slide(curve: LossCurve, *, reading: Reading | None = None) -> Suggestion:
    """LR at the left end of an interval of 1.2 decades, slid down from the blow-up until the slopes at its ends agree.

    They agree when they differ by less than a tenth of the steepest fall; slopes are per decade of LR.

    Args:
        curve: a range test with at least 10 readable points that falls, over more than 1.2 decades.
        reading: what the curve shows, where it was read already.

    Returns:
        The suggestion; ``index`` refers to the ``lrs`` of the reading, shape (m,).

    Raises:
        NoAdviceError: the curve is too short or too narrow, or never falls.

    Example:
        >>> import math
        >>> from lrfinder.record.curve import StopReason, SweepConfig
        >>> config = SweepConfig(start_lr=1e-5, end_lr=1.0, num_iter=126)
        >>> lrs = tuple(config.lr_at(i) for i in range(126))
        >>> losses = tuple(2.0 - math.tanh(2 * (math.log10(lr) + 2.5)) + (lr / 0.3) ** 2 for lr in lrs)
        >>> curve = LossCurve(lrs=lrs, losses=losses, stop=StopReason.COMPLETED, config=config, measured="after")
        >>> round(slide(curve).lr, 4)  # flat at both ends of the interval that ends there
        0.0008

    Reference:
        fastai, ``slide``.
    """
    reading = _readable(curve, reading, "slide")
    decades = np.log10(reading.lrs)
    smooth = np.asarray(reading.smooth)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # denormal learning rates may be equal
        slopes = np.gradient(smooth * scale_of(smooth), decades)
    tolerance = _SLIDE_PART * float(-slopes.min())
    for right in range(len(decades) - 1, 0, -1):
        left = int(np.searchsorted(decades, decades[right] - _SLIDE_DECADES, side="right")) - 1
        if left < 0:
            break
        if abs(slopes[right] - slopes[left]) < tolerance:
            return Suggestion(lr=reading.lrs[left], method="slide", index=left, reference="fastai, slide")
    raise NoAdviceError(
        f"'slide' found no {_SLIDE_DECADES:g} decades with equal slopes at both ends between lr={reading.lrs[0]:.2g} "
        f"and lr={reading.lrs[-1]:.2g}. Lower start_lr, or use another rule."
    )


def _readable(curve: LossCurve, reading: Reading | None, method: str) -> Reading:
    """The reading, if it has enough points and falls."""
    reading = reading or read_curve(curve)
    if len(reading.lrs) < FEWEST_POINTS:
        raise NoAdviceError(
            f"the curve has {len(reading.lrs)} readable points ({curve.stop.sentence}); {method!r} needs "
            f"{FEWEST_POINTS}. " + (curve.stop.hint or "Raise num_iter.")
        )
    if reading.lowest_lr is None:
        raise NoAdviceError(
            f"the loss never falls by more than its noise ({reading.noise_std:.2g}) between "
            f"lr={reading.lrs[0]:.2g} and lr={reading.lrs[-1]:.2g}; {method!r} needs a fall. Raise end_lr if the curve "
            "is flat, lower start_lr if it only rises."
        )
    return reading
