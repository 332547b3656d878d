"""Which LR the trials of a search show to be best for the training that they are for. No torch.

The losses of a stage, as parts of the best improvement, are joined over the logarithm of the LR: by a parabola through
the best trial and its neighbours, elsewhere by straight lines, and the LR at the lowest point is what the stage shows.
Two confirmation trials do not enclose it: it is taken to be between them where they are equal, and the more they differ
the further on the side of the better one, down to 0.6 of the lower LR or up to the higher one, as trainings fail soon
above their best LR. Where the higher one diverged it is the lower one: a trial that breaks says nothing of lower LRs.
The LR is lowered where the training overfits more than its trials: :func:`overfitting`.
"""

from __future__ import annotations

import math

import numpy as np

from lrfinder.analysis.finding import Finding
from lrfinder.record.trials import Trial, TrialRecord, best_trial
from lrfinder.tables.constants import FITTED
from lrfinder.tables.situations import PASSES

__all__ = ["best_trial_lr", "lags", "overfitting", "screened_lr"]

_GRID = 1 / 16  # octaves between the LRs that are compared
_LAG_PART = 0.05  # of the fall of the training loss: 0.01 with MobileNetV3, 0.28 and more in 361 other searches
_GAP = 0.05  # difference of two trials, as a part of the best improvement, that is a clear one
# Octaves from the middle of two trials to what they show where they differ clearly: of those tried, with the lowest
# regret on 106 calibration runs and 124 of the cells of scripts/situations.
_BELOW, _ABOVE = 1.25, 0.5


def best_trial_lr(record: TrialRecord) -> float | None:
    """LR for the training that the search is for, between the LRs tried; None where the trials show none.

    Example:
        >>> trials = tuple(Trial(lr=lr, steps=60, loss=loss) for lr, loss in ((0.1, 1.5), (0.4, 1.0), (0.025, 1.9)))
        >>> record = TrialRecord(
        ...     schedule="cosine", total_steps=1000, budget_steps=200, initial_lr=0.1, start_loss=2.0, trials=trials
        ... )
        >>> best_trial_lr(record)
        0.4
    """
    if not record.improved or lags(record):
        return None
    screened, confirmations = screened_lr(record), record.in_stage("confirmation")
    shown = _confirmed_lr(record, confirmations, screened) if confirmations else screened
    more = overfitting(record)
    return shown if shown is None or more is None else shown * more.values[0]


def lags(record: TrialRecord) -> bool:
    """Whether the validation loss does not follow the training loss, as where statistics of BatchNorm move slowly.

    Example:
        >>> trials = (Trial(lr=0.1, steps=60, loss=2.29, train_loss=1.8),)
        >>> lags(TrialRecord(
        ...     schedule="cosine", total_steps=160, budget_steps=160, initial_lr=0.1, start_loss=2.3, trials=trials
        ... ))
        True
    """
    best = best_trial(record.trials)
    if best is None or best.train_loss is None:
        return False
    return record.start_loss - best.loss_or_inf < _LAG_PART * (record.start_loss - best.train_loss)


def overfitting(record: TrialRecord) -> Finding | None:
    """Why the training needs a lower LR than its longest trials, with the factor as the first value; None where not.

    A training overfits more than its trials where the best confirmation trial does so already: it sees data again, and
    its validation loss is above its training loss by ``overfit_part`` of what the validation loss fell. A training does
    so as well, and less, where it goes through its data more than eight times.
    """
    confirmations = record.in_stage("confirmation")
    part = max(trial.steps for trial in confirmations or record.trials) / record.total_steps
    best = best_trial(confirmations)
    again = part < 1 and (record.passes is None or part * record.passes > 1)
    if again and best is not None and best.loss is not None and best.train_loss is not None:
        least = FITTED.search.overfit_part * (record.start_loss - best.loss)
        if best.loss - best.train_loss > least:
            return Finding(code="trials_overfit", values=(part, best.train_loss, best.loss), caps_grade="medium")
    if record.passes is None:
        return None
    factor = PASSES.factor(record.passes, "adaptive") / PASSES.factor(part * record.passes, "adaptive")
    return Finding(code="many_passes", values=(factor, record.passes), caps_grade="medium") if factor < 1 else None


def screened_lr(record: TrialRecord) -> float | None:
    """Best LR by the screening trials; None where none of them came below the loss it started from."""
    return _stage_lr(record, record.in_stage("screening"), record.initial_lr)


def _confirmed_lr(record: TrialRecord, trials: tuple[Trial, ...], screened: float | None) -> float | None:
    shown = _stage_lr(record, trials, screened or record.initial_lr)
    if shown is None or _collapsed(record, trials):  # trials that went wrong show that the LR is too high, and no more
        return None if screened is None else min(screened, trials[0].lr) / FITTED.search.margin
    return _lr_of_two(record, *trials) if len(trials) == 2 and trials[0].loss != trials[1].loss else shown


def _collapsed(record: TrialRecord, longer: tuple[Trial, ...]) -> bool:
    """Whether longer trials ended near the loss they started from, as at chance, where shorter ones had learnt."""
    start, shorter = record.start_loss, best_trial(record.in_stage("screening"))
    best = best_trial(longer)
    if best is None or shorter is None:
        return False
    return start - best.loss_or_inf < _LAG_PART * (start - shorter.loss_or_inf)


def _stage_lr(record: TrialRecord, trials: tuple[Trial, ...], initial_lr: float) -> float | None:
    best = best_trial(trials)
    if best is None or best.loss_or_inf >= record.start_loss:
        return None
    octaves = np.log2([trial.lr / initial_lr for trial in trials])
    improvement = record.start_loss - best.loss_or_inf
    worst = FITTED.search.worst_part
    parts = [min((trial.loss_or_inf - best.loss_or_inf) / improvement, worst) for trial in trials]
    grid = np.arange(octaves[0], octaves[-1] + 1e-9, _GRID) if len(octaves) > 1 else octaves
    joined = np.interp(grid, octaves, parts)
    at = trials.index(best)
    if 0 < at < len(trials) - 1 and max(parts[at - 1], parts[at + 1]) < worst:
        around = slice(at - 1, at + 2)
        parabola = np.polynomial.Polynomial.fit(octaves[around], parts[around], 2)
        inside = (grid >= octaves[at - 1]) & (grid <= octaves[at + 1])
        joined[inside] = parabola(grid[inside])
    lowest = float(initial_lr * 2.0 ** grid[np.lexsort((abs(grid), joined))[0]])  # of ties, that near the initial LR
    too_high = _lowest_too_high(record, trials, best)
    return lowest if too_high is None else min(lowest, too_high / FITTED.search.margin)


def _lr_of_two(record: TrialRecord, lower: Trial, higher: Trial) -> float:
    """What two trials show, of which one at least improved the loss."""
    if higher.loss is None:
        return lower.lr
    losses = [min(trial.loss_or_inf, record.start_loss) for trial in (lower, higher)]
    clear = math.tanh((losses[0] - losses[1]) / (record.start_loss - min(losses)) / _GAP)
    return math.sqrt(lower.lr * higher.lr) * 2 ** (clear * (_ABOVE if clear > 0 else _BELOW))


def _lowest_too_high(record: TrialRecord, trials: tuple[Trial, ...], best: Trial) -> float | None:
    """Lowest LR above the best at which a trial ended no better than it started; None for none.

    A short training has less time to diverge than a long one, so the margin below it counts.
    """
    bad = (trial.lr for trial in trials if trial.lr > best.lr and trial.loss_or_inf >= record.start_loss)
    return next(bad, None)
