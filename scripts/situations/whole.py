"""Cells of nets whose trained weights are in packages, with a new head: tuned whole, in part, or by adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from situations.adapters import ADAPTERS
from situations.cell import Training, shuffled
from situations.heads import OPTIMIZERS
from situations.trunks import TRUNKS
from torch import nn

__all__ = ["whole"]


def whole(data: Path, seed: int, *, kind: str, trunk: str, optimizer: str, batch: int) -> Training:
    """A trained trunk and its new head, in training mode; momentum 0.9 with "sgd", decay 0.01 with "adamw".

    The trunk is trained as well ("whole"), or the last third of the tensors ("part"), or it is frozen ("live"), with
    one of :data:`situations.adapters.ADAPTERS` in its linear layers.
    """
    torch.manual_seed(seed)
    build, head = TRUNKS[trunk]
    run: Any = build(data, seed)
    model = run.model.train()
    if kind == "live" or kind in ADAPTERS:
        model.requires_grad_(False).get_submodule(head).requires_grad_(True)
    if kind == "part":
        tensors = list(model.parameters())
        for each in tensors[: len(tensors) * 2 // 3]:
            each.requires_grad_(False)
    if kind in ADAPTERS:
        linear = [name for name, each in model.named_modules() if isinstance(each, nn.Linear) and name != head]
        for name in linear:
            model.set_submodule(name, ADAPTERS[kind](model.get_submodule(name)))
    return Training(
        model=model,
        optimizer=OPTIMIZERS[optimizer]([each for each in model.parameters() if each.requires_grad]),
        loader=shuffled(run.loader.dataset, batch, seed, run.loader.collate_fn),
        validation=run.validation,
    )
