"""Learning-rate range test for PyTorch: finds the learning rate, leaves no trace, hands over a scheduler.

Names are fetched on first use, so ``import lrfinder`` costs next to nothing and loads no torch until
:class:`LRFinder` (or a scheduler) is touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrfinder.advice.advise import Advice, advise
    from lrfinder.analysis.rules import minimum, slide, steepest, valley
    from lrfinder.display.plotting import plot_curve, plot_curves, plot_recipe
    from lrfinder.errors import LRFinderError, NoAdviceError
    from lrfinder.finder import LRFinder
    from lrfinder.recipes import Recipe, recipe
    from lrfinder.record.curve import LossCurve, StopReason, SweepConfig
    from lrfinder.result import RangeTestResult

__version__ = "0.1.0"

_HOMES = {
    "Advice": "advice.advise",
    "LRFinder": "finder",
    "LRFinderError": "errors",
    "LossCurve": "record.curve",
    "NoAdviceError": "errors",
    "RangeTestResult": "result",
    "Recipe": "recipes",
    "StopReason": "record.curve",
    "SweepConfig": "record.curve",
    "advise": "advice.advise",
    "minimum": "analysis.rules",
    "plot_curve": "display.plotting",
    "plot_curves": "display.plotting",
    "plot_recipe": "display.plotting",
    "recipe": "recipes",
    "slide": "analysis.rules",
    "steepest": "analysis.rules",
    "valley": "analysis.rules",
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
