"""What the advice is worth where the loss is in another unit, or has a constant added, from the stored sweeps with SGD.

With SGD, c times the loss at 1/c of the learning rate is the same training, so no training has to be made again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from advice_bench.results import Case

from lrfinder.advice.advise import advise
from lrfinder.record.curve import LossCurve

__all__ = ["units"]

UNITS = (1 / 32, 1 / 8, 1, 8, 32, 512)
ADDED = (-2, 1, 10, 100)


def moved(curve: LossCurve, unit: float, added: float) -> LossCurve:
    """The sweep of the same training with ``unit * loss + added``."""
    config = curve.config
    return dataclasses.replace(
        curve,
        lrs=tuple(lr / unit for lr in curve.lrs),
        losses=tuple(unit * loss + added for loss in curve.losses),
        config=dataclasses.replace(config, start_lr=config.start_lr / unit, end_lr=config.end_lr / unit),
    )


def units(cases: Sequence[Case]) -> Iterator[dict[str, Any]]:
    """Mean regret of the sweeps with SGD, by what was done to the loss."""
    ways = {f"{unit:g} times": (unit, 0.0) for unit in UNITS} | {f"{added:+d}": (1.0, added) for added in ADDED}
    for name, (unit, added) in ways.items():
        regrets: dict[bool, list[float]] = {False: [], True: []}
        for case in cases:
            for curve in case.curves if case.cell.optimizer == "SGD" else ():
                advice = advise(moved(curve, unit, added))
                lr = None if advice.base_lr is None else unit * advice.lr_for(case.cell.schedule)
                regrets[case.held_out].append(case.truth.regret(lr))
        fitted, held = (f"{100 * np.mean(regrets[each]):.1f} %" for each in (False, True))
        yield {"loss": name, "fitted": fitted, "held-out": held}
