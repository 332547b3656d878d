"""Loss on batches that are not trained on, in eval mode and without gradients."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.batches import batch_size, move
from lrfinder.errors import SetupError
from lrfinder.losses import LossFn
from lrfinder.step import autocast

__all__ = ["Validation"]


class Validation:
    """Loss over a validation loader, or over a fixed probe of its first batches.

    Args:
        model: the module being trained; its ``training`` flags are restored after each pass.
        loss_fn: as in training.
        loader: iterable of batches.
        count: number of batches drawn once and kept as the probe; None goes through the whole loader each time.

    Raises:
        SetupError: ``loader`` is an iterator, and no probe is kept of it.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFn,
        loader: Iterable[Any],
        *,
        count: int | None,
        device: torch.device,
        amp_dtype: torch.dtype | None = None,
    ) -> None:
        self._model = model
        self._loss_fn = loss_fn
        self._autocast = autocast(device.type, amp_dtype)
        self._device = device
        self._loader = loader
        if count is not None:
            self._loader = [move(batch, device) for batch in itertools.islice(loader, count)]
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
        flags = [(module, module.training) for module in self._model.modules()]
        self._model.eval()
        total, samples = torch.zeros((), device=self._device), 0
        try:
            with torch.no_grad(), self._autocast:
                for batch in self._loader:
                    size = batch_size(batch)
                    loss = self._loss_fn(self._model, move(batch, self._device))
                    total += loss.detach().reshape(()).float() * size
                    samples += size
        finally:
            for module, training in flags:
                module.training = training
        if not samples:
            raise SetupError("val_loader gave no batch at all. Check its data set, or leave val_loader out.")
        return total / samples
