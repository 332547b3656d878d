"""The other finders, and one learning rate per optimizer, on the same cells: what they suggest, and the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import peers
import torch
from advice_bench.rules import DEFAULT, OURS, default_constants, default_lr
from situations.cell import Cell, Loader, Loss
from situations.cells import CELLS
from situations.report import NEAR, percent, truth_of
from situations.results import ADVICE_RESULTS, key
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from lrfinder.advice.advise import advise
from lrfinder.record.curve import LossCurve

__all__ = ["compared", "suggestions"]

INTRODUCTION = """## Beside the other finders

Mean regret on held-out cells, after one range test of each finder with seed 0, from its own package at its defaults,
and of one learning rate per optimizer and schedule that is fitted to the trainings of `scripts/bench_advice`, whatever
the model. A finder without a suggestion counts as one that learns nothing. None of the others clips gradients.
"""


class Alone(nn.Module):
    """A model whose output is the loss of a batch, which is how the other finders take any batch and loss."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Any) -> torch.Tensor:
        return self.loss(self.model, batch)


class Labelled(IterableDataset[tuple[Any, torch.Tensor]]):
    """Each batch with a target that nothing uses."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Any, torch.Tensor]]:
        return ((batch, torch.zeros(())) for batch in self.loader)


def suggestions(cell: Cell, data: Path) -> dict[str, dict[str, Any]]:
    """What the other finders suggest for seed 0: :func:`peers.suggestions`."""

    def parts() -> tuple[Any, ...]:
        run = cell.build(data, 0)
        for group in run.optimizer.param_groups:
            group["lr"] = peers.LOWEST
        loader = DataLoader(Labelled(run.loader), batch_size=None, collate_fn=lambda batch: batch)
        return Alone(run.model, run.loss), run.optimizer, lambda output, target: output, loader

    return peers.suggestions(parts)


def row(cell: Cell, content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Regret by rule, and how far off each is; None for a cell that has not all."""
    name = key(cell.name, 0)
    truth, curve = truth_of(cell, content), content["sweeps"].get(name)
    if truth is None or curve is None or name not in content["peers"]:
        return None
    recorded = LossCurve.from_dict(curve)
    advice = advise(recorded)
    lrs: dict[str, float | None] = {OURS: advice.lr_for(cell.schedule, cell.steps) if advice.base_lr else None}
    constants = default_constants(ADVICE_RESULTS)
    lrs[DEFAULT] = default_lr(recorded.optimizer, recorded.momentum, cell.schedule, constants)
    lrs |= {rule: found["lr"] for rule, found in content["peers"][name].items()}
    judged = {rule: (truth.regret(lr), (lr or 0.0) / 2**truth.best) for rule, lr in lrs.items()}
    return {"situation": cell.situation, **judged}


def compared(content: Mapping[str, Any]) -> str:
    """The section of the page; empty where no other finder was asked."""
    held_out = (cell for cell in CELLS if cell.split == "held-out")
    rows = pd.DataFrame([found for cell in held_out if (found := row(cell, content))])
    if rows.empty:
        return ""
    rules = [rule for rule in (OURS, DEFAULT, *peers.RULES) if rule in rows]
    table = pd.DataFrame([summary(rule, rows) for rule in rules])
    counts = ", ".join(f"{name} {len(some)}" for name, some in rows.groupby("situation", sort=False))
    text = table.sort_values("mean", key=lambda column: column.str.rstrip(" %").astype(float))
    return f"{INTRODUCTION}\n{text.to_markdown(index=False, disable_numparse=True)}\n\nCells: {counts}."


def summary(rule: str, rows: pd.DataFrame) -> dict[str, Any]:
    """A row of the table."""
    regret, off = (rows[rule].str[part].astype(float) for part in (0, 1))
    shown = {"rule": rule, "mean": percent(regret.mean()), "median": percent(regret.median())}
    shown["within a factor 4"] = f"{off.between(1 / NEAR, NEAR).sum()} of {len(rows)}"
    return shown | {name: percent(some.mean()) for name, some in regret.groupby(rows["situation"], sort=False)}
