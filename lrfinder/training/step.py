"""One iteration of training: forward, backward, update. Nothing here depends on sweeps.

An iteration is one ``optimizer.step()``, however many micro-batches it accumulates. Autocast, GradScaler, clipping and
optimizers with a closure are followed here, as a user's own loop would.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lrfinder.errors import BatchError
from lrfinder.param_groups import mode_switches, optimizer_parameters
from lrfinder.training.compiled import eager_step
from lrfinder.training.failures import make_update
from lrfinder.training.joint import clearing, parts_of
from lrfinder.training.losses import check_loss, fill_gradients
from lrfinder.training.norms import Clipping, total_norm
from lrfinder.training.setup import TrainingSetup, needs_closure

__all__ = ["MAX_SCALER_SKIPS", "TrainStep"]

MAX_SCALER_SKIPS = 20  # updates a GradScaler may skip in a row; its scale starts at 2**16 and halves with each


class TrainStep:
    """One optimizer update from a list of micro-batches.

    Args:
        setup: what is trained, and how.
    """

    def __init__(self, setup: TrainingSetup) -> None:
        self._setup = setup
        self._ranks = setup.ranks
        self._optimizer = setup.optimizer
        self._parameters = optimizer_parameters(setup.optimizer)
        self._scaler = setup.grad_scaler
        self._autocast = setup.autocast()
        self._closure = needs_closure(setup.optimizer)
        self._modes = mode_switches(setup.optimizer)
        self._clear_gradients = clearing(setup.optimizer)
        self._checked = False
        self._first = True
        self._norm = math.nan  # of the gradients, as plain_backward left them
        self.clipping = Clipping(setup.clip_grad_norm)
        self.flags_updates = False  # whether a step of the user's own has returned if it made its update

    def enter_training(self) -> None:
        """Put model and optimizer into the mode in which they train, without gradients from earlier."""
        self._optimizer_to_train_mode()
        model = self._setup.model
        if not model.training:
            # As the training loop will do. A model in train mode keeps its flags: frozen BatchNorm stays in eval.
            model.train()
        for parameter in (*model.parameters(), *self._parameters):
            parameter.grad = None

    def run(self, batches: Sequence[Any]) -> tuple[Tensor, bool]:
        """Train one iteration.

        Returns:
            The loss before the update, averaged over the micro-batches and detached (with other ranks, the row of
            :meth:`Ranks.exchange`), and whether the update was made (False when the GradScaler skipped it).

        Raises:
            BatchError: a batch or a loss that cannot be trained on.
        """
        with eager_step(self._optimizer, self._setup.step_fn) if self._first else contextlib.nullcontext():
            made = self._run(batches)
        self._first = False
        return made

    def _run(self, batches: Sequence[Any]) -> tuple[Tensor, bool]:
        self._optimizer_to_train_mode()
        if self._closure:
            return self._with_closure(batches), True
        if not self._ranks.together:
            loss = self._backward(batches)
        else:
            loss, stopped = self._shared_backward(batches, wait=self._first or not self._setup.reads_late)
            if stopped:
                return loss, True
        return loss, self._ranks.attempt(self._clipped_update) is not False

    def _clipped_update(self) -> bool:
        if self._scaler is not None:
            return self._scaled_update()
        self.clipping.clip(self._parameters)
        make_update(self._optimizer)
        return True

    def loss(self, batches: Sequence[Any]) -> Tensor:
        """Loss of the batches as the model now stands; only buffers and the random state change.

        The graph is built as in training (without it a compiled model would be compiled again) and discarded.
        """
        return torch.stack([self._forward(batch).detach().reshape(()) for batch in batches]).mean()

    def plain_backward(self, batches: Sequence[Any]) -> Tensor:
        """Fill the gradients, unscaled and clipped, for :meth:`update`; returns the mean loss, detached."""
        loss = self._mean_backward(batches)
        for _ in range(MAX_SCALER_SKIPS):
            if self._unscale():
                break
            self._mean_backward(batches)
        self._norm = self.gradient_norm()
        return loss

    def update(self, batches: Sequence[Any]) -> None:
        """Make one update with the gradients that :meth:`plain_backward` left.

        Some optimizers write into the gradients (SGD with Nesterov momentum, on a GPU), and so does the next forward
        pass of a model that was compiled with CUDA graphs. They are then computed again from the batches, as with hooks
        of the backward pass: a copy would take the memory of a second set of gradients.
        """
        self._optimizer_to_train_mode()
        with eager_step(self._optimizer):
            if self._closure:
                self._ranks.mean_of(self._with_closure(batches))  # raises where a rank failed
                return
            # Written so that nan counts as changed, and infinity, which hides every change.
            if self._is_hooked() or not (math.isfinite(self._norm) and self.gradient_norm() == self._norm):
                self.plain_backward(batches)
            self._ranks.attempt(partial(make_update, self._optimizer))

    def _is_hooked(self) -> bool:
        # A rewind takes away what hooks of the backward pass leave beside them, as gradients of single samples.
        modules = (module for part in self._setup.modules for module in part.modules())
        return any(module._backward_hooks or module._backward_pre_hooks for module in modules)

    def _optimizer_to_train_mode(self) -> None:
        # Before every step: a rewind restores the mode in which the caller left the optimizer.
        if self._modes is not None:
            self._modes[0]()

    def gradient_norm(self) -> float:
        """Norm of all gradients together."""
        return total_norm(parameter.grad for parameter in self._parameters)

    def _mean_backward(self, batches: Sequence[Any]) -> Tensor:
        """Fill the gradients, and return the loss averaged over the ranks."""
        if not self._ranks.together:
            return self._backward(batches)
        return self._ranks.mean_of(self._shared_backward(batches, wait=True)[0])

    def _shared_backward(self, batches: Sequence[Any], *, wait: bool) -> tuple[Tensor, bool]:
        """Fill the gradients on all ranks; the exchanged row, and whether a rank has stopped, seen only with ``wait``.

        Where one has, there are no gradients.
        """
        self._ranks.sync_buffers()
        row = self._ranks.shared(partial(self._backward, batches))
        if wait and self._ranks.has_stopped(row):
            return row, True
        self._ranks.reduce_gradients()
        return row, False

    def _backward(self, batches: Sequence[Any]) -> Tensor:
        """Fill the gradients (scaled, where there is a scaler) and return the mean loss, detached."""
        self._clear_gradients()
        parts: list[Tensor] = []
        for batch in batches:
            loss = self._forward(batch)
            part = loss / len(batches) if len(batches) > 1 else loss
            fill_gradients(self._scaler.scale(part) if self._scaler is not None else part)
            parts.append(part.detach())
        if not self._checked:
            self._check_gradients()
        return sum(parts[1:], start=parts[0])

    def _forward(self, batch: Any) -> Tensor:
        assert self._setup.loss_fn is not None
        with self._autocast:
            loss = self._setup.loss_fn(self._setup.model, batch)
        if not self._checked:
            check_loss(loss)
        return loss

    def _with_closure(self, batches: Sequence[Any]) -> Tensor:
        """As the loss of :meth:`run`. The closure communicates, so the ranks agree before the step and after it."""
        if not self._ranks.together:
            return self._update_with_closure(batches)
        missing = torch.full((), math.nan, device=self._setup.device)
        row = self._ranks.exchange(missing)
        if self._ranks.has_stopped(row):
            return row
        loss = self._ranks.attempt(partial(self._update_with_closure, batches))
        return self._ranks.exchange(missing if loss is None else loss)

    def _update_with_closure(self, batches: Sequence[Any]) -> Tensor:
        losses: list[Tensor] = []

        def closure() -> Tensor:
            losses.append(self._mean_backward(batches))
            self.clipping.clip(self._parameters)
            return losses[-1]

        self._optimizer.step(closure)
        return losses[0]

    def _scaled_update(self) -> bool:
        if self._setup.clip_grad_norm is not None:
            self._unscale_all()
            self.clipping.clip(self._parameters)
        scale = self._scale()
        for optimizer in parts_of(self._optimizer):
            self._scaler.step(optimizer)
        self._scaler.update()
        return self._kept_scale(scale)

    def _scale(self) -> float | None:
        return None if self._scaler is None else self._scaler.get_scale()

    def _kept_scale(self, scale: float | None) -> bool:
        """Whether the scaler did not skip the update, which it does with a lower scale."""
        return scale is None or bool(self._scaler.get_scale() >= scale)

    def _unscale(self) -> bool:
        """Unscale and clip the gradients. False when the scale overflowed and was lowered: try again."""
        if self._scaler is None:
            self.clipping.clip(self._parameters)
            return True
        self._unscale_all()
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        finite = all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
        self.clipping.clip(self._parameters)
        self._scaler.update()
        return finite

    def _unscale_all(self) -> None:
        for optimizer in parts_of(self._optimizer):
            self._scaler.unscale_(optimizer)

    def _check_gradients(self) -> None:
        """Once: a loss from a graph that does not contain the optimizer's parameters trains nothing."""
        if all(parameter.grad is None for parameter in self._parameters):
            raise BatchError(
                "the loss reaches none of the optimizer's parameters: after backward() not one of them has a gradient. "
                "The loss comes from another model or from a detached graph; compute it from model(...) itself."
            )
        self._checked = True
