"""Trials of several lengths over the grid of a cell: how the best learning rate changes with the length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advice_bench.results import Case, load
from advice_bench.tasks import Cell, build
from lrfinder import LRFinder
from lrfinder.advice.trial_plan import TrialPlan, whole_schedule
from lrfinder.advice.verdict import trial_levels
from lrfinder.record.curve import LossCurve
from lrfinder.training.trials import trials_from_snapshot

__all__ = ["drifts", "trial_grid"]

LENGTHS = (1 / 16, 1 / 8, 1 / 4, 3 / 8)  # as parts of the training; the first has a constant LR, as in refine
PASSES = (0, 3, 5, 10, 20, np.inf)


def trial_grid(cell: Cell, seed: int, curve: dict[str, Any], best: float, *, cache: Path) -> dict[str, Any]:
    """Passes through the data, level below which a loss shows learning, and losses by length and log2 of the LR."""
    task, whole = build(cell, seed, cache=cache), whole_schedule(cell.schedule, 1.0, cell.steps, {})
    setup = LRFinder(task.model, task.optimizer, cell.loss).setup
    limit, least = trial_levels(LossCurve.from_dict(curve), compressed=False)
    losses: dict[float, dict[str, float | None]] = {}
    made = trials_from_snapshot(setup, task.loader, task.val_loader(), None, "auto", limit)
    with setup.ranks.session(arguments=()), made as runner:
        record = runner.new_record(total_steps=cell.steps, schedule=cell.schedule, budget_steps=1, initial_lr=1.0)
        for part in LENGTHS:
            plan = partial(TrialPlan, stage="screening", compressed=part > LENGTHS[0], schedule=whole)
            for power in range(int(best) - 4, int(best) + 5):
                trial = runner.run(plan(lr=2.0**power, steps=max(10, int(part * cell.steps))), on_step=lambda: None)
                losses.setdefault(part, {})[str(power)] = trial.loss
    return {"passes": record.passes, "level": record.start_loss - least, "losses": losses}


def drifts(out: Path, cases: Sequence[Case]) -> Iterable[dict[str, Any]]:
    """A table of them, by passes and length."""
    best, rows = {case.cell.name: case.truth.best for case in cases if not case.held_out}, []
    for name, grid in load(out, "trials").items():
        for part, losses in grid["losses"].items():
            found = {power: loss for power, loss in losses.items() if loss is not None and loss < grid["level"]}
            cell = name.partition(" | ")[0]
            if found and cell in best:
                drift = int(min(found, key=found.__getitem__)) - best[cell]
                rows.append({"cell": cell, "passes": grid["passes"], "part": float(part), "drift": drift})
    table = pd.DataFrame(rows, columns=["cell", "passes", "part", "drift"])
    for passes, some in table.groupby(pd.cut(table["passes"], PASSES), observed=True):
        by_part = some.groupby("part")["drift"]
        told = {f"{part:.3g}": f"{one.mean():+.1f} ({one.std():.1f})" for part, one in by_part}
        yield {"passes": str(passes), "cells": some["cell"].nunique(), **told}
