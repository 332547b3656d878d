"""The tables and the figure: what the results say, the rules that are compared, and the verdict on every target."""

from __future__ import annotations

import copy
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from advice_bench import fitting, store
from advice_bench.runs import BUDGETS
from advice_bench.tables import Truth, bootstrap, mean_losses, summary
from advice_bench.tasks import CELLS, Cell
from advice_bench.trainings import FRACTIONS, SEEDS, SHAPES

from lrfinder.advice.advise import advise, usual_lr
from lrfinder.calibration import calibration
from lrfinder.errors import NoAdviceError
from lrfinder.files import write_atomic
from peers import RULES as PEERS

__all__ = ["defaults", "emitted_rules", "picks", "write"]

OURS = "lrfinder"
SWEEP, LONGER = "sweep", "sweep-longer"  # kinds of results
DEFAULT, CAPPED = "default of the optimizer, fitted", "that default, at most half of the edge"
HELD_OUT = ("held-out",)
ALL_SPLITS = (*fitting.FITTED_SPLITS, *HELD_OUT)
TARGETS = {  # mean, median and worst regret, seed-to-seed spread
    OURS: (0.04, 0.015, 0.25, 1.3),
    f"{OURS} refine {BUDGETS[0]}": (0.025, 0.01, 0.15, 1.3),
    f"{OURS} refine {BUDGETS[1]}": (0.01, 0.003, 0.05, 1.3),
}
Picks = dict[str, list[float | None]]  # learning rates by cell, one for each seed
_CELL = {cell.name: cell for cell in CELLS}
_USUALS = tuple(entry for entry in fitting.FREE if entry[0].startswith(("usual", "schedule", "momentum")))


def _grid_race(budget: float) -> str:
    return f"race of a grid, {budget}"


def refined(budget: float) -> str:
    return f"{OURS} refine {budget}"


def scaled(rule: str) -> str:
    return f"{rule}, times its fitted constant"


def emitted_rules(split: str) -> list[str]:
    """What is trained for real: a rule, and whether with the emitted recipe or the bare torch scheduler."""
    rules = [f"{OURS}, bare", f"{OURS}, recipe"]
    if split in HELD_OUT:
        rules += [f"{refined(budget)}, recipe" for budget in BUDGETS]
        rules += [f"{rule}, bare" for rule in (DEFAULT, *PEERS)]
    return rules


# What each rule says.


@functools.cache
def _default_constants(out: Path) -> dict[str, Any]:
    truths, _, _ = fitting.load(out, fitting.FITTED_SPLITS)
    wide = tuple((name, log, 5 * width) for name, log, width in _USUALS)  # its own fit, hardly held by our priors
    return fitting.fit(truths, lambda truth: [_default(_CELL[truth.name])], start=fitting.priors(), free=wide)


def _default(cell: Cell) -> float:
    """One LR for each optimizer and schedule, whatever the model."""
    momentum = float(dict(cell.options).get("momentum", 0.0))
    usual = usual_lr(cell.optimizer, momentum)
    assert usual is not None
    return usual * float(calibration()["constants"]["schedule"][cell.schedule])


def defaults(out: Path) -> dict[str, float]:
    """The calibrated default of every cell."""
    with fitting.using(_default_constants(out)):
        return {cell.name: _default(cell) for cell in CELLS}


def picks(out: Path) -> dict[str, Picks]:
    """Learning rates of every rule, by cell and seed."""
    truths, curves, jobs = fitting.load(out, ALL_SPLITS)
    fixed = defaults(out)
    rules: dict[str, Picks] = {
        OURS: {t.name: [fitting.advised(c, *jobs[t.name]) for c in curves[t.name]] for t in truths},
        DEFAULT: {t.name: [fixed[t.name]] * len(SEEDS) for t in truths},
        CAPPED: {t.name: [_capped(fixed[t.name], advise(c).edge_lr) for c in curves[t.name]] for t in truths},
    }
    for kind, name in (("refine", refined), ("grid-race", _grid_race)):
        for budget in BUDGETS:
            rules[name(budget)] = _stored(out, kind, lambda run: run["lr"], str(budget))
    for rule in PEERS:
        rules[rule] = _stored(out, "peers", lambda run, rule=rule: run.get(rule, {}).get("lr"))
    fitted = [truth for truth in truths if _CELL[truth.name].split in fitting.FITTED_SPLITS]
    for rule in PEERS:
        some = [truth for truth in fitted if truth.name in rules[rule]]
        if some:
            factor = _best_factor(some, rules[rule])
            rules[scaled(rule)] = {
                name: [None if lr is None else lr * factor for lr in lrs] for name, lrs in rules[rule].items()
            }
    return {rule: answers for rule, answers in rules.items() if answers}


def _capped(lr: float, edge: float | None) -> float:
    return lr if edge is None else min(lr, edge / 2)


def _stored(out: Path, kind: str, take: Callable[[Any], float | None], *more: str) -> Picks:
    results = store.load(out, kind)
    found: Picks = {}
    for cell in CELLS:
        keys = [store.key((cell.name, seed, *more)) for seed in SEEDS]
        if all(key in results for key in keys):
            found[cell.name] = [take(results[key]) for key in keys]
    return found


def _best_factor(truths: Sequence[Truth], answers: Picks) -> float:
    factors = [2.0 ** (k / 4) for k in range(-48, 49)]

    def mean(factor: float) -> float:
        return float(np.mean([t.regret(lr * factor if lr else None) for t in truths for lr in answers[t.name]]))

    return min(factors, key=mean)


# The page.


def write(out: Path) -> str:
    """Write ``advice.md``, ``advice.json`` and ``advice.png`` beside the folder of results; returns what to tell."""
    reading = _reading_time(out)
    fitting.remember_readings()
    rules = picks(out)
    tables = {
        name: _rows(out, splits, rules) for name, splits in (("held-out", HELD_OUT), ("fitted", fitting.FITTED_SPLITS))
    }
    parts = [
        _introduction(out, reading),
        _verdicts(out, tables["held-out"], rules),
        _table("Held-out cells", tables["held-out"], out),
        _pairs(out, rules),
        _cells(out, rules),
        _grades(out),
        _emitted(out),
        _ablation(out),
        _longer(out, rules),
        _shapes(out),
        _table("Cells that the constants were fitted to", tables["fitted"], out),
    ]
    content = {name: {rule: _plain(row) for rule, row in rows.items()} for name, rows in tables.items()}
    write_atomic(out.parent / "advice.json", json.dumps(content, indent=1) + "\n")
    write_atomic(out.parent / "advice.md", "\n\n".join(part for part in parts if part) + "\n")
    _draw(tables["held-out"], out.parent / "advice.png")
    return parts[1]


def _reading_time(out: Path) -> float:
    """Seconds from a curve to its advice."""
    _, curves, _ = fitting.load(out, ALL_SPLITS)
    seconds = []
    for curve in (each for some in curves.values() for each in some):
        begin = time.perf_counter()
        advise(curve)
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def _rows(out: Path, splits: tuple[str, ...], rules: dict[str, Picks]) -> dict[str, dict[str, Any]]:
    truths, _, _ = fitting.load(out, splits)
    return {
        rule: summary(some, answers)
        for rule, answers in rules.items()
        if (some := [truth for truth in truths if truth.name in answers])
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: [round(each, 5) for each in value] if isinstance(value, tuple) else round(value, 5)
        for key, value in row.items()
        if key != "regrets"
    }


def _introduction(out: Path, reading: float) -> str:
    truths, _, _ = fitting.load(out, ALL_SPLITS)
    count = {split: sum(_CELL[t.name].split == split for t in truths) for split in ALL_SPLITS}
    families = {split: len({t.family for t in truths if _CELL[t.name].split == split}) for split in ALL_SPLITS}
    hours = sum(grid["seconds"] for grid in store.load(out, "train").values()) / 3600
    return "\n".join(
        [
            "# How good the advised learning rates are",
            "",
            "Regret of a learning rate: (L(lr) - L\\*) / (L_nothing - L\\*), with L the final validation loss of a "
            "real training at that learning rate (mean of three seeds, joined between the points of a factor-2 grid), "
            "L\\* the best of the grid and L_nothing the loss before training. 0 % is the best of the grid, 100 % "
            "learnt nothing or worse. Three sweeps for each cell. Intervals: 95 %, bootstrap over whole families.",
            "",
            ", ".join(f"{split}: {count[split]} cells of {families[split]} families" for split in ALL_SPLITS)
            + f". The constants of {calibration()['date']} are fitted to all but the held-out cells, which had no part "
            "in them. Each calibration before was looked at on cells that were new then and joined the fit afterwards: "
            "[first](advice-first.md), [second](advice-second.md), [third](advice-third.md). The races of fitted cells "
            "are those that were run around the advice of then.",
            "",
            f"The ground truth took {hours:.1f} hours of one CPU thread; from a curve to its advice it takes "
            f"{1000 * reading:.1f} ms (median).",
        ]
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _table(title: str, rows: dict[str, dict[str, Any]], out: Path) -> str:
    cost = _batches(out)
    lines = [
        f"## {title}",
        "",
        "| rule | mean regret | median | worst | spread of seeds | within a factor 2 of a best | diverged | batches |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for rule, row in sorted(rows.items(), key=lambda item: item[1]["mean"]):
        low, high = row["mean_interval"]
        middle_low, middle_high = row["median_interval"]
        name = f"**{rule}**" if rule.startswith(OURS) else rule
        lines.append(
            f"| {name} | {_percent(row['mean'])} ({_percent(low)} to {_percent(high)}) | {_percent(row['median'])} "
            f"({_percent(middle_low)} to {_percent(middle_high)}) | {_percent(row['worst'])} | x{row['spread']:.2f} | "
            f"{row['hits']:.0%} | {row['divergences']} of {row['runs']} | {cost.get(rule.partition(',')[0], '')} |"
        )
    return "\n".join(lines)


def _batches(out: Path) -> dict[str, str]:
    sweeps = [curve["batches"] for curve in store.load(out, "sweep").values()]
    cost = {OURS: f"{np.median(sweeps):.0f} (at most {max(sweeps)})"} if sweeps else {}
    for budget in BUDGETS:
        parts = [
            run["spent"] / _CELL[name.split(" | ")[0]].steps
            for name, run in store.load(out, "refine").items()
            if name.endswith(f"| {budget}")
        ]
        if parts:
            cost[refined(budget)] = f"{np.median(parts):.0%} of the training (at most {max(parts):.0%}) and the sweep"
        cost[_grid_race(budget).partition(",")[0]] = "as many as refine"
    for rule in PEERS:
        used = [run[rule]["batches"] for run in store.load(out, "peers").values() if rule in run]
        if used:
            cost[rule] = f"{np.median(used):.0f}"
    return cost


def _verdicts(out: Path, rows: dict[str, dict[str, Any]], rules: dict[str, Picks]) -> str:
    lines = [
        "## Targets, on held-out cells",
        "",
        "| rule | mean | median | worst | spread |",
        "|---|---|---|---|---|",
    ]
    for rule, (mean, median, worst, spread) in TARGETS.items():
        if rule not in rows:
            continue
        row = rows[rule]
        cells = [
            f"{_percent(row['mean'])}, target {_percent(mean)}: {_answer(row['mean'] <= mean)}",
            f"{_percent(row['median'])}, target {_percent(median)}: {_answer(row['median'] <= median)}",
            f"{_percent(row['worst'])}, target {_percent(worst)}: {_answer(row['worst'] <= worst)}",
            f"x{row['spread']:.2f}, target x{spread}: {_answer(row['spread'] <= spread)}",
        ]
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _answer(kept: bool) -> str:
    return "met" if kept else "MISSED"


def _pairs(out: Path, rules: dict[str, Picks]) -> str:
    """Ours against the strongest baselines, cell by cell."""
    truths, _, _ = fitting.load(out, HELD_OUT)
    pairs = [(OURS, DEFAULT), (OURS, CAPPED)]
    pairs += [(refined(b), other) for b in BUDGETS for other in (DEFAULT, OURS, _grid_race(b))]
    lines = [
        "## Against the strongest baselines, held-out cells",
        "",
        "Difference of the mean regrets, in points; below 0 the first is better.",
        "",
        "| | difference (95 % interval) |",
        "|---|---|",
    ]
    for first, second in pairs:
        if first in rules and second in rules:
            lines.append(f"| {first} against {second} | {_difference(truths, rules[first], rules[second])} |")
    return "\n".join(lines)


def _difference(truths: Sequence[Truth], first: Picks, second: Picks) -> str:
    """Of the mean regrets, in points, with its interval."""
    differences = {
        t.name: [t.regret(a) - t.regret(b) for a, b in zip(first[t.name], second[t.name], strict=True)]
        for t in truths
        if t.name in first and t.name in second
    }
    mean = np.mean([value for values in differences.values() for value in values])
    low, high = bootstrap(differences, {truth.name: truth.family for truth in truths})
    return f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _cells(out: Path, rules: dict[str, Picks]) -> str:
    truths, _, _ = fitting.load(out, HELD_OUT)
    shown = [
        rule for rule in (OURS, *map(refined, BUDGETS), DEFAULT, *map(_grid_race, BUDGETS), *PEERS) if rule in rules
    ]
    lines = [
        "## Every held-out cell",
        "",
        "Mean regret of the three sweeps.",
        "",
        "| cell | best LR | " + " | ".join(shown) + " |",
        "|---|---" + "|---" * len(shown) + "|",
    ]
    for truth in truths:
        values = [
            (
                _percent(float(np.mean([truth.regret(lr) for lr in rules[rule][truth.name]])))
                if truth.name in rules[rule]
                else ""
            )
            for rule in shown
        ]
        lines.append(f"| {truth.name} | {2**truth.best:.2g} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def graded(out: Path, splits: tuple[str, ...]) -> dict[str, dict[str, tuple[list[float], list[bool]]]]:
    """By way (sweep, refine) and grade: regrets, and whether the interval held the best learning rate."""
    truths, curves, jobs = fitting.load(out, splits)
    races = store.load(out, "refine")
    found: dict[str, dict[str, tuple[list[float], list[bool]]]] = {}

    def note(way: str, grade: str, regret: float, held: bool | None) -> None:
        regrets, inside = found.setdefault(way, {}).setdefault(grade, ([], []))
        regrets.append(regret)
        if held is not None:
            inside.append(held)

    for truth in truths:
        for seed, curve in enumerate(curves[truth.name]):
            advice = advise(curve)
            try:
                lr = advice.lr_for(*jobs[truth.name])
            except NoAdviceError:
                note(OURS, "none", 1.0, None)
                continue
            assert advice.interval is not None and advice.base_lr is not None
            times = lr / advice.base_lr  # the interval is that of base_lr
            held = times * advice.interval[0] <= 2**truth.best <= times * advice.interval[1]
            note(OURS, advice.grade, truth.regret(lr), held)
            for budget in BUDGETS:
                race = races.get(store.key((truth.name, seed, budget)))
                if race is not None and race["lr"] is not None:
                    low, high = (race["lr"] / race["base_lr"] * end for end in race["interval"])
                    note(refined(budget), race["grade"], truth.regret(race["lr"]), low <= 2**truth.best <= high)
    return found


def _grades(out: Path) -> str:
    lines = [
        "## What the grade and the interval are worth",
        "",
        f"Intervals are made to hold the best learning rate of the grid in {fitting.COVERAGE:.0%} of the sweeps.",
        "",
        "| | grade | sweeps | median regret | mean regret | interval holds the best |",
        "|---|---|---|---|---|---|",
    ]
    for title, splits in (("held-out", HELD_OUT), ("fitted", fitting.FITTED_SPLITS)):
        for way, grades in graded(out, splits).items():
            every = [inside for _, insides in grades.values() for inside in insides]
            for grade in ("high", "medium", "low", "none"):
                if grade in grades:
                    regrets, inside = grades[grade]
                    covered = f"{np.mean(inside):.0%}" if inside else ""
                    lines.append(
                        f"| {title}, {way} | {grade} | {len(regrets)} | {_percent(float(np.median(regrets)))} | "
                        f"{_percent(float(np.mean(regrets)))} | {covered} |"
                    )
            lines.append(f"| {title}, {way} | all | {len(every)} | | | {np.mean(every):.0%} |")
    return "\n".join(lines)


def _emitted(out: Path) -> str:
    """Regret of the real trainings at what each rule said."""
    runs, grids = store.load(out, "emit"), store.load(out, "train")
    lines = [
        "## Trained for real",
        "",
        "The same, but each number is the final loss of a training at exactly that learning rate (same seed as the "
        "sweep), with the emitted recipe (5 % warm-up unless the schedule has its own) or the bare torch scheduler. It "
        "can be below the best of the grid, and below 0 then.",
        "",
        "| cells | rule | mean regret | median | worst | blew up |",
        "|---|---|---|---|---|---|",
    ]
    for title, splits in (("held-out", HELD_OUT), ("fitted", fitting.FITTED_SPLITS)):
        regrets: dict[str, list[float]] = {}
        blown: dict[str, int] = {}
        for name, run in runs.items():
            cell, _, rule = name.split(" | ")
            if _CELL[cell].split not in splits:
                continue
            grid = grids[store.key((cell, 0))]
            start, lowest = grid["start"], min(mean_losses(grid).values())
            lost = run is None or run["val"] is None
            regret = 1.0 if lost else min(1.0, (run["val"] - lowest) / (start - lowest))
            regrets.setdefault(rule, []).append(regret)
            blown[rule] = blown.get(rule, 0) + (run is not None and run["val"] is None)
        for rule, values in sorted(regrets.items(), key=lambda item: float(np.mean(item[1]))):
            lines.append(
                f"| {title} | {rule} | {_percent(float(np.mean(values)))} | {_percent(float(np.median(values)))} | "
                f"{_percent(max(values))} | {blown[rule]} of {len(values)} |"
            )
    return "\n".join(lines) if runs else ""


def _ablation(out: Path) -> str:
    """What each part of the reading is worth, on splits that were not fitted to."""
    truths, curves, jobs = fitting.load(out, fitting.FITTED_SPLITS)

    def answers(truth: Truth) -> list[float | None]:
        return [fitting.advised(curve, *jobs[truth.name]) for curve in curves[truth.name]]

    def without(*parts: str) -> dict[str, Any]:
        constants = copy.deepcopy(fitting.priors())
        if "floor" in parts:
            constants["sweep_weight"] = {"up": 0.0, "down": 0.0}
        if "usual" in parts:
            constants["sweep_weight"] = {"up": 1.0, "down": 1.0}
        if "edge" in parts:
            constants["edge_part"] = dict.fromkeys(constants["edge_part"], 1e6)
            constants["limit_weight"] = dict.fromkeys(constants["limit_weight"], 0.0)
        return constants

    lines = [
        "## What each part of the reading is worth",
        "",
        "Regret on the cells that are fitted to, each of the three splits with constants fitted to the other two.",
        "",
        "| reading | mean | median | worst |",
        "|---|---|---|---|",
    ]
    for name, parts in (
        ("whole", ()),
        ("without the edge", ("edge",)),
        ("without the floor of the curve (usual LR below the edge)", ("floor",)),
        ("without the usual LR (the curve alone)", ("usual",)),
        ("without any curve (usual LR alone)", ("floor", "edge")),
    ):
        free = tuple(
            entry
            for entry in fitting.FREE
            if not ({"floor", "usual"} & set(parts) and entry[0].startswith("sweep_weight"))
            and not ("edge" in parts and entry[0].startswith(("edge_part", "limit")))
        )
        unseen = fitting.leave_one_out(
            truths,
            answers,
            lambda some, parts=parts, free=free: fitting.fit(some, answers, start=without(*parts), free=free),
            lambda truth: _CELL[truth.name].split,
        )
        row = summary(truths, unseen)
        lines.append(f"| {name} | {_percent(row['mean'])} | {_percent(row['median'])} | {_percent(row['worst'])} |")
    return "\n".join(lines)


def _longer(out: Path, rules: dict[str, Picks]) -> str:
    """Sweeps of nearly twice as many batches, with constants fitted to them, beside the ones that are run."""
    fitted, curves, jobs = fitting.load(out, fitting.FITTED_SPLITS, LONGER)
    truths, more_curves, more_jobs = fitting.load(out, ALL_SPLITS, LONGER)
    if not truths:
        return ""
    curves |= more_curves
    jobs |= more_jobs

    def answers(truth: Truth) -> list[float | None]:
        return [fitting.advised(curve, *jobs[truth.name]) for curve in curves[truth.name]]

    with fitting.using(fitting.fit(fitted, answers, start=fitting.priors())):
        longer = {truth.name: answers(truth) for truth in truths}
    batches = [np.median([each["batches"] for each in store.load(out, kind).values()]) for kind in (SWEEP, LONGER)]
    lines = [
        "## What more batches would buy",
        "",
        "Sweeps of 20 learning rates per decade, from half a decade further below, with constants fitted to them, "
        "beside the 12 per decade that are the default. Difference: the default minus the longer one, in points.",
        "",
        "| cells | default | longer | difference (95 % interval) |",
        "|---|---|---|---|",
        f"| batches, median | {batches[0]:.0f} | {batches[1]:.0f} | |",
    ]
    for name, splits in (("held-out", HELD_OUT), ("fitted", fitting.FITTED_SPLITS)):
        some = [truth for truth in truths if _CELL[truth.name].split in splits]
        means = [summary(some, picked)["mean"] for picked in (rules[OURS], longer)]
        lines.append(
            f"| mean regret, {name} | {_percent(means[0])} | {_percent(means[1])} | "
            f"{_difference(some, rules[OURS], longer)} |"
        )
    return "\n".join(lines)


def _shapes(out: Path) -> str:
    """How well short trainings of each shape know the best LR of the whole one: the winner of the whole grid."""
    truths, _, _ = fitting.load(out, fitting.FITTED_SPLITS)
    grids = store.load(out, "train")
    lines = [
        "## Which short training knows the long one",
        "",
        "Regret of the learning rate that wins when the whole grid is raced, each at that part of the length, on the "
        "calibration and validation cells; and by how many factors of 2 the winner lies above the best (median).",
        "",
        "| shape | " + " | ".join(f"{fraction:.0%}" for fraction in FRACTIONS) + " |",
        "|---|" + "---|" * len(FRACTIONS),
    ]
    for shape in SHAPES:
        cells = []
        for fraction in FRACTIONS:
            regrets, away = [], []
            for truth in truths:
                short = grids[store.key((truth.name, 0))]["short"].get(shape, {}).get(str(fraction))
                if short is None:
                    continue
                for seed in range(min(map(len, short.values()))):
                    losses = {int(power): runs[seed] for power, runs in short.items() if runs[seed] is not None}
                    winner = min(losses, key=losses.__getitem__)
                    regrets.append(truth.regret(2.0**winner))
                    away.append(winner - truth.best)
            cells.append(
                f"{_percent(float(np.mean(regrets)))} mean, {_percent(float(np.median(regrets)))} median, "
                f"{np.median(away):+.0f}"
                if regrets
                else ""
            )
        lines.append(f"| {shape} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = sorted(rows, key=lambda rule: -rows[rule]["mean"])
    figure = Figure(figsize=(11, 0.9 + 0.3 * len(order)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for height, rule in enumerate(order):
        row = rows[rule]
        colour = "#0072B2" if rule.startswith(OURS) else "#D55E00" if rule in PEERS else "0.45"  # Okabe and Ito
        low, high = row["mean_interval"]
        left.plot([100 * low, 100 * high], [height, height], color=colour, linewidth=2.5, solid_capstyle="round")
        left.plot(100 * row["mean"], height, "o", color=colour, markersize=7)
        left.plot(100 * row["median"], height, "|", color=colour, markersize=13, markeredgewidth=2)
    left.set_yticks(range(len(order)), order, fontsize=9)
    left.set_xscale("symlog", linthresh=1.0)
    left.set_xlim(0, 100)
    left.set_xticks([0, 0.5, 1, 2, 5, 10, 20, 50, 100], ["0", "0.5", "1", "2", "5", "10", "20", "50", "100"])
    left.set_xlabel("regret in %: mean with 95 % interval (dot), median (bar)")
    left.grid(color="0.9")
    left.set_axisbelow(True)
    left.spines[["top", "right"]].set_visible(False)
    shown = [(OURS, "#0072B2", "-"), (refined(BUDGETS[0]), "#56B4E9", "--"), (refined(BUDGETS[1]), "#009E73", "-.")]
    shown += [(DEFAULT, "0.45", ":")]
    best_peer = min((rule for rule in PEERS if rule in rows), key=lambda rule: rows[rule]["mean"], default=None)
    if best_peer is not None:
        shown.append((best_peer, "#D55E00", "-"))
    for rule, colour, dashes in shown:
        if rule in rows:
            regrets = np.sort([value for values in rows[rule]["regrets"].values() for value in values])
            share = np.arange(1, len(regrets) + 1) / len(regrets)
            right.step(
                100 * regrets, 100 * share, where="post", color=colour, linestyle=dashes, label=rule, linewidth=2
            )
    right.set_xscale("symlog", linthresh=1.0)
    right.set_xlim(0, 100)
    right.set_ylim(0, 101)
    right.set_xticks([0, 0.5, 1, 2, 5, 10, 20, 50, 100], ["0", "0.5", "1", "2", "5", "10", "20", "50", "100"])
    right.set_xlabel("regret in %, at most")
    right.set_ylabel("% of sweeps on held-out cells")
    right.grid(color="0.9")
    right.spines[["top", "right"]].set_visible(False)
    right.legend(fontsize=8, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomic(path, buffer.getvalue())
