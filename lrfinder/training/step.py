"""One iteration of training: forward, backward, update. Nothing here depends on sweeps.

An iteration is one ``optimizer.step()``, however many micro-batches it accumulates. Autocast, GradScaler, clipping and
optimizers with a closure are followed here, as a user's own loop would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.errors import BatchError
from lrfinder.param_groups import mode_switches, optimizer_parameters
from lrfinder.training.compiled import eager_step
from lrfinder.training.joint import parts_of
from lrfinder.training.losses import check_loss
from lrfinder.training.setup import TrainingSetup

__all__ = ["MAX_SCALER_SKIPS", "TrainStep"]

MAX_SCALER_SKIPS = 20  # updates a GradScaler may skip in a row; its scale starts at 2**16 and halves with each


class TrainStep:
    """One optimizer update from a list of micro-batches.

    Args:
        setup: what is trained, and how.
    """

    def __init__(self, setup: TrainingSetup) -> None:
        self._setup = setup
        self._optimizer = setup.optimizer
        self._parameters = optimizer_parameters(setup.optimizer)
        self._scaler = setup.grad_scaler
        self._autocast = setup.autocast()
        self._closure = setup.needs_closure
        self._modes = mode_switches(setup.optimizer)
        # Torch's zero_grad runs in a profiler range, which takes a twenty-fifth of a small model's step.
        clearing = [getattr(part.zero_grad, "__func__", None) for part in parts_of(setup.optimizer)]
        self._plain_zero_grad = all(each is torch.optim.Optimizer.zero_grad for each in clearing)
        self._checked = False
        self._first = True
        self._norm = math.nan  # of the gradients, as plain_backward left them
        self._clippings = 0
        self._clipped: Tensor | None = None  # how many of them changed the gradients; on the device

    def enter_training(self) -> None:
        """Put model and optimizer into the mode in which they train, without gradients from earlier."""
        self._optimizer_to_train_mode()
        model = self._setup.model
        if not model.training:
            # As the training loop will do. A model in train mode keeps its flags: frozen BatchNorm stays in eval.
            model.train()
        for parameter in model.parameters():
            parameter.grad = None
        self._clear_gradients()

    def run(self, batches: Sequence[Any]) -> tuple[Tensor, bool]:
        """Train one iteration.

        Returns:
            The loss before the update, averaged over the micro-batches and detached, and whether the update
            was made (False when the GradScaler skipped it).

        Raises:
            BatchError: a batch or a loss that cannot be trained on.
        """
        if self._first:
            self._first = False
            with eager_step(self._optimizer):
                return self.run(batches)
        if self._modes is not None:
            self._optimizer_to_train_mode()
        if self._closure:
            return self._update_with_closure(batches), True
        loss = self._backward(batches)
        if self._scaler is not None:
            return loss, self._scaled_update()
        self._clip_gradients()
        self._optimizer.step()
        return loss, True

    def loss(self, batches: Sequence[Any]) -> Tensor:
        """Loss of the batches as the model now stands; only buffers and the random state change.

        The graph is built as in training (without it a compiled model would be compiled again) and discarded.
        """
        return torch.stack([self._forward(batch).detach().reshape(()) for batch in batches]).mean()

    def plain_backward(self, batches: Sequence[Any]) -> Tensor:
        """Fill the gradients, unscaled and clipped, for :meth:`update`; returns the mean loss, detached."""
        loss = self._backward(batches)
        for _ in range(MAX_SCALER_SKIPS):
            if self._unscale():
                break
            self._backward(batches)
        self._norm = self.gradient_norm()
        return loss

    def update(self, batches: Sequence[Any]) -> None:
        """Make one update with the gradients that :meth:`plain_backward` left.

        Some optimizers write into the gradients (SGD with Nesterov momentum, on a GPU), and so does the next forward
        pass of a model that was compiled with CUDA graphs. They are then computed again from the batches: keeping a
        copy would take the memory of another set of gradients, which the training does not need.
        """
        self._optimizer_to_train_mode()
        with eager_step(self._optimizer):
            if self._closure:
                self._update_with_closure(batches)
                return
            # Written so that nan counts as changed, and infinity, which hides every change.
            if not (math.isfinite(self._norm) and self.gradient_norm() == self._norm):
                self.plain_backward(batches)
            self._optimizer.step()

    def _optimizer_to_train_mode(self) -> None:
        # Before every step: a rewind restores the mode in which the caller left the optimizer.
        if self._modes is not None:
            self._modes[0]()

    def gradient_norm(self) -> float:
        """Norm of all gradients together."""
        gradients = [parameter.grad for parameter in self._parameters]
        values = [grad.coalesce().values() if grad.is_sparse else grad for grad in gradients if grad is not None]
        return float(nn.utils.get_total_norm(values))

    def weight_norm(self) -> float:
        """Norm of all parameters together."""
        return float(nn.utils.get_total_norm([parameter.detach() for parameter in self._parameters]))

    @property
    def clipped_part(self) -> float | None:
        """Part of the gradients so far that clipping changed; None without clipping. Waits for the device."""
        return None if self._clipped is None else float(self._clipped) / self._clippings

    def _backward(self, batches: Sequence[Any]) -> Tensor:
        """Fill the gradients (scaled, where there is a scaler) and return the mean loss, detached."""
        if self._plain_zero_grad:
            self._clear_gradients()
        else:
            self._optimizer.zero_grad(set_to_none=True)
        total: Tensor | None = None
        for batch in batches:
            loss = self._forward(batch)
            part = loss / len(batches) if len(batches) > 1 else loss
            (self._scaler.scale(part) if self._scaler is not None else part).backward()
            total = part.detach() if total is None else total + part.detach()
        assert total is not None
        if not self._checked:
            self._check_gradients()
        return total

    def _clear_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def _forward(self, batch: Any) -> Tensor:
        assert self._setup.loss_fn is not None
        with self._autocast:
            loss = self._setup.loss_fn(self._setup.model, batch)
        if not self._checked:
            check_loss(loss)
        return loss

    def _update_with_closure(self, batches: Sequence[Any]) -> Tensor:
        losses: list[Tensor] = []

        def closure() -> Tensor:
            losses.append(self._backward(batches))
            self._clip_gradients()
            return losses[-1]

        self._optimizer.step(closure)
        return losses[0]

    def _scaled_update(self) -> bool:
        if self._setup.clip_grad_norm is not None:
            self._unscale_all()
            self._clip_gradients()
        scale = self._scaler.get_scale()
        for optimizer in parts_of(self._optimizer):
            self._scaler.step(optimizer)
        self._scaler.update()
        return bool(self._scaler.get_scale() >= scale)

    def _unscale(self) -> bool:
        """Unscale and clip the gradients. False when the scale overflowed and was lowered: try again."""
        if self._scaler is None:
            self._clip_gradients()
            return True
        self._unscale_all()
        finite = all(
            bool(torch.isfinite(parameter.grad).all())
            for parameter in self._parameters
            if parameter.grad is not None
        )
        self._clip_gradients()
        self._scaler.update()
        return finite

    def _unscale_all(self) -> None:
        for optimizer in parts_of(self._optimizer):
            self._scaler.unscale_(optimizer)

    def _clip_gradients(self) -> None:
        if self._setup.clip_grad_norm is not None:
            norm = nn.utils.clip_grad_norm_(self._parameters, self._setup.clip_grad_norm)
            changed = norm > self._setup.clip_grad_norm
            self._clipped = changed.long() if self._clipped is None else self._clipped + changed
            self._clippings += 1

    def _check_gradients(self) -> None:
        """Once: a loss from a graph that does not contain the optimizer's parameters trains nothing."""
        if all(parameter.grad is None for parameter in self._parameters):
            raise BatchError(
                "the loss reaches none of the optimizer's parameters: after backward() not one of them has a gradient. "
                "The loss comes from another model or from a detached graph; compute it from model(...) itself."
            )
        self._checked = True
