"""One iteration of training made by a ``step_fn`` of the user's own, with its own backward passes and updates."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lrfinder.errors import BatchError, SetupError
from lrfinder.training.compiled import eager_step
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.step import TrainStep

__all__ = ["OwnStep", "training_step"]

_STILL = 1e-30  # part of the LR at which an update changes no weight; 0 would be divided by in some optimizers


def training_step(setup: TrainingSetup) -> TrainStep:
    """The step of a set-up: by its ``step_fn`` where there is one, else forward, backward and update."""
    return TrainStep(setup) if setup.step_fn is None else OwnStep(setup)


class OwnStep(TrainStep):
    """One call of ``step_fn``, with a batch, or the list of batches where ``accumulation_steps`` is above 1.

    The loss of batches without training on them is that of a step with a learning rate of almost 0.

    Args:
        setup: with a ``step_fn``.
    """

    def run(self, batches: Sequence[Any]) -> tuple[Tensor, bool]:
        """Make the step; the loss is detached.

        Raises:
            BatchError: ``step_fn`` returned no loss.
            SetupError: it wrote the learning rate.
        """
        self._optimizer_to_train_mode()
        if not self._checked:
            with eager_step(self._optimizer), self._learning_rates_kept():
                made = self._call(batches)
            self._checked = True
            return made
        return self._call(batches)

    def loss(self, batches: Sequence[Any]) -> Tensor:
        """Loss of the batches as the model now stands; all but the weights may change."""
        before = [group["lr"] for group in self._optimizer.param_groups]
        try:
            for group, lr in zip(self._optimizer.param_groups, before, strict=True):
                group["lr"] = lr * _STILL
            with eager_step(self._optimizer):
                return self.run(batches)[0]
        finally:
            for group, lr in zip(self._optimizer.param_groups, before, strict=True):
                group["lr"] = lr

    def plain_backward(self, batches: Sequence[Any]) -> Tensor:
        """As :meth:`loss`; the gradients are those that the step leaves, if any."""
        return self.loss(batches)

    def update(self, batches: Sequence[Any]) -> None:
        """Make one step."""
        with eager_step(self._optimizer):
            self.run(batches)

    def _call(self, batches: Sequence[Any]) -> tuple[Tensor, bool]:
        assert self._setup.step_fn is not None
        scale = None if self._scaler is None else self._scaler.get_scale()
        made = self._setup.step_fn(batches[0] if self._setup.accumulation_steps == 1 else list(batches))
        loss, updated = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        if updated is None:
            updated = scale is None or self._scaler.get_scale() >= scale
        return self._as_loss(loss), bool(updated)

    def _as_loss(self, loss: Any) -> Tensor:
        if isinstance(loss, (float, int)) and not isinstance(loss, bool):
            # Every digit of a Python number, where the device has them.
            wide = torch.float32 if self._setup.device.type == "mps" else torch.float64
            loss = torch.tensor(float(loss), dtype=wide, device=self._setup.device)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise BatchError(
                f"step_fn must return the loss before its update, a tensor of one element or a number; got {shape}. "
                "Return (loss, False) where it made no update."
            )
        return loss.detach().reshape(())

    @contextlib.contextmanager
    def _learning_rates_kept(self) -> Iterator[None]:
        before = [float(group["lr"]) for group in self._optimizer.param_groups]
        yield
        for index, (lr, group) in enumerate(zip(before, self._optimizer.param_groups, strict=True)):
            if not math.isclose(float(group["lr"]), lr, rel_tol=1e-6):
                raise SetupError(
                    f"step_fn changed the learning rate of parameter group {index} from {lr:g} to "
                    f"{float(group['lr']):g}, which the range test sets. Leave scheduler.step() out of it."
                )
