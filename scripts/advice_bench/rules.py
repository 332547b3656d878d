"""What each rule says: ours, the other finders, and the baselines that use no sweep."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advice_bench.fitting import FREE, fit
from advice_bench.results import Case, Picks, after_trials, fitted_cases, key, load
from advice_bench.runs import BUDGETS
from advice_bench.tasks import CELLS, Cell
from advice_bench.trainings import SEEDS
from lrfinder import Advice, advise
from lrfinder.record.curve import LossCurve
from lrfinder.tables.constants import Constants
from lrfinder.tables.optimizers import typical_lr
from peers import RULES as PEERS

__all__ = ["DEFAULT", "EMITTED", "GRIDDED", "OURS", "PEERS", "REFINED", "default_constants", "default_lr", "defaults"]
__all__ += ["picks"]

OURS = "lrfinder"
REFINED = {budget: f"{OURS} refine {budget}" for budget in BUDGETS}
GRIDDED = {budget: f"grid search, {budget}" for budget in BUDGETS}
DEFAULT = "default of the optimizer, fitted"
EMITTED = {OURS: ("bare", "recipe"), **dict.fromkeys(REFINED.values(), ("recipe",))}
EMITTED |= dict.fromkeys((DEFAULT, *PEERS), ("bare",))
"""What is trained for real, with the emitted recipe or with the bare torch scheduler."""


def default_lr(optimizer: str, momentum: float, schedule: str, constants: Constants) -> float:
    """One LR for each optimizer and schedule, whatever the model."""
    typical = typical_lr(optimizer, momentum, constants)
    assert typical is not None  # all optimizers of the cells are in the table
    return typical * constants.peak_factor(schedule)


def default_of(cell: Cell, constants: Constants) -> float:
    return default_lr(cell.optimizer, cell.options.get("momentum", 0.0), cell.schedule, constants)


@functools.cache
def default_constants(out: Path) -> Constants:
    """Those of the defaults, from a fit of their own that the priors hardly hold."""
    moving = ("typical_lr", "schedule_factor", "momentum")
    free = [(name, log, 5 * width) for name, log, width in FREE if name.startswith(moving)]
    return fit(fitted_cases(out), answer=lambda case, tried: [default_of(case.cell, tried)], free=free)


@functools.cache
def defaults(out: Path) -> dict[str, float]:
    """The default of every cell."""
    return {cell.name: default_of(cell, default_constants(out)) for cell in CELLS}


def picks(out: Path, cases: Sequence[Case]) -> dict[str, Picks]:
    """What every rule that has results says."""
    fixed, refined, grids, suggested = defaults(out), load(out, "refine"), load(out, "grid-race"), load(out, "peers")
    rules: dict[str, Picks] = {
        OURS: {case.cell.name: _advised(case) for case in cases},
        DEFAULT: {case.cell.name: [{"lr": fixed[case.cell.name]}] * len(SEEDS) for case in cases},
        **{REFINED[budget]: _refined(cases, refined, budget) for budget in BUDGETS},
        **{GRIDDED[budget]: _stored(grids, budget) for budget in BUDGETS},
    }
    for rule in PEERS:
        rules[rule] = _stored({name: run.get(rule, {"lr": None}) for name, run in suggested.items()})
    return {rule: answers for rule, answers in rules.items() if answers}


def _advised(case: Case) -> list[dict[str, Any]]:
    advices = [advise(curve, reading=reading) for curve, reading in zip(case.curves, case.readings, strict=True)]
    return [_pick(advice, advice.lr_for(case.cell.schedule) if advice.base_lr else None) for advice in advices]


def _refined(cases: Sequence[Case], records: Mapping[str, Any], budget: float) -> Picks:
    """The same after the trials within that budget, of the cells that have them for all seeds."""
    by_name = {case.cell.name: case for case in cases}
    stored = ((by_name[name], some) for name, some in _stored(records, budget).items())
    return {case.cell.name: [_searched(case.cell, *each) for each in zip(case.curves, some)] for case, some in stored}


def _searched(cell: Cell, curve: LossCurve, record: dict[str, Any] | None) -> dict[str, Any]:
    advice = after_trials(advise(curve), record)
    return _pick(advice, advice.lr_for(cell.schedule, cell.steps) if advice.base_lr else None)


def _pick(advice: Advice, lr: float | None) -> dict[str, Any]:
    return {"lr": lr, "grade": advice.grade, "base_lr": advice.base_lr, "interval": advice.interval}


def _stored(results: Mapping[str, Any], *more: float) -> Picks:
    keys = {cell.name: [key(cell.name, seed, *more) for seed in SEEDS] for cell in CELLS}
    return {name: [results[k] for k in some] for name, some in keys.items() if all(k in results for k in some)}
