"""Learning-rate schedules over a training.

``specs`` holds the formula and the arguments of each torch scheduler, ``schedule`` the value :class:`Schedule`,
``plan`` and ``defaults`` what a kind gets where nothing is given, ``code`` the lines to paste, and ``build`` the torch
scheduler. Only ``build`` imports torch.
"""

from __future__ import annotations

from lrfinder.tables.kinds import KINDS

__all__ = ["KINDS"]
