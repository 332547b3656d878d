"""Learning-rate range test for PyTorch: finds the learning rate, leaves no trace, hands over a scheduler.

Names are fetched on first use, so ``import lrfinder`` costs next to nothing and loads no torch until
:class:`LRFinder` (or a scheduler) is touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrfinder.advice import Advice, advise
    from lrfinder.curve import LossCurve, StopReason, SweepConfig
    from lrfinder.errors import LRFinderError, NoAdviceError
    from lrfinder.finder import LRFinder
    from lrfinder.plotting import plot_curve, plot_curves, plot_recipe
    from lrfinder.recipes import Recipe, recipe
    from lrfinder.result import RangeTestResult
    from lrfinder.rules import minimum, slide, steepest, valley

__version__ = "0.1.0"

_HOMES = {
    "Advice": "advice",
    "LRFinder": "finder",
    "LRFinderError": "errors",
    "LossCurve": "curve",
    "NoAdviceError": "errors",
    "RangeTestResult": "result",
    "Recipe": "recipes",
    "StopReason": "curve",
    "SweepConfig": "curve",
    "advise": "advice",
    "minimum": "rules",
    "plot_curve": "plotting",
    "plot_curves": "plotting",
    "plot_recipe": "plotting",
    "recipe": "recipes",
    "slide": "rules",
    "steepest": "rules",
    "valley": "rules",
}

__all__ = [
    "Advice",
    "LRFinder",
    "LRFinderError",
    "LossCurve",
    "NoAdviceError",
    "RangeTestResult",
    "Recipe",
    "StopReason",
    "SweepConfig",
    "advise",
    "minimum",
    "plot_curve",
    "plot_curves",
    "plot_recipe",
    "recipe",
    "slide",
    "steepest",
    "valley",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lrfinder' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lrfinder.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
