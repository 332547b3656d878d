"""What was run, from its files: cells with their ground truth and their sweeps, and the regret of a rule.

One JSON file for each kind of run, which grows as runs end and is never half-written.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advice_bench.tasks import CELLS, Cell
from advice_bench.truth import Truth, mean_losses
from lrfinder import Advice, advise
from lrfinder.advice.combine import combine, peak_lr
from lrfinder.advice.verdict import refined_advice
from lrfinder.analysis.regimes import read_curve
from lrfinder.files import write_atomic
from lrfinder.record.curve import LossCurve
from lrfinder.record.trials import TrialRecord
from lrfinder.tables.constants import Constants

__all__ = ["CELL", "Case", "Picks", "after_trials", "bootstrap", "fitted_cases", "key", "load"]
__all__ += ["load_cases", "save", "scored", "summary"]

CELL = {cell.name: cell for cell in CELLS}
Picks = Mapping[str, list[dict[str, Any]]]
"""By cell, what a rule says for each seed: ``lr``, and ``grade``, ``base_lr`` and ``interval`` where it has them."""


def key(*parts: Any) -> str:
    """Name of a result: cell, seed and what was asked, as in ``"digits-mlp Adam constant | 0 | 0.25"``."""
    return " | ".join(map(str, parts))


def load(folder: Path, kind: str) -> dict[str, Any]:
    """Results of that kind by :func:`key`; none if there is no file."""
    path = folder / f"{kind}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def save(folder: Path, kind: str, results: Mapping[str, Any]) -> None:
    """Write them, one a line."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(name)}:{json.dumps(results[name], separators=(',', ':'))}" for name in sorted(results)]
    write_atomic(folder / f"{kind}.json", "{\n" + ",\n".join(lines) + "\n}\n")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A cell that has been trained and swept, with one curve per seed."""

    cell: Cell
    truth: Truth
    curves: tuple[LossCurve, ...]

    @property
    def held_out(self) -> bool:
        """Whether the cell has no part in the fit."""
        return self.cell.split == "held-out"

    @functools.cached_property
    def readings(self) -> tuple[Any, ...]:
        """What the curves show; None for one that gets no advice, which depends on no constant."""
        readings = map(read_curve, self.curves)
        return tuple(
            None if advise(curve, reading=reading).grade == "none" else reading
            for curve, reading in zip(self.curves, readings, strict=True)
        )

    def advised(self, constants: Constants) -> list[float | None]:
        """Learning rate for each sweep."""
        lrs: list[float | None] = []
        for curve, reading in zip(self.curves, self.readings, strict=True):
            if reading is None:
                lrs.append(None)
                continue
            found = combine(curve, reading, constants=constants)
            lrs.append(peak_lr(self.cell.schedule, found.base_lr, found.ceiling, constants=constants))
        return lrs


def load_cases(out: Path) -> list[Case]:
    """The cells that have results."""
    grids, sweeps = {grid["name"]: grid for grid in load(out, "train").values()}, load(out, "sweep")
    by_cell: dict[str, list[LossCurve]] = {}
    for name, curve in sweeps.items():
        cell = name.partition(" | ")[0]
        by_cell.setdefault(cell, []).append(LossCurve.from_dict(curve))
    return [
        Case(cell=cell, truth=Truth.of(mean_losses(grid), grid["start"]), curves=tuple(by_cell[cell.name]))
        for cell in CELLS
        if cell.name in by_cell and (grid := grids.get(cell.name))
    ]


def after_trials(advice: Advice, record: dict[str, Any] | None) -> Advice:
    """The advice after the trials of a stored record; None where none were run."""
    return advice if record is None else refined_advice(advice, TrialRecord.from_dict(record))


def fitted_cases(out: Path) -> list[Case]:
    """Those that the constants are fitted to: all but the held-out ones."""
    return [case for case in load_cases(out) if not case.held_out]


def scored(cases: Sequence[Case], picks: Picks) -> pd.DataFrame:
    """A row for each sweep seed of each cell: what the rule says, and what the trainings say about it."""
    return pd.DataFrame(
        {
            "cell": case.cell.name,
            "family": case.cell.family,
            "held out": case.held_out,
            "seed": seed,
            "lr": pick["lr"],
            "grade": pick.get("grade"),
            "covered": _covered(pick, case.truth),
            "regret": case.truth.regret(pick["lr"]),
            "hit": case.truth.hit(pick["lr"]),
            "diverged": case.truth.diverges(pick["lr"]),
        }
        for case in cases
        for seed, pick in enumerate(picks.get(case.cell.name, ()))
    )


def _covered(pick: Mapping[str, Any], truth: Truth) -> float | None:
    """Whether the interval holds the best learning rate; it is that of the base LR, and moves with the schedule."""
    if pick["lr"] is None or pick.get("interval") is None:
        return None
    factor, (low, high) = pick["lr"] / pick["base_lr"], pick["interval"]
    return float(factor * low <= 2**truth.best <= factor * high)


def bootstrap(
    values: pd.Series, families: pd.Series, statistic: Callable[[Any], Any] = np.mean, *, rounds: int = 2000
) -> tuple[float, float]:
    """95 % interval of a statistic over cells and seeds, drawing whole families with replacement."""
    rng = np.random.default_rng(0)
    groups = [group.to_numpy() for _, group in values.groupby(families, sort=False)]
    draws = [
        float(statistic(np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))])))
        for _ in range(rounds)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """Regret of a rule, its uncertainty, and the rest, from :func:`scored`."""
    lrs = rows.loc[rows["lr"] > 0].groupby("cell")["lr"]
    several = lrs.count() > 1
    spreads = (lrs.max() / lrs.min())[several]
    return {
        "mean": float(rows["regret"].mean()),
        "mean_interval": bootstrap(rows["regret"], rows["family"]),
        "median": float(rows["regret"].median()),
        "median_interval": bootstrap(rows["regret"], rows["family"], np.median),
        "worst": float(rows["regret"].max()),
        "spread": float(spreads.median()) if len(spreads) else 1.0,
        "hits": float(rows["hit"].mean()),
        "divergences": int(rows["diverged"].sum()),
        "runs": len(rows),
    }
