"""Losses that rise without training, as where a queue of former samples fills: no learning rate shows in them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from lrfinder.errors import BatchError
from lrfinder.record.curve import LossCurve, StopReason
from lrfinder.record.sweep import losses_until_diverged
from lrfinder.training.step import TrainStep

__all__ = ["check_rises_by_training"]


def check_rises_by_training(step: TrainStep, draw: Callable[[], Sequence[Any]], curve: LossCurve) -> None:
    """Refuse a curve that diverged, where the loss diverges without any update as well.

    Args:
        step: makes the losses, from the state at the start; all but the weights may change.
        draw: gives the batches of the next step.
        curve: of a sweep from the same state; the training loss.

    Raises:
        BatchError: it does.
    """
    if curve.stop is not StopReason.DIVERGED or curve.measured != "before":
        return
    with contextlib.suppress(StopIteration):
        losses = [step.loss(draw()).item() for _ in curve.losses]
        if losses_until_diverged(losses, maximize=curve.maximized) is not None:
            raise BatchError(
                "the loss rises by itself: it does so where no weight changes, so it shows no learning rate. A queue "
                "of former samples that fills, a part of the loss that grows with each call, or batches in order of "
                "difficulty do that. Start the range test where the loss is level, as after some steps with lr=0, or "
                "pass a val_loader with a loss that is free of it."
            )
