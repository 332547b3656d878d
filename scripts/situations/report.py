"""The page: advice and published learning rate of each cell against the best of its grid, and sums by situation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from advice_bench.truth import Truth
from situations.cell import Cell
from situations.cells import CELLS
from situations.results import key, load
from situations.trainings import Run, final_loss

from lrfinder import Advice, advise
from lrfinder.files import write_atomic
from lrfinder.record.curve import LossCurve

__all__ = ["NEAR", "judged", "percent", "truth_of", "write"]

SEEDS = range(10)
NEAR = 4.0 * 1.01  # largest factor between advice and best that counts as near; the advice is rounded
AS_GOOD = 0.01  # largest regret of a learning rate that is as good as the best: below the noise of one seed
LEAST_FALL = 0.05  # of the validation loss by the best training of a cell; below it, chance decides which is best
INTRODUCTION = """# Advice by situation

How good the advice is, by `scripts/bench_situations`, in the terms of [the methods](../README.md#terms).
- **Regret** is 0 % for the best learning rate of a factor-2 grid of real trainings, and 100 % for one that learns
  nothing. Grids have one seed (two for the heads whose features are kept, three where the loss falls little).
- **Off**: advice / best. **Held**: the best is in the interval (made for 80 %). **Held, or as good**: a learning rate
  with a regret of at most 1 % is; where the loss is flat around the best, chance decides which one is the best.
  **Published**: what its source uses.
- Only "held-out" shows what the advice is worth, as the rules were chosen on split "fit". Chosen with a look at both
  were: that SGD has no probe, the weight of the probe, what is weighed for "one linear layer", how the variation of the
  features counts for heads, the length of the trials of fine-tunings, and from which width on a plateau counts.
- Not counted, by a rule made after a look at them: cells whose best training lowers the validation loss by under 5 %.

| situation | what is trained |
|---|---|
| head | new layers on a frozen network, which is in eval mode, or in training mode (dropout, batch statistics) |
| partly tuned | the last third of the tensors; of CHGNet what its example trains |
| tuned in other ways | head at ten times the learning rate of the rest (off is for the first group), \
layer-wise decay, BitFit, head first, new last weights, frozen BatchNorm, focal loss, label smoothing |
| longer fine-tuning | the same networks in 930 to 4,000 steps, mostly 5 passes, after the same range tests |
| one linear layer | all of the model, on features computed beforehand or on data as they come |
| published example | network, optimizer and batch of a program that gives a learning rate, on other data |
| other optimizer | small networks with optimizers that no calibration run has; one number at most was chosen for each |
| embeddings | vectors of norm 1, whose loss is bounded |
"""


def truth_of(cell: Cell, content: Mapping[str, Any]) -> Truth | None:
    """Regret over the grid; None where next to nothing was learnt, or there is only one training."""
    runs: Sequence[Run] = content["trainings"].get(key(cell.name, 0), ())
    losses = {math.log2(run["lr"]): final_loss(run) for run in sorted(runs, key=lambda run: float(run["lr"]))}
    start = max((float(run["before"]) for run in runs), default=0.0)
    lowest = min(losses.values(), default=start)
    if len(losses) < 2 or lowest >= (1 - LEAST_FALL) * start:
        return None
    return Truth.of(losses, start)


def judged(cell: Cell, advice: Advice, truth: Truth) -> dict[str, Any]:
    """What the trainings say about an advice: how far off it is, its regret, and whether its interval has the best."""
    if advice.base_lr is None or advice.interval is None:
        return {"advice": None, "off": None, "regret": truth.regret(None), "held": False, "as good": False}
    lr, best = advice.lr_for(cell.schedule, total_steps=cell.steps), 2**truth.best
    low, high = (lr / advice.base_lr * end for end in advice.interval)
    inside = [low, high, *(2**place for place in truth.places if low <= 2**place <= high)]  # linear between them
    as_good = min(map(truth.regret, inside)) <= AS_GOOD
    return {"advice": lr, "off": lr / best, "regret": truth.regret(lr), "held": low <= best <= high, "as good": as_good}


def row_of(cell: Cell, seed: int, curve: dict[str, Any], truth: Truth) -> dict[str, Any]:
    """A range test: its advice, and what the trainings say about it and about the published learning rate."""
    advice = advise(LossCurve.from_dict(curve))
    return {
        "cell": cell.name,
        "situation": cell.situation,
        "split": cell.split,
        "seed": seed,
        "best": 2**truth.best,
        **judged(cell, advice, truth),
        "grade": advice.grade,
        "published": cell.published,
        "its regret": None if cell.published is None else truth.regret(cell.published),
    }


def summary(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """A row of the first table; a published learning rate counts once for each cell."""
    near = rows["off"].between(1 / NEAR, NEAR).sum()
    published = rows.drop_duplicates("cell")["its regret"].dropna()
    return {
        "situation": name,
        "cells": rows["cell"].nunique(),
        "mean regret": percent(rows["regret"].mean()),
        "worst": percent(rows["regret"].max()),
        "within a factor 4": f"{near} of {len(rows)}",
        "held": f"{rows['held'].sum()} of {len(rows)}",
        "held, or as good": f"{rows['as good'].sum()} of {len(rows)}",
        "published: mean regret": percent(published.mean()),
        "published: worst": percent(published.max()),
    }


def percent(part: float) -> str:
    return "" if math.isnan(part) else f"{100 * part:.1f} %"


def table(rows: pd.DataFrame) -> str:
    """All range tests, in Markdown."""
    text = rows.assign(off=[f"x{off:.2g}" if off > 0 else "" for off in rows["off"]])
    text[["regret", "its regret"]] = text[["regret", "its regret"]].map(percent)
    for column in ("best", "advice", "published"):
        text[column] = [f"{lr:.2g}" if lr > 0 else "" for lr in rows[column]]
    return str(text.to_markdown(index=False, disable_numparse=True))


def write(out: Path, *more: str) -> str:
    """Write situations.md, with more sections; return the summary."""
    content = load(out)
    found: list[dict[str, Any]] = []
    left_out: list[str] = []
    for cell in CELLS:
        truth = truth_of(cell, content)
        curves = {seed: content["sweeps"].get(key(cell.name, seed)) for seed in SEEDS}
        found += [row_of(cell, seed, curve, truth) for seed, curve in curves.items() if curve and truth]
        if truth is None and any(curves.values()):
            left_out.append(cell.name)
    if not found:
        return "Nothing to report: no cell has both a range test and trainings."
    rows = pd.DataFrame(found).astype(dict.fromkeys(("advice", "off", "published", "its regret"), float))
    groups = rows.groupby(["situation", "split"], sort=False)
    sums = [summary(f"{name} ({split})", each) for (name, split), each in groups]
    sums_text = str(pd.DataFrame([*sums, summary("all", rows)]).to_markdown(index=False, disable_numparse=True))
    sources = "\n".join(f"- {cell.name}: {cell.published:.2g}, {cell.source}" for cell in CELLS if cell.published)
    parts = [INTRODUCTION + "\n## By situation", sums_text, f"Not counted: {', '.join(left_out) or 'none'}."]
    tests = table(rows.drop(columns=["held", "as good"]))
    parts += [*filter(None, more), "## By range test", tests, "## Published", sources]
    write_atomic(out / "situations.md", "\n\n".join(parts) + "\n")
    return sums_text
