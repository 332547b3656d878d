"""The trial search: which LR to try next, and for how many steps. A state machine without torch and without a clock.

Two stages. *Screening*: four trials of a sixteenth of the training each, at a constant LR with a short cooldown. The LR
that is best in such a trial is near the one that is best in the whole training; short copies of a decaying schedule
prefer one that is too high. The trials start at the advised LR and at four times above and below it, and close in on
the best. Trained weights first lose what they had at every LR that is worth it, so trials of a sixteenth say little
there. Where the range test had a probe and the budget allows, each has a quarter of the training and copies its
schedule. *Confirmation*, where the budget allows: longer trials of the schedule itself, one at the LR that the
screening found and one at twice that (at half, where the first ended no better than a shorter one). A budget of more
than one training has room for more of them, which go on by factors of two until the best lies between two others.

Which LR the trials show to be best is decided in :mod:`lrfinder.advice.trial_reading`, and each step of a trial in
:mod:`lrfinder.advice.trial_plan`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

from lrfinder.advice.trial_reading import screened_lr
from lrfinder.record.trials import Trial, TrialRecord, best_trial
from lrfinder.tables.constants import FITTED

__all__ = ["LEAST_BUDGET", "StagePlan", "TrialSearch", "plan_search"]

_SCREENING_STRIDE, _CONFIRMATION_STRIDE = 4.0, 2.0  # factors between neighbours at the start of a stage
_SAME = 0.1  # relative difference up to which a trial would tell nothing that another has not told
_CLOSE = 2.0  # no LR is tried between neighbours this near: losses are flat around the best
_FEWEST_TRIALS, _FEWEST_STEPS = 3, 10  # of a search, and of a trial: fewer decide nothing
LEAST_BUDGET = _FEWEST_TRIALS * _FEWEST_STEPS
"""Optimizer steps that a search needs at least."""

_CONFIRMATIONS = 2  # at least
_LONG_ENOUGH = 0.6  # part of the training: beyond it another LR is worth more than longer trials


class StagePlan(NamedTuple):
    """Number of ``trials`` in one stage, ``steps`` of each, and whether these are the whole schedule ``compressed``."""

    trials: int
    steps: int
    compressed: bool


def plan_search(budget_steps: int, total_steps: int, *, probed: bool = False) -> dict[str, StagePlan]:
    """Number and length of the trials of each stage; empty where the budget has no room for a search.

    Args:
        budget_steps: optimizer steps of all trials together.
        total_steps: optimizer steps of the training; >= 1.
        probed: whether the range test had a probe that shows a gain.

    Example:
        >>> plan_search(250, 1000)
        {'screening': StagePlan(trials=4, steps=62, compressed=False)}
        >>> plan_search(1000, 1000)["confirmation"]
        StagePlan(trials=2, steps=376, compressed=True)
        >>> plan_search(1000, 1000, probed=True)
        {'screening': StagePlan(trials=4, steps=250, compressed=True)}
        >>> plan_search(29, 1000)
        {}
    """
    search = FITTED.search
    quarters = probed and budget_steps >= _FEWEST_TRIALS * search.probed_part * total_steps
    longest = max(_FEWEST_STEPS, int((search.probed_part if quarters else search.screening_part) * total_steps))
    for count in range(search.trials, _FEWEST_TRIALS - 1, -1):
        steps = min(budget_steps // count, longest)
        if steps >= _FEWEST_STEPS:
            break
    else:
        return {}
    plan = {"screening": StagePlan(count, steps, quarters)}
    left = budget_steps - count * steps
    confirmations = max(_CONFIRMATIONS, int(left / (_LONG_ENOUGH * total_steps)))
    steps = min(left // confirmations, total_steps)
    if steps >= max(_FEWEST_STEPS, search.confirmation_part * total_steps):
        plan["confirmation"] = StagePlan(confirmations, steps, True)
    return plan


def _between(trials: Sequence[Trial], best: Trial) -> float | None:
    """The middle between the best trial and its better neighbour, the other one where that is close already."""
    at = trials.index(best)
    neighbours = [trials[i] for i in (at - 1, at + 1) if 0 <= i < len(trials)]
    for other in sorted(neighbours, key=lambda trial: trial.loss_or_inf):
        if max(other.lr, best.lr) / min(other.lr, best.lr) > _CLOSE * 1.01:
            return math.sqrt(other.lr * best.lr)
    return None


class TrialSearch:
    """A search in progress: run a trial of ``steps`` in ``stage`` with ``lr``, ``add`` it, until ``done``.

    Args:
        record: the empty record to fill.
        ceiling: LR that no trial may exceed, the initial one aside; None for none. Ignored where the range test had a
            probe, and where ``min_improvement`` of the record is above 0: the edge of trained weights is read too low
            to be a ceiling. Ignored too in trials of more than half of the training: they show themselves where it
            becomes unstable.

    Example:
        >>> record = TrialRecord(schedule="cosine", total_steps=400, budget_steps=400, initial_lr=0.1, start_loss=1.0)
        >>> search = TrialSearch(record)
        >>> while not search.done:
        ...     search.add(Trial(lr=search.lr, steps=search.steps, loss=(search.lr - 0.2) ** 2, stage=search.stage))
        >>> [f"{trial.lr:.2g}" for trial in search.record.in_stage("screening")], search.record.spent
        (['0.025', '0.05', '0.1', '0.4'], 400)
    """

    def __init__(self, record: TrialRecord, *, ceiling: float | None = None) -> None:
        self.record = record
        self.stage = "screening"
        self._plan = plan_search(record.budget_steps, record.total_steps, probed=record.probed)
        unlimited = ceiling is None or record.probed or record.min_improvement > 0
        self._ceiling = math.inf if unlimited else max(ceiling or 0.0, record.initial_lr)
        self._next: float | None = record.initial_lr if self._plan else None

    @property
    def done(self) -> bool:
        """Whether no trial is to be run any more."""
        return self._next is None or self.record.interrupted

    @property
    def lr(self) -> float:
        """Learning rate of the next trial. RuntimeError once the search is over."""
        if self._next is None:
            raise RuntimeError("the trial search is over; no more trials are run.")
        return self._next

    @property
    def steps(self) -> int:
        """Optimizer steps of the next trial."""
        return self._plan[self.stage].steps

    @property
    def compressed(self) -> bool:
        """Whether the next trial has the whole schedule, compressed; else a constant LR with a cooldown."""
        return self._plan[self.stage].compressed

    def add(self, trial: Trial) -> None:
        """Take a trial that was run; the next follows from all of them."""
        self.record = dataclasses.replace(self.record, trials=(*self.record.trials, trial))
        self._next = self._next_screening() if self.stage == "screening" else self._next_confirmation()
        if self._next is None and self.stage == "screening" and "confirmation" in self._plan:
            self.stage = "confirmation"
            self._next = screened_lr(self.record) or self.record.initial_lr

    def interrupt(self) -> None:
        """End the search from outside, as after Ctrl-C."""
        self.record = dataclasses.replace(self.record, interrupted=True)

    def _next_screening(self) -> float | None:
        trials = self.record.in_stage("screening")
        if self._screening_steps_left() < self.steps:
            return None
        if (opening := self._opening(trials)) is not None:
            return opening
        best = best_trial(trials)
        if best is None:  # far too high, or there is no loss at any LR
            return trials[0].lr / _SCREENING_STRIDE if self._few(trials) else None
        return self._beyond(trials, best, _SCREENING_STRIDE) or _between(trials, best)

    def _opening(self, trials: Sequence[Trial]) -> float | None:
        """An LR above and one below the initial LR, whatever the losses are; None once both were tried."""
        initial = self.record.initial_lr
        above = self._untried(initial * _SCREENING_STRIDE, trials)
        return self._untried(initial / _SCREENING_STRIDE, trials) if above is None else above

    def _beyond(self, trials: Sequence[Trial], best: Trial, stride: float) -> float | None:
        """An LR outside those tried, where the best is the outermost."""
        if best is trials[-1] and (above := self._untried(best.lr * stride, trials)) is not None:
            return above
        return self._untried(best.lr / stride, trials) if best is trials[0] else None

    def _few(self, trials: Sequence[Trial]) -> bool:
        """Whether the stage had less than twice its planned trials: those that end in their first step cost next to
        nothing, so the budget alone does not limit their number."""
        return len(trials) < 2 * self._plan[self.stage].trials

    def _screening_steps_left(self) -> int:
        """Optimizer steps left for screening; a trial that was stopped early leaves its steps to others."""
        confirmation = self._plan.get("confirmation", StagePlan(0, 0, True))
        return self.record.budget_steps - self.record.spent - confirmation.trials * confirmation.steps

    def _next_confirmation(self) -> float | None:
        trials = self.record.in_stage("confirmation")
        if self.record.budget_steps - self.record.spent < self.steps or not self._few(trials):
            return None
        best = best_trial(trials)
        screened = min(trial.loss_or_inf for trial in self.record.in_stage("screening"))
        if best is None or best.loss_or_inf >= min(screened, self.record.start_loss):
            return trials[0].lr / _CONFIRMATION_STRIDE
        return self._beyond(trials, best, _CONFIRMATION_STRIDE)

    def _untried(self, lr: float, trials: Sequence[Trial]) -> float | None:
        """The LR held within the allowed range; None where it was tried already.

        From trained weights a short trial prefers an LR that is too low. So none below the initial LR is tried before
        a trial has shown an improvement, unless the range test had shown one (``min_improvement`` is 0). A trial of
        more than half of the training needs neither limit.
        """
        if self.steps < _LONG_ENOUGH * self.record.total_steps:
            lowest = 0.0 if self.record.improved or self.record.min_improvement == 0 else self.record.initial_lr
            lr = min(max(lr, lowest), self._ceiling)
        return None if any(math.isclose(trial.lr, lr, rel_tol=_SAME) for trial in trials) else lr
