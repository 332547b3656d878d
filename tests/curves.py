"""Curves of a given shape: the loss is a function of the learning rate, so nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lrfinder.record.curve import LossCurve, StopReason, SweepConfig

PER_DECADE = 25  # learning rates


def curve_of(
    shape: Callable[[float], float],
    *,
    start: float = 1e-6,
    end: float = 10.0,
    count: int | None = None,
    points: int | None = None,
    mode: str = "exp",
    noise: float = 0.0,
    seed: int = 0,
    **facts: Any,
) -> LossCurve:
    """Curve whose loss is ``shape(log10(lr))``.

    Args:
        shape: loss by the decimal logarithm of the LR.
        start: first LR.
        end: last LR of the ramp.
        count: LRs of the ramp; by default 25 per decade.
        points: LRs after which the curve ends; by default all.
        mode: spacing of the ramp.
        noise: standard deviation of the noise on each loss.
        seed: of the noise.
        facts: other fields; by default a completed sweep that measured validation losses, with an unknown optimizer.
    """
    count = round(PER_DECADE * math.log10(end / start)) + 1 if count is None else count
    config = SweepConfig(start_lr=start, end_lr=end, num_iter=max(count, 2), mode=mode, early_stop=False)
    lrs = [config.lr_at(i) for i in range(count if points is None else points)]
    rng = np.random.default_rng(seed)
    losses = [shape(math.log10(lr)) + noise * float(rng.normal()) for lr in lrs]
    given = {"stop": StopReason.COMPLETED, "measured": "after", **facts}
    return LossCurve(lrs=tuple(lrs), losses=tuple(losses), config=config, **given)


def breaks(x: float) -> float:
    """Falls from 2.3 to 0.5, fastest at 0.01, and rises steeply above 0.5."""
    return float(0.4 + 1.9 / (1 + 100 * 10**x) + (2 * 10**x) ** 4)


def flat(count: int = 50, **facts: Any) -> LossCurve:
    """A training curve that neither falls nor rises, for what depends on the other fields."""
    facts = {"stop": StopReason.DIVERGED, "measured": "before", **facts}
    return curve_of(lambda x: 1.0, start=1e-4, end=1.0, count=count, **facts)
