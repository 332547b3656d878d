"""The plots of the benchmark of cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from overhead_bench.contestants import AGAIN, BARE, CONTESTANTS, DEFAULT, OURS

__all__ = ["ratios", "scales"]

matplotlib.use("Agg")
_OURS, _THEIRS, _GREY = "#0072B2", "#D55E00", "0.5"  # Okabe and Ito
_TICKS = (0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50)


def ratios(cases: dict[str, Any], path: Path) -> Path:
    """A panel for each case: every contestant's ratio to the bare loop, and the limit."""
    names = [name for name in CONTESTANTS if name != BARE and any(name in case["rows"] for case in cases.values())]
    width, height = 2.2 + 2.7 * len(cases), 1.2 + 0.42 * len(names)
    figure = Figure(figsize=(width, height))
    panels = figure.subplots(1, len(cases), sharey=True, squeeze=False)[0]
    for axes, case in zip(panels, cases.values(), strict=True):
        rows = case["rows"]
        ends = [end for row in rows.values() for end in row["ratio_quartiles"]]
        axes.axvline(1.0, color="0.35", linewidth=1)
        axes.axvline(case["limit"], color="0.35", linewidth=1, linestyle=":")
        for place, name in enumerate(names):
            if name not in rows:
                why = "not able" if name in case["unable"] else "not measured"
                axes.annotate(why, (1.0, place), va="center", fontsize=9, color=_GREY)
                continue
            row = rows[name]
            colour = {OURS: _OURS, DEFAULT: _OURS, AGAIN: _GREY}.get(name, _THEIRS)
            axes.plot(row["ratio_quartiles"], (place, place), color=colour, linewidth=3, solid_capstyle="round")
            axes.plot(row["ratio"], place, "o", color=colour, markersize=7)
            axes.annotate(
                f"{row['ratio']:.2f}",
                (row["ratio_quartiles"][1], place),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
        low, high = min(0.95, min(ends) * 0.97), max(max(ends), 1.1)
        axes.set_xscale("log")
        axes.set_xlim(low, high * (high / low) ** 0.35)  # room for the numbers
        axes.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS if low < tick < high * 1.3]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_title(case["title"].replace(", ", ",\n", 1), fontsize=9)
        axes.set_yticks(range(len(names)), names)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
    panels[0].invert_yaxis()  # shared by all
    figure.supxlabel(
        "time of a whole call over that of the bare loop\nmedian and quartiles of the rounds (dotted: the promise)",
        fontsize=10,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    return path


def scales(made: dict[str, Any], path: Path) -> Path:
    """The cost by the number of parameters, and by the number of steps, with what was fitted: a panel for each."""
    shown = [kind for kind in ("sizes", "lengths") if made[kind]]
    figure = Figure(figsize=(5 * len(shown), 4.2))
    for axes, kind in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        points = made[kind]
        if kind == "sizes":
            _points(axes, points, "parameters", "snapshot", "snapshot taken and restored", _OURS)
            _points(axes, points, "parameters", "added", "a sweep of {} steps adds", _THEIRS)
            _slope(axes, points, "parameters", "snapshot", made["of_size"])
            axes.set_xlabel("parameters of an MLP with AdamW")
        else:
            _points(axes, points, "steps", "deciding", "deciding on the next learning rate and the stop", _OURS)
            _points(axes, points, "steps", "reading", "reading its curve", _THEIRS)
            _slope(axes, points, "steps", "deciding", made["of_length"])
            axes.set_xlabel("steps of the sweep, MLP 64-32-10 with AdamW")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylabel("milliseconds")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92")
        axes.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    return path


def _points(axes: Any, points: list[dict[str, Any]], size: str, cost: str, label: str, colour: str) -> None:
    """Medians with quartiles; what noise made negative has no place on a logarithmic axis."""
    shown = [point for point in points if point[cost][0] > 0]
    if not shown:
        return
    middles = [1e3 * point[cost][1] for point in shown]
    below = [1e3 * (point[cost][1] - point[cost][0]) for point in shown]
    above = [1e3 * (point[cost][2] - point[cost][1]) for point in shown]
    label = label.format(shown[0].get("steps", ""))
    axes.errorbar(
        [point[size] for point in shown], middles, yerr=(below, above), fmt="o", color=colour, label=label, capsize=2
    )


def _slope(axes: Any, points: list[dict[str, Any]], size: str, cost: str, exponent: float | None) -> None:
    """The growth over the last decade, as a line through the last point."""
    if exponent is None:
        return
    last, height = points[-1][size], 1e3 * points[-1][cost][1]
    axes.plot(
        (last / 12, last),
        (height / 12**exponent, height),
        color="0.35",
        linewidth=1,
        zorder=1,
        label=f"{size}$^{{{exponent:.2f}}}$",
    )
