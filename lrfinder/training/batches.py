"""Batches drawn from any loader, on the device, and prefetched where that pays."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median_low
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, RandomSampler
from torch.utils.data import SubsetRandomSampler, WeightedRandomSampler

from lrfinder.errors import SetupError
from lrfinder.training.contents import batch_size, move, same_target, size_in_bytes, target_count, tensors_in

__all__ = ["Batches", "TransferStream", "loader_length", "worth_prefetching"]

# Bytes that a copy to a GPU passes along at once; a larger one from pageable memory makes the host wait.
_SMALL = 2**16
_SIZED = 15  # batches whose sizes are taken
_ENDED = object()  # in place of a batch
_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler, DistributedSampler)


def worth_prefetching(batch: Any, device: torch.device) -> bool:
    """Whether the batch must be copied to a GPU and is so large that the copy would block the host."""
    if device.type != "cuda":
        return False
    return sum(size_in_bytes(tensor) for tensor in tensors_in(batch) if tensor.device.type == "cpu") > _SMALL


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
    """Stream for prefetching batches of this size; None where prefetching does not pay."""
    return TransferStream(device) if worth_prefetching(batch, device) else None


def loader_length(loader: object) -> int | None:
    """Batches of a loader; None where it does not tell."""
    try:
        return operator.length_hint(loader) or None
    except Exception:  # from a length of the user's own
        return None


def shuffles(loader: object) -> bool:
    """Whether a loader is known to draw its samples in random order; others, as of a stream, may do so as well."""
    return isinstance(loader, DataLoader) and isinstance(loader.sampler, _SHUFFLING)


def _median(counts: Sequence[int | None]) -> int | None:
    return median_low(known) if (known := [count for count in counts if count is not None]) else None


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
        self._sizes: list[int | None] = []  # samples in each of the first batches
        self._targets: list[int | None] = []  # their targets, where a sample has several
        self.first_alike = False  # whether its samples have one and the same target, and may not be shuffled
        self._waiting: list[Any] = []  # on the device; with a stream, each with the event after which it has arrived
        self._stream_for = stream_for
        self._stream: TransferStream | None = None  # decided when the first batch comes
        self._begun = False  # whether a batch has come
        self._failure: Exception | None = None
        self._device = device
        self._loader = loader
        if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
            raise SetupError(
                f"the loader is a {type(loader).__name__}, which gives single samples. Wrap it: DataLoader(dataset, "
                "batch_size=32, shuffle=True); with batch_size=None where each of its items is a batch."
            )
        try:
            self._iterator: Iterator[Any] | None = iter(loader)
        except TypeError as error:
            raise SetupError(
                f"the loader must be an iterable of batches, such as a DataLoader or a list; got a "
                f"{type(loader).__name__}, which cannot be iterated."
            ) from error

    @property
    def length(self) -> int | None:
        """Batches of the loader; None where it does not tell."""
        return loader_length(self._loader)

    @property
    def size(self) -> int | None:
        """Samples in a batch, of different sizes the median; None before the first batch, and where unknown."""
        return _median(self._sizes)

    @property
    def targets(self) -> int | None:
        """Targets of a batch as ``size``, where a sample has several."""
        return _median(self._targets)

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
            batch = self._next()  # which decides on the stream
            self._waiting.append(move(batch, self._device) if self._stream is None else self._stream.start(batch))

    def _next(self) -> Any:
        assert self._iterator is not None
        if (batch := next(self._iterator, _ENDED)) is _ENDED:
            self._iterator = iter(self._loader)
            batch = next(self._iterator, _ENDED)
        if batch is _ENDED and self._begun:
            raise StopIteration
        if batch is _ENDED:
            raise SetupError(
                "the loader gave no batch at all. Check its data set, and that drop_last=True does not drop the only "
                "batch."
            )
        if not self._begun:
            self._begun = True
            self._stream = self._stream_for(batch, self._device)
            self.first_alike = not shuffles(self._loader) and same_target(batch)
        if len(self._sizes) < _SIZED:
            self._sizes.append(batch_size(batch))
            self._targets.append(target_count(batch))
        return batch
