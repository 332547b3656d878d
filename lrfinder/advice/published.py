"""The advice beside a published learning rate: where the two are far apart, the grade is low. No torch."""

from __future__ import annotations

import dataclasses
import math

from lrfinder.advice.advise import Advice
from lrfinder.analysis.diagnose import GRADES, Finding
from lrfinder.numbers import round_lr

__all__ = ["beside_published"]

_CODE = "far_from_published"
_FAR = 5.0  # ratio of the two that is reported
_BEST_GRADE = "low"  # of four trainings of scripts/bench_recipes that far from the recipe two learnt nothing


def beside_published(advice: Advice, lr: float, schedule: str, source: str) -> Advice:
    """The same learning rates, with a finding and a low grade where a published one is far from them.

    The interval then reaches to the published one, but not above where the loss had diverged.

    Args:
        advice: of a range test.
        lr: published peak learning rate, for the optimizer and the batch of the test; > 0.
        schedule: kind of schedule that it was published for.
        source: whose it is, as in ``"torchvision"``.

    Example:
        >>> lrs = {"max_lr": 0.1, "base_lr": 0.1, "min_lr": 0.01, "interval": (0.05, 0.2)}
        >>> advice = Advice(**lrs, grade="high", reasons=("Clear.",))
        >>> beside_published(advice, 0.03, "cosine", "torchvision") is advice
        True
        >>> far = beside_published(advice, 0.01, "cosine", "torchvision")
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
    finding = Finding(
        code=_CODE, lr=advised, values=(lr,), detail=f"{source} {schedule}", caps_grade=_BEST_GRADE
    )
    grade = max(advice.grade, _BEST_GRADE, key=GRADES.index)
    (low, high), limit = advice.interval, advice.diverged_lr or advice.edge_lr or math.inf
    interval = (min(low, round_lr(lr)), max(high, round_lr(min(lr, limit))))
    return dataclasses.replace(advice.with_findings(finding), grade=grade, interval=interval)
