"""The advice beside a published learning rate: where the two are far apart, the grade is low. No torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from lrfinder.advice.advice import Advice
from lrfinder.analysis.finding import GRADES, Finding
from lrfinder.numbers import round_lr
from lrfinder.tables.recipes import ReferenceRecipe, is_comparable, scaled_lr

__all__ = ["beside_published", "published_lr"]

_CODE = "far_from_published"
_ANOTHER_RATE = ("weights", "freeze", "head_lr_scale", "layer_decay")  # settings that change which one is right
_FAR = 5.0  # ratio of the two that is reported
_BEST_GRADE = "low"  # of five trainings of scripts/bench_recipes that far from the recipe two learnt nothing


def published_lr(recipe: ReferenceRecipe, setup: Mapping[str, Any]) -> float | None:
    """Peak learning rate of the recipe at the batch of a training; None where the two may not be compared.

    That is where the training has another optimizer, starts from weights, or has another rate for some layers.

    Args:
        recipe: of torchvision.
        setup: of the training, as a run records it; a setting that is missing counts as not chosen.

    Example:
        >>> from lrfinder.tables.recipes import reference_recipe
        >>> setup = {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}, "batch_size": 64}
        >>> setup |= {"accumulation_steps": 1, "weights": None}
        >>> recipe = reference_recipe("resnet18")
        >>> published_lr(recipe, setup), published_lr(recipe, {**setup, "freeze": ["layer1"]})
        (0.025, None)
    """
    changed = any(setup.get(name) not in (None, [], ()) for name in _ANOTHER_RATE)
    if changed or not is_comparable(recipe, setup["optimizer"], setup["optimizer_options"]):
        return None
    return scaled_lr(recipe, int(setup["batch_size"] * setup["accumulation_steps"]))


def beside_published(advice: Advice, lr: float, schedule: str) -> Advice:
    """The same learning rates, with a finding and a low grade where that of torchvision's recipe is far from them.

    The interval then reaches to the published one, but not above where the loss had diverged.

    Args:
        advice: of a range test.
        lr: published peak learning rate, for the optimizer and the batch of the test; > 0.
        schedule: kind of schedule that it was published for.

    Example:
        >>> lrs = {"max_lr": 0.1, "base_lr": 0.1, "min_lr": 0.01, "interval": (0.05, 0.2)}
        >>> advice = Advice(**lrs, grade="high", reasons=("Clear.",))
        >>> beside_published(advice, 0.03, "cosine") is advice
        True
        >>> far = beside_published(advice, 0.01, "cosine")
        >>> far.grade, far.base_lr
        ('low', 0.1)
        >>> print(far.reasons[0])
        The advice for a cosine schedule, 0.1, is 10 times torchvision's of 0.01. Try both in short trainings.
    """
    if advice.base_lr is None or advice.interval is None or any(each.code == _CODE for each in advice.findings):
        return advice
    advised = advice.lr_for(schedule)
    if 1 / _FAR <= lr / advised <= _FAR:
        return advice
    detail = f"torchvision {schedule}"
    finding = Finding(code=_CODE, lr=advised, values=(lr,), detail=detail, caps_grade=_BEST_GRADE)
    grade = max(advice.grade, _BEST_GRADE, key=GRADES.index)
    (low, high), limit = advice.interval, advice.diverged_lr or advice.edge_lr or math.inf
    interval = (min(low, round_lr(lr)), max(high, round_lr(min(lr, limit))))
    return dataclasses.replace(advice.with_findings(finding), grade=grade, interval=interval)
