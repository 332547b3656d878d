"""What is run for each cell and seed: range tests, trial searches, the other finders, grid searches, and trainings.

Each function takes the name of a cell, a seed and a folder for first trainings (``cache``), returns JSON-ready values
and depends on nothing but its arguments, so a run can be cut off and taken up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from advice_bench import peers, trainings
from advice_bench.tasks import CELLS, build
from lrfinder import LRFinder, recipe
from lrfinder.advice.advise import advise
from lrfinder.errors import NoAdviceError
from lrfinder.record.curve import LossCurve
from lrfinder.result import RangeTestResult

__all__ = ["BUDGETS", "CELL", "emitted", "grid_search", "refinement", "suggestions", "sweep", "truth"]

BUDGETS = (0.25, 1.0)
CANDIDATES = 8  # learning rates of the search over a grid, factor 2 apart around the fitted default
CELL = {cell.name: cell for cell in CELLS}


def truth(name: str, seed: int, cache: Path) -> dict[str, Any]:
    """The ground truth of a cell; see :func:`trainings.grid_of`."""
    return trainings.grid_of(CELL[name], cache)


def sweep(name: str, seed: int, cache: Path) -> dict[str, Any]:
    """A range test at its defaults, on the cell's own objects: the curve."""
    task = build(CELL[name], seed, cache=cache)
    result = LRFinder(task.model, task.optimizer, task.cell.loss).range_test(task.loader, progress=False)
    return result.curve.to_dict()


def suggestions(name: str, seed: int, cache: Path) -> dict[str, Any]:
    """What the other finders suggest."""
    return peers.suggest(CELL[name], seed, cache=cache)


def refinement(name: str, seed: int, cache: Path, curve: dict[str, Any], budget: float) -> dict[str, Any]:
    """``refine`` after that sweep: learning rate, grade, interval and cost."""
    task = build(CELL[name], seed, cache=cache)
    cell, swept = task.cell, LossCurve.from_dict(curve)
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
        return {"lr": None, "grade": "none", "base_lr": None, "interval": None, "spent": 0, "heats": []}
    trials = better.trials
    return {
        "lr": better.lr_for(cell.schedule, cell.steps),
        "grade": better.advice.grade,
        "base_lr": better.advice.base_lr,
        "interval": better.advice.interval,
        "spent": trials.spent if trials is not None else 0,
        "heats": [[trial.lr, trial.steps, trial.loss] for trial in trials.trials] if trials is not None else [],
    }


def grid_search(name: str, seed: int, cache: Path, default: float, budget: float) -> dict[str, Any]:
    """What the same steps buy without a sweep: eight short trainings around a default, and the best of them."""
    cell = CELL[name]
    steps = max(2, int(budget * cell.steps) // CANDIDATES)
    lrs = [default * 2.0 ** (i - CANDIDATES // 2) for i in range(CANDIDATES)]
    losses = [trainings.mean_loss([trainings.train(cell, lr, seed, steps=steps, cache=cache)]) for lr in lrs]
    return {"lr": lrs[losses.index(min(losses))], "spent": steps * CANDIDATES}


def emitted(name: str, seed: int, cache: Path, lr: float | None, with_recipe: bool) -> dict[str, Any] | None:
    """A real training at that learning rate: with the emitted recipe, or with the bare torch scheduler."""
    if lr is None:
        return None
    cell = CELL[name]
    make = recipe(cell.schedule, peak_lr=lr, total_steps=cell.steps).build if with_recipe else None
    run = trainings.train(cell, lr, seed, scheduler=make, cache=cache)
    return {"lr": lr, "val": run["val"], "start": run["start"]}
