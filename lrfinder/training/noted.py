"""Ctrl-C that is noted instead of raised at once, so that it does not come between the collectives of several ranks."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

__all__ = ["noted_interrupt"]


@contextlib.contextmanager
def noted_interrupt(note: Callable[[Callable[[], object]], object], ready: Callable[[], bool]) -> Iterator[None]:
    """Context in which the first Ctrl-C goes to ``note``; a second one is handled as before.

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
