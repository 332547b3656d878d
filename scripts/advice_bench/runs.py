"""What is run for each cell and seed: range tests, trial searches, the other finders, grid searches, and trainings.

Each function returns JSON-ready values and depends on nothing but its arguments, so a run can be cut off and taken up.
``cache`` is the folder of first trainings, for :func:`build`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peers
from advice_bench import trainings
from advice_bench.tasks import Cell, build
from lrfinder import LRFinder, recipe
from lrfinder.advice.advise import advise
from lrfinder.errors import NoAdviceError
from lrfinder.record.curve import LossCurve
from lrfinder.result import RangeTestResult

__all__ = ["BUDGETS", "emitted", "grid_search", "refinement", "suggestions", "sweep"]

BUDGETS = (0.25, 1.0, 3.0)
CANDIDATES = 8  # learning rates of the search over a grid, factor 2 apart around the fitted default


def sweep(cell: Cell, seed: int, *, cache: Path) -> dict[str, Any]:
    """A range test at its defaults, on the cell's own objects: the curve."""
    task = build(cell, seed, cache=cache)
    result = LRFinder(task.model, task.optimizer, cell.loss).range_test(task.loader, progress=False)
    return result.curve.to_dict()


def refinement(cell: Cell, seed: int, curve: dict[str, Any], budget: float, *, cache: Path) -> dict[str, Any] | None:
    """The record of ``refine`` after that sweep; None where there is no advice to refine or no room for a search."""
    task, swept = build(cell, seed, cache=cache), LossCurve.from_dict(curve)
    try:
        better = LRFinder(task.model, task.optimizer, cell.loss).refine(
            RangeTestResult(curve=swept, advice=advise(swept)),
            task.loader,
            task.val_loader(),
            schedule=cell.schedule,
            total_steps=cell.steps,
            budget=budget,
            progress=False,
        )
    except NoAdviceError:
        return None
    return None if better.trials is None else better.trials.to_dict()


def grid_search(cell: Cell, seed: int, default: float, budget: float, *, cache: Path) -> dict[str, Any]:
    """What the same steps buy without a sweep: eight short trainings around a default, and the best of them."""
    steps = max(2, int(budget * cell.steps) // CANDIDATES)
    lrs = [default * 2.0 ** (i - CANDIDATES // 2) for i in range(CANDIDATES)]
    losses = [trainings.mean_loss([trainings.train(cell, lr, seed, steps=steps, cache=cache)]) for lr in lrs]
    return {"lr": lrs[losses.index(min(losses))], "spent": steps * CANDIDATES}


def emitted(cell: Cell, seed: int, lr: float | None, with_recipe: bool, *, cache: Path) -> dict[str, Any] | None:
    """A real training at that learning rate: with the emitted recipe, or with the bare torch scheduler."""
    if lr is None:
        return None
    make = recipe(cell.schedule, peak_lr=lr, total_steps=cell.steps).build if with_recipe else None
    run = trainings.train(cell, lr, seed, scheduler=make, cache=cache)
    return {"lr": lr, "val": run["val"], "start": run["start"]}


def suggestions(cell: Cell, seed: int, *, cache: Path) -> dict[str, dict[str, Any]]:
    """What the other finders suggest: :func:`peers.suggestions`."""

    def parts() -> tuple[Any, ...]:
        task = build(cell, seed, lr=peers.LOWEST, cache=cache)
        return task.model, task.optimizer, cell.loss, task.loader

    return peers.suggestions(parts)
