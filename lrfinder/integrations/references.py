"""Attributes and entries of a trainer, and of all that it refers to, put back when its own set-up code has run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lrfinder.training.state.captured import captured
from lrfinder.training.state.interrupts import InterruptGate
from lrfinder.training.state.randomness import capture_random
from lrfinder.training.state.reachable import Limits, reachable

__all__ = ["References"]

_LIMITS = Limits(entries=10_000, objects=50_000)


class References:
    """Context after which objects, and all that they refer to, have their former attributes and entries.

    A trainer that sets a training up wraps its model, replaces its state, and sets hooks and attributes of the model
    and its configuration. None of that changes a tensor, so the contents of tensors are left to the range test; which
    gradients parameters have is put back. Random states are too. Ctrl-C waits until all is done.

    Args:
        roots: where to start.
        data: objects that are not looked into, of any kind. The attributes of data sets and samplers are put back, and
            what is in them is left to the range test.

    Example:
        >>> from types import SimpleNamespace
        >>> from torch import nn
        >>> trainer = SimpleNamespace(losses=[1.0], model=nn.Linear(1, 1))
        >>> with References([trainer]):
        ...     trainer.losses.append(0.5)
        ...     trainer.model = nn.Sequential(trainer.model)
        >>> trainer.losses, type(trainer.model).__name__
        ([1.0], 'Linear')
    """

    def __init__(self, roots: Iterable[object], data: Iterable[object] = ()) -> None:
        self._roots, self._data = list(roots), list(data)
        self._gate = InterruptGate(References.__exit__)
        self._restorers: list[Callable[[], Any]] = []

    def __enter__(self) -> None:
        self._gate.install()
        try:
            self._restorers = list(self._captured())
        except BaseException:
            self._gate.remove()
            raise
        self._gate.open()

    def __exit__(self, *exception: object) -> None:
        self._gate.closed = True
        with contextlib.ExitStack() as stack:  # each is called, whatever another raises
            stack.callback(self._gate.remove)
            for restore in self._restorers:
                stack.callback(restore)

    def _captured(self) -> Iterator[Callable[[], Any]]:
        for item in reachable(self._roots, _LIMITS, known=self._data, apart=(DataLoader, Dataset, Sampler)):
            if isinstance(item, Tensor) and item.is_leaf and item.grad is not None:
                yield partial(setattr, item, "grad", item.grad)  # dropped where a training starts
            # No list is taken for a log: the numbers it gained are among those that the trainer will report.
            yield from captured(item, most=_LIMITS.entries)
        yield capture_random()
