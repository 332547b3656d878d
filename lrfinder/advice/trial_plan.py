"""Learning rate and momentum of each step of a trial, from the schedule of the training that it is for. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lrfinder.checks import check_choice
from lrfinder.schedules.defaults import make_schedule
from lrfinder.schedules.schedule import Schedule
from lrfinder.tables.kinds import KIND_TABLE, KINDS

__all__ = ["TrialPlan", "whole_schedule"]

_COOLDOWN = 0.2  # part of a screening trial


def whole_schedule(kind: str, peak_lr: float, total_steps: int, options: dict[str, Any]) -> Schedule:
    """The schedule of the training that the search is for, with that peak.

    A kind whose LR follows the loss (``plateau``) is replaced by its surrogate, ``multistep``.

    Raises:
        ConfigError: an option that the schedule does not have, or out of its range.
    """
    surrogate = KIND_TABLE[check_choice("kind", kind, KINDS)].surrogate
    if surrogate:
        make_schedule(kind, peak_lr=peak_lr, **options)  # refuses options that the kind does not have
        return make_schedule(surrogate, peak_lr=peak_lr, total_steps=total_steps, warmup_steps=0)
    return make_schedule(kind, peak_lr=peak_lr, total_steps=total_steps, **options)


@dataclass(frozen=True, kw_only=True)
class TrialPlan:
    """Learning rate and momentum of every step of a trial.

    A trial may be the whole schedule compressed: its step t has what the training has at the same part of its length.
    Else it is constant with a cooldown over the last fifth, after the schedule's own warm-up.

    Args:
        stage: ``"screening"`` or ``"confirmation"``.
        compressed: whether it is the whole schedule compressed.
        lr: peak learning rate; > 0.
        steps: length of the trial in optimizer steps; >= 1.
        schedule: of the whole training, with any peak.

    Example:
        >>> schedule = make_schedule("linear", peak_lr=1.0, total_steps=1000)
        >>> plan = TrialPlan(stage="confirmation", compressed=True, lr=0.2, steps=50, schedule=schedule)
        >>> round(plan.lr_at(25), 3), round(plan.lr_at(49), 4)
        (0.105, 0.0042)
    """

    stage: str
    compressed: bool
    lr: float
    steps: int
    schedule: Schedule

    def lr_at(self, t: int) -> float:
        """Learning rate of step ``t``, from 0 to ``steps - 1``."""
        whole = self.schedule
        assert whole.total_steps is not None
        warmup = min(whole.warmup_steps * self.steps // whole.total_steps, self.steps // 2)
        if self.compressed:
            part = whole.lr_at(self._whole_step(t)) / whole.peak_lr
        elif t < warmup:
            part = whole.lr_at(t * whole.warmup_steps // warmup) / whole.peak_lr
        else:
            part = min(1.0, (self.steps - t) / (_COOLDOWN * self.steps))
        return self.lr * part

    def momentum_at(self, t: int) -> float | None:
        """Momentum of step ``t`` where the schedule cycles it, else None."""
        return self.schedule.momentum_at(self._whole_step(t)) if self.compressed else None

    def _whole_step(self, t: int) -> int:
        assert self.schedule.total_steps is not None
        return t * self.schedule.total_steps // self.steps
