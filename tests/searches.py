"""Trial searches on formulas: the loss at the end of a trial is a function of its LR, so nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from lrfinder.advice.search import TrialSearch
from lrfinder.record.trials import Trial, TrialRecord

INITIAL = 0.1
TOTAL = 4000
SCREENING, WITH_CONFIRMATION = TOTAL // 4, TOTAL  # budgets without and with room for confirmation

budgets = pytest.mark.parametrize("budget_steps", [SCREENING, WITH_CONFIRMATION], ids=["short", "long"])

LossAt = Callable[[float], float | None]


def record(**numbers: Any) -> TrialRecord:
    """An empty record; every number can be changed."""
    given = {"schedule": "cosine", "total_steps": TOTAL, "budget_steps": SCREENING, "start_loss": 8.0}
    return TrialRecord(**{**given, "initial_lr": INITIAL, **numbers})


def outcome(search: TrialSearch, loss: float | None, steps: int | None = None) -> Trial:
    """The next trial of a search with its outcome; ``steps`` where it was stopped early."""
    return Trial(lr=search.lr, steps=steps or search.steps, loss=loss, stage=search.stage)


def run(loss_at: LossAt, *, ceiling: float | None = None, **numbers: Any) -> TrialRecord:
    """The record of a whole search in which a trial ends with the loss that its LR gives; long ones a little lower."""
    search = TrialSearch(record(**numbers), ceiling=ceiling)
    while not search.done:
        search.add(outcome(search, longer(loss_at(search.lr), search)))
    return search.record


def longer(loss: float | None, search: TrialSearch) -> float | None:
    """That loss of a screening trial; a little less of a confirmation trial that learns."""
    learns = loss is not None and loss < search.record.start_loss
    return loss - 1e-3 if loss is not None and learns and search.stage == "confirmation" else loss


def bowl(bottom: float) -> Callable[[float], float]:
    """A parabola over octaves of the LR, 0 at the bottom."""
    return lambda lr: math.log2(lr / bottom) ** 2


def diverges_above(limit: float, loss_at: LossAt) -> LossAt:
    """The same losses, and none above the limit."""
    return lambda lr: None if lr > limit else loss_at(lr)


def trials(*pairs: tuple[float, float | None], stage: str = "screening", steps: int = 100) -> tuple[Trial, ...]:
    """Trials of one stage and length, from pairs of LR and loss."""
    return tuple(Trial(lr=lr, steps=steps, loss=loss, stage=stage) for lr, loss in pairs)


def around(best: float, *, stage: str, stride: float, steps: int) -> tuple[Trial, ...]:
    """Three trials with the lowest loss in the middle."""
    losses = {best / stride: 1.2, best: 1.0, best * stride: 1.2}
    return trials(*losses.items(), stage=stage, steps=steps)


def tried(made: TrialRecord, stage: str = "screening") -> list[float]:
    """Learning rates of a stage, in the order in which they ran."""
    return [trial.lr for trial in made.trials if trial.stage == stage]
