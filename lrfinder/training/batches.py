"""Batches of any kind: drawn from any loader, moved to the device, measured and described."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from lrfinder.errors import SetupError

__all__ = ["Batches", "TransferStream", "batch_size", "describe_batch", "move", "tensors_in", "worth_prefetching"]

# Bytes that a copy to a GPU passes along at once; a larger one from pageable memory makes the host wait.
_SMALL = 2**16


def move(batch: Any, device: torch.device, *, carry: Callable[[Tensor], Tensor] | None = None) -> Any:
    """The batch with every tensor in it on the device; containers keep their type, other objects stay as they are.

    Args:
        batch: anything.
        device: target device.
        carry: returns the tensor on the device for one that is elsewhere; the default is a non-blocking ``tensor.to``.
    """
    if isinstance(batch, Tensor):
        if batch.device == device:
            return batch
        return batch.to(device, non_blocking=True) if carry is None else carry(batch)
    if type(batch) in (list, tuple):  # the usual batches first
        return type(batch)([move(value, device, carry=carry) for value in batch])
    if hasattr(batch, "to") and not isinstance(batch, type):
        try:
            return batch.to(device, non_blocking=True)
        except TypeError:  # objects with a plain .to(device), as tokenizers return
            return batch.to(device)
    return _rebuilt(batch, lambda value: move(value, device, carry=carry))


def _rebuilt(batch: Any, function: Callable[[Any], Any]) -> Any:
    """A container of the same type with the function applied to its items; any other object unchanged."""
    if isinstance(batch, Mapping):
        items = {key: function(value) for key, value in batch.items()}
        if not isinstance(batch, MutableMapping):
            return type(batch)(items)  # type: ignore[call-arg]
        same = copy.copy(batch)  # keeps what a constructor would not: the default of a defaultdict
        same.update(items)
        return same
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*map(function, batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(map(function, batch))
    return batch


def describe_batch(batch: Any) -> str:
    """Short description of a batch for an error message."""
    if isinstance(batch, Tensor):
        dtype = str(batch.dtype).removeprefix("torch.")
        return f"{'an' if dtype.startswith('int') else 'a'} {dtype} tensor of shape {tuple(batch.shape)}"
    if isinstance(batch, Mapping):
        return f"a {type(batch).__name__} with keys {', '.join(map(repr, list(batch)[:6]))}"
    if isinstance(batch, (list, tuple)):
        return f"a {type(batch).__name__} of {len(batch)}: {', '.join(type(item).__name__ for item in batch[:6])}"
    return f"a {type(batch).__name__}"


def batch_size(batch: Any) -> int:
    """Number of samples: the length of the first tensor that has one; 1 where none has."""
    return next((len(tensor) for tensor in tensors_in(batch) if tensor.ndim), 1)


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """Tensors in lists, tuples and mappings at any depth, in order."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (Mapping, list, tuple)):
        for value in batch.values() if isinstance(batch, Mapping) else batch:
            yield from tensors_in(value)


def worth_prefetching(batch: Any, device: torch.device) -> bool:
    """True where batches like this one have to go to a GPU and are so large that copying them would block the host."""
    if device.type != "cuda":
        return False
    return sum(tensor.nbytes for tensor in tensors_in(batch) if tensor.device.type == "cpu") > _SMALL


@functools.cache
def _side_stream(device: torch.device) -> Any:
    # One for all loaders: torch has a small pool of streams, and would hand out the same ones again.
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class TransferStream:
    """Copies batches to a GPU on a stream of its own, beside the computation.

    Their memory is allocated on the computing stream, so torch can reuse or free it as if there were no other stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _side_stream(device)

    def start(self, batch: Any) -> tuple[Any, Any]:
        """Start copying; returns the batch on the device, and the event after which it is complete."""
        copies: list[tuple[Tensor, Tensor]] = []

        def carry(tensor: Tensor) -> Tensor:
            if type(tensor) is not Tensor or tensor.layout != torch.strided or tensor.device.type != "cpu":
                return tensor.to(self._device, non_blocking=True)
            copies.append((torch.empty_like(tensor, device=self._device), tensor.pin_memory()))
            return copies[-1][0]

        moved = move(batch, self._device, carry=carry)
        # The memory may have belonged to an earlier batch, so its iteration has to end first. The next iteration is not
        # queued yet, so the copy runs beside that one.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for target, source in copies:
                target.copy_(source, non_blocking=True)
            return moved, self._stream.record_event()

    def wait(self, events: list[Any]) -> None:
        """Make the computing stream wait for the events; the host does not wait."""
        for event in events:
            torch.cuda.current_stream(self._device).wait_event(event)

    def close(self) -> None:
        """Make the computing stream wait for every copy, as the memory of unused batches is about to be freed."""
        torch.cuda.current_stream(self._device).wait_stream(self._stream)


def transfer_stream(batch: Any, device: torch.device) -> TransferStream | None:
    """Stream on which batches like this one are prefetched; None where that does not pay."""
    return TransferStream(device) if worth_prefetching(batch, device) else None


class Batches:
    """Batches from a loader, one iteration at a time; at the loader's end a fresh iterator is taken.

    Large batches that have to be copied from the CPU to a GPU are prefetched: those of the next iteration are copied
    while this one is trained with. That takes the device memory of one iteration's batches.

    Args:
        loader: any iterable of batches. An iterator (which cannot start again) just ends.
        device: where the tensors of a batch go.
        stream_for: decides, from the first batch and the device, on which stream batches are prefetched; None for no
            prefetching.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        device: torch.device,
        *,
        stream_for: Callable[[Any, torch.device], TransferStream | None] = transfer_stream,
    ) -> None:
        self.drawn = 0  # batches returned to the caller; prefetched ones are not counted
        self.first_size: int | None = None  # samples in the first batch; None until one has come
        self._waiting: list[Any] = []  # on the device; with a stream, each with the event after which it has arrived
        self._stream_for = stream_for
        self._stream: TransferStream | None = None
        self._decided = False  # on a stream or none, when the first batch is fetched
        self._failure: Exception | None = None
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
        drawn = self.peek(count)
        del self._waiting[:count]
        self.drawn += count
        if self._stream is not None:
            try:
                self._fetch(count)
            except Exception as error:  # raised when that batch is asked for, which may never happen
                self._failure = error.with_traceback(None)  # a traceback would keep these batches
        return drawn

    def skip(self, count: int) -> None:
        """Skip the next ``count`` batches before any is drawn; they are not moved to the device."""
        for _ in range(count):
            self._next()

    def peek(self, count: int) -> list[Any]:
        """The batches that :meth:`draw` gives next."""
        self._fetch(count)
        coming = self._waiting[:count]
        if self._stream is None:
            return coming
        self._stream.wait([event for _, event in coming])
        return [batch for batch, _ in coming]

    def close(self) -> None:
        """Drop the loader's iterator, which ends its worker processes."""
        self._iterator = None
        if self._stream is not None:
            self._stream.close()
        self._waiting.clear()

    def _fetch(self, count: int) -> None:
        while len(self._waiting) < count:
            if self._failure is not None:
                raise self._failure
            batch = self._next()
            if not self._decided:
                self._decided, self._stream = True, self._stream_for(batch, self._device)
            self._waiting.append(move(batch, self._device) if self._stream is None else self._stream.start(batch))

    def _next(self) -> Any:
        assert self._iterator is not None
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._iterator = iter(self._loader)
            try:
                batch = next(self._iterator)
            except StopIteration:
                if self.first_size is not None:
                    raise
                raise SetupError(
                    "the loader gave no batch at all. Check its data set, and that drop_last=True does not drop "
                    "the only batch."
                ) from None
        if self.first_size is None:
            self.first_size = batch_size(batch)
        return batch
