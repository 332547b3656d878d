"""A forward pass that computes shapes only, to reject inputs on which a model cannot be trained."""

from __future__ import annotations

import torch
from torch import nn

from lrfinder.errors import SetupError

__all__ = ["check_forward", "size_error"]


def check_forward(name: str, model: nn.Module, *shapes: tuple[int, ...], inputs: str, remedy: str) -> None:
    """Reject inputs that a model cannot be trained on, by a forward pass on the meta device.

    Args:
        name: of the model, for the message.
        model: as it will be trained.
        *shapes: of its inputs, the batch size first.
        inputs: what they are, as in ``"images of 8x8 pixels"``.
        remedy: last sentence of the message.

    Raises:
        SetupError: the pass fails.
    """
    meta = {
        key: torch.empty_like(value, device="meta")
        for key, value in (*model.named_parameters(), *model.named_buffers())
    }
    try:
        torch.func.functional_call(model, meta, tuple(torch.empty(shape, device="meta") for shape in shapes))
    except (ValueError, AssertionError, RuntimeError) as error:
        raise size_error(name, error, inputs=inputs, remedy=remedy, batch_size=shapes[0][0]) from error


def size_error(name: str, error: Exception, *, inputs: str, remedy: str, batch_size: int = 2) -> SetupError:
    """The error for inputs that a model refuses with ``error``; arguments as in :func:`check_forward`."""
    reason = str(error).splitlines()[0].rstrip(".")
    if batch_size < 2 and "more than 1 value per channel" in reason:
        return SetupError(f"{name} has BatchNorm, which cannot train on single images; set `batch_size` to 2 or more.")
    return SetupError(f"{name} cannot be trained on {inputs}: {reason}. {remedy}")
