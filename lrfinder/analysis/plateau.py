"""Losses that are bounded, as those of normalised embeddings: the curve falls onto a plateau and nothing diverges.

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
_PART, _NOISES = 0.5, 2.0  # of the fall, and at least so many noises above the lowest level


def half_fallen(reading: Reading) -> float | None:
    """LR where half of the fall was gone, of a curve that stays low for long above it; None for any other.

    Its edge, or else its end, must be 100 times as high; it must not have died, nor diverged at 20 times the edge.

    Args:
        reading: of a curve; one about the loss of a probe gives None.
    """
    if reading.edge_lr is not None and reading.lrs[-1] < _BEYOND * reading.edge_lr:
        return None  # it may be about to diverge
    return _wide_half(reading)


def may_be_bounded(reading: Reading) -> bool:
    """Whether the sweep ends too soon above its edge to tell a plateau from a curve that is about to diverge."""
    return _wide_half(reading) is not None and half_fallen(reading) is None


def _wide_half(reading: Reading) -> float | None:
    if reading.low_region is None or reading.probed or reading.diverged_lr is not None or reading.dead_lr is not None:
        return None
    smooth = np.asarray(reading.smooth)
    level = smooth.min() + max(_PART * reading.total_drop, _NOISES * reading.noise_std)
    half = reading.lrs[int(np.flatnonzero(smooth <= level)[0])]
    return half if (reading.edge_lr or reading.lrs[-1]) >= _WIDE * half else None
