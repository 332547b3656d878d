"""Losses on their way from the device to the host.

A GPU that is asked for a number is waited for until all it was given is done, and then it waits for the host to give it
more: once a step, with ``loss.item()``. Here each loss is put aside on the device, behind the step that made it; a few
at a time are copied into pinned memory, and are read some steps later, when they have long arrived. The GPU never runs
dry.

When they are read is fixed (and not "whatever has arrived"), so that what is trained and drawn does not depend on the
clock, and so that the ranks of a distributed run stop at the same step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["TOGETHER", "Readback"]

TOGETHER = 4  # losses that are copied at once: a copy for each would cost a small model's step a twentieth


class Readback:
    """Losses in order, given back ``together`` at a time, half as many steps after the last of them was put in.

    Args:
        device: where the losses are.
        together: losses that are read at once; 1 waits for each, which costs nothing on a CPU.

    Example:
        >>> late = Readback(torch.device("cpu"), together=2)
        >>> [late.put(torch.tensor(loss)) for loss in (4.0, 3.0, 2.0, 1.0)], late.rest()
        ([[], [], [4.0, 3.0], []], [2.0, 1.0])
    """

    def __init__(self, device: torch.device, *, together: int) -> None:
        self._device = device
        self._together = together
        self._slots: tuple[Tensor, ...] = ()  # on the device, of one buffer
        self._filled = 0
        self._travelling = 0

    @property
    def under_way(self) -> int:
        """Losses put in and not given back yet: less than one and a half times ``together``."""
        return self._filled + self._travelling

    def put(self, loss: Tensor) -> list[float]:
        """Take the loss of a step, and give back what is due: the losses of some steps before, or nothing.

        Args:
            loss: one element, of the same dtype each time.
        """
        if self._together == 1:
            return [loss.item()]
        if not self._slots:
            self._allocate(loss.dtype)
        loss = loss.detach()
        self._slots[self._filled].copy_(loss if loss.ndim == 0 else loss.reshape(()))
        self._filled += 1
        if self._filled == self._together:
            self._send()
        elif self._travelling and self._filled == self._together // 2:
            return self._arrived()
        return []

    def rest(self) -> list[float]:
        """Wait for all that is under way, and give it back."""
        losses = self._arrived()
        if self._filled:
            self._send()
        return losses + self._arrived()

    def _send(self) -> None:
        self._host.copy_(self._buffer, non_blocking=True)
        if self._event is not None:
            self._event.record(self._stream)
        self._travelling, self._filled = self._filled, 0

    def _arrived(self) -> list[float]:
        if not self._travelling:
            return []
        if self._event is not None:
            self._event.synchronize()
        count, self._travelling = self._travelling, 0
        return self._host[:count].tolist()

    def _allocate(self, dtype: torch.dtype) -> None:
        cuda = self._device.type == "cuda"
        self._buffer = torch.empty(self._together, dtype=dtype, device=self._device)
        self._host = torch.empty(self._together, dtype=dtype, pin_memory=cuda)
        self._slots = self._buffer.unbind()
        self._stream = torch.cuda.current_stream(self._device) if cuda else None  # the one that trains
        self._event: Any = torch.cuda.Event() if cuda else None  # type: ignore[no-untyped-call]
