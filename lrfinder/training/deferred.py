"""Losses read from a GPU some steps late, so that it never waits for the host.

Reading a number from a GPU, as ``loss.item()`` does, waits until the GPU has done all its work. Then the GPU waits for
the host to queue more, once a step. Here each loss is first copied within the device, behind the step that made it. A
few at a time are then copied to pinned memory and read some steps later, long after they have arrived.

The step at which they are read is fixed ("whatever has arrived" would depend on the clock). So results are
reproducible, and the ranks of a distributed run stop at the same step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["READ_EVERY", "DeferredLosses"]

READ_EVERY = 4  # losses copied at once: a copy for each would cost a small model's step a twentieth


class DeferredLosses:
    """Losses in order, returned ``read_every`` at a time, half as many steps after the last of them was put in.

    Args:
        device: where the losses are.
        read_every: losses that are read at once, >= 1; 1 reads each at once, which costs nothing on a CPU.

    Example:
        >>> late = DeferredLosses(torch.device("cpu"), read_every=2)
        >>> [late.put(torch.tensor(loss)) for loss in (4.0, 3.0, 2.0, 1.0)], late.flush()
        ([[], [], [4.0, 3.0], []], [2.0, 1.0])
    """

    def __init__(self, device: torch.device, *, read_every: int) -> None:
        self._device = device
        self._read_every = read_every
        self._slots: tuple[Tensor, ...] = ()  # of one buffer on the device
        self._filled = 0
        self._travelling = 0

    @property
    def pending(self) -> int:
        """Losses put in and not returned yet: less than one and a half times ``read_every``."""
        return self._filled + self._travelling

    def put(self, loss: Tensor) -> list[Any]:
        """Take the loss of a step, and return those that are due, as numbers or lists: of earlier steps, or none.

        Args:
            loss: one element, or a row of several; of the same shape and dtype each time.
        """
        if self._read_every == 1:
            return [loss.item() if loss.numel() == 1 else loss.tolist()]
        if not self._slots:
            self._allocate(loss)
        loss = loss.detach()
        slot = self._slots[self._filled]
        slot.copy_(loss if loss.ndim == slot.ndim else loss.reshape(slot.shape))
        self._filled += 1
        if self._filled == self._read_every:
            self._send()
        elif self._travelling and self._filled == self._read_every // 2:
            return self._received()
        return []

    def flush(self) -> list[Any]:
        """Wait for all pending losses, and return them."""
        losses = self._received()
        if self._filled:
            self._send()
        return losses + self._received()

    def _send(self) -> None:
        self._host.copy_(self._buffer, non_blocking=True)
        if self._event is not None:
            self._event.record(self._stream)
        self._travelling, self._filled = self._filled, 0

    def _received(self) -> list[Any]:
        if not self._travelling:
            return []
        if self._event is not None:
            self._event.synchronize()
        count, self._travelling = self._travelling, 0
        return self._host[:count].tolist()

    def _allocate(self, loss: Tensor) -> None:
        cuda = self._device.type == "cuda"
        shape = (self._read_every,) if loss.numel() == 1 else (self._read_every, *loss.shape)
        self._buffer = torch.empty(shape, dtype=loss.dtype, device=self._device)
        self._host = torch.empty(shape, dtype=loss.dtype, device="cpu", pin_memory=cuda)
        self._slots = self._buffer.unbind()
        self._stream = torch.cuda.current_stream(self._device) if cuda else None  # the one that trains
        self._event: Any = torch.cuda.Event() if cuda else None  # type: ignore[no-untyped-call]
