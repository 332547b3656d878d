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
        self._waiting: list[Tensor] = []  # copies on the device
        self._travelling: Tensor | None = None  # in pinned memory, complete after the event
        self._event: Any = None

    @property
    def pending(self) -> int:
        """Losses put in and not returned yet: less than one and a half times ``read_every``."""
        return len(self._waiting) + (0 if self._travelling is None else len(self._travelling))

    def put(self, loss: Tensor) -> list[Any]:
        """Take the loss of a step, and return those that are due, as numbers or lists: of earlier steps, or none.

        Args:
            loss: one element, or a row of several; of the same shape and dtype each time, on any device.
        """
        if self._read_every == 1:
            return [loss.item() if loss.numel() == 1 else loss.tolist()]
        loss = loss.detach().reshape(() if loss.numel() == 1 else loss.shape)
        self._waiting.append(loss.to(self._device, copy=True))
        if len(self._waiting) == self._read_every:
            self._send()
        elif len(self._waiting) == self._read_every // 2:
            return self._received()
        return []

    def flush(self) -> list[Any]:
        """Wait for all pending losses, and return them."""
        losses = self._received()
        if self._waiting:
            self._send()
        return losses + self._received()

    def _send(self) -> None:
        losses = torch.stack(self._waiting)
        self._waiting.clear()
        cuda = self._device.type == "cuda"
        host = torch.empty(losses.shape, dtype=losses.dtype, device="cpu", pin_memory=cuda)
        self._travelling = host.copy_(losses, non_blocking=True)
        if cuda:
            self._event = torch.cuda.current_stream(self._device).record_event()

    def _received(self) -> list[Any]:
        if self._travelling is None:
            return []
        if self._event is not None:
            self._event.synchronize()
        losses, self._travelling = self._travelling.tolist(), None
        return losses
