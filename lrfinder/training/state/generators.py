"""Random generators as objects, of torch, NumPy and Python."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ["capture_generator"]


def capture_generator(item: object) -> Callable[[], Any] | None:
    """Capture the state of a generator; call the result to restore it. None for any other object."""
    if isinstance(item, torch.Generator):
        state = item.get_state()
        return lambda: item.set_state(state)
    if isinstance(item, np.random.Generator):
        return capture_generator(item.bit_generator)
    if isinstance(item, np.random.BitGenerator):
        bits_state = item.state
        return lambda: setattr(item, "state", bits_state)
    if isinstance(item, np.random.RandomState):
        legacy = item.get_state()
        return lambda: item.set_state(legacy)
    if isinstance(item, random.Random) and not isinstance(item, random.SystemRandom):
        python = item.getstate()
        return lambda: item.setstate(python)
    return None
