"""Faults of the fuzz: raised, or put into the loss, at the n-th call of one place in the training."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor

__all__ = ["ERRORS", "HOWS", "PLACES", "Fault", "armed", "spoil", "strike", "striking"]

PLACES = (
    "forward",
    "late forward",
    "criterion",
    "loader",
    "forward hook",
    "backward hook",
    "before step",
    "after step",
)
HOWS = ("error", "interrupt", "exit", "warning", "nan", "inf")


class Injected(Exception):
    """An exception that no library raises."""


class InjectedExit(BaseException):
    """Like SystemExit: no ``except Exception`` sees it."""


ERRORS: tuple[type[Exception], ...] = (Injected, OSError, RuntimeError, ValueError, KeyError, MemoryError)


@dataclass
class Fault:
    """What happens at the ``number``-th call (from 0) of ``place``; losses are spoiled in the criterion alone."""

    place: str
    how: str
    number: int
    error: type[Exception] = Injected
    calls: int = 0
    raised: BaseException | None = None
    struck: bool = False

    def due(self, place: str) -> bool:
        """True at the call it is meant for."""
        if place != self.place:
            return False
        self.calls += 1
        self.struck = self.struck or self.calls == self.number + 1
        return self.calls == self.number + 1

    def happen(self) -> None:
        """Raise what there is to raise."""
        if self.how == "interrupt":
            signal.raise_signal(signal.SIGINT)
        if self.how == "warning":
            warnings.warn("injected", UserWarning, stacklevel=2)
        if self.how in ("error", "exit"):
            self.raised = self.error("injected") if self.how == "error" else InjectedExit("injected")
            raise self.raised


# In a context variable, since a range test restores what variables, objects and classes refer to.
current: ContextVar[Fault | None] = ContextVar("current", default=None)


@contextmanager
def armed(fault: Fault | None) -> Iterator[None]:
    """Context in which that fault happens, and any warning is an error."""
    token = current.set(fault)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        current.reset(token)


def strike(place: str) -> None:
    """Let the fault of this place happen, if one is armed and due."""
    fault = current.get()
    if fault is not None and fault.how not in ("nan", "inf") and fault.due(place):
        fault.happen()


def spoil(loss: Tensor) -> Tensor:
    """The loss, or nan or infinity (with a gradient) where that fault is due."""
    fault = current.get()
    if fault is not None and fault.how in ("nan", "inf") and fault.due("criterion"):
        return loss * float(fault.how)
    return loss


def striking(place: str) -> Callable[..., None]:
    """Hook of any kind that lets the fault of this place happen."""
    return lambda *arguments, **keywords: strike(place)
