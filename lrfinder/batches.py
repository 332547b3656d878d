"""Batches of any kind: drawn from any loader for as long as they are wanted, moved, measured and described."""

from __future__ import annotations

import copy
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from lrfinder.errors import SetupError

__all__ = ["Batches", "batch_size", "describe_batch", "move", "tensors_in"]

_SMALL = (
    2**16
)  # bytes that a copy to a GPU takes along at once; a larger one from pageable memory keeps the host waiting


def move(batch: Any, device: torch.device, *, carry: Callable[[Tensor], Tensor] | None = None) -> Any:
    """The batch with every tensor in it on the device; containers keep their type, other objects stay as they are.

    Args:
        batch: anything.
        device: where to.
        carry: gives the tensor on the device for one that is elsewhere; the default is ``tensor.to``, not waited for.
    """
    if isinstance(batch, Tensor):
        if batch.device == device:
            return batch
        return batch.to(device, non_blocking=True) if carry is None else carry(batch)
    if type(batch) in (list, tuple):  # nearly all, so they come first
        return type(batch)([move(value, device, carry=carry) for value in batch])
    if hasattr(batch, "to") and not isinstance(batch, type):
        try:
            return batch.to(device, non_blocking=True)
        except TypeError:  # objects with a plain .to(device), as tokenizers return
            return batch.to(device)
    return _rebuilt(batch, lambda value: move(value, device, carry=carry))


def _rebuilt(batch: Any, function: Callable[[Any], Any]) -> Any:
    """A container of the same type with what the function makes of its items; what is none stays as it is."""
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

    Large ones that have to go from the CPU to a GPU are fetched ahead: those of the next iteration are on their way
    while this one is trained with. That costs the device the room of one iteration's batches.

    Args:
        loader: any iterable of batches. An iterator (which cannot start again) just ends.
        device: where the tensors of a batch go.
    """

    def __init__(self, loader: Iterable[Any], device: torch.device) -> None:
        self.drawn = 0  # batches given out; of one that was only fetched ahead nobody has had anything
        self._waiting: deque[tuple[Any, Any]] = deque()  # batch, and what tells when it has arrived
        self._lane: _Lane | None = None
        self._decided = False  # whether there is a lane, by the first batch that is fetched
        self._seen = False  # one has come, so the loader is not empty
        self._trouble: Exception | None = None
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
        self._fetch(count)
        self.drawn += count
        drawn = [self._waiting.popleft() for _ in range(count)]
        if self._lane is not None:
            self._lane.arrive([event for _, event in drawn])
            try:
                self._fetch(count)
            except Exception as error:  # nobody has asked for that batch yet, and perhaps nobody will
                self._trouble = error.with_traceback(None)  # which would keep these batches
        return [batch for batch, _ in drawn]

    def skip(self, count: int) -> None:
        """Pass over the next ``count`` batches before any is drawn; they go to no device."""
        for _ in range(count):
            self._next()

    def peek(self, count: int) -> list[Any]:
        """The batches that :meth:`draw` gives next."""
        self._fetch(count)
        coming = [self._waiting[i] for i in range(count)]
        if self._lane is not None:
            self._lane.arrive([event for _, event in coming])
        return [batch for batch, _ in coming]

    def close(self) -> None:
        """Let go of the loader's iterator, which ends its worker processes."""
        self._iterator = None
        if self._lane is not None:
            self._lane.close()
        self._waiting.clear()

    def _fetch(self, count: int) -> None:
        while len(self._waiting) < count:
            if self._trouble is not None:
                raise self._trouble
            batch = self._next()
            if not self._decided:
                self._decided, self._lane = True, _lane(batch, self._device)
            moved = (move(batch, self._device), None) if self._lane is None else self._lane.start(batch)
            self._waiting.append(moved)

    def _next(self) -> Any:
        assert self._iterator is not None
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._iterator = iter(self._loader)
            try:
                batch = next(self._iterator)
            except StopIteration:
                if self._seen:
                    raise
                raise SetupError(
                    "the loader gave no batch at all. Check its data set, and that drop_last=True does not drop "
                    "the only batch."
                ) from None
        self._seen = True
        return batch


class _Lane:
    """The way of batches to a GPU on a stream of its own, beside the computing.

    Their room belongs to the stream of the computing, so that torch may use it again, or give it back, as if there
    were no other.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _side_stream(device)

    def start(self, batch: Any) -> tuple[Any, Any]:
        """The batch on the device, and the event after which it is there."""
        copies: list[tuple[Tensor, Tensor]] = []

        def carry(tensor: Tensor) -> Tensor:
            if type(tensor) is not Tensor or tensor.layout != torch.strided or tensor.device.type != "cpu":
                return tensor.to(self._device, non_blocking=True)
            copies.append((torch.empty_like(tensor, device=self._device), tensor.pin_memory()))
            return copies[-1][0]

        moved = move(batch, self._device, carry=carry)
        # The room may be what an earlier batch has left, once its iteration is over. Called before the next iteration
        # is queued, so the copy runs beside that.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for room, source in copies:
                room.copy_(source, non_blocking=True)
            return moved, self._stream.record_event()

    def arrive(self, events: list[Any]) -> None:
        """Let the computing wait for the events; the host goes on."""
        for event in events:
            torch.cuda.current_stream(self._device).wait_event(event)

    def close(self) -> None:
        """Let the computing wait for what is still under way: nobody will, and its room is about to be free."""
        torch.cuda.current_stream(self._device).wait_stream(self._stream)


@functools.cache
def _side_stream(device: torch.device) -> Any:
    # One for all loaders: torch has few, and hands them out in turn.
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _lane(batch: Any, device: torch.device) -> _Lane | None:
    """A lane of its own for batches like this one, where that pays."""
    if device.type != "cuda":
        return None
    size = sum(tensor.nbytes for tensor in tensors_in(batch) if tensor.device.type == "cpu")
    return _Lane(device) if size > _SMALL else None


def batch_size(batch: Any) -> int:
    """Leading length of the first tensor in the batch that has one; 1 where none has."""
    return next((len(tensor) for tensor in tensors_in(batch) if tensor.ndim), 1)


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """Those in lists, tuples and dicts, however deep, in order."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (Mapping, list, tuple)):
        for value in batch.values() if isinstance(batch, Mapping) else batch:
            yield from tensors_in(value)
