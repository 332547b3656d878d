"""Cells of small networks whose optimizer is none of those that the constants are fitted to."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

from advice_bench.tasks import CELLS, build
from situations.cell import Training
from torch import optim

__all__ = ["small"]


def optimizer_class(name: str) -> Any:
    """``"adadelta"`` of torch, or one of the package pytorch_optimizer at its defaults, as ``"lion"``."""
    if name == "adadelta":
        return optim.Adadelta
    load = importlib.import_module("pytorch_optimizer").load_optimizer
    return load({"sfsgd": "schedulefreesgd", "sfadamw": "schedulefreeadamw"}.get(name, name))


def small(data: Path, seed: int, *, optimizer: str, network: str) -> Training:
    """A network and data of ``scripts/bench_advice`` that start from random weights."""
    cell = next(cell for cell in CELLS if cell.name.startswith(f"{network} ") and cell.start == "scratch")
    task = build(dataclasses.replace(cell, optimizer="Adam", options={}), seed)
    made = optimizer_class(optimizer)(task.model.parameters())
    if hasattr(made, "train"):  # one that averages the weights has modes as a model has
        made.train()
    return Training(
        model=task.model,
        optimizer=made,
        loader=task.loader,
        validation=[task.val],
        loss=lambda model, batch: cell.loss(model(batch[0]), batch[1]),
    )
