"""Cells of nets whose trained weights are in packages, with a new head: tuned whole, or the head with LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from situations import sentences
from situations.cell import Training, shuffled
from situations.heads import OPTIMIZERS
from situations.trunks import TRUNKS
from torch import nn

__all__ = ["whole"]


def whole(data: Path, seed: int, *, trunk: str, optimizer: str, batch: int, lora: bool) -> Training:
    """A trained trunk and its new head, in training mode; momentum 0.9 with "sgd", decay 0.01 with "adamw".

    ``lora``: of the trunk, only products added to its linear layers are trained.
    """
    torch.manual_seed(seed)
    run: Any = TRUNKS[trunk][0](data, seed)
    model = run.model.train()
    if lora:
        adapt(model)
    return Training(
        model=model,
        optimizer=OPTIMIZERS[optimizer]([each for each in model.parameters() if each.requires_grad]),
        loader=shuffled(run.loader.dataset, batch, seed, run.loader.collate_fn),
        validation=run.validation,
    )


def adapt(model: nn.Module) -> None:
    """Freeze all but the head, and add LoRA to the linear layers of the trunk."""
    linear = {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear) and name != "head"}
    model.requires_grad_(False).get_submodule("head").requires_grad_(True)
    for name, layer in linear.items():
        model.set_submodule(name, sentences.LoRA(layer))
