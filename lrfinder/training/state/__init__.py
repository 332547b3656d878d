"""One true copy of the training state, restored in place: :func:`preserved`."""

from __future__ import annotations

from lrfinder.training.state.snapshot import Snapshot, preserved

__all__ = ["Snapshot", "preserved"]
