"""Cells of a new head alone on a frozen trunk whose weights are trained and which runs as in evaluation.

The features of such a trunk do not change, so they are computed once: a training then takes a second, and is the same
as with the trunk in every step. The model still holds the trunk, so a range test finds the facts that it would find.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from situations import images
from situations.cell import Training
from situations.trunks import MOST, TRUNKS
from torch import nn
from torch.utils.data import DataLoader

__all__ = ["OPTIMIZERS", "head"]

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "plain": partial(torch.optim.SGD, lr=0.1),
    "adam": partial(torch.optim.Adam, lr=1e-3),
    "adamw": partial(torch.optim.AdamW, lr=1e-3),
}


@dataclass(frozen=True, kw_only=True)
class Features:
    """A frozen trunk with all that it makes of the data, and the number of classes."""

    trunk: nn.Module
    ours: tuple[torch.Tensor, torch.Tensor]
    held: tuple[torch.Tensor, torch.Tensor]
    classes: int


@functools.cache
def features(data: Path, trunk: str) -> Features:
    build, head = TRUNKS[trunk]
    run: Any = build(data, 0)
    model = run.model.eval().requires_grad_(False)
    classes = model.get_submodule(head).out_features
    model.set_submodule(head, nn.Identity())
    parts = []
    for loader in (DataLoader(run.loader.dataset, 50, collate_fn=run.loader.collate_fn), run.validation):
        with torch.no_grad():
            pairs = [(model(inputs), target) for inputs, target in islice(loader, MOST // 50)]
        made, targets = map(torch.cat, zip(*pairs, strict=True))
        parts.append((made, targets))
    return Features(trunk=model, ours=parts[0], held=parts[1], classes=classes)


class Head(nn.Module):
    """A new head on the features of a trunk that is not run."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(features)  # type: ignore[no-any-return]


def head(data: Path, seed: int, *, trunk: str, optimizer: str, batch: int, hidden: bool) -> Training:
    """A new head alone, linear or with a hidden layer of 256; momentum 0.9 with "sgd", none with "plain"."""
    known = features(data, trunk)
    width = known.ours[0].shape[-1]
    torch.manual_seed(seed)
    widths = (width, 256) if hidden else (width,)
    layers = [layer for pair in zip(widths, widths[1:]) for layer in (nn.Linear(*pair), nn.ReLU())]
    model = Head(known.trunk, nn.Sequential(*layers, nn.Linear(widths[-1], known.classes)))
    return Training(
        model=model,
        optimizer=OPTIMIZERS[optimizer](model.head.parameters()),
        loader=images.Batches(*known.ours, batch, seed),
        validation=images.Batches(*known.held, 100),
    )
