"""Loss on batches that are not trained on, in eval mode and without gradients."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from lrfinder.batches import batch_size, move
from lrfinder.errors import SetupError
from lrfinder.setup import TrainingSetup

__all__ = ["Validation"]


class Validation:
    """Loss over a validation loader, or over a fixed probe of its first batches.

    Args:
        setup: the model, whose ``training`` flags are restored after each pass, and its loss function.
        loader: iterable of batches.
        count: number of batches drawn once and kept as the probe; None goes through the whole loader each time.

    Raises:
        SetupError: ``loader`` is an iterator, and no probe is kept of it.
    """

    def __init__(self, setup: TrainingSetup, loader: Iterable[Any], count: int | None = None) -> None:
        self._setup = setup
        self._loader = loader
        if count is not None:
            self._loader = [move(batch, setup.device) for batch in itertools.islice(loader, count)]
        elif isinstance(loader, Iterator):
            raise SetupError(
                "val_loader is an iterator, which can be gone through only once. Pass a DataLoader or a list, or set "
                "val_batches to keep its first batches as a probe."
            )

    def loss(self) -> Tensor:
        """Mean loss over the batches, each weighted by its number of samples; a scalar on the device.

        Raises:
            SetupError: the loader gave no batch.
        """
        model, device = self._setup.model, self._setup.device
        flags = [(module, module.training) for module in model.modules()]
        model.eval()
        total, samples = torch.zeros((), device=device), 0
        try:
            with torch.no_grad(), self._setup.autocast():
                for batch in self._loader:
                    size = batch_size(batch)
                    loss = self._setup.loss_fn(model, move(batch, device))
                    total += loss.detach().reshape(()).float() * size
                    samples += size
        finally:
            for module, training in flags:
                module.training = training
        if not samples:
            raise SetupError("val_loader gave no batch at all. Check its data set, or leave val_loader out.")
        return total / samples
