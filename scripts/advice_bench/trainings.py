"""Real trainings: the ground truth over a grid of learning rates, and single ones at any learning rate.

The grid has the powers of 2, so two cells can be compared. It starts around the typical learning rate of the optimizer
and grows until the best of it has two worse neighbours on each side.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from advice_bench.tasks import Cell, batches, build
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, StepLR

__all__ = ["SEEDS", "grid_of", "mean_loss", "train"]

SEEDS = (0, 1, 2)
CENTRES = {"SGD": -3, "Adam": -10, "AdamW": -10, "NAdam": -10, "RMSprop": -11, "Adagrad": -6}  # log2 of the typical LR
BELOW, ABOVE, MOST = 5, 4, 26  # grid points around the centre to begin with, and in all


def _bare_scheduler(kind: str, optimizer: torch.optim.Optimizer, lr: float, steps: int) -> LRScheduler | None:
    """The torch scheduler at its defaults."""
    if kind == "onecycle":
        momentum = optimizer.defaults.get("momentum", 0) > 0 or "betas" in optimizer.defaults
        return OneCycleLR(optimizer, max_lr=lr, total_steps=steps, cycle_momentum=momentum)
    if kind == "cosine":
        return CosineAnnealingLR(optimizer, steps)
    if kind == "step":
        return StepLR(optimizer, max(1, steps // 3))
    return None


def train(
    cell: Cell,
    lr: float,
    seed: int,
    *,
    steps: int | None = None,
    scheduler: Callable[[torch.optim.Optimizer], LRScheduler] | None = None,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Train for real.

    Returns:
        ``val``: final validation loss, None when it is not finite; ``start``: the one before training.
    """
    task = build(cell, seed, lr=lr, cache=cache)
    length = steps or cell.steps
    made = scheduler(task.optimizer) if scheduler else _bare_scheduler(cell.schedule, task.optimizer, lr, length)
    start = _short(task.val_loss())
    task.model.train()
    for inputs, target in batches(task.loader, length):
        task.optimizer.zero_grad()
        loss = cell.loss(task.model(inputs), target)
        loss.backward()  # type: ignore[no-untyped-call]
        task.optimizer.step()
        if made is not None:
            made.step()
        if not math.isfinite(loss.item()):
            return {"val": None, "start": start}
    val = task.val_loss()
    return {"val": _short(val) if math.isfinite(val) else None, "start": start}


def grid_of(cell: Cell, cache: Path) -> dict[str, Any]:
    """Everything the benchmark trains for one cell, as JSON-ready values.

    Returns:
        ``start``: mean validation loss before training; ``truth``: by log2 of the LR, final validation losses of the
        seeds (None where one diverged); ``seconds``: what all of it took. Grids made before 2026-11-28 have training
        curves and short trainings as well (``curves`` and ``short``), which nothing reads.
    """
    begin = time.perf_counter()
    truth: dict[int, list[dict[str, Any]]] = {}

    def at(power: int) -> float:
        if power not in truth:
            truth[power] = [train(cell, 2.0**power, seed, cache=cache) for seed in SEEDS]
        return mean_loss(truth[power])

    centre = CENTRES[cell.optimizer] + (2 if cell.optimizer == "SGD" and not cell.options else 0)
    for power in range(centre - BELOW, centre + ABOVE + 1):
        at(power)
    while len(truth) < MOST:
        best = min(truth, key=at)
        if best - min(truth) < 2:
            at(min(truth) - 1)
        elif max(truth) - best < 2:
            at(max(truth) + 1)
        else:
            break
    best = min(truth, key=at)
    return {
        "name": cell.name,
        "start": sum(run["start"] for run in truth[best]) / len(SEEDS),
        "truth": {str(power): [run["val"] for run in truth[power]] for power in sorted(truth)},
        "seconds": round(time.perf_counter() - begin, 1),
    }


def mean_loss(runs: list[dict[str, Any]]) -> float:
    """Mean final loss; a run that diverged counts as one that learnt nothing."""
    losses = [run["start"] if run["val"] is None else min(run["val"], run["start"]) for run in runs]
    return float(sum(losses) / len(losses))


def _short(value: float) -> float:
    return float(f"{value:.6g}")
