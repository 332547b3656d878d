"""How the ranks of a process group meet before they communicate: through its key-value store, where waiting can end.

A collective operation that one rank does not join hangs, and what it hangs with may be answered by another one of the
training. So before the first collective every rank writes that it is there, with what must be the same on all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import nn

from lrfinder.errors import RankError
from lrfinder.param_groups import group_scales, optimizer_name

__all__ = ["ARRIVAL_SECONDS", "Meeting", "noted_interrupt"]

ARRIVAL_SECONDS = 25.0
"""Time for all ranks to arrive, after the first."""

_SHORTEST_POLL, _LONGEST_POLL = 0.02, 0.25  # seconds
_counters: dict[tuple[int, ...], int] = {}  # meetings so far, by ranks: equal on all of them


class Meeting:
    """Messages between the ranks of a group outside its collectives.

    Args:
        group: process group; None for the default one.
        model: whose parameters must have equal names, shapes and types on all ranks.
        optimizer: whose groups must be equal on all ranks.
    """

    def __init__(self, group: Any, model: nn.Module, optimizer: Any) -> None:
        self._ranks = tuple(torch.distributed.get_process_group_ranks(group or torch.distributed.group.WORLD))
        self._rank = torch.distributed.get_rank()
        self._store: Any = torch.distributed.distributed_c10d._get_default_store()
        self._model, self._optimizer = model, optimizer
        self._number = 0
        self._told = False  # of this rank's failure, or that there is none to be told of any more

    def arrive(self, **agreed: Any) -> None:
        """Wait for all ranks, and compare what they bring.

        Args:
            agreed: what has to be the same on all ranks, by name.

        Raises:
            RankError: a rank is missing after 25 seconds, has failed, or brings something else.
        """
        self._told, self._number = False, _counters.get(self._ranks, 0)
        self._store.set(self._key("failed", self._rank), "")  # of an earlier call that did not get so far
        own = {"model": _described(self._model), "optimizer": _described_optimizer(self._optimizer)}
        own |= {name: str(value) for name, value in agreed.items()}
        brought = [json.loads(text) for text in self._gather("arrived", json.dumps(own), ARRIVAL_SECONDS)]
        _counters[self._ranks] = self._number + 1
        if self._number:  # no rank reads the messages of the previous call again
            for name in ("arrived", "gone", "settled", "failed"):
                self._store.delete_key(self._key(name, self._rank, self._number - 1))
        for rank, other in zip(self._ranks, brought, strict=True):
            for name in own:
                if other.get(name) != brought[0].get(name):
                    self._told = True  # each rank finds the same
                    raise RankError(
                        f"the ranks have different values of {name}: rank {self._ranks[0]} has {brought[0].get(name)}, "
                        f"rank {rank} has {other.get(name)}. Call with the same model, optimizer and arguments on all."
                    )

    def settle(self) -> None:
        """Wait until every rank is ready for collectives; there is no limit of time, as each has arrived.

        Raises:
            RankError: one of them has failed.
        """
        self._gather("settled", "yes", None)

    def report(self, error: BaseException) -> None:
        """Write this rank's failure, for :meth:`failure` of the others."""
        if not self._told:
            self._told = True
            described = f"{type(error).__name__}: {error}".splitlines()[0][:300].rstrip(": ")
            self._store.set(self._key("failed", self._rank), described)

    def failure(self) -> str:
        """Which rank failed, and how, for the message of the others."""
        for rank in self._ranks:
            said = self._said("failed", rank)
            if said:
                return f"rank {rank} failed, so this one stopped with it; there it was {said}"
        return "another rank failed, so this one stopped with it."

    @contextlib.contextmanager
    def announced_failure(self) -> Iterator[None]:
        """Context in which an exception is reported to the ranks that wait for this one."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, RankError):
                self.report(error)
            raise

    def _gather(self, name: str, value: str, seconds: float | None) -> list[str]:
        """What all ranks wrote under the name, in the order of their numbers."""
        self._store.set(self._key("gone", self._rank), "")
        self._store.set(self._key(name, self._rank), value)
        started = time.monotonic()
        while self._missing(name, last=name == "settled"):
            waited = time.monotonic() - started
            if seconds is not None and waited > seconds:
                # Of two ranks that leave and arrive at the same moment one sees the other, as each writes before it
                # reads.
                self._store.set(self._key("gone", self._rank), "yes")
                missing = [rank for rank in self._missing(name) if rank != self._rank]
                if missing:
                    raise RankError(
                        f"rank {', '.join(map(str, missing))} of {len(self._ranks)} did not call the finder within "
                        f"{seconds:.0f} seconds of this one. Call it on every rank, after a torch.distributed.barrier()"
                        " where they arrive at different times."
                    )
                self._store.set(self._key("gone", self._rank), "")
            # Less and less often: every rank asks one store for all of them.
            time.sleep(min(_SHORTEST_POLL + waited / 10, _LONGEST_POLL))
        return [self._said(name, rank) for rank in self._ranks]

    def _missing(self, name: str, *, last: bool = False) -> list[int]:
        """Ranks that have not written under the name, or are gone; with ``last`` one may have failed after it did.

        Raises:
            RankError: one of them has failed.
        """
        missing = [rank for rank in self._ranks if self._said("gone", rank) or not self._said(name, rank)]
        if any(self._said("failed", rank) for rank in (self._ranks if last else missing)):
            raise RankError(self.failure())
        return missing

    def _said(self, name: str, rank: int) -> str:
        key = self._key(name, rank)
        return self._store.get(key).decode() if self._store.check([key]) else ""

    def _key(self, name: str, rank: int, number: int | None = None) -> str:
        number = self._number if number is None else number
        return f"lrfinder/{'-'.join(map(str, self._ranks))}/{number}/{name}/{rank}"


@contextlib.contextmanager
def noted_interrupt(note: Callable[[Callable[[], object]], object], ready: Callable[[], bool]) -> Iterator[None]:
    """Context in which the first Ctrl-C goes to ``note``, so that it does not come between the collectives of ranks.

    A second one is handled as before.

    Args:
        note: called with what raises the interrupt.
        ready: whether interrupts are noted by now.
    """
    previous = signal.getsignal(signal.SIGINT)
    # Python delivers signals to the main thread only.
    if not callable(previous) or threading.current_thread() is not threading.main_thread():
        yield
        return
    noted = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        if noted or not ready():
            previous(number, frame)
            return
        noted = True
        note(partial(previous, number, frame))

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handle:
            signal.signal(signal.SIGINT, previous)


def _described(model: nn.Module) -> str:
    """Number of the parameters, and a digest of their names, shapes and types."""
    named = [(name, tuple(each.shape), str(each.dtype), each.requires_grad) for name, each in model.named_parameters()]
    elements = sum(math.prod(shape) for _, shape, _, _ in named)
    return f"{len(named)} parameters of {elements} elements ({_digest(named)})"


def _described_optimizer(optimizer: Any) -> str:
    shapes = [[tuple(each.shape) for each in group["params"]] for group in optimizer.param_groups]
    scales = [f"{scale:.6g}" for scale in group_scales(optimizer)]
    return f"{optimizer_name(optimizer)} with {len(shapes)} parameter groups ({_digest((shapes, scales))})"


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:8]
