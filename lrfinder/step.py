"""One iteration of training: forward, backward, update. Nothing here knows of sweeps.

An iteration is one ``optimizer.step()``, however many micro-batches it accumulates. What users train with and a finder
has to follow stands here: any batch, autocast, GradScaler, clipping, optimizers with a closure, validation.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.compiled import eager_step
from lrfinder.errors import BatchError, ConfigError, SetupError
from lrfinder.losses import LossFn, check_loss
from lrfinder.param_groups import optimizer_parameters

__all__ = ["MAX_SCALER_SKIPS", "TrainStep", "autocast", "check_amp", "needs_closure", "resolve_device"]

MAX_SCALER_SKIPS = 20  # updates a GradScaler may skip at one LR; its scale starts at 2**16 and halves with each


def resolve_device(device: str | torch.device) -> torch.device:
    """The device, if this machine has it.

    Raises:
        SetupError: the name is not a device, or the device is not there.
    """
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise SetupError(f"{device!r} is not a device. Use 'cpu', 'cuda', 'cuda:0' or 'mps'.") from error
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(resolved.type, True):
        raise SetupError(f"device {device} is not available here. Use 'cpu', or install a torch build that drives it.")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise SetupError(f"device {device} is not there: this machine has {torch.cuda.device_count()} CUDA device(s).")
    return resolved


class TrainStep:
    """One optimizer update from a list of micro-batches.

    Args:
        model: the module being trained.
        optimizer: the optimizer holding its parameters.
        loss_fn: ``loss_fn(model, batch) -> scalar``.
        device_type: device type for autocast.
        amp_dtype: autocast to this type; None trains in the model's own.
        grad_scaler: scales the loss (float16); an update it skips is reported, not counted.
        clip_grad_norm: largest global gradient norm; None does not clip.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        loss_fn: LossFn,
        *,
        device_type: str,
        amp_dtype: torch.dtype | None = None,
        grad_scaler: Any = None,
        clip_grad_norm: float | None = None,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._loss_fn = loss_fn
        self._autocast = autocast(device_type, amp_dtype)
        self._scaler = grad_scaler
        self._clip = clip_grad_norm
        self._closure = needs_closure(optimizer)
        self._checked = False
        self._first = True
        self._norm = math.nan  # of the gradients, as plain_backward left them
        if self._closure and grad_scaler is not None:
            raise SetupError(
                f"{type(optimizer).__name__} needs a closure, which a GradScaler does not support. "
                "Leave grad_scaler out, or use amp_dtype=torch.bfloat16."
            )

    def run(self, batches: Sequence[Any]) -> tuple[Tensor, bool]:
        """Train one iteration.

        Returns:
            The loss before the update, averaged over the micro-batches and detached, and whether the update
            was made (False when the GradScaler skipped it).
        """
        if self._first:
            self._first = False
            with eager_step(self._optimizer):
                return self.run(batches)
        if self._closure:
            return self._update_with_closure(batches), True
        loss = self.backward(batches)
        if self._scaler is not None:
            return loss, self._scaled_update()
        if self._clip is not None:
            self._clip_gradients()
        self._optimizer.step()
        return loss, True

    def loss(self, batches: Sequence[Any]) -> Tensor:
        """Loss of the batches as the model now stands, changing nothing but buffers and the random state.

        The graph is built as in training (without it a compiled model would be compiled again) and thrown away.
        """
        return torch.stack([self._forward(batch).detach().reshape(()) for batch in batches]).mean()

    def backward(self, batches: Sequence[Any]) -> Tensor:
        """Fill the gradients (scaled, where there is a scaler) and return the mean loss, detached."""
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

    def plain_backward(self, batches: Sequence[Any]) -> Tensor:
        """As :meth:`backward`, with the gradients unscaled and clipped: what :meth:`update` needs."""
        loss = self.backward(batches)
        for _ in range(MAX_SCALER_SKIPS):
            if self._unscale():
                break
            self.backward(batches)
        self._norm = self._gradient_norm()
        return loss

    def update(self, batches: Sequence[Any]) -> None:
        """One update with the gradients that :meth:`plain_backward` left.

        Some optimizers write into them (SGD with Nesterov momentum, on a GPU), and the next forward pass does where a
        model was compiled with CUDA graphs. Then they are made anew from the batches: a copy would take the room of
        another set of gradients, which the training does not need.
        """
        with eager_step(self._optimizer):
            if self._closure:
                self._update_with_closure(batches)
                return
            # Written so that nan counts as changed, and infinity, which hides every change.
            if not (math.isfinite(self._norm) and self._gradient_norm() == self._norm):
                self.plain_backward(batches)
            self._optimizer.step()

    def _gradient_norm(self) -> float:
        gradients = [parameter.grad for parameter in optimizer_parameters(self._optimizer)]
        values = [grad.coalesce().values() if grad.is_sparse else grad for grad in gradients if grad is not None]
        return float(nn.utils.get_total_norm(values))

    def _update_with_closure(self, batches: Sequence[Any]) -> Tensor:
        losses: list[Tensor] = []

        def closure() -> Tensor:
            losses.append(self.backward(batches))
            self._clip_gradients()
            return losses[-1]

        self._optimizer.step(closure)
        return losses[0]

    def _unscale(self) -> bool:
        """Unscale and clip the gradients. False when the scale overflowed and was lowered: try again."""
        if self._scaler is None:
            self._clip_gradients()
            return True
        self._scaler.unscale_(self._optimizer)
        finite = all(
            bool(torch.isfinite(parameter.grad).all())
            for parameter in optimizer_parameters(self._optimizer)
            if parameter.grad is not None
        )
        self._clip_gradients()
        self._scaler.update()
        return finite

    def _scaled_update(self) -> bool:
        if self._clip is not None:
            self._scaler.unscale_(self._optimizer)
            self._clip_gradients()
        scale = self._scaler.get_scale()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return bool(self._scaler.get_scale() >= scale)

    def _clip_gradients(self) -> None:
        if self._clip is not None:
            nn.utils.clip_grad_norm_(optimizer_parameters(self._optimizer), self._clip)

    def _forward(self, batch: Any) -> Tensor:
        with self._autocast:
            loss = self._loss_fn(self._model, batch)
        if not self._checked:
            check_loss(loss)
        return loss

    def _check_gradients(self) -> None:
        """Once: a loss from a graph that the optimizer's parameters are not part of trains nothing."""
        if all(parameter.grad is None for parameter in optimizer_parameters(self._optimizer)):
            raise BatchError(
                "the loss reaches none of the optimizer's parameters: after backward() not one of them has a gradient. "
                "The loss comes from another model or from a detached graph; compute it from model(...) itself."
            )
        self._checked = True


def needs_closure(optimizer: Any) -> bool:
    """Does ``optimizer.step`` refuse to run without a closure, as L-BFGS does?"""
    # The class, not the instance: a torch scheduler attached before wraps the instance's step and hides its signature.
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def autocast(device_type: str, amp_dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    """Autocast to the type; with None nothing at all: a disabled autocast costs time and ends the caller's own."""
    return contextlib.nullcontext() if amp_dtype is None else torch.autocast(device_type, dtype=amp_dtype)


def check_amp(amp_dtype: Any) -> None:
    """Refuse anything but the two types that autocast can use."""
    if amp_dtype not in (None, torch.float16, torch.bfloat16):
        raise ConfigError(f"amp_dtype must be torch.bfloat16, torch.float16 or None; got {amp_dtype!r}.")
