"""Random states: the global ones of Python, NumPy, torch and each device, and the generators that loaders draw from."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ["LoaderState", "capture_random"]


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


class LoaderState:
    """Generators that a loader, its samplers and its data set draw from, and its persistent iterator, if any.

    With persistent workers a DataLoader returns one iterator again and again, and a sweep must not advance it: from
    here to :meth:`restore`, iterating starts afresh.

    Args:
        loader: a DataLoader, or anything else.
    """

    def __init__(self, loader: object) -> None:
        batch_sampler = getattr(loader, "batch_sampler", None)
        owners = (
            loader,
            getattr(loader, "sampler", None),
            batch_sampler,
            getattr(batch_sampler, "sampler", None),
            getattr(loader, "dataset", None),
        )
        generators = {id(item): item for owner in owners for item in getattr(owner, "__dict__", {}).values()}
        self._loader: Any = loader
        self._restorers = [restorer for item in generators.values() if (restorer := _captured(item)) is not None]
        self._persistent = isinstance(loader, torch.utils.data.DataLoader) and loader.persistent_workers
        self._iterator = getattr(loader, "_iterator", None) if self._persistent else None
        self._set_iterator(None)

    def rewind(self) -> None:
        """Restore the generators: a fresh iterator gives the same batches again."""
        # Fresh workers too: workers that ran on would draw other random numbers.
        self._set_iterator(None)
        for restorer in self._restorers:
            restorer()

    def restore(self) -> None:
        """Restore the generators and the persistent iterator."""
        self.rewind()
        self._set_iterator(self._iterator)

    def _set_iterator(self, iterator: object) -> None:
        if self._persistent:
            self._loader._iterator = iterator


def _captured(item: object) -> Callable[[], Any] | None:
    """Restorer of a generator; None for any other object."""
    if isinstance(item, torch.Generator):
        state = item.get_state()
        return lambda: item.set_state(state)
    if isinstance(item, np.random.Generator):
        bits = item.bit_generator
        bits_state = bits.state
        return lambda: setattr(bits, "state", bits_state)
    if isinstance(item, np.random.RandomState):
        legacy = item.get_state()
        return lambda: item.set_state(legacy)
    if isinstance(item, random.Random):
        python = item.getstate()
        return lambda: item.setstate(python)
    return None
