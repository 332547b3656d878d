"""Range tests and real trainings of a cell, and the grid of learning rates that the trainings are made at.

The grid is a factor 2 apart. It grows from the cell's centre until the regret is over 8 % below the best learning rate
and over 50 % above it. A training without hope ends early, and counts as one that learnt nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import torch
from situations.cell import Cell, Training

from lrfinder import LRFinder
from lrfinder.param_groups import group_scales, set_lr
from lrfinder.record.curve import LossCurve
from lrfinder.result import RangeTestResult

__all__ = ["Run", "averaged", "final_loss", "grid", "refine", "sweep"]

Run = Mapping[str, Any]
"""What :func:`train` returned."""
BELOW, ABOVE = 0.08, 0.5  # regret at the two ends that the grid may stop at
LOWEST, HIGHEST = -8, 10  # log2 of the grid's ends, relative to its centre


def finder_of(cell: Cell, run: Training) -> LRFinder:
    return LRFinder(run.model, run.optimizer, loss_fn=run.loss, clip_grad_norm=cell.clip)


def sweep(cell: Cell, data: Path, seed: int) -> dict[str, Any]:
    """The curve of a range test, as a dictionary."""
    run = cell.build(data, seed)
    return finder_of(cell, run).range_test(run.loader, progress=False).curve.to_dict()


def refine(cell: Cell, data: Path, curve: dict[str, Any], budget: float) -> dict[str, Any] | None:
    """The record of a trial search after that range test, on the data of seed 0; None without room for one."""
    run, result = cell.build(data, 0), RangeTestResult(curve=LossCurve.from_dict(curve))
    length: dict[str, Any] = {"schedule": cell.schedule, "total_steps": cell.steps, "budget": budget}
    better = finder_of(cell, run).refine(result, run.loader, run.validation, progress=False, **length)
    return None if better.trials is None else better.trials.to_dict()


def train(cell: Cell, data: Path, lr: float, seed: int) -> dict[str, Any]:
    """Train for real.

    Returns:
        ``lr``; ``before``: validation loss at the start; ``after``: at the end, None for a training that ended early or
        whose loss is not finite; ``steps`` made; ``clipped``: part of the steps whose gradient was; ``seconds``.
    """
    run, begin = cell.build(data, seed), time.perf_counter()
    before = validation_loss(run)
    losses: list[float] = []
    clipped, scales = 0, group_scales(run.optimizer)
    for step, batch in enumerate(islice(chain.from_iterable(repeat(run.loader)), cell.steps)):
        set_lr(run.optimizer, lr * factor(cell, step), scales)
        run.optimizer.zero_grad()
        loss = run.loss(run.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if cell.clip is not None:
            clipped += torch.nn.utils.clip_grad_norm_(run.model.parameters(), cell.clip).item() > cell.clip
        run.optimizer.step()
        losses.append(loss.item())
        if hopeless(losses, before, cell.steps):
            break
    after = None if hopeless(losses, before, cell.steps) else validation_loss(run)
    return {
        "lr": lr,
        "before": before,
        "after": after if after is not None and math.isfinite(after) else None,
        "steps": len(losses),
        "clipped": clipped / len(losses),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def averaged(cell: Cell, data: Path, lr: float) -> Run:
    """The trainings of all seeds of the cell as one, with the mean of their losses."""
    runs = [train(cell, data, lr, seed) for seed in range(cell.seeds)]
    if len(runs) == 1:
        return runs[0]
    before, after = (sum(map(loss, runs)) / len(runs) for loss in (lambda run: float(run["before"]), final_loss))
    return {**runs[0], "before": before, "after": after, "seconds": round(sum(run["seconds"] for run in runs), 1)}


def factor(cell: Cell, step: int) -> float:
    """Learning rate of a step, relative to the peak."""
    part = step / cell.steps
    cosine = cell.floor + (1 - cell.floor) * 0.5 * (1 + math.cos(math.pi * part))
    decayed = {"constant": 1.0, "linear": 1 - part, "cosine": cosine, "exponential": math.exp(part * math.log(0.01))}
    return decayed[cell.schedule] * min(1.0, (step + 1) / (cell.warmup + 1))


def hopeless(losses: Sequence[float], before: float, steps: int) -> bool:
    """Whether the loss exploded, or is above that of the start after a third of the training."""
    if not math.isfinite(losses[-1]) or losses[-1] > 100 * losses[0]:
        return True
    recent = losses[-max(1, steps // 20) :]
    return len(losses) == steps // 3 + 1 and sum(recent) / len(recent) > 1.05 * before


def validation_loss(run: Training) -> float:
    parts: list[Any] = [part for part in (run.model, run.optimizer) if hasattr(part, "eval")]
    for part in parts:
        part.eval()
    with torch.no_grad():
        loss = sum(run.loss(run.model, batch).item() for batch in run.validation) / len(run.validation)
    for part in parts:
        part.train()
    return loss


def final_loss(run: Run) -> float:
    """Loss after a training; that before it, where it ended early or learnt nothing."""
    before = float(run["before"])
    return before if run["after"] is None else min(before, float(run["after"]))


def grid(cell: Cell, known: Sequence[Run], make: Callable[[float], Run], seconds: float) -> None:
    """Ask for trainings until the best learning rate is bracketed, or that much time is over.

    Args:
        known: trainings that are there already.
        make: makes the training at a learning rate.
    """
    begin, runs = time.perf_counter(), {run["lr"]: run for run in known}
    losses: dict[int, float] = {}
    place: int | None = 0
    while place is not None and (not losses or time.perf_counter() - begin < seconds):
        lr = cell.centre * 2.0**place
        if lr not in runs:
            runs[lr] = make(lr)
        losses[place] = final_loss(runs[lr])
        place = next_place(losses, runs[cell.centre]["before"])


def next_place(losses: Mapping[int, float], before: float) -> int | None:
    """Where the grid grows next, as log2 of the learning rate; None where it is complete."""
    best, low, high = min(losses, key=losses.__getitem__), min(losses), max(losses)
    gain = max(before - losses[best], 1e-9)
    below = low > LOWEST and (low == best or (losses[low] - losses[best]) / gain <= BELOW)
    above = high < HIGHEST and (high == best or (losses[high] - losses[best]) / gain <= ABOVE)
    if above and (not below or best >= (low + high) / 2):
        return high + 1
    return low - 1 if below else None
