"""What the measurements of the cost say: ratios, headline, page and plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cost_bench import AGAIN, BARE, DEFAULT, OURS, RISING

__all__ = ["headline", "nearest", "ratios", "write"]

_HEADLINE_CASES = {"cnn": "cpu/cnn-sgd", "resnet18": "cpu/resnet18", "mlp": "cpu/mlp"}
_METHOD = """\
One whole call, from before the call until the training state is restored and the advice has been read, relative to the
bare training loop with as many steps: the mean of the two bare loops of the same round. The calls of a round come one
after the other, in random order. Median (quartiles) of the rounds.

*Bare loop, again* is the second bare loop relative to the first, and shows the noise of a single comparison. *Bare
loop, rising LR* changes the learning rate after each step, as a range test does. *lrfinder, no range given* searches
for the range and decides on the number of steps; all others make the steps of the bare loop. The other finders come
from their own packages, with early stopping off."""


def ratios(seconds: dict[str, list[float]]) -> pd.DataFrame:
    """Quartiles of the time of a call relative to the mean of the two bare loops of its round.

    Args:
        seconds: of each call, by contestant; one for each round, both bare loops among them.

    Returns:
        A row for each contestant, with the columns ``low``, ``median`` and ``high``. The second bare loop is relative
        to the first one, so that its row shows the noise of a single comparison.
    """
    times = pd.DataFrame(seconds)
    relative = times.div(times[[BARE, AGAIN]].mean(axis=1), axis=0)
    relative[AGAIN] = times[AGAIN] / times[BARE]
    return relative.quantile([0.25, 0.5, 0.75]).T.set_axis(["low", "median", "high"], axis=1)


def nearest(seconds: dict[str, list[float]]) -> tuple[str, float] | None:
    """The other finder with the lowest median ratio, and the share of the rounds in which it was slower than ours."""
    others = ratios(seconds)["median"].drop([BARE, AGAIN, RISING, OURS, DEFAULT], errors="ignore")
    if others.empty:
        return None
    name = str(others.idxmin())
    return name, float((pd.Series(seconds[name]) > pd.Series(seconds[OURS])).mean())


def headline(results: dict[str, Any]) -> dict[str, Any]:
    """The figures for the README, from whatever has been measured."""
    found: dict[str, Any] = {}
    for short, name in _HEADLINE_CASES.items():
        if name in results["cases"]:
            seconds = results["cases"][name]["seconds"]
            medians = ratios(seconds)["median"].round(4)
            found[short] = {OURS: medians[OURS]}
            if other := nearest(seconds):
                found[short] |= {"nearest": other[0], "its ratio": medians[other[0]], "slower in": round(other[1], 3)}
    if "batches" in results:
        found["batches"] = pd.DataFrame(results["batches"]["table"]).median(axis=1).to_dict()
    if "memory" in results:
        found["extra MB on the host"] = results["memory"]["table"]["MB"]
    return found


def write(results: dict[str, Any], folder: Path) -> None:
    """Write ``cost.md`` and ``cost.png``."""
    parts = ["# What a range test costs", _METHOD]
    for device in ("cpu", "cuda"):
        cases = [case for name, case in results["cases"].items() if name.startswith(f"{device}/")]
        if cases:
            tables = {case["title"]: ratios(case["seconds"]) for case in cases}
            cells = pd.DataFrame({title: table.apply(_cell, axis=1) for title, table in tables.items()})
            parts += [f"## Time, {device}", str(cells.drop(BARE).fillna("").to_markdown(disable_numparse=True))]
            parts += ["\n".join(map(_line, cases))]
            if device == "cpu":
                plot(tables, folder / "cost.png")
                parts += ["![Ratios](cost.png)"]
    rest = {name: entry for name, entry in results.items() if name not in ("headline", "cases")}
    for name, entry in rest.items():
        parts += [f"## {name.capitalize()}", entry["caption"], str(pd.DataFrame(entry["table"]).to_markdown())]
    runs: dict[str, list[str]] = {}
    for name, entry in {**results["cases"], **rest}.items():
        runs.setdefault("; ".join(entry["run"].values()), []).append(name)
    parts += ["## Where and when", *(f"{', '.join(names)}: {run}." for run, names in runs.items())]
    parts += ["Earlier measurements on a GPU: [cost-cuda.md](cost-cuda.md)."]
    (folder / "cost.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _cell(row: pd.Series) -> str:
    return f"{row['median']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def _line(case: dict[str, Any]) -> str:
    """Lengths, the nearest other finder, and who was not measured."""
    seconds = case["seconds"]
    bare, rounds = pd.Series(seconds[BARE]).median(), len(seconds[BARE])
    line = f"- {case['title']}: {case['steps']} steps of {1e3 * bare / case['steps']:.1f} ms, {rounds} rounds."
    if other := nearest(seconds):
        line += f" {other[0]} comes nearest; it was slower than lrfinder in {other[1]:.0%} of the rounds."
    return line + "".join(f" {name} was not measured: {why}." for name, why in case["unable"].items())


def plot(tables: dict[str, pd.DataFrame], path: Path) -> None:
    """A panel for each case: medians of all contestants, with the quartiles as error bars."""
    figure = Figure(figsize=(2.5 + 2.5 * len(tables), 3.6), layout="constrained")
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    for axes, (title, table) in zip(panels, tables.items(), strict=True):
        table = table.drop(BARE)[::-1]
        colours = ["#0072B2" if name.startswith(OURS) else "0.7" if BARE in name else "#D55E00" for name in table.index]
        errors = [table["median"] - table["low"], table["high"] - table["median"]]
        axes.axvline(1.0, color="0.35", linewidth=1, zorder=3)
        bars = axes.barh(table.index, table["median"], xerr=errors, color=colours, ecolor="0.3")
        background = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.bar_label(bars, fmt="%.2f", padding=5, fontsize=9, zorder=4, bbox=background)
        axes.set_xlim(0, 1.25 * table["high"].max())
        axes.set_title(title.replace(", ", ",\n", 1), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("time of a whole call / time of the bare loop", fontsize=10)
    figure.savefig(path, dpi=130)
