"""Random states of Python, NumPy, torch and each device: the global ones, and those of generators."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from lrfinder.training.state.objects import is_generator

__all__ = ["capture_generator", "capture_random"]


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


def capture_generator(item: Any) -> Callable[[], Any] | None:
    """Capture the state of a generator; call the result to restore it. None for any other object."""
    if not is_generator(item):
        return None
    if issubclass(type(item), (torch.Generator, np.random.RandomState)):
        return partial(item.set_state, item.get_state())
    if isinstance(item, random.Random):  # a subclass's own methods may do anything
        return partial(random.Random.setstate, item, random.Random.getstate(item))
    bits = item.bit_generator if isinstance(item, np.random.Generator) else item
    return partial(setattr, bits, "state", bits.state)
