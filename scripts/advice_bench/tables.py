"""What the trainings say about a learning rate: regret, its averages and their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Truth", "bootstrap", "mean_losses", "summary"]

_NEAR = 0.02  # regret of a learning rate that counts as good as the best: near the noise of three seeds


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Regret of a cell over its grid.

    Args:
        name: of the cell.
        family: clusters of the bootstrap.
        places: log2 of the learning rates, rising.
        regrets: (L - L*) / (L_nothing - L*), at most 1: 0 is the best of the grid, 1 learnt nothing or worse.
        best: log2 of the best learning rate.
    """

    name: str
    family: str
    places: tuple[float, ...]
    regrets: tuple[float, ...]
    best: float

    @classmethod
    def of(cls, grid: dict[str, Any], family: str) -> Truth:
        """From what ``trainings.grid_of`` returned."""
        start, by_power = grid["start"], mean_losses(grid)
        powers, losses = list(by_power), list(by_power.values())
        lowest = min(losses)
        return cls(
            name=grid["name"],
            family=family,
            places=tuple(map(float, powers)),
            regrets=tuple(min(1.0, (loss - lowest) / (start - lowest)) for loss in losses),
            best=float(powers[losses.index(lowest)]),
        )

    def regret(self, lr: float | None) -> float:
        """Regret of a learning rate, between grid points by straight lines over log LR; no answer counts as nothing."""
        if lr is None or not lr > 0:
            return 1.0
        place = math.log2(lr)
        first, last = self.places[0], self.places[-1]
        if place < first:  # goes on falling as it did; below that nothing is learnt
            slope = max(self.regrets[0] - self.regrets[1], 0.0)
            return min(1.0, self.regrets[0] + slope * (first - place))
        if place > last:  # the grid ends above the best, mostly with blow-ups
            slope = max(self.regrets[-1] - self.regrets[-2], 0.0)
            return min(1.0, self.regrets[-1] + slope * (place - last))
        return float(np.interp(place, self.places, self.regrets))

    def hit(self, lr: float | None) -> bool:
        """Within a factor 2 of the best, or of one as good."""
        if lr is None or not lr > 0:
            return False
        good = [place for place, regret in zip(self.places, self.regrets, strict=True) if regret <= _NEAR]
        return min(good) - 1 <= math.log2(lr) <= max(good) + 1

    def diverges(self, lr: float | None) -> bool:
        """As bad as learning nothing, on the high side."""
        return lr is not None and math.log2(lr) > self.best and self.regret(lr) >= 0.99


def mean_losses(grid: dict[str, Any]) -> dict[int, float]:
    """By log2 of the LR, rising: mean final loss over the seeds. A training that blew up learnt nothing."""
    start = grid["start"]
    return {
        power: sum(start if loss is None else min(loss, start) for loss in grid["truth"][str(power)])
        / len(grid["truth"][str(power)])
        for power in sorted(map(int, grid["truth"]))
    }


def bootstrap(
    values: dict[str, list[float]],
    families: dict[str, str],
    statistic: Callable[[NDArray[np.float64]], float] = lambda x: float(np.mean(x)),
    *,
    rounds: int = 2000,
) -> tuple[float, float]:
    """95 % interval of a statistic over cells and seeds, drawing whole families with replacement."""
    rng = np.random.default_rng(0)
    clusters: dict[str, list[float]] = {}
    for name, numbers in values.items():
        clusters.setdefault(families[name], []).extend(numbers)
    groups = [np.asarray(numbers) for numbers in clusters.values()]
    draws = [
        statistic(np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))])) for _ in range(rounds)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def summary(truths: Sequence[Truth], picks: dict[str, list[float | None]]) -> dict[str, Any]:
    """Regret and the rest of a rule: ``picks`` has its learning rates by cell, one for each sweep seed."""
    regrets = {truth.name: [truth.regret(lr) for lr in picks[truth.name]] for truth in truths}
    families = {truth.name: truth.family for truth in truths}
    flat = _flat(regrets.values())
    spreads = [
        max(lrs) / min(lrs)
        for truth in truths
        if len(lrs := [lr for lr in picks[truth.name] if lr is not None and lr > 0]) > 1
    ]
    return {
        "mean": float(np.mean(flat)),
        "mean_interval": bootstrap(regrets, families),
        "median": float(np.median(flat)),
        "median_interval": bootstrap(regrets, families, lambda x: float(np.median(x))),
        "worst": float(np.max(flat)),
        "spread": float(np.median(spreads)) if spreads else 1.0,
        "hits": float(np.mean(_flat([[truth.hit(lr) for lr in picks[truth.name]] for truth in truths]))),
        "divergences": sum(truth.diverges(lr) for truth in truths for lr in picks[truth.name]),
        "runs": len(flat),
        "regrets": regrets,
    }


def _flat(lists: Iterable[Sequence[Any]]) -> list[Any]:
    return [value for values in lists for value in values]
