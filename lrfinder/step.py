"""One iteration of training: forward, backward, update. Nothing here knows of sweeps.

An iteration is one ``optimizer.step()``, however many micro-batches it accumulates. What users train with and a finder
has to follow stands here: any batch, autocast, GradScaler, clipping, optimizers with a closure, validation.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.batches import batch_size, describe_batch, move
from lrfinder.errors import BatchError, ConfigError, SetupError
from lrfinder.param_groups import optimizer_parameters

__all__ = [
    "SKIPS_IN_A_ROW",
    "LossFn",
    "TrainStep",
    "Validation",
    "criterion_loss",
    "lrs_in_tensors",
    "resolve_device",
    "uncompiled",
]

SKIPS_IN_A_ROW = 20  # updates a GradScaler may skip at one LR; its scale starts at 2**16 and halves with each

LossFn = Callable[[Any, Any], Tensor]
"""``loss_fn(model, batch) -> scalar tensor``, with the batch on the model's device."""

_HOW_TO_LOSS_FN = (
    "Pass loss_fn instead of criterion, for example "
    "LRFinder(model, optimizer, loss_fn=lambda model, batch: model(**batch).loss)."
)


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


def criterion_loss(criterion: Callable[[Any, Any], Tensor]) -> LossFn:
    """The usual ``loss_fn``: the batch is (inputs, target) and the loss ``criterion(model(inputs), target)``."""

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        if not isinstance(batch, (list, tuple)) or len(batch) != 2:
            raise BatchError(
                f"criterion needs batches of (inputs, target); got {describe_batch(batch)}. {_HOW_TO_LOSS_FN}"
            )
        inputs, target = batch
        output = model(inputs)
        try:
            return criterion(output, target)
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
            # Looked at only now: in every iteration it would cost a tenth of a small model's step.
            _check_labels(output, target)
            raise BatchError(
                f"criterion {type(criterion).__name__} cannot take the model's output, {describe_batch(output)}, with "
                f"the target, {describe_batch(target)}: {error} {_HOW_TO_LOSS_FN}"
            ) from error

    def _check_labels(output: Any, target: Any) -> None:
        # On the CPU only: a GPU has stopped answering when a label was out of range.
        if not isinstance(criterion, (nn.CrossEntropyLoss, nn.NLLLoss)):
            return
        if not (isinstance(output, Tensor) and isinstance(target, Tensor)) or output.ndim < 2:
            return
        if target.device.type != "cpu" or target.is_floating_point():
            return
        counted = target[target != criterion.ignore_index]
        if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < output.shape[1]:
            raise BatchError(
                f"the labels run from {int(counted.min())} to {int(counted.max())}, but the model has "
                f"{output.shape[1]} classes (labels 0 to {output.shape[1] - 1}). "
                "Give the model enough outputs, or renumber the labels."
            )

    return loss_fn


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
            with uncompiled(self._optimizer):
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
        for _ in range(SKIPS_IN_A_ROW):
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
        with uncompiled(self._optimizer):
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
            _check_loss(loss)
        return loss

    def _check_gradients(self) -> None:
        """Once: a loss from a graph that the optimizer's parameters are not part of trains nothing."""
        if all(parameter.grad is None for parameter in optimizer_parameters(self._optimizer)):
            raise BatchError(
                "the loss reaches none of the optimizer's parameters: after backward() not one of them has a gradient. "
                "The loss comes from another model or from a detached graph; compute it from model(...) itself."
            )
        self._checked = True


class Validation:
    """Loss over a validation loader, or over a fixed probe of its first batches, in eval mode and without gradients.

    Args:
        model: the module being trained; its ``training`` flags are put back after each pass.
        loss_fn: as in training.
        loader: iterable of batches.
        count: number of batches drawn once and kept as the probe; None runs through the whole loader each time.
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
        """Mean loss, each batch weighted by its number of samples."""
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


@contextlib.contextmanager
def lrs_in_tensors(optimizer: Any) -> Iterator[None]:
    """Context in which an optimizer whose ``step`` is compiled holds its learning rates in tensors.

    Compiled code takes a number for a constant and is compiled again when it changes. Inside, the numbers are float64
    tensors on the CPU, where filling them keeps no GPU waiting; afterwards the groups have their entries of before.
    """
    before = [dict(group) for group in optimizer.param_groups]
    if _is_compiled(optimizer):
        for group in optimizer.param_groups:
            if not isinstance(group["lr"], Tensor):
                group["lr"] = torch.tensor(group["lr"], dtype=torch.float64)
                if group.get("foreach") and not group.get("capturable", True):
                    group["foreach"] = None  # torch refuses the two together; compiled, the step is the same
    try:
        yield
    finally:
        for group, entries in zip(optimizer.param_groups, before, strict=True):
            group.update(entries)


@contextlib.contextmanager
def uncompiled(optimizer: Any) -> Iterator[None]:
    """Context in which an optimizer whose ``step`` is compiled makes its steps uncompiled.

    Compiled code is tied to the tensors of the optimizer's state. An update from a state that is only made by it, or
    that was thrown away, would compile it again.
    """
    if not _is_compiled(optimizer):
        yield
        return
    compiled = optimizer.step
    optimizer.step = compiled._torchdynamo_orig_callable
    try:
        with warnings.catch_warnings():
            # Compiling has set it, on a GPU, and a step that is not compiled warns that it does not pay.
            warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
            yield
    finally:
        optimizer.step = compiled


def _is_compiled(optimizer: Any) -> bool:
    # As in ``optimizer.step = torch.compile(optimizer.step)``. The class's own may be marked as not to be compiled.
    step = vars(optimizer).get("step")
    return hasattr(step, "_torchdynamo_orig_callable") and not getattr(step, "_torchdynamo_disable", False)


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


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, Tensor):
        raise BatchError(
            f"loss_fn must return a scalar tensor; got a {type(loss).__name__}. "
            "Return the tensor itself, not loss.item()."
        )
    if loss.numel() != 1:
        raise BatchError(
            f"loss_fn must return a scalar tensor; got shape {tuple(loss.shape)}. Average it, e.g. with .mean(), "
            "before returning (a criterion needs reduction='mean')."
        )
    if not loss.requires_grad:
        raise BatchError(
            "the loss needs no gradient, so nothing can be trained with it. It was detached, computed under "
            "torch.no_grad(), or does not depend on any parameter with requires_grad=True."
        )
