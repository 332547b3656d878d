"""What is run for each cell and seed: the sweep, the refinements, the peers, the race of a whole grid, and trainings.

Each function returns JSON-ready values and depends on nothing but its arguments, so a run can be cut off and taken up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from advice_bench.peers import suggest
from advice_bench.tasks import Cell, build
from advice_bench.trainings import mean_loss, train

from lrfinder import LRFinder, range_search
from lrfinder.errors import NoAdviceError
from lrfinder.record.curve import LossCurve
from lrfinder.result import RangeTestResult

__all__ = ["BUDGETS", "emitted", "grid_race", "longer_sweep", "peers", "refinement", "sweep"]

BUDGETS = (0.25, 1.0)
_RACERS = 8  # learning rates of the race of a grid, factor 2 apart around the fitted default


def sweep(cell: Cell, seed: int, cache: Path) -> dict[str, Any]:
    """A range test at its defaults, on the cell's own objects: the curve."""
    task = build(cell, seed, cache=cache)
    result = LRFinder(task.model, task.optimizer, cell.loss).range_test(task.loader, progress=False)
    return result.curve.to_dict()


def longer_sweep(cell: Cell, seed: int, cache: Path) -> dict[str, Any]:
    """The same with a ramp of 20 learning rates per decade instead of 12, from half a decade further below."""
    around = {"proportional": (10**-3.5, 10**0.5), "adaptive": (1e-3, 10.0)}
    with mock.patch.multiple(range_search, _PER_DECADE=20, _AROUND=around):
        return sweep(cell, seed, cache)


def peers(cell: Cell, seed: int, cache: Path) -> dict[str, Any]:
    """Suggestions of the other finders, from their own packages."""
    return suggest(cell, seed, cache=cache)


def refinement(cell: Cell, seed: int, cache: Path, curve: LossCurve, budget: float) -> dict[str, Any]:
    """``refine`` after that sweep: learning rate, grade, interval and cost."""
    from lrfinder.advice.advise import advise

    task = build(cell, seed, cache=cache)
    finder = LRFinder(task.model, task.optimizer, cell.loss)
    result = RangeTestResult(curve=curve, advice=advise(curve))
    try:
        better = finder.refine(
            result,
            task.loader,
            task.val_loader(),
            schedule=cell.schedule,
            total_steps=cell.steps,
            budget=budget,
            progress=False,
        )
    except NoAdviceError:
        return {"lr": None, "grade": "none", "base_lr": None, "interval": None, "spent": 0, "heats": []}
    return {
        "lr": better.lr_for(cell.schedule, cell.steps),
        "grade": better.advice.grade,
        "base_lr": better.advice.base_lr,
        "interval": better.advice.interval,
        "spent": better.trials.spent if better.trials is not None else 0,
        "heats": [[heat.lr, heat.steps, heat.loss] for heat in better.trials.trials] if better.trials is not None else [],
    }


def grid_race(cell: Cell, seed: int, cache: Path, default: float, budget: float) -> dict[str, Any]:
    """What the same steps buy without a sweep: eight miniatures of the schedule around a default; the best wins."""
    steps = max(2, int(budget * cell.steps) // _RACERS)
    lrs = [default * 2.0 ** (i - _RACERS // 2) for i in range(_RACERS)]
    runs = [train(cell, lr, seed, steps=steps, cache=cache) for lr in lrs]
    losses = [mean_loss([run]) for run in runs]
    return {"lr": lrs[losses.index(min(losses))], "spent": steps * _RACERS}


def emitted(cell: Cell, seed: int, cache: Path, lr: float, recipe_options: dict[str, Any] | None) -> dict[str, Any]:
    """A real training at that learning rate: with the emitted recipe, or the bare torch scheduler (None)."""
    if recipe_options is None:
        return train(cell, lr, seed, cache=cache)
    from lrfinder import recipe

    plan = recipe(cell.schedule, peak_lr=lr, total_steps=cell.steps, **recipe_options)
    return train(cell, lr, seed, scheduler=plan.build, cache=cache)
