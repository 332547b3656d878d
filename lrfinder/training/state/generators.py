"""Random generators as objects, of torch, NumPy and Python."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lrfinder.training.state.objects import is_generator

__all__ = ["capture_generator"]


def capture_generator(item: Any) -> Callable[[], Any] | None:
    """Capture the state of a generator; call the result to restore it. None for any other object."""
    if not is_generator(item):
        return None
    if isinstance(item, torch.Generator):
        state = item.get_state()
        return lambda: item.set_state(state)
    if isinstance(item, np.random.RandomState):
        legacy = item.get_state()
        return lambda: item.set_state(legacy)
    if isinstance(item, random.Random):
        python = random.Random.getstate(item)  # a subclass's own method may do anything
        return lambda: random.Random.setstate(item, python)
    bits = item.bit_generator if isinstance(item, np.random.Generator) else item
    bits_state = bits.state
    return lambda: setattr(bits, "state", bits_state)
