"""The curve of a probe: losses of fixed batches, measured beside the training loss where weights are trained already.

On fixed batches the spread between batches cancels, so a fall shows that it hides: a training loss of small batches
falls by less than that spread before the weights are destroyed. No torch.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from lrfinder.analysis.series import FEWEST_POINTS, series_of
from lrfinder.record.curve import LossCurve, StopReason
from lrfinder.record.sweep import losses_until_diverged

__all__ = ["probe_curve", "shows_gain", "without_probe"]

_GAIN = 0.5  # 0.8 to 33 on 40 sweeps for new tasks, 0 to 0.4 on 18 of trainings that go on with what they have learnt


def probe_curve(curve: LossCurve) -> LossCurve | None:
    """What the probe shows, as a curve up to where its loss had diverged; None where there are too few points."""
    losses, stop = curve.probe_losses, curve.stop
    count = losses_until_diverged(losses, maximize=curve.maximized)
    if count is not None:
        losses, stop = losses[:count], StopReason.DIVERGED
    if len(losses) < FEWEST_POINTS:
        return None
    return dataclasses.replace(
        curve, lrs=curve.lrs[: len(losses)], losses=losses, probe_losses=(), measured="after", stop=stop
    )


def without_probe(curve: LossCurve) -> LossCurve:
    """The curve of the training loss alone."""
    return dataclasses.replace(curve, probe_losses=())


def shows_gain(curve: LossCurve, drop: float, lowest_lr: float | None) -> bool:
    """Whether the fall of the probe's loss says where the best LR is.

    It does where there is much to learn. Where a training goes on with what it has learnt, the loss falls by a small
    part of the spread between batches, and damage done by a high LR is repaired.

    Args:
        curve: of the training loss, whose noise is the spread.
        drop: fall of the probe's loss; >= 0.
        lowest_lr: where that is lowest; None where it does not fall.
    """
    if lowest_lr is None:
        return False
    end = max(int(np.searchsorted(curve.lrs, lowest_lr)) + 1, FEWEST_POINTS)
    before = series_of(curve, end)
    return drop > _GAIN * before.unscaled(before.noise)
