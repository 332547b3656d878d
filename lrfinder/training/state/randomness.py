"""Global random states of Python, NumPy, torch and each device."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch

__all__ = ["capture_random"]


def capture_random() -> Callable[[], None]:
    """Capture the random states of Python, NumPy, torch and every device in use; call the result to restore them."""
    python, legacy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = None
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        cuda = torch.cuda.get_rng_state_all()
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return restore
