"""Losses on their way from the device to the host.

A GPU that is asked for a number is waited for until all it was given is done, and then it waits for the host to give it
more: once a step, with ``loss.item()``. Here each loss is copied into pinned memory behind the step that made it, and
is read a fixed number of steps later, when it has long arrived; the GPU never runs dry.

The number is fixed (and not "whatever has arrived"), so that what is trained and drawn does not depend on the clock,
and so that the ranks of a distributed run stop at the same step.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

__all__ = ["LAG", "Readback"]

LAG = 4  # steps that a GPU works ahead of what the host knows; enough to hide the host, few to throw away at the stop


class Readback:
    """Losses in order, each given back ``lag`` steps after it was put in.

    Args:
        device: where the losses are.
        lag: steps by which each is read late; 0 waits for it at once, which costs nothing on a CPU.

    Example:
        >>> late = Readback(torch.device("cpu"), lag=2)
        >>> [late.put(torch.tensor(loss)) for loss in (3.0, 2.0, 1.0, 0.5)], late.rest()
        ([[], [], [3.0], [2.0]], [1.0, 0.5])
    """

    def __init__(self, device: torch.device, *, lag: int) -> None:
        self._device = device
        self._lag = lag
        self._stream: Any = None  # the one that trains
        self._slots: deque[tuple[Tensor, Any]] = deque()
        self._under_way: deque[tuple[Tensor, Any]] = deque()

    @property
    def under_way(self) -> int:
        """Losses put in and not given back yet."""
        return len(self._under_way)

    def put(self, loss: Tensor) -> list[float]:
        """Take the loss of a step, and give back what is due: the loss of ``lag`` steps before, or nothing.

        Args:
            loss: one element, of the same dtype each time.
        """
        if self._lag == 0:
            return [loss.item()]
        if not self._slots and not self._under_way:
            self._allocate(loss.dtype)
        slot, event = self._slots.popleft()
        slot.copy_(loss.detach().reshape(()), non_blocking=True)
        if event is not None:
            event.record(self._stream)
        self._under_way.append((slot, event))
        return [self._oldest()] if len(self._under_way) > self._lag else []

    def rest(self) -> list[float]:
        """Wait for all that is under way, and give it back."""
        return [self._oldest() for _ in range(len(self._under_way))]

    def _oldest(self) -> float:
        slot, event = self._under_way.popleft()
        if event is not None:
            event.synchronize()
        self._slots.append((slot, event))
        return slot.item()

    def _allocate(self, dtype: torch.dtype) -> None:
        cuda = self._device.type == "cuda"
        if cuda:
            self._stream = torch.cuda.current_stream(self._device)
        for slot in torch.empty(self._lag + 1, dtype=dtype, pin_memory=cuda).unbind():
            event = torch.cuda.Event() if cuda else None  # type: ignore[no-untyped-call]
            self._slots.append((slot, event))
