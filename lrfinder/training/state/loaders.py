"""State of the data: positions, counters and generators of a loader, its samplers, data sets, transforms and functions.

Everything the loader refers to is found (:func:`lrfinder.training.state.reachable.reachable`) and restored in place:
plain attributes, entries of containers, generators, small tensors and arrays. What is large counts as data that does
not change: containers of more than 100,000 entries (the items of those above 1000 are not looked at), of which a list
or a dict loses only what it has gained, tensors and arrays of more than 1 MiB (16 MiB together), memory maps. A list or
set of a class, which all its instances share, is taken for a log where it only gained numbers or text, and keeps them.
``state_dict`` and ``load_state_dict`` are called only of iterators around a running iterator, whose position nothing
else restores: elsewhere they may start workers, or take effect at the next pass only.

Worker processes have their own copy of the data set. A sweep starts its own workers, so those in use keep their state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lrfinder.training.state.containers import captured_array, is_memory_map
from lrfinder.training.state.captured import captured, captured_state_dict
from lrfinder.training.state.objects import attributes
from lrfinder.training.state.reachable import Limits, reachable
from lrfinder.training.state.tensors import is_alive, is_dense

__all__ = ["LoaderState"]

_LIMITS = Limits(entries=1000, objects=10_000)
_MOST_ENTRIES = 100_000  # of a container that is copied: 0.3 ms
_MOST_BYTES, _MOST_BYTES_TOGETHER = 2**20, 2**24

_log = logging.getLogger("lrfinder")


class LoaderState:
    """State of a loader and of what it draws from, and the persistent iterators of DataLoaders, if any.

    With persistent workers a DataLoader returns one iterator again and again, and a sweep must not advance it: from
    here to :meth:`restore`, iterating starts afresh.

    Args:
        loader: a DataLoader, or anything else.
        known: objects whose state is kept elsewhere, such as the model.
    """

    def __init__(self, loader: object, known: Iterable[object] = ()) -> None:
        found = reachable([loader], _LIMITS, known=known)
        of_classes = {id(held) for item in found if issubclass(type(item), type) for held in vars(item).values()}
        self._restorers: list[Callable[[], Any]] = []
        room = _MOST_BYTES_TOGETHER
        for item in found:
            if issubclass(type(item), (Tensor, np.ndarray)):
                if _can_be_copied(item) and item.nbytes <= min(room, _MOST_BYTES):
                    room -= item.nbytes
                    capture = _captured if issubclass(type(item), Tensor) else captured_array
                    self._restorers.append(capture(item))
            else:
                logs = id(item) in of_classes
                self._restorers += captured(item, most=_MOST_ENTRIES, logs=logs, trimmed=not logs)
        self._restorers += [restorer for item in found if (restorer := _captured_position(item)) is not None]
        loaders = [item for item in found if issubclass(type(item), DataLoader)]
        self._persistent = [item for item in loaders if attributes(item).get("persistent_workers")]
        self._iterators = [attributes(item).get("_iterator") for item in self._persistent]
        self._start_afresh()

    def rewind(self) -> None:
        """Restore all but the persistent iterators: a fresh iterator gives the same batches again."""
        errors = []
        for restorer in self._restorers:
            try:
                restorer()
            except Exception as error:  # the others are restored all the same
                errors.append(error)
        # Fresh workers too: workers that ran on would draw other random numbers.
        self._start_afresh()
        if errors:
            raise errors[0]

    def restore(self) -> None:
        """Restore everything."""
        try:
            self.rewind()
        finally:
            for item, iterator in zip(self._persistent, self._iterators, strict=True):
                attributes(item)["_iterator"] = iterator

    def _start_afresh(self) -> None:
        for item in self._persistent:
            attributes(item)["_iterator"] = None


def _can_be_copied(item: Any) -> bool:
    if isinstance(item, Tensor):
        return is_dense(item) and is_alive(item)
    return not item.dtype.hasobject and bool(item.flags.writeable) and not is_memory_map(item)


def _captured(tensor: Tensor) -> Callable[[], None]:
    saved = tensor.detach().clone()
    gradient = tensor.grad if tensor.is_leaf else None

    def restore() -> None:
        if not is_alive(tensor):
            return
        if tensor.is_leaf and tensor.requires_grad:
            tensor.grad = gradient
        with torch.inference_mode(tensor.is_inference()), torch.no_grad():
            if tensor.shape != saved.shape:
                tensor.data = saved.clone()
            elif not _same_bytes(tensor, saved):  # its memory may be read-only: written only where it changed
                tensor.copy_(saved)

    return restore


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    if a.numel() == 0:
        return True
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}.get(a.element_size(), torch.uint8)
    return torch.equal(a.contiguous().view(-1).view(bits), b.contiguous().view(-1).view(bits))


def _captured_position(item: Any) -> Callable[[], None] | None:
    """Restorer of a stateful iterator around a running one, whose position nothing but ``load_state_dict`` restores."""
    kind = type(item)
    if not all(callable(getattr(kind, name, None)) for name in ("__next__", "state_dict", "load_state_dict")):
        return None
    if not any(hasattr(type(value), "__next__") for value in attributes(item).values()):
        return None
    try:
        return captured_state_dict(item)
    except Exception as error:  # the code of others, which may refuse at this moment
        _log.warning("the position of %s is not restored: its state_dict() raised %r", kind.__name__, error)
        return None
