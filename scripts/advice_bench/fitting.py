"""The calibration: fits the constants of the advice to the trainings, by regret itself.

What is minimised is the mean regret of the advised learning rates over cells and sweep seeds, with a little of its
square root (so that the common cell counts beside the bad one), and a pull towards the constants to begin with, which
come from theory and practice. Coordinates are searched one at a time: regret has flat stretches and cliffs, and
gradients know neither. The leave-one-family-out regret says what the fit is worth on families it has not seen.
"""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from advice_bench import store
from advice_bench.tables import Truth, summary
from advice_bench.tasks import CELLS

import lrfinder
from lrfinder import advice as advice_module
from lrfinder.advice.advise import advise
from lrfinder.calibration import calibration
from lrfinder.errors import NoAdviceError
from lrfinder.files import write_atomic
from lrfinder.record.curve import LossCurve

__all__ = [
    "COVERAGE",
    "FITTED_SPLITS",
    "FREE",
    "advised",
    "fit",
    "leave_one_out",
    "load",
    "priors",
    "release",
    "remember_readings",
    "using",
]

FITTED_SPLITS = ("calibration", "validation", "first held-out", "second held-out", "third held-out")
COVERAGE = 0.8  # of the best learning rates, that an interval is to hold

# Constant, whether it is moved on a logarithmic scale, and the width of the pull towards its prior.
FREE: tuple[tuple[str, bool, float], ...] = (
    ("usual.sgd", True, 1.0),
    ("usual.adam", True, 1.0),
    ("usual.rmsprop", True, 1.0),
    ("usual.adagrad", True, 1.0),
    ("momentum_power", False, 0.15),
    ("sweep_weight.up", False, 0.1),
    ("sweep_weight.down", False, 0.1),
    ("floor_part.proportional", True, 0.7),
    ("floor_part.adaptive", True, 0.7),
    ("edge_part.proportional", True, 0.5),
    ("edge_part.adaptive", True, 0.5),
    ("edge_part.proportional_alone", True, 0.5),
    ("edge_part.adaptive_alone", True, 0.5),
    ("limit_part.proportional", True, 1.0),
    ("limit_part.adaptive", True, 1.0),
    ("limit_weight.proportional", False, 0.15),
    ("limit_weight.adaptive", False, 0.15),
    ("trained_part.proportional", True, 0.7),
    ("trained_part.adaptive", True, 0.7),
    ("schedule.onecycle", True, 0.4),
    ("schedule.step", True, 0.4),
    ("schedule.constant", True, 0.5),
)
_ADAMS = {"adamw": 1.0, "nadam": 1.0, "radam": 1.0, "sparseadam": 1.0, "adamax": 2.0}  # follow adam
_PULL = 0.005  # of the squared distances from the priors, in widths; with a third of it, families left out did worse
_ROOT = 0.03  # weight of the mean square root of the regrets
_ROUNDS = 6


def get(constants: dict[str, Any], name: str) -> float:
    for part in name.split("."):
        constants = constants[part]
    return float(constants)  # type: ignore[arg-type]


def put(constants: dict[str, Any], name: str, value: float) -> None:
    *path, last = name.split(".")
    for part in path:
        constants = constants[part]
    constants[last] = value
    if name == "usual.adam":
        for other, times in _ADAMS.items():
            constants[other] = value * times
    if name == "usual.sgd":
        constants["asgd"] = value


@contextmanager
def using(constants: dict[str, Any]) -> Iterator[None]:
    """Context in which the package advises with other constants."""
    own = calibration()["constants"]
    calibration()["constants"] = constants
    try:
        yield
    finally:
        calibration()["constants"] = own


def load(
    out: Path, splits: tuple[str, ...], kind: str = "sweep"
) -> tuple[list[Truth], dict[str, list[LossCurve]], dict[str, tuple[str, int]]]:
    """Truths, sweeps by cell, and schedule and length by cell, of the cells that have results."""
    grids, sweeps = store.load(out, "train"), store.load(out, kind)
    truths, curves, jobs = [], {}, {}
    for cell in CELLS:
        found = [curve for name, curve in sweeps.items() if name.partition(" | ")[0] == cell.name]
        grid = grids.get(store.key((cell.name, 0)))
        if cell.split in splits and grid is not None and found:
            truths.append(Truth.of(grid, cell.family))
            curves[cell.name] = [LossCurve.from_dict(curve) for curve in found]
            jobs[cell.name] = (cell.schedule, cell.steps)
    return truths, curves, jobs


def priors() -> dict[str, Any]:
    """What the fit begins with and is pulled towards: theory, practice, and the first trainings."""
    return dict(json.loads((Path(__file__).parent / "priors.json").read_text(encoding="utf-8")))


def release(out: Path) -> str:
    """Fit to all cells but the held-out ones, and write ``lrfinder/calibration.json``. Returns what to tell."""
    truths, curves, jobs = load(out, FITTED_SPLITS)
    remember_readings()

    def answers(truth: Truth) -> list[float | None]:
        return [advised(curve, *jobs[truth.name]) for curve in curves[truth.name]]

    def make(some: list[Truth]) -> dict[str, Any]:
        return fit(some, answers, start=priors())

    constants = make(truths)
    unseen = leave_one_out(truths, answers, make)
    constants["spread"] = _spreads(truths, curves, unseen, constants)
    constants["race"]["spread"] = _race_spread(out, truths, constants["race"]["spread"])
    content = {
        "version": lrfinder.__version__,
        "date": date.today().isoformat(),
        "made_by": "scripts/bench_advice fit",
        "fitted": [name for name, _, _ in FREE] + ["spread", "race.spread"],
        "tasks": [truth.name for truth in truths],
        "constants": _rounded(constants),
    }
    path = Path(lrfinder.__file__).parent / "calibration.json"
    write_atomic(path, json.dumps(content, indent=1) + "\n")
    with using(constants):
        seen = {truth.name: answers(truth) for truth in truths}
    lines = []
    for name, picks in (("fitted", seen), ("leave one family out", unseen)):
        row = summary(truths, picks)
        lines.append(
            f"{name}: regret mean {row['mean']:.1%}, median {row['median']:.2%}, worst {row['worst']:.0%}, "
            f"spread x{row['spread']:.2f}, within a factor 2 {row['hits']:.0%}"
        )
    return "\n".join(lines)


def _spreads(
    truths: list[Truth],
    curves: dict[str, list[LossCurve]],
    unseen: dict[str, list[float | None]],
    constants: dict[str, Any],
) -> dict[str, float]:
    """By grade, the factor that holds the best LR in 80 % of the sweeps, of families that were not fitted to."""
    away: dict[str, list[float]] = {}
    with using(constants):
        for truth in truths:
            for curve, lr in zip(curves[truth.name], unseen[truth.name], strict=True):
                grade = advise(curve).grade
                if lr is not None and grade != "none":
                    away.setdefault(grade, []).append(abs(truth.best - math.log2(lr)))
    widest, spreads = 1.0, {}
    for grade, width in priors()["spread"].items():  # from high to low
        # What is said with less certainty is never the narrower interval.
        widest = max(widest, 2 ** float(np.quantile(away[grade], COVERAGE)) if grade in away else float(width))
        spreads[grade] = widest
    return spreads


def _race_spread(out: Path, truths: list[Truth], default: float) -> float:
    best = {truth.name: truth.best for truth in truths}
    away = [
        abs(best[name.partition(" | ")[0]] - math.log2(run["lr"]))
        for name, run in store.load(out, "refine").items()
        if name.partition(" | ")[0] in best and run["lr"] is not None and run["grade"] == "high"
    ]
    return 2 ** float(np.quantile(away, COVERAGE)) if away else default


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value


def advised(curve: LossCurve, kind: str, total_steps: int) -> float | None:
    """The package's own answer."""
    try:
        return advise(curve).lr_for(kind, total_steps)
    except NoAdviceError:
        return None


def fit(
    truths: list[Truth],
    answers: Callable[[Truth], list[float | None]],
    *,
    start: dict[str, Any],
    free: tuple[tuple[str, bool, float], ...] = FREE,
) -> dict[str, Any]:
    """Constants with the lowest penalised regret.

    Args:
        truths: cells to fit to.
        answers: learning rates for a cell, one for each sweep, with the constants in use.
        start: constants to begin with, which are the priors as well.
        free: which constants move.
    """
    constants = copy.deepcopy(start)

    def cost() -> float:
        with using(constants):
            regrets = np.array([truth.regret(lr) for truth in truths for lr in answers(truth)])
        away = sum(_distance(get(constants, n), get(start, n), log, width) ** 2 for n, log, width in free)
        return float(regrets.mean() + _ROOT * np.sqrt(regrets + 1e-4).mean() + _PULL * away)

    lowest = cost()
    size = 0.6
    for _ in range(_ROUNDS):
        for name, log, width in free:
            for step in (size, -size, size / 3, -size / 3):
                old = get(constants, name)
                new = old * 2 ** (step * width) if log else old + step * width
                if "_weight" in name and not 0 <= new <= 1:
                    continue
                put(constants, name, new)
                tried = cost()
                if tried < lowest - 1e-7:
                    lowest = tried
                else:
                    put(constants, name, old)
        size *= 0.7
    return constants


def leave_one_out(
    truths: list[Truth],
    answers: Callable[[Truth], list[float | None]],
    make: Callable[[list[Truth]], dict[str, Any]],
    part: Callable[[Truth], str] = lambda truth: truth.family,
) -> dict[str, list[float | None]]:
    """Learning rates by cell, each with constants fitted without its part of the cells; by default its family."""
    picks: dict[str, list[float | None]] = {}
    parts = sorted({part(truth) for truth in truths})
    if len(parts) < 2:
        raise ValueError(f"leaving one part out needs two; the results have {parts}. Train and sweep more.")
    for left in parts:
        with using(make([truth for truth in truths if part(truth) != left])):
            picks |= {truth.name: answers(truth) for truth in truths if part(truth) == left}
    return picks


def _distance(value: float, prior: float, log: bool, width: float) -> float:
    return (math.log2(value / prior) if log else value - prior) / width


def remember_readings() -> None:
    """Readings and oddities depend on no constant that is fitted, and are most of the work of an advice."""
    if not hasattr(advice_module.read_curve, "cache_info"):
        oddities = advice_module._oddities
        advice_module.read_curve = functools.cache(advice_module.read_curve)
        advice_module._oddities = functools.cache(lambda curve, reading: tuple(oddities(curve, reading)))
