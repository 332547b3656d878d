"""The tables of the page, one function each: rows as dictionaries by column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advice_bench.fitting import FITTED_SPLITS, HELD_OUT
from advice_bench.results import Case, bootstrap, key, load
from advice_bench.rules import CAPPED, DEFAULT, OURS, PEERS, gridded, refined
from advice_bench.runs import BUDGETS, CELL
from advice_bench.truth import mean_losses
from lrfinder.advice.advise import advise

__all__ = ["TITLES", "by_cell", "by_grade", "costs_of", "emitted", "graded", "pairs", "rules_table", "verdicts"]

Rows = Iterable[dict[str, Any]]
TITLES = {"held-out": HELD_OUT, "fitted": FITTED_SPLITS}
TARGETS = {  # mean, median and worst regret, seed-to-seed spread
    OURS: (0.04, 0.015, 0.25, 1.3),
    refined(BUDGETS[0]): (0.025, 0.01, 0.15, 1.3),
    refined(BUDGETS[1]): (0.01, 0.003, 0.05, 1.3),
}


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def rules_table(rows: dict[str, dict[str, Any]], costs: dict[str, str]) -> Rows:
    for rule, row in sorted(rows.items(), key=lambda item: float(item[1]["mean"])):
        (low, high), (middle_low, middle_high) = row["mean_interval"], row["median_interval"]
        yield {
            "rule": f"**{rule}**" if rule.startswith(OURS) else rule,
            "mean regret": f"{_percent(row['mean'])} ({_percent(low)} to {_percent(high)})",
            "median": f"{_percent(row['median'])} ({_percent(middle_low)} to {_percent(middle_high)})",
            "worst": _percent(row["worst"]),
            "spread of seeds": f"x{row['spread']:.2f}",
            "within a factor 2 of a best": f"{row['hits']:.0%}",
            "diverged": f"{row['divergences']} of {row['runs']}",
            "batches": costs.get(rule, ""),
        }


def costs_of(out: Path) -> dict[str, str]:
    sweeps = [curve["batches"] for curve in load(out, "sweep").values()]
    costs = {OURS: f"{np.median(sweeps):.0f} (at most {max(sweeps)})"} if sweeps else {}
    runs, suggested = load(out, "refine"), load(out, "peers").values()
    for budget in BUDGETS:
        spent = {tuple(name.split(" | ")): run["spent"] for name, run in runs.items()}
        parts = [steps / CELL[cell].steps for (cell, _, asked), steps in spent.items() if asked == str(budget)]
        if parts:
            costs[refined(budget)] = f"{np.median(parts):.0%} of the training (at most {max(parts):.0%}) and the sweep"
        costs[gridded(budget)] = "as many as refine"
    for rule in PEERS:
        used = [run[rule]["batches"] for run in suggested if rule in run]
        if used:
            costs[rule] = f"{np.median(used):.0f}"
    return costs


def verdicts(held: dict[str, dict[str, Any]]) -> Rows:
    for rule, targets in TARGETS.items():
        if rule in held:
            row = {"rule": rule}
            for name, target in zip(("mean", "median", "worst", "spread"), targets, strict=True):
                value = float(held[rule][name])
                told = [f"x{each:.2f}" if name == "spread" else _percent(each) for each in (value, target)]
                row[name] = f"{told[0]}, target {told[1]}: {'met' if value <= target else 'MISSED'}"
            yield row


def pairs(held: pd.DataFrame) -> Rows:
    """Ours against the strongest baselines, sweep by sweep."""
    pairs = [(OURS, DEFAULT), (OURS, CAPPED)]
    pairs += [(refined(b), other) for b in BUDGETS for other in (DEFAULT, OURS, gridded(b))]
    by_rule = {rule: part.set_index(["cell", "seed"]) for rule, part in held.groupby("rule")}
    for first, second in pairs:
        if first in by_rule and second in by_rule:
            change = (by_rule[first]["regret"] - by_rule[second]["regret"]).dropna()
            low, high = bootstrap(change, by_rule[first]["family"].reindex(change.index))
            told = f"{100 * change.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
            yield {"": f"{first} against {second}", "difference (95 % interval)": told}


def by_cell(cases: Sequence[Case], scores: pd.DataFrame) -> Rows:
    shown = [OURS, *map(refined, BUDGETS), DEFAULT, *map(gridded, BUDGETS), *PEERS]
    means = scores.groupby(["cell", "rule"])["regret"].mean()
    for case in cases:
        if case.cell.split in HELD_OUT:
            name = case.cell.name
            regrets = {rule: _percent(means[name, rule]) for rule in shown if (name, rule) in means}
            yield {"cell": name, "best LR": f"{2**case.truth.best:.2g}", **regrets}


def graded(out: Path, cases: Sequence[Case]) -> pd.DataFrame:
    """For each sweep and trial search: grade, regret, and whether the interval held the best learning rate."""
    searches = load(out, "refine")
    rows: list[dict[str, Any]] = []
    for case in cases:
        title = "held-out" if case.cell.split in HELD_OUT else "fitted"

        def add(way: str, grade: str, lr: float | None, base: float | None, interval: Sequence[float] | None) -> None:
            held = None
            if lr is not None and base is not None and interval is not None:  # the interval is that of base_lr
                held = float(lr / base * interval[0] <= 2**case.truth.best <= lr / base * interval[1])
            rows.append({"cells": title, "way": way, "grade": grade, "regret": case.truth.regret(lr), "held": held})

        for seed, (curve, reading) in enumerate(zip(case.curves, case.readings, strict=True)):
            advice = advise(curve, reading=reading)
            if reading is None:
                add(OURS, "none", None, None, None)
                continue
            add(OURS, advice.grade, advice.lr_for(case.cell.schedule), advice.base_lr, advice.interval)
            for budget in BUDGETS:
                run = searches.get(key(case.cell.name, seed, budget))
                if run is not None and run["lr"] is not None:
                    add(refined(budget), run["grade"], run["lr"], run["base_lr"], run["interval"])
    return pd.DataFrame(rows, columns=["cells", "way", "grade", "regret", "held"])


def by_grade(grades: pd.DataFrame) -> Rows:
    for title in TITLES:
        for way in (OURS, *map(refined, BUDGETS)):
            part = grades[(grades["cells"] == title) & (grades["way"] == way)]
            if part.empty:
                continue
            for grade in ("high", "medium", "low", "none"):
                some = part[part["grade"] == grade]
                if len(some):
                    covered = some["held"].dropna()
                    yield {
                        "": f"{title}, {way}",
                        "grade": grade,
                        "sweeps": len(some),
                        "median regret": _percent(some["regret"].median()),
                        "mean regret": _percent(some["regret"].mean()),
                        "interval holds the best": f"{covered.mean():.0%}" if len(covered) else "",
                    }
            covered = part["held"].dropna()
            all_of_it = {"": f"{title}, {way}", "grade": "all", "sweeps": len(covered)}
            yield all_of_it | {"interval holds the best": f"{covered.mean():.0%}"}


def emitted(out: Path) -> Rows:
    """Regret of the real trainings at what each rule said."""
    grids = load(out, "train")
    rows = []
    for name, run in load(out, "emit").items():
        cell, _, rule = name.split(" | ")
        grid = grids[key(cell, 0)]
        start, lowest = grid["start"], min(mean_losses(grid).values())
        lost = run is None or run["val"] is None
        regret = 1.0 if lost else min(1.0, (run["val"] - lowest) / (start - lowest))
        title = "held-out" if CELL[cell].split in HELD_OUT else "fitted"
        rows.append({"cells": title, "rule": rule, "regret": regret, "lost": run is not None and run["val"] is None})
    frame = pd.DataFrame(rows, columns=["cells", "rule", "regret", "lost"])
    for title in TITLES:
        by_rule = frame[frame["cells"] == title].groupby("rule", sort=False)
        for rule, some in sorted(by_rule, key=lambda item: float(item[1]["regret"].mean())):
            yield {
                "cells": title,
                "rule": rule,
                "mean regret": _percent(some["regret"].mean()),
                "median": _percent(some["regret"].median()),
                "worst": _percent(some["regret"].max()),
                "diverged": f"{some['lost'].sum()} of {len(some)}",
            }
