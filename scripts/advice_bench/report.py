"""The page: what the results say, beside the targets and the other rules, as ``advice.md``, ``.json`` and ``.png``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advice_bench.drifts import drifts
from advice_bench.figure import draw
from advice_bench.fitting import COVERAGE
from advice_bench.results import CELL, Case, bootstrap, load, load_cases, scored, summary
from advice_bench.rules import DEFAULT, GRIDDED, OURS, PEERS, REFINED, picks
from advice_bench.tasks.cells import FAMILIES
from advice_bench.units import units
from lrfinder.advice.advise import advise
from lrfinder.analysis.finding import GRADES
from lrfinder.display.decision import decide
from lrfinder.files import write_atomic

__all__ = ["write"]

Rows = Iterable[dict[str, Any]]  # of a table, by column
TARGETS = {  # mean, median and worst regret, seed-to-seed spread
    OURS: (0.04, 0.015, 0.25, 1.3),
    REFINED[0.25]: (0.025, 0.01, 0.15, 1.3),
    REFINED[1.0]: (0.01, 0.003, 0.05, 1.3),
}

INTRODUCTION = """# How good the advised learning rates are

Regret of a learning rate: (L(lr) - L\\*) / (L_nothing - L\\*), with L the final validation loss of a real training at \
that learning rate (mean of three seeds, joined between the points of a factor-2 grid), L\\* the best of the grid and \
L_nothing the loss before training. 0 % is the best of the grid, 100 % learnt nothing or worse. Three sweeps for each \
cell. Intervals: 95 %, bootstrap over whole families.

{cells}. The constants are fitted to all but the held-out cells, which had no part in them; one rule, about wide \
plateaus, was chosen with a look at them. Each calibration before was looked at on cells that were new then and joined \
the fit afterwards: [earlier looks](advice-looks.md). Trial searches were run on the held-out cells alone.

The ground truth took {hours:.1f} hours of one CPU thread."""
TEXTS = {  # under the title of a section
    "Against the strongest baselines, held-out cells": "Difference of the mean regrets, in points; below 0 the first "
    "is better.",
    "Every held-out cell": "Mean regret of the three sweeps.",
    "What the grade and the interval are worth": "Intervals are made to hold the best learning rate of the grid in "
    f"{COVERAGE:.0%} of the sweeps.",
    "Above which limit the best learning rate lies": "Over all sweeps. The limit is the one that the first line of "
    "every output has after \"never above\".",
    "How the best learning rate changes with the length": "That of trials of a part of the training less that of the "
    "training, in octaves (mean and standard deviation), by how often it goes through its data. Fitted cells.",
    "The same losses in another unit, or with a constant added": "Mean regret of the sweeps with SGD, where c times "
    "the loss needs 1/c of the learning rate.",
    "Trained for real, held-out cells": "The same, but each number is the final loss of a training at exactly that "
    "learning rate (same seed as the sweep), with the emitted recipe (5 % warm-up unless the schedule has its own) or "
    "the bare torch scheduler. It can be below the best of the grid, and below 0 then.",
}


def write(out: Path) -> str:
    """Write the three files beside the folder of results; returns the verdict on the targets."""
    cases = load_cases(out)
    rules = {rule: scored(cases, answers) for rule, answers in picks(out, cases).items()}
    scores = pd.concat(rules, names=["rule"]).reset_index(level="rule")
    on_held_out = scores[scores["held out"]]
    held, fitted = (
        {str(rule): summary(rows) for rule, rows in some.groupby("rule", sort=False)}
        for some in (on_held_out, scores[~scores["held out"]])
    )
    costs = _costs(out)
    sections = {
        "Targets, on held-out cells": _verdicts(held),
        "Held-out cells": _rules(held, costs),
        "Against the strongest baselines, held-out cells": _pairs(on_held_out),
        "Every held-out cell": _cells(cases, on_held_out),
        "What the grade and the interval are worth": _grades(scores),
        "Above which limit the best learning rate lies": _limits(cases),
        "How the best learning rate changes with the length": drifts(out, cases),
        "The same losses in another unit, or with a constant added": units(cases),
        "Trained for real, held-out cells": _emitted(out, cases),
        "Cells that the constants were fitted to": _rules(fitted, costs),
    }
    parts = [_introduction(out, cases), *(_section(title, rows) for title, rows in sections.items())]
    content = json.dumps({"headline": _headline(held, on_held_out), "held-out": held, "fitted": fitted})
    rounded = json.loads(content, parse_float=lambda number: round(float(number), 6))
    write_atomic(out.parent / "advice.json", json.dumps(rounded, indent=1) + "\n")
    write_atomic(out.parent / "advice.md", "\n\n".join(filter(None, parts)) + "\n")
    draw(held, on_held_out, out.parent / "advice.png")
    return parts[1]


def _introduction(out: Path, cases: Sequence[Case]) -> str:
    counts = []
    for split in FAMILIES:
        families = [case.cell.family for case in cases if case.cell.split == split]
        counts.append(f"{split}: {len(families)} cells of {len(set(families))} families")
    hours = sum(grid["seconds"] for grid in load(out, "train").values()) / 3600
    return INTRODUCTION.format(cells=", ".join(counts), hours=hours)


def _section(title: str, rows: Rows) -> str:
    """A part of the page; empty where there is nothing to show."""
    frame = pd.DataFrame(rows).fillna("")
    if frame.empty:
        return ""
    table = frame.to_markdown(index=False, disable_numparse=True)
    return "\n\n".join(filter(None, [f"## {title}", TEXTS.get(title), table]))


def _headline(held: dict[str, dict[str, Any]], on_held_out: pd.DataFrame) -> dict[str, Any]:
    """The numbers to quote, all on held-out cells."""
    wanted = ("mean", "median", "worst", "spread")
    names = {"sweep": OURS, **{f"refine {b}": rule for b, rule in REFINED.items()}, "fitted default": DEFAULT}
    numbers = {name: {each: held[rule][each] for each in wanted} for name, rule in names.items() if rule in held}
    best = min((rule for rule in PEERS if rule in held), key=lambda rule: float(held[rule]["mean"]), default=None)
    if best:
        numbers["best other finder"] = {"name": best, **{each: held[best][each] for each in wanted}}
    ours = on_held_out[on_held_out["rule"] == OURS]
    high = ours.loc[ours["grade"] == "high", "regret"]
    return {
        **numbers,
        "interval coverage": float(ours["covered"].dropna().mean()) if len(ours) else None,
        "grade high median regret": float(high.median()) if len(high) else None,
    }


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _verdicts(held: dict[str, dict[str, Any]]) -> Rows:
    for rule, targets in TARGETS.items():
        if rule in held:
            row = {"rule": rule}
            for name, target in zip(("mean", "median", "worst", "spread"), targets, strict=True):
                value = float(held[rule][name])
                told = [f"x{each:.2f}" if name == "spread" else _percent(each) for each in (value, target)]
                row[name] = f"{told[0]}, target {told[1]}: {'met' if value <= target else 'MISSED'}"
            yield row


def _rules(rows: dict[str, dict[str, Any]], costs: dict[str, str]) -> Rows:
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


def _costs(out: Path) -> dict[str, str]:
    """Batches that a rule takes, where it takes any."""
    sweeps = [curve["batches"] for curve in load(out, "sweep").values()]
    costs = {OURS: f"{np.median(sweeps):.0f} (at most {max(sweeps)})"}
    spent: dict[str, list[float]] = {}
    for name, record in load(out, "refine").items():
        cell, _, budget = name.split(" | ")
        steps = sum(trial["steps"] for trial in record["trials"]) if record else 0
        spent.setdefault(REFINED[float(budget)], []).append(steps / CELL[cell].steps)
    for rule, parts in spent.items():
        costs[rule] = f"{np.median(parts):.0%} of the training (at most {max(parts):.0%}) and the sweep"
    costs |= dict.fromkeys(GRIDDED.values(), "as many as refine")
    suggested = load(out, "peers").values()
    used = {rule: [run[rule]["batches"] for run in suggested if rule in run] for rule in PEERS}
    return costs | {rule: f"{np.median(batches):.0f}" for rule, batches in used.items() if batches}


def _pairs(held: pd.DataFrame) -> Rows:
    """Ours against the strongest baselines, sweep by sweep."""
    pairs = [(OURS, DEFAULT)]
    pairs += [(REFINED[b], other) for b in REFINED for other in (DEFAULT, OURS, GRIDDED[b])]
    by_rule = {rule: part.set_index(["cell", "seed"]) for rule, part in held.groupby("rule")}
    for first, second in pairs:
        if first in by_rule and second in by_rule:
            change = (by_rule[first]["regret"] - by_rule[second]["regret"]).dropna()
            low, high = bootstrap(change, by_rule[first]["family"].reindex(change.index))
            told = f"{100 * change.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
            yield {"": f"{first} against {second}", "difference (95 % interval)": told}


def _cells(cases: Sequence[Case], held: pd.DataFrame) -> Rows:
    shown = [OURS, *REFINED.values(), DEFAULT, *GRIDDED.values(), *PEERS]
    means = held.groupby(["cell", "rule"])["regret"].mean()
    for case in cases:
        if case.held_out:
            name = case.cell.name
            regrets = {rule: _percent(means[name, rule]) for rule in shown if (name, rule) in means}
            yield {"cell": name, "best LR": f"{2**case.truth.best:.2g}", **regrets}


def _grades(scores: pd.DataFrame) -> Rows:
    for title, some in (("held-out", scores[scores["held out"]]), ("fitted", scores[~scores["held out"]])):
        for rule in (OURS, *REFINED.values()):
            part = some[some["rule"] == rule]
            by_grade = {grade: part[part["grade"] == grade] for grade in GRADES}
            for grade, rows in {**by_grade, "all": part}.items():
                if rows.empty:
                    continue
                covered = rows["covered"].dropna()
                yield {
                    "": f"{title}, {rule}",
                    "grade": grade,
                    "sweeps": len(rows),
                    "median regret": _percent(rows["regret"].median()) if grade != "all" else "",
                    "mean regret": _percent(rows["regret"].mean()) if grade != "all" else "",
                    "interval holds the best": f"{covered.mean():.0%}" if len(covered) else "",
                }


def _limits(cases: Sequence[Case]) -> Rows:
    """How often the best of the grid lies above the edge, the limit of the decision, and where the sweep diverged."""
    sweeps = [(case.truth.best, advise(curve)) for case in cases for curve in case.curves]
    limits = {
        "the stability edge": [advice.edge_lr for _, advice in sweeps],
        "the limit": [decide(advice).limit for _, advice in sweeps],
        "where the sweep had diverged": [advice.diverged_lr for _, advice in sweeps],
    }
    for name, lrs in limits.items():
        above = [2**best > lr for (best, _), lr in zip(sweeps, lrs, strict=True) if lr is not None]
        yield {"": name, "best above it": f"{sum(above)} of {len(above)}"}


def _emitted(out: Path, cases: Sequence[Case]) -> Rows:
    """Regret of the real trainings at what each rule said."""
    truths = {case.cell.name: case.truth for case in cases}
    rows = []
    for name, run in load(out, "emit").items():
        cell, _, rule = name.split(" | ")
        loss = None if run is None else run["val"]
        diverged = run is not None and loss is None
        rows.append({"rule": rule, "regret": truths[cell].regret_of_loss(loss), "diverged": diverged})
    by_rule = pd.DataFrame(rows, columns=["rule", "regret", "diverged"]).groupby("rule", sort=False)
    for rule, some in sorted(by_rule, key=lambda item: float(item[1]["regret"].mean())):
        yield {
            "rule": rule,
            "mean regret": _percent(some["regret"].mean()),
            "median": _percent(some["regret"].median()),
            "worst": _percent(some["regret"].max()),
            "diverged": f"{some['diverged'].sum()} of {len(some)}",
        }
