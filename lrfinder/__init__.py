"""Learning-rate range test for PyTorch: finds the learning rate, restores all training state, returns a scheduler.

Start at :class:`LRFinder`, which makes a :class:`RangeTestResult`::

    finder = LRFinder(model, optimizer, criterion)
    result = finder.range_test(train_loader)
    print(result)
    scheduler = result.scheduler("onecycle", optimizer, epochs=30, steps_per_epoch=len(train_loader))

``lrfinder.integrations`` has the same for trainers, ``lrfinder.schedules.KINDS`` the kinds of schedules.
The command ``lrfind`` does it for torchvision's models and yours.
Every error raised on purpose is an :class:`LRFinderError`.

Names are imported on first use, so ``import lrfinder`` costs next to nothing and loads no torch until
:class:`LRFinder` (or a scheduler) is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrfinder.advice.advice import Advice as Advice
    from lrfinder.advice.advise import advise as advise
    from lrfinder.advice.evidence import Evidence as Evidence
    from lrfinder.analysis.finding import Finding as Finding
    from lrfinder.analysis.regimes import Reading as Reading
    from lrfinder.analysis.rules import Suggestion as Suggestion
    from lrfinder.analysis.rules import minimum as minimum
    from lrfinder.analysis.rules import slide as slide
    from lrfinder.analysis.rules import steepest as steepest
    from lrfinder.analysis.rules import valley as valley
    from lrfinder.display.plotting import plot_curve as plot_curve
    from lrfinder.display.plotting import plot_curves as plot_curves
    from lrfinder.display.plotting import plot_recipe as plot_recipe
    from lrfinder.errors import LRFinderError as LRFinderError
    from lrfinder.errors import NoAdviceError as NoAdviceError
    from lrfinder.finder import LRFinder as LRFinder
    from lrfinder.recipes import Recipe as Recipe
    from lrfinder.recipes import recipe as recipe
    from lrfinder.record.curve import LossCurve as LossCurve
    from lrfinder.record.curve import StopReason as StopReason
    from lrfinder.record.curve import SweepConfig as SweepConfig
    from lrfinder.record.facts import ModelFacts as ModelFacts
    from lrfinder.record.trials import Trial as Trial
    from lrfinder.record.trials import TrialRecord as TrialRecord
    from lrfinder.result import RangeTestResult as RangeTestResult

__version__ = "0.1.0"

_NAMES = {
    "advice.advice": ("Advice",),
    "advice.advise": ("advise",),
    "advice.evidence": ("Evidence",),
    "analysis.finding": ("Finding",),
    "analysis.regimes": ("Reading",),
    "analysis.rules": ("Suggestion", "minimum", "slide", "steepest", "valley"),
    "display.plotting": ("plot_curve", "plot_curves", "plot_recipe"),
    "errors": ("LRFinderError", "NoAdviceError"),
    "finder": ("LRFinder",),
    "recipes": ("Recipe", "recipe"),
    "record.curve": ("LossCurve", "StopReason", "SweepConfig"),
    "record.facts": ("ModelFacts",),
    "record.trials": ("Trial", "TrialRecord"),
    "result": ("RangeTestResult",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lrfinder' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lrfinder.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
