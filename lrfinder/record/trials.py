"""The record of a trial search: frozen values that hold facts and no opinion.

Which LR the trials show to be best is decided in :mod:`lrfinder.advice.trial_reading`, and which LR is tried next in
:mod:`lrfinder.advice.search`. Standard library only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lrfinder.checks import check_choice, check_count, check_lr, check_number
from lrfinder.errors import ConfigError
from lrfinder.files import saved_content
from lrfinder.tables.kinds import KINDS

__all__ = ["STAGES", "Trial", "TrialRecord", "best_trial"]

STAGES = ("screening", "confirmation")


def best_trial(trials: Iterable[Trial]) -> Trial | None:
    """The trial with the lowest loss, the first of equal ones; None where none has a loss."""
    return min((trial for trial in trials if trial.loss is not None), key=lambda trial: trial.loss_or_inf, default=None)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One short training.

    Args:
        lr: peak learning rate of the reference parameter group; > 0.
        steps: optimizer steps made; >= 1.
        loss: validation loss at the end, finite; None where the trial diverged or was stopped early.
        stage: ``"screening"`` or ``"confirmation"``.
        train_loss: mean training loss of the last tenth of the steps; None where it is not known.

    Raises:
        ConfigError: a value out of its range.
    """

    lr: float
    steps: int
    loss: float | None
    stage: str = "screening"
    train_loss: float | None = None

    def __post_init__(self) -> None:
        check_lr("lr", self.lr)
        check_count("steps", self.steps)
        for loss in (self.loss, self.train_loss):
            if loss is not None and not math.isfinite(loss):
                raise ConfigError(f"the loss of a trial must be finite, or None where it diverged; got {loss!r}.")
        check_choice("stage", self.stage, STAGES)

    @property
    def loss_or_inf(self) -> float:
        """The loss, infinite where there is none."""
        return math.inf if self.loss is None else self.loss


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """Record of a trial search.

    Args:
        schedule: kind of schedule that the search is for.
        total_steps: optimizer steps of the training that it is for; >= 1.
        budget_steps: optimizer steps that all trials together may make; never exceeded.
        initial_lr: advised LR that the search started from; > 0.
        start_loss: validation loss before any training; finite.
        min_improvement: fall of the loss below ``start_loss`` that counts as an improvement; >= 0.
        probed: whether the range test had a probe that shows a gain, as trained weights have for a new task.
        passes: how often the training goes through its data, > 0; None where the loader does not tell its length.
        measured: ``"validation"`` or, without a validation loader, ``"held-out"`` training batches.
        trials: in the order in which they were run.
        interrupted: whether Ctrl-C ended the search.

    Raises:
        ConfigError: more steps were made than the budget has, or a value is out of its range.

    Example:
        >>> trials = tuple(Trial(lr=lr, steps=60, loss=loss) for lr, loss in ((0.1, 1.5), (0.4, 1.0), (0.025, 1.9)))
        >>> record = TrialRecord(
        ...     schedule="cosine", total_steps=1000, budget_steps=200, initial_lr=0.1, start_loss=2.0, trials=trials
        ... )
        >>> record.spent, record.improved, [trial.lr for trial in record.in_stage("screening")]
        (180, True, [0.025, 0.1, 0.4])
    """

    schedule: str
    total_steps: int
    budget_steps: int
    initial_lr: float
    start_loss: float
    min_improvement: float = 0.0
    probed: bool = False
    passes: float | None = None
    measured: str = "validation"
    trials: tuple[Trial, ...] = ()
    interrupted: bool = False

    def __post_init__(self) -> None:
        check_choice("schedule", self.schedule, KINDS)
        check_count("total_steps", self.total_steps)
        check_count("budget_steps", self.budget_steps)
        check_lr("initial_lr", self.initial_lr)
        check_choice("measured", self.measured, ("validation", "held-out"))
        if not math.isfinite(self.start_loss):
            raise ConfigError(f"start_loss must be finite; got {self.start_loss!r}.")
        check_number("min_improvement", self.min_improvement, 0.0)
        if self.passes is not None:
            check_number("passes", self.passes, 0.0, open_ends=True)
        if self.spent > self.budget_steps:
            raise ConfigError(f"a search of {self.budget_steps} steps cannot have spent {self.spent}.")

    @property
    def spent(self) -> int:
        """Optimizer steps made in all trials."""
        return sum(trial.steps for trial in self.trials)

    @property
    def improved(self) -> bool:
        """Whether the loss of a trial fell below ``start_loss`` by more than ``min_improvement``."""
        best = best_trial(self.trials)
        return best is not None and best.loss_or_inf < self.start_loss - self.min_improvement

    def in_stage(self, stage: str) -> tuple[Trial, ...]:
        """Trials of that stage, by rising LR."""
        return tuple(sorted((trial for trial in self.trials if trial.stage == stage), key=lambda trial: trial.lr))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary; :meth:`from_dict` gives an equal record back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> TrialRecord:
        """Record from :meth:`to_dict`.

        Raises:
            FileFormatError: a field is missing, unknown or out of range.
        """
        with saved_content("trial search", hint="Run refine again."):
            return cls(**{**content, "trials": tuple(Trial(**trial) for trial in content["trials"])})
