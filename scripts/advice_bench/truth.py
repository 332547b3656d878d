"""Regret of a learning rate, from the ground truth of a cell: final losses over a grid of learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Truth", "mean_losses"]

NEAR = 0.02  # regret of a learning rate that counts as good as the best: near the noise of three seeds


def mean_losses(grid: Mapping[str, Any]) -> dict[int, float]:
    """Mean final loss of the seeds by log2 of the LR; a run that diverged counts as one that learnt nothing."""
    start = grid["start"]
    return {
        int(power): sum(min(start if loss is None else loss, start) for loss in losses) / len(losses)
        for power, losses in sorted(grid["truth"].items(), key=lambda item: int(item[0]))
    }


def _part_missed(loss: float, lowest: float, start: float) -> float:
    return min(1.0, (loss - lowest) / (start - lowest))


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Regret of a cell over its grid.

    Args:
        places: log2 of the learning rates, rising.
        regrets: (L - L*) / (L_nothing - L*), at most 1: 0 is the best of the grid, 1 learnt nothing or worse.
        best: log2 of the best learning rate.
        lowest: its loss.
        start: loss before training.
    """

    places: tuple[float, ...]
    regrets: tuple[float, ...]
    best: float
    lowest: float
    start: float

    @classmethod
    def of(cls, losses: Mapping[Any, float], start: float) -> Truth:
        """From the final losses by log2 of the learning rate, rising, and the loss before training."""
        best = min(losses, key=losses.__getitem__)
        regrets = tuple(_part_missed(loss, losses[best], start) for loss in losses.values())
        places = tuple(map(float, losses))
        return cls(places=places, regrets=regrets, best=float(best), lowest=losses[best], start=start)

    def regret_of_loss(self, loss: float | None) -> float:
        """Regret of a training that ended with that loss; None where it diverged or was not run."""
        return 1.0 if loss is None else _part_missed(loss, self.lowest, self.start)

    def regret(self, lr: float | None) -> float:
        """Regret of a learning rate, between grid points by straight lines over log LR; no answer counts as nothing."""
        if lr is None or not lr > 0:
            return 1.0
        place = math.log2(lr)
        first, last = self.places[0], self.places[-1]
        if place < first:  # goes on rising as it did; below that nothing is learnt
            slope = max(self.regrets[0] - self.regrets[1], 0.0)
            return min(1.0, self.regrets[0] + slope * (first - place))
        if place > last:  # the grid ends above the best, mostly where trainings diverge
            slope = max(self.regrets[-1] - self.regrets[-2], 0.0)
            return min(1.0, self.regrets[-1] + slope * (place - last))
        return float(np.interp(place, self.places, self.regrets))

    def hit(self, lr: float | None) -> bool:
        """Within a factor 2 of the best, or of one as good."""
        if lr is None or not lr > 0:
            return False
        good = [place for place, regret in zip(self.places, self.regrets, strict=True) if regret <= NEAR]
        return min(good) - 1 <= math.log2(lr) <= max(good) + 1

    def diverges(self, lr: float | None) -> bool:
        """As bad as learning nothing, on the high side."""
        return lr is not None and lr > 0 and math.log2(lr) > self.best and self.regret(lr) >= 0.99
