"""The table of trial searches after range tests, by situation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from advice_bench.results import after_trials
from situations.cell import Cell
from situations.cells import CELLS
from situations.report import NEAR, judged, percent, truth_of
from situations.results import key

from lrfinder.advice.advise import advise
from lrfinder.record.curve import LossCurve

__all__ = ["BUDGETS", "searched"]

BUDGETS = (0.25, 1.0)  # in trainings
INTRODUCTION = """## After refine

Trial searches after the range test with seed 0 of each cell, with a budget of a quarter of the training and of all of
it. Regret as above. The difference to the range test is in points, with a 95 % interval by a bootstrap over the cells.
"""


def row(cell: Cell, content: Mapping[str, Any]) -> dict[str, Any] | None:
    """A range test with seed 0 and the searches after it: regret, how far off, and whether the best was held."""
    truth, curve = truth_of(cell, content), content["sweeps"].get(key(cell.name, 0))
    keys = {budget: key(cell.name, 0, budget) for budget in BUDGETS}
    if truth is None or curve is None or not all(each in content["refined"] for each in keys.values()):
        return None
    advice = advise(LossCurve.from_dict(curve))
    rows: dict[float, dict[str, Any]] = {0: judged(cell, advice, truth)}
    rows |= {b: judged(cell, after_trials(advice, content["refined"][name]), truth) for b, name in keys.items()}
    known = {f"{name} {budget}": each[name] for budget, each in rows.items() for name in ("regret", "off", "held")}
    return {"situation": f"{cell.situation} ({cell.split})", **known}


def summary(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """A row of the table; a budget of 0 is the range test alone."""
    shown: dict[str, Any] = {"situation": name, "cells": len(rows)}
    shown |= {f"{budget}: mean regret": percent(rows[f"regret {budget}"].mean()) for budget in (0, *BUDGETS)}
    shown |= {f"{b}: within a factor 4": int(rows[f"off {b}"].between(1 / NEAR, NEAR).sum()) for b in (0, *BUDGETS)}
    for budget in BUDGETS:
        gain = (rows[f"regret {budget}"] - rows["regret 0"]).to_numpy()
        means = np.random.default_rng(0).choice(gain, (10_000, len(gain))).mean(1)
        low, high = (100 * np.quantile(means, q) for q in (0.025, 0.975))
        shown[f"{budget}: difference"] = f"{100 * gain.mean():+.1f} ({low:+.1f} to {high:+.1f})"
        shown[f"{budget}: held"] = int(rows[f"held {budget}"].sum())
    return shown


def searched(content: Mapping[str, Any]) -> str:
    """The section of the page; empty where no search was run."""
    rows = pd.DataFrame([found for cell in CELLS if (found := row(cell, content))])
    if rows.empty:
        return ""
    sums = [summary(name, each) for name, each in rows.groupby("situation", sort=False)]
    sums += [summary("all held-out", rows[rows["situation"].str.endswith("(held-out)")]), summary("all", rows)]
    table = pd.DataFrame(sums).to_markdown(index=False, disable_numparse=True)
    return f"{INTRODUCTION}\n{table}"
