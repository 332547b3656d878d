"""Zero-lag smoothing of the kept raw losses, and the size of their noise.

Readings use this smoother. The causal average that decides when a sweep stops is in
:mod:`lrfinder.record.sweep`: it trails, and a reading must not (an exponential average with beta 0.98 moves a curve of
12 steps per decade by two decades). No torch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from statistics import median  # of a hundred numbers: five times as fast as NumPy's

import numpy as np
from numpy.typing import NDArray

__all__ = ["convolved", "noise", "scale_of", "smooth", "window"]

_DECADES = 0.45  # width of the window in an exponential sweep: wider bends a valley that is one decade wide
_PART = 0.15  # width in a linear sweep, as a part of the sweep: it spans about one decade, most of it in few points
_MEDIAN = 5  # iterations of the running median that goes first: two bad batches in a row leave no mark
_DIRECT = 1e7  # multiplications up to which a sum is faster than a Fourier transform
_ORDINARY = (1e-100, 1e100)  # largest losses that need no scaling
_CAP_DROPS = 3.0  # a blow-up is cut at this many drops ...
_CAP_NOISES = 10.0  # ... and this many noises above the lowest level before the polynomial sees it: it would ring


def scale_of(losses: NDArray[np.float64]) -> float:
    """Power of two that brings the losses near 1 where sums or squares of them would leave the floats; else 1.

    Multiplying by it loses no digit. Halves keep the distance between the largest and the smallest float finite.
    """
    largest = float(np.abs(losses).max(initial=0.0))
    if largest == 0.0 or _ORDINARY[0] < largest < _ORDINARY[1]:
        return 1.0
    return 2.0 ** min(max(-math.frexp(largest)[1], -1000), 1000)


def convolved(values: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """``np.convolve(values, kernel, "valid")`` for any length: in time n * log(n) where the direct sum takes long.

    Example:
        >>> convolved(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.5])).tolist()
        [1.5, 2.5]
    """
    count = len(values)
    if count * len(kernel) <= _DIRECT:
        return np.convolve(values, kernel, "valid")
    size = 1 << (count + len(kernel) - 1).bit_length()
    whole = np.fft.irfft(np.fft.rfft(values, size) * np.fft.rfft(kernel, size), size)
    return np.asarray(whole[len(kernel) - 1 : count])


def window(lrs: Sequence[float]) -> int:
    """Width of the smoothing window in iterations: odd, and 0.45 decades in an exponential sweep.

    Args:
        lrs: rising learning rates, shape (m,), m >= 1.

    Example:
        >>> window([10 ** (i / 25) for i in range(100)])
        11
    """
    count = len(lrs)
    if count < 3:
        return 1
    spacing = math.log10(lrs[-1] / lrs[0]) / (count - 1)
    uneven = math.log10(lrs[1] / lrs[0]) > 1.5 * math.log10(lrs[-1] / lrs[-2])  # a linear sweep
    width = round(_PART * count if uneven else _DECADES / spacing) | 1
    return max(_MEDIAN, min(width, (count - 1) | 1))


def noise(losses: Sequence[float] | NDArray[np.float64]) -> float:
    """Standard deviation of the batch noise: that of normal noise with the same median absolute second difference.

    Second differences let any trend pass that is straight over three iterations, and the median lets a blow-up at
    the end pass; first differences would count a steady fall as noise.

    Args:
        losses: raw losses in order, shape (m,); 0 is returned below 5 of them.

    Example:
        >>> noise([3.0, 2.5, 2.0, 1.5, 1.0, 0.5])
        0.0
    """
    if len(losses) < _MEDIAN:
        return 0.0
    bends = np.diff(np.asarray(losses, dtype=np.float64), 2)
    bends = np.abs(bends - median(bends.tolist()))
    # 0.6745 turns a median absolute deviation into a standard deviation; a second difference holds 1 + 4 + 1 variances.
    deviation: float = median(bends.tolist()) / (0.6745 * math.sqrt(6.0))
    if deviation == 0.0 and bends.any():
        # Most neighbours are equal: the loss moves by its rounding (bfloat16 has three digits), and that is the noise.
        return float(bends[bends > 0].min())
    return deviation


def smooth(losses: Sequence[float] | NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Losses without their noise and without lag: a symmetric bump stays where it is.

    Running median, then a Savitzky-Golay filter of order 2 by index. A blow-up may span forty orders of magnitude; it
    is cut before the polynomial fit and replaced by its running median afterwards. No smoothed value leaves the range
    of the medians beside it, so nothing rings. Smoothing ``a * losses + b`` gives ``a * smoothed + b`` for every
    a > 0.

    Args:
        losses: raw losses in order, shape (m,).
        width: window in iterations, odd; below 5 nothing but the median is taken.

    Returns:
        Smoothed losses, shape (m,).

    Example:
        >>> smooth([2.0] * 9, width=5).tolist()
        [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]

    Reference:
        Savitzky and Golay, Analytical Chemistry 36 (1964).
    """
    from scipy.ndimage import (  # late: the import takes a tenth of a second
        correlate1d,
        maximum_filter1d,
        median_filter,
        minimum_filter1d,
    )

    values: NDArray[np.float64] = np.array(losses, dtype=np.float64)
    if len(values) < 3:
        return values
    medians: NDArray[np.float64] = median_filter(values, _MEDIAN, mode="nearest")
    width = min(width, len(values) - 1 + len(values) % 2)
    if width < _MEDIAN:
        return medians
    lowest = float(medians.min())
    # The filters work on losses measured from the lowest: a large constant in the loss then costs no digits.
    above = medians - lowest
    drop = median(values[:_MEDIAN].tolist()) - lowest
    cap = _CAP_DROPS * max(drop, 0.0) + _CAP_NOISES * noise(values)
    if cap <= 0:
        return medians
    cut = np.minimum(above, cap)
    weights = _savitzky_golay(width)
    if len(cut) * width <= _DIRECT:
        fitted = correlate1d(cut, weights, mode="nearest")
    else:
        fitted = convolved(np.pad(cut, width // 2, mode="edge"), weights[::-1])
    low = minimum_filter1d(cut, _MEDIAN, mode="nearest")
    high = maximum_filter1d(cut, _MEDIAN, mode="nearest")
    smoothed: NDArray[np.float64] = np.where(above > cap, above, np.clip(fitted, low, high)) + lowest
    return smoothed


@functools.cache
def _savitzky_golay(width: int) -> NDArray[np.float64]:
    """Weights that give the middle of the parabola fitted to ``width`` points.

    Those of scipy.signal would add half a second to the import.
    """
    offsets = np.arange(width, dtype=np.float64) - width // 2
    weights: NDArray[np.float64] = np.linalg.pinv(np.vander(offsets, 3))[-1]
    return weights
