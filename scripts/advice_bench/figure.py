"""The figure: mean regret of every rule with its interval, and the distribution for the main ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advice_bench.rules import DEFAULT, OURS, PEERS, REFINED

__all__ = ["draw"]

BLUE, ORANGE, LIGHT, GREEN, GREY = "#0072B2", "#D55E00", "#56B4E9", "#009E73", "0.45"  # Okabe and Ito
TICKS = [0, 0.5, 1, 2, 5, 10, 20, 50, 100]


def draw(rows: dict[str, dict[str, Any]], scores: pd.DataFrame, path: Path) -> None:
    """Write the picture of those rules: ``rows`` are their summaries, ``scores`` has their regrets by sweep."""
    figure = Figure(figsize=(11, 0.9 + 0.3 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    order = sorted(rows, key=lambda rule: -float(rows[rule]["mean"]))
    for height, rule in enumerate(order):
        row = rows[rule]
        colour = BLUE if rule.startswith(OURS) else ORANGE if rule in PEERS else GREY
        low, high = row["mean_interval"]
        left.plot([100 * low, 100 * high], [height, height], color=colour, linewidth=2.5, solid_capstyle="round")
        left.plot(100 * row["mean"], height, "o", color=colour, markersize=7)
        left.plot(100 * row["median"], height, "|", color=colour, markersize=13, markeredgewidth=2)
    left.set_yticks(range(len(order)), order, fontsize=9)
    _finish(left, "regret in %: mean with 95 % interval (dot), median (bar)")
    best_peer = next((rule for rule in reversed(order) if rule in PEERS), "")
    for rule, colour, dashes in (
        (OURS, BLUE, "-"),
        (REFINED[0.25], LIGHT, "--"),
        (REFINED[1.0], GREEN, "-."),
        (DEFAULT, GREY, ":"),
        (best_peer, ORANGE, "-"),
    ):
        if rule in rows:
            regrets = np.sort(scores.loc[scores["rule"] == rule, "regret"].to_numpy())
            share = np.arange(1, len(regrets) + 1) / len(regrets)
            right.step(100 * regrets, 100 * share, dashes, where="post", color=colour, label=rule, linewidth=2)
    right.set_ylim(0, 101)
    right.set_ylabel("% of sweeps on held-out cells")
    right.legend(fontsize=8, loc="lower right")
    _finish(right, "regret in %, at most")
    figure.savefig(path, dpi=110)


def _finish(axes: Axes, label: str) -> None:
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_xlim(0, 100)
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.set_xlabel(label)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
