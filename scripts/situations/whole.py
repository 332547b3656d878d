"""Cells of nets whose trained weights are in packages, with a new head: tuned whole, or by LoRA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from situations import heads
from situations.cell import Training, shuffled

__all__ = ["whole"]

TRUNKS: dict[str, Callable[[Path, int], Training]] = {name: build for name, (build, _) in heads.TRUNKS.items()}


def whole(data: Path, seed: int, *, trunk: str, optimizer: str, batch: int) -> Training:
    """All of a trained trunk and its new head, in training mode; momentum 0.9 with "sgd", decay 0.01 with "adamw"."""
    torch.manual_seed(seed)
    run: Any = TRUNKS[trunk](data, seed)
    model = run.model.train()
    return Training(
        model=model,
        optimizer=heads.OPTIMIZERS[optimizer](model.parameters()),
        loader=shuffled(run.loader.dataset, batch, seed, run.loader.collate_fn),
        validation=run.validation,
    )
