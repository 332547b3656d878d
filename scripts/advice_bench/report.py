"""The page: what the results say, beside the targets and the other rules, as ``advice.md``, ``.json`` and ``.png``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from advice_bench import tables
from advice_bench.figure import draw
from advice_bench.fitting import COVERAGE, HELD_OUT
from advice_bench.results import Case, load, load_cases, scored, summary
from advice_bench.rules import ALL_SPLITS, DEFAULT, OURS, PEERS, picks, refined
from advice_bench.runs import BUDGETS
from lrfinder.files import write_atomic

__all__ = ["write"]

INTRODUCTION = """# How good the advised learning rates are

Regret of a learning rate: (L(lr) - L\\*) / (L_nothing - L\\*), with L the final validation loss of a real training at \
that learning rate (mean of three seeds, joined between the points of a factor-2 grid), L\\* the best of the grid and \
L_nothing the loss before training. 0 % is the best of the grid, 100 % learnt nothing or worse. Three sweeps for each \
cell. Intervals: 95 %, bootstrap over whole families.

{cells}. The constants are fitted to all but the held-out cells, which had no part in them. Each calibration before \
was looked at on cells that were new then and joined the fit afterwards: [earlier looks](advice-looks.md). The trial \
searches on fitted cells are those that were run around the advice of then.

The ground truth took {hours:.1f} hours of one CPU thread."""
TEXTS = {  # under the title of a section
    "Against the strongest baselines, held-out cells": "Difference of the mean regrets, in points; below 0 the first "
    "is better.",
    "Every held-out cell": "Mean regret of the three sweeps.",
    "What the grade and the interval are worth": "Intervals are made to hold the best learning rate of the grid in "
    f"{COVERAGE:.0%} of the sweeps.",
    "Trained for real": "The same, but each number is the final loss of a training at exactly that learning rate (same "
    "seed as the sweep), with the emitted recipe (5 % warm-up unless the schedule has its own) or the bare torch "
    "scheduler. It can be below the best of the grid, and below 0 then.",
}


def write(out: Path) -> str:
    """Write the three files beside the folder of results; returns the verdict on the targets."""
    cases = load_cases(out, ALL_SPLITS)
    rules = picks(out, cases)
    scores = pd.concat({rule: scored(cases, answers) for rule, answers in rules.items()}, names=["rule"])
    scores = scores.reset_index(level="rule")
    on_held_out = scores[scores["split"].isin(HELD_OUT)]
    grades = tables.graded(out, cases)
    held, fitted = (_summaries(scores[scores["split"].isin(splits)]) for splits in tables.TITLES.values())
    costs = tables.costs_of(out)
    sections = {
        "Targets, on held-out cells": tables.verdicts(held),
        "Held-out cells": tables.rules_table(held, costs),
        "Against the strongest baselines, held-out cells": tables.pairs(on_held_out),
        "Every held-out cell": tables.by_cell(cases, scores),
        "What the grade and the interval are worth": tables.by_grade(grades),
        "Trained for real": tables.emitted(out),
        "Cells that the constants were fitted to": tables.rules_table(fitted, costs),
    }
    parts = [_introduction(out, cases), *(_section(title, rows) for title, rows in sections.items())]
    content = {"headline": _headline(held, grades), "held-out": held, "fitted": fitted}
    write_atomic(out.parent / "advice.json", json.dumps(_rounded(content), indent=1) + "\n")
    write_atomic(out.parent / "advice.md", "\n\n".join(filter(None, parts)) + "\n")
    draw(held, on_held_out, out.parent / "advice.png")
    return parts[1]


def _summaries(scores: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {str(rule): summary(some) for rule, some in scores.groupby("rule", sort=False)}


def _section(title: str, rows: Iterable[dict[str, Any]]) -> str:
    """A part of the page; empty where there is nothing to show."""
    frame = pd.DataFrame(rows).fillna("")
    if frame.empty:
        return ""
    table = frame.to_markdown(index=False, disable_numparse=True)
    return "\n\n".join(filter(None, [f"## {title}", TEXTS.get(title), table]))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_rounded(each) for each in value]
    return round(value, 5) if isinstance(value, float) else value


def _introduction(out: Path, cases: Sequence[Case]) -> str:
    counts = []
    for split in ALL_SPLITS:
        families = [case.cell.family for case in cases if case.cell.split == split]
        counts.append(f"{split}: {len(families)} cells of {len(set(families))} families")
    hours = sum(grid["seconds"] for grid in load(out, "train").values()) / 3600
    return INTRODUCTION.format(cells=", ".join(counts), hours=hours)


def _headline(held: dict[str, dict[str, Any]], grades: pd.DataFrame) -> dict[str, Any]:
    """The numbers to quote, all on held-out cells."""
    names = {"sweep": OURS, **{f"refine {b}": refined(b) for b in BUDGETS}, "fitted default": DEFAULT}
    best = min((rule for rule in PEERS if rule in held), key=lambda rule: float(held[rule]["mean"]), default="")
    wanted = ("mean", "median", "worst", "spread")
    numbers = {name: {each: held[rule][each] for each in wanted} for name, rule in names.items() if rule in held}
    if best:
        numbers["best other finder"] = {"name": best, **{each: held[best][each] for each in wanted}}
    ours = grades[(grades["cells"] == "held-out") & (grades["way"] == OURS)]
    high = ours.loc[ours["grade"] == "high", "regret"]
    return {
        **numbers,
        "interval coverage": float(ours["held"].dropna().mean()) if len(ours) else None,
        "grade high median regret": float(high.median()) if len(high) else None,
    }
