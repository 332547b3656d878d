"""Losses that are bounded, as those of normalised embeddings, or low for decades: the curve falls onto a plateau.

A triplet loss, a cosine similarity or the cross-entropy of similarities (SimCLR, CLIP, ArcFace) cannot grow without
limit. On its plateau the low region reaches over decades, or lies where the noise was lowest, and says nothing; where
the loss had fallen half of the way does. No torch.
"""

from __future__ import annotations

import numpy as np

from lrfinder.analysis.regimes import Reading

__all__ = ["half_fallen", "may_be_bounded"]

_WIDE = 100.0  # of the stored sweeps without divergence, those of five other trainings have their edge as far above
_BEYOND = 20.0  # times the edge; of the stored sweeps that show both, 88 % had diverged there
_WIDEST = 3000.0  # six stored sweeps of SGD diverged above it, and their best LR is below 1/200 of the edge
_PART, _NOISES = 0.5, 2.0  # of the fall, and at least so many noises above the lowest level


def half_fallen(reading: Reading) -> float | None:
    """LR where half of the fall was gone, of a curve that stays low for long above it; None for any other.

    Its edge, or else its end, must be 100 times as high; it must not have died, nor diverged at 20 times the edge. From
    3,000 times on it may end before that, and with SGD it may have diverged: normalised layers bear nearly any learning
    rate, and without negatives (SimSiam, BYOL) the loss falls further while all outputs become alike.

    Args:
        reading: of a curve; one about the loss of a probe gives None.
    """
    half, width = _half(reading)
    undiverged = reading.diverged_lr is None
    if width >= _WIDEST and (undiverged or reading.update_rule == "proportional"):
        return half
    shown = reading.edge_lr is None or reading.lrs[-1] >= _BEYOND * reading.edge_lr
    return half if width >= _WIDE and undiverged and shown else None


def may_be_bounded(reading: Reading) -> bool:
    """Whether the sweep ends too soon above its edge to tell a plateau from a curve that is about to diverge."""
    return reading.diverged_lr is None and _half(reading)[1] >= _WIDE and half_fallen(reading) is None


def _half(reading: Reading) -> tuple[float, float]:
    """LR where half of the fall was gone, and how many times as high the edge is, or else the end; zeros for none."""
    if reading.low_region is None or reading.probed or reading.dead_lr is not None:
        return 0.0, 0.0
    smooth = np.asarray(reading.smooth)
    level = smooth.min() + max(_PART * reading.total_drop, _NOISES * reading.noise_std)
    half = reading.lrs[int(np.flatnonzero(smooth <= level)[0])]
    return half, (reading.edge_lr or reading.lrs[-1]) / half
