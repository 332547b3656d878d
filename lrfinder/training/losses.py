"""Loss functions: ``loss_fn(model, batch) -> scalar``, made from a criterion, and checked on the first batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.errors import BatchError
from lrfinder.training.contents import describe_batch

__all__ = ["HOW_TO_LOSS_FN", "LossFn", "StepFn", "check_loss", "check_scalar", "criterion_loss", "fill_gradients"]

LossFn = Callable[[Any, Any], Tensor]
"""``loss_fn(model, batch) -> scalar tensor``, with the batch on the model's device."""

StepFn = Callable[[Any], Any] | tuple[Callable[[Any], Any], Callable[[], Any]]
"""``step_fn(batch) -> loss before the update``, or ``(loss, whether it updated)``; makes the update itself.

Or a pair: ``backward(batch) -> loss``, which fills the gradients, and ``update()``, which may return whether it did.
"""

HOW_TO_LOSS_FN = (
    "Pass loss_fn instead of criterion, for example "
    "LRFinder(model, optimizer, loss_fn=lambda model, batch: model(**batch).loss)."
)


def criterion_loss(criterion: Callable[[Any, Any], Tensor]) -> LossFn:
    """Loss function for batches of (inputs, target): ``criterion(model(inputs), target)``.

    It raises :class:`BatchError` for a batch that is no pair, and for an output and target that the criterion refuses.
    """

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        if not isinstance(batch, (list, tuple)) or len(batch) != 2:
            raise BatchError(
                f"criterion needs batches of (inputs, target); got {describe_batch(batch)}. {HOW_TO_LOSS_FN}"
            )
        inputs, target = batch
        output = model(inputs)
        try:
            return criterion(output, target)
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
            # Checked only after a failure: in every iteration it would cost a tenth of a small model's step.
            _check_labels(criterion, output, target)
            raise BatchError(
                f"criterion {type(criterion).__name__} cannot take the model's output, {describe_batch(output)}, with "
                f"the target, {describe_batch(target)}: {str(error).rstrip('. ')}. {HOW_TO_LOSS_FN}"
            ) from error

    return loss_fn


def check_loss(loss: Any) -> None:
    """Refuse a loss that cannot be trained on.

    Raises:
        BatchError: not a tensor, more than one element, or no gradient.
    """
    check_scalar(loss)
    if not loss.requires_grad:
        raise BatchError(
            "the loss needs no gradient, so nothing can be trained with it. It was detached, computed under "
            "torch.no_grad(), or does not depend on any parameter with requires_grad=True."
        )


def check_scalar(loss: Any, *, when: str = "") -> None:
    """Refuse a loss that is no tensor of one element; ``when`` says in the message when it was computed.

    Raises:
        BatchError: it is none.
    """
    if not isinstance(loss, Tensor):
        raise BatchError(
            f"loss_fn must return a scalar tensor{when}; got a {type(loss).__name__}. "
            "Return the tensor itself, not loss.item(); of what a model returns, its loss alone, as in output.loss."
        )
    if loss.numel() != 1:
        raise BatchError(
            f"loss_fn must return a scalar tensor{when}; got shape {tuple(loss.shape)}. Average it, e.g. with .mean(), "
            "before returning (a criterion needs reduction='mean')."
        )


def fill_gradients(loss: Any) -> None:
    """``loss.backward()``.

    Raises:
        BatchError: it reaches into the graph of an earlier backward pass.
    """
    try:
        loss.backward()
    except RuntimeError as error:
        if "backward through the graph a second time" not in str(error):
            raise
        raise BatchError(
            "the loss reaches into the graph of an earlier step: model or loss_fn keeps tensors that need a gradient, "
            "in the samples or as an attribute. A range test uses a batch more than once. Clear them at the start of "
            "loss_fn, or detach them."
        ) from error


def _check_labels(criterion: object, output: Any, target: Any) -> None:
    """Raise the error that names the labels, where labels out of range are why the criterion failed."""
    ignored = getattr(criterion, "ignore_index", None)  # as CrossEntropyLoss has it
    if not isinstance(ignored, int):
        return
    if isinstance(output, Mapping):
        output = output.get("out")  # of torchvision's models for segmentation
    if not (isinstance(output, Tensor) and isinstance(target, Tensor)) or output.ndim < 2:
        return
    # On the CPU only: after a label out of range, a GPU fails in every later call.
    if target.device.type != "cpu" or target.is_floating_point():
        return
    counted = target[target != ignored]
    if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < output.shape[1]:
        outside = sorted(set(counted[(counted < 0) | (counted >= output.shape[1])].tolist()))
        void = f", or give the loss ignore_index={outside[0]}, where {outside[0]} marks no class"
        raise BatchError(
            f"the labels run from {int(counted.min())} to {int(counted.max())}, but the model has "
            f"{output.shape[1]} classes (labels 0 to {output.shape[1] - 1}). "
            f"Give the model enough outputs, or renumber the labels{void if len(outside) == 1 else ''}."
        )
