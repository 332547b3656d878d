"""What each rule says: ours, the other finders and the baselines that use no sweep."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advice_bench.fitting import FITTED_SPLITS, FREE, HELD_OUT, fit
from advice_bench.results import Case, key, load, load_cases
from advice_bench.runs import BUDGETS
from advice_bench.tasks import CELLS, Cell
from lrfinder.tables.constants import FITTED, Constants
from lrfinder.tables.optimizers import typical_lr
from peers import RULES as PEERS

__all__ = ["ALL_SPLITS", "CAPPED", "DEFAULT", "OURS", "PEERS"]
__all__ += ["defaults", "emitted_rules", "gridded", "picks", "refined"]

OURS = "lrfinder"
DEFAULT, CAPPED = "default of the optimizer, fitted", "that default, at most half of the edge"
ALL_SPLITS = (*FITTED_SPLITS, *HELD_OUT)
SEEDS = (0, 1, 2)
Picks = dict[str, list[float | None]]  # learning rates by cell, one for each seed


def refined(budget: float) -> str:
    return f"{OURS} refine {budget}"


def gridded(budget: float) -> str:
    return f"grid search, {budget}"


def emitted_rules(split: str) -> list[str]:
    """What is trained for real: a rule, and whether with the emitted recipe or the bare torch scheduler."""
    rules = [f"{OURS}, bare", f"{OURS}, recipe"]
    if split in HELD_OUT:
        rules += [f"{refined(budget)}, recipe" for budget in BUDGETS]
        rules += [f"{rule}, bare" for rule in (DEFAULT, *PEERS)]
    return rules


def default_lr(cell: Cell, constants: Constants) -> float:
    """One LR for each optimizer and schedule, whatever the model."""
    typical = typical_lr(cell.optimizer, cell.options.get("momentum", 0.0), constants)
    assert typical is not None  # all optimizers of the cells are in the table
    return typical * constants.peak_factor(cell.schedule)


@functools.cache
def defaults(out: Path) -> dict[str, float]:
    """The default of every cell, from a fit of its own that the priors hardly hold."""
    free = [
        (name, log, 5 * width)
        for name, log, width in FREE
        if name.startswith(("typical_lr", "schedule_factor", "momentum"))
    ]
    constants = fit(
        load_cases(out, FITTED_SPLITS),
        answer=lambda case, tried: [default_lr(case.cell, tried)],
        free=free,
    )
    return {cell.name: default_lr(cell, constants) for cell in CELLS}


def picks(out: Path, cases: list[Case]) -> dict[str, Picks]:
    """Learning rates of every rule that has results, by cell and seed."""
    fixed = defaults(out)
    rules: dict[str, Picks] = {
        OURS: {case.cell.name: case.advised(FITTED) for case in cases},
        DEFAULT: {case.cell.name: [fixed[case.cell.name]] * len(SEEDS) for case in cases},
        CAPPED: {case.cell.name: [_capped(fixed[case.cell.name], each) for each in case.readings] for case in cases},
    }
    for kind, name in (("refine", refined), ("grid-race", gridded)):
        for budget in BUDGETS:
            rules[name(budget)] = _stored(load(out, kind), budget)
    suggested = load(out, "peers")
    for rule in PEERS:
        rules[rule] = _stored({name: run.get(rule, {"lr": None}) for name, run in suggested.items()})
    return {rule: answers for rule, answers in rules.items() if answers}


def _capped(lr: float, reading: Any) -> float:
    edge = None if reading is None else reading.edge_lr
    return lr if edge is None else min(lr, edge / 2)


def _stored(results: Mapping[str, Any], *more: float) -> Picks:
    keys = {cell.name: [key(cell.name, seed, *more) for seed in SEEDS] for cell in CELLS}
    return {name: [results[k]["lr"] for k in some] for name, some in keys.items() if all(k in results for k in some)}
