"""The calibration: fits the constants of the advice to the trainings, by regret itself.

What is minimised is the mean regret of the advised learning rates over cells and sweep seeds, with a little of its
square root (so that common small regrets count beside rare large ones), and a pull towards the priors, which come from
theory and practice. Coordinates are searched one at a time, as regret has flat stretches and steps and no useful
gradient. The leave-one-family-out regret shows what the fit is worth on unseen families.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import lrfinder
from advice_bench.results import Case, fitted_cases, scored, summary
from lrfinder.advice.advise import advise
from lrfinder.files import write_atomic
from lrfinder.tables.constants import Constants

__all__ = ["COVERAGE", "FREE", "fit", "leave_one_out", "priors", "release"]

COVERAGE = 0.8  # of the best learning rates, that an interval is to hold

Answer = Callable[[Case, Constants], list[float | None]]
Free = tuple[str, bool, float]  # constant, whether it moves on a logarithmic scale, width of the pull to its prior
FREE: tuple[Free, ...] = (
    ("typical_lr.sgd", True, 1.0),
    ("typical_lr.adam", True, 1.0),
    ("typical_lr.rmsprop", True, 1.0),
    ("typical_lr.adagrad", True, 1.0),
    ("momentum_power", False, 0.15),
    ("sweep_weight.up", False, 0.1),
    ("sweep_weight.down", False, 0.1),
    ("low_region_part.proportional", True, 0.7),
    ("low_region_part.adaptive", True, 0.7),
    ("edge_part.proportional", True, 0.5),
    ("edge_part.adaptive", True, 0.5),
    ("limit_part.proportional", True, 1.0),
    ("limit_part.adaptive", True, 1.0),
    ("limit_weight.proportional", False, 0.15),
    ("limit_weight.adaptive", False, 0.15),
    ("trained_part.proportional", True, 0.7),
    ("trained_part.adaptive", True, 0.7),
    ("schedule_factor.onecycle", True, 0.4),
    ("schedule_factor.step", True, 0.4),
    ("schedule_factor.constant", True, 0.5),
)
PULL = 0.005  # of the squared distances from the priors, in widths; with a third of it, families left out did worse
ROOT = 0.03  # weight of the mean square root of the regrets
ROUNDS = 6


def priors() -> dict[str, Any]:
    """What the fit begins with and is pulled towards: theory, practice, and the first trainings."""
    return dict(json.loads((Path(__file__).parent / "priors.json").read_text(encoding="utf-8")))


def fit(cases: Sequence[Case], *, answer: Answer = Case.advised, free: Sequence[Free] = FREE) -> Constants:
    """Constants with the lowest penalised regret, beginning with the priors.

    Args:
        cases: cells to fit to.
        answer: learning rates for a cell, one for each sweep, with given constants.
        free: which constants move.
    """
    content = priors()
    flat = pd.json_normalize(content).iloc[0]
    start = {name: float(flat[name]) for name, _, _ in free}

    def cost(values: Mapping[str, float]) -> float:
        tried = _constants(content, values)
        regrets = np.array([case.truth.regret(lr) for case in cases for lr in answer(case, tried)])
        away = sum(_distance(values[name], start[name], log, width) ** 2 for name, log, width in free)
        return float(regrets.mean() + ROOT * np.sqrt(regrets + 1e-4).mean() + PULL * away)

    best, lowest = start, cost(start)
    for size in (0.6 * 0.7**i for i in range(ROUNDS)):
        for name, log, width in free:
            for step in (size, -size, size / 3, -size / 3):
                new = best[name] * 2 ** (step * width) if log else best[name] + step * width
                if "_weight" in name and not 0 <= new <= 1:
                    continue
                values = {**best, name: new}
                tried = cost(values)
                if tried < lowest - 1e-7:
                    best, lowest = values, tried
    return _constants(content, best)


def _constants(content: dict[str, Any], values: Mapping[str, float]) -> Constants:
    """The content with these values in their place, as in ``{"typical_lr.sgd": 0.5}``."""
    content = copy.deepcopy(content)
    for name, value in values.items():
        group, _, key = name.rpartition(".")
        (content[group] if group else content)[key] = value
    return Constants.from_dict(content)


def _distance(value: float, prior: float, log: bool, width: float) -> float:
    return (math.log2(value / prior) if log else value - prior) / width


def leave_one_out(cases: Sequence[Case]) -> dict[str, list[float | None]]:
    """Learning rates by cell, each with constants fitted without its family."""
    families = sorted({case.cell.family for case in cases})
    if len(families) < 2:
        raise ValueError(f"leaving one family out needs two; the results have {families}. Train and sweep more.")
    picks: dict[str, list[float | None]] = {}
    for left in families:
        constants = fit([case for case in cases if case.cell.family != left])
        picks |= {case.cell.name: case.advised(constants) for case in cases if case.cell.family == left}
    return picks


def release(out: Path, path: Path) -> str:
    """Fit to all cells but the held-out ones, and write the constants to ``path``. Returns a summary of the regrets."""
    cases = fitted_cases(out)
    constants, unseen = fit(cases), leave_one_out(cases)
    content = constants.to_dict()
    content["spread"] = _spreads(cases, unseen, constants)
    document = {
        "version": lrfinder.__version__,
        "date": date.today().isoformat(),
        "made_by": "scripts/bench_advice fit",
        "fitted": [name for name, _, _ in FREE] + ["spread"],
        "tasks": [case.cell.name for case in cases],
        "constants": json.loads(json.dumps(content), parse_float=lambda number: float(f"{float(number):.3g}")),
    }
    write_atomic(path, json.dumps(document, indent=1) + "\n")
    seen = {case.cell.name: case.advised(constants) for case in cases}
    return f"fitted: {_told(cases, seen)}\nleave one family out: {_told(cases, unseen)}"


def _told(cases: Sequence[Case], lrs: Mapping[str, list[float | None]]) -> str:
    row = summary(scored(cases, {name: [{"lr": lr} for lr in some] for name, some in lrs.items()}))
    return (
        f"regret mean {row['mean']:.1%}, median {row['median']:.2%}, worst {row['worst']:.0%}, "
        f"spread x{row['spread']:.2f}, within a factor 2 {row['hits']:.0%}"
    )


def _spreads(
    cases: Sequence[Case], unseen: dict[str, list[float | None]], constants: Constants
) -> dict[str, float]:
    """By grade, the factor that holds the best LR in 80 % of the sweeps, of families that were not fitted to."""
    away: dict[str, list[float]] = {}
    for case in cases:
        for curve, reading, lr in zip(case.curves, case.readings, unseen[case.cell.name], strict=True):
            if lr is not None:
                grade = advise(curve, reading=reading, constants=constants).grade
                away.setdefault(grade, []).append(abs(case.truth.best - math.log2(lr)))
    widest, spreads = 1.0, {}
    for grade, width in priors()["spread"].items():  # from high to low: a lower grade never has the narrower interval
        widest = max(widest, 2 ** float(np.quantile(away[grade], COVERAGE)) if grade in away else float(width))
        spreads[grade] = widest
    return spreads
