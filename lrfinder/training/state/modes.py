"""Modes of torch that hold for the whole thread: whether gradients are recorded, and autocast."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["capture_modes"]


def capture_modes(device_type: str) -> Callable[[], None]:
    """Capture the grad mode and the autocast of a device type; call the result to restore them.

    An interrupt inside ``torch.no_grad`` or ``torch.autocast`` may leave the mode on, for all that follows.
    """
    grad = torch.is_grad_enabled()
    autocast, dtype = torch.is_autocast_enabled(device_type), torch.get_autocast_dtype(device_type)

    def restore() -> None:
        torch.set_grad_enabled(grad)
        if torch.is_autocast_enabled(device_type) != autocast:
            torch.set_autocast_enabled(device_type, autocast)
            torch.clear_autocast_cache()
        if torch.get_autocast_dtype(device_type) != dtype:
            torch.set_autocast_dtype(device_type, dtype)

    return restore
