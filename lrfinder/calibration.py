"""The fitted constants of the advice, from one versioned file: ``calibration.json``, with the tasks that made them.

No other module holds a number that was fitted to trainings. ``scripts/bench_advice fit`` writes the file. No torch.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

__all__ = ["calibration", "constant"]


@functools.cache
def calibration() -> dict[str, Any]:
    """The whole file: ``version``, ``date``, ``tasks`` (names of the cells it was fitted on) and ``constants``."""
    text = (resources.files("lrfinder") / "calibration.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def constant(name: str) -> float:
    """The constant of that dotted name, as in ``"race.pull"``.

    Raises:
        KeyError: there is none.
    """
    value: Any = calibration()["constants"]
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise KeyError(name)
        value = value[part]
    if isinstance(value, dict):
        raise KeyError(name)
    return float(value)
