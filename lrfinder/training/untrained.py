"""Losses that rise without training, as where a queue of former samples fills: no learning rate shows in them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

from lrfinder.errors import BatchError
from lrfinder.record.curve import LossCurve
from lrfinder.record.sweep import losses_until_diverged
from lrfinder.training.step import TrainStep

__all__ = ["shown_by_training"]

_SAME_PART = 0.5  # of the span of a sweep's losses: where they rise less without training, the LR shows beyond it


def shown_by_training(step: TrainStep, draw: Callable[[], Sequence[Any]], curves: list[LossCurve]) -> list[LossCurve]:
    """The curves that do not rise as the loss does without any update; all where that does not diverge.

    Args:
        step: makes the losses, from the state at the start; all but the weights may change.
        draw: gives the batches of the next step.
        curves: of sweeps from the same state. The last is compared; it is of a training loss that diverged.

    Raises:
        BatchError: none is left.
    """
    last, losses = curves[-1], []
    with contextlib.suppress(StopIteration):
        for _ in last.losses:
            losses.append(step.loss(draw()).item())
    losses = list(filter(math.isfinite, losses))  # a batch without a finite loss says nothing of the others
    if losses_until_diverged(losses, maximize=last.maximized) is None:
        return curves
    shown = [each for each in curves if _span(losses) <= _SAME_PART * _span(each.losses)]
    if not shown:
        raise BatchError(
            "the loss rises by itself: it does so where no weight changes, so it shows no learning rate. A queue of "
            "former samples that fills, a part of the loss that grows with each call, or batches in order of "
            "difficulty do that. Start the range test where the loss is level, as after some steps with lr=0, or pass "
            "a val_loader with a loss that is free of it."
        )
    return shown


def _span(losses: Sequence[float]) -> float:
    return max(losses) - min(losses) if losses else 0.0
