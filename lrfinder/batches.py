"""Batches of any kind: drawn from any loader for as long as they are wanted, moved, measured and described."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from lrfinder.errors import SetupError

__all__ = ["Batches", "batch_size", "describe_batch", "move"]


def move(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor in it on the device; containers keep their type, other objects stay as they are."""
    if isinstance(batch, Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=True)
    if hasattr(batch, "to") and not isinstance(batch, type):
        try:
            return batch.to(device, non_blocking=True)
        except TypeError:  # objects with a plain .to(device), as tokenizers return
            return batch.to(device)
    if isinstance(batch, Mapping):
        moved = {key: move(value, device) for key, value in batch.items()}
        if not isinstance(batch, MutableMapping):
            return type(batch)(moved)  # type: ignore[call-arg]
        same = copy.copy(batch)  # keeps what a constructor would not: the default of a defaultdict
        same.update(moved)
        return same
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(move(value, device) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(move(value, device) for value in batch)
    return batch


def describe_batch(batch: Any) -> str:
    """What came, in a few words, for an error message."""
    if isinstance(batch, Tensor):
        dtype = str(batch.dtype).removeprefix("torch.")
        return f"{'an' if dtype.startswith('int') else 'a'} {dtype} tensor of shape {tuple(batch.shape)}"
    if isinstance(batch, Mapping):
        return f"a {type(batch).__name__} with keys {', '.join(map(repr, list(batch)[:6]))}"
    if isinstance(batch, (list, tuple)):
        return f"a {type(batch).__name__} of {len(batch)}: {', '.join(type(item).__name__ for item in batch[:6])}"
    return f"a {type(batch).__name__}"


class Batches:
    """Batches from a loader for as long as they are wanted: at its end a fresh iterator is taken.

    Args:
        loader: any iterable of batches. An iterator (which cannot start again) just ends.
        device: where the tensors of a batch go.
    """

    def __init__(self, loader: Iterable[Any], device: torch.device) -> None:
        self.drawn = 0
        self._waiting: list[Any] = []
        self._device = device
        self._loader = loader
        try:
            self._iterator: Iterator[Any] | None = iter(loader)
        except TypeError as error:
            raise SetupError(
                f"the loader must be an iterable of batches, such as a DataLoader or a list; got a "
                f"{type(loader).__name__}, which cannot be iterated."
            ) from error

    def draw(self, count: int) -> list[Any]:
        """The next ``count`` batches, on the device.

        Raises:
            StopIteration: there are no more and the loader cannot start again.
            SetupError: the loader never gave a batch.
        """
        batches = self.peek(count)
        self._waiting = []
        return batches

    def peek(self, count: int) -> list[Any]:
        """The batches that :meth:`draw` gives next."""
        while len(self._waiting) < count:
            self._waiting.append(move(self._next(), self._device))
        return self._waiting[:count]

    def close(self) -> None:
        """Let go of the loader's iterator, which ends its worker processes."""
        self._iterator = None
        self._waiting = []

    def _next(self) -> Any:
        assert self._iterator is not None
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._iterator = iter(self._loader)
            try:
                batch = next(self._iterator)
            except StopIteration:
                if self.drawn:
                    raise
                raise SetupError(
                    "the loader gave no batch at all. Check its data set, and that drop_last=True does not drop "
                    "the only batch."
                ) from None
        self.drawn += 1
        return batch


def batch_size(batch: Any) -> int:
    """Leading length of the first tensor in the batch that has one; 1 where none has."""
    tensor = _first_tensor(batch)
    return tensor.shape[0] if tensor is not None else 1


def _first_tensor(batch: Any) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch if batch.ndim else None
    values = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else ()
    return next((found for value in values if (found := _first_tensor(value)) is not None), None)
