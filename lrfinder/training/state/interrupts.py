"""Ctrl-C held back while state is copied or restored, and delivered afterwards."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["InterruptGate"]


class InterruptGate:
    """Handler of Ctrl-C that holds it back while :attr:`closed` is set.

    Python delivers signals between any two instructions, so no ``try`` can be entered in time. A handler that is there
    before, and that looks at what was interrupted, leaves no gap.

    Args:
        ways_out: methods that close the gate as the first thing they do; an interrupt on their first instruction is
            held back too.
    """

    def __init__(self, *ways_out: Callable[..., Any]) -> None:
        self.closed = True
        """Whether an interrupt waits until :meth:`remove`, or until :meth:`open`."""
        self._codes = frozenset(each.__code__ for each in ways_out)
        self._pending: list[tuple[int, FrameType | None]] = []
        self._previous: Any = None

    def install(self) -> None:
        """Take over from the present handler, with the gate closed; nothing changes where Python has no handler."""
        self.closed = True
        previous = signal.getsignal(signal.SIGINT)
        # Python delivers signals to the main thread only.
        if callable(previous) and threading.current_thread() is threading.main_thread():
            self._previous = previous
            signal.signal(signal.SIGINT, self)

    def open(self) -> None:
        """Let interrupts through, beginning with one that was held back."""
        self.closed = False
        if self._pending and self._previous is not None:
            self._previous(*self._pending.pop())

    def remove(self) -> None:
        """Give the former handler its place back, and what was held back."""
        previous = self._previous
        if previous is None:
            return
        if signal.getsignal(signal.SIGINT) is self:  # else the training has set one of its own
            signal.signal(signal.SIGINT, previous)
        self._previous = None
        if self._pending:
            previous(*self._pending.pop())

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        if self._previous is None:
            raise KeyboardInterrupt
        if self.closed or self._on_the_way_out(frame):
            self._pending.append((number, frame))
        else:
            self._previous(number, frame)

    def _on_the_way_out(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code in self._codes:
                return True
            frame = frame.f_back
        return False
