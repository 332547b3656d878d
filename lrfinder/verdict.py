"""What a trial search comes to: the LR that its trials speak for, and the advice that follows from it. No torch.

The losses of a stage, as parts of the best improvement, are joined over the logarithm of the LR: by a parabola through
the best trial and its neighbours, elsewhere by straight lines. With x the distance from the initial LR in octaves, the
LR at the lowest point of

    part(x) + pull * total_steps / steps * x**2

is chosen, so near ties go to the initial LR, the more so the shorter the trials. The weights are fitted to real
trainings: :mod:`lrfinder.tables.constants`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from lrfinder.advice import Advice, rounded_advice
from lrfinder.numbers import format_lr, round_lr
from lrfinder.tables.constants import FITTED, Constants
from lrfinder.trials import STAGES, Trial, TrialRecord, best_trial

__all__ = ["advice_without_search", "advice_without_trials", "best_trial_lr", "refined_advice", "screened_lr"]

_GRID = 1 / 16  # octaves between the LRs that are compared
_AGREED = 2.0  # factor up to which search and range test count as agreed


def best_trial_lr(record: TrialRecord, *, constants: Constants = FITTED) -> float | None:
    """LR for the training that the search is for, between the LRs tried; None where the trials show none.

    Example:
        >>> trials = tuple(Trial(lr=lr, steps=60, loss=loss) for lr, loss in ((0.1, 1.5), (0.4, 1.0), (0.025, 1.9)))
        >>> record = TrialRecord(
        ...     schedule="cosine", total_steps=1000, budget_steps=200, initial_lr=0.1, start_loss=2.0, trials=trials
        ... )
        >>> round(best_trial_lr(record), 2)
        0.19
    """
    screened, confirmations = screened_lr(record, constants=constants), record.in_stage("confirmation")
    if not confirmations:
        return screened
    confirmed = _stage_lr(record, confirmations, screened or record.initial_lr, constants)
    if confirmed is None and screened is not None:
        # Confirmation trials that went wrong show that the LR is too high, and no more.
        return min(screened, confirmations[0].lr) / constants.search.margin
    return confirmed


def screened_lr(record: TrialRecord, *, constants: Constants = FITTED) -> float | None:
    """LR that the screening trials speak for; None where none of them came below the loss it started from."""
    return _stage_lr(record, record.in_stage("screening"), record.initial_lr, constants)


def _stage_lr(
    record: TrialRecord, trials: tuple[Trial, ...], initial_lr: float, constants: Constants
) -> float | None:
    best = best_trial(trials)
    if best is None or best.loss_or_inf >= record.start_loss:
        return None
    octaves = np.log2([trial.lr / initial_lr for trial in trials])
    improvement = record.start_loss - best.loss_or_inf
    worst = constants.search.worst_part
    parts = [min((trial.loss_or_inf - best.loss_or_inf) / improvement, worst) for trial in trials]
    grid = np.arange(octaves[0], octaves[-1] + 1e-9, _GRID) if len(octaves) > 1 else octaves
    joined = np.interp(grid, octaves, parts)
    at = trials.index(best)
    if 0 < at < len(trials) - 1 and max(parts[at - 1], parts[at + 1]) < worst:
        around = slice(at - 1, at + 2)
        parabola = np.polynomial.Polynomial.fit(octaves[around], parts[around], 2)
        inside = (grid >= octaves[at - 1]) & (grid <= octaves[at + 1])
        joined[inside] = parabola(grid[inside])
    pull = constants.search.pull * record.total_steps / max(trial.steps for trial in trials)
    lowest = float(initial_lr * 2.0 ** grid[int((joined + pull * grid**2).argmin())])
    too_high = _lowest_too_high(record, trials, best)
    return lowest if too_high is None else min(lowest, too_high / constants.search.margin)


def _lowest_too_high(record: TrialRecord, trials: tuple[Trial, ...], best: Trial) -> float | None:
    """Lowest LR above the best at which a trial ended no better than it started.

    A short training has less time to diverge than a long one, so the margin below it counts. From trained weights the
    loss rises at first at every high LR, so there it means nothing.
    """
    if not record.improved:
        return None
    bad = (trial.lr for trial in trials if trial.lr > best.lr and trial.loss_or_inf >= record.start_loss)
    return next(bad, None)


def refined_advice(advice: Advice, record: TrialRecord, *, constants: Constants = FITTED) -> Advice:
    """The advice after a trial search: its schedule gets the LR found, and the others follow by their factors.

    Args:
        advice: of the range test.
        record: what the search measured.
        constants: factors of the schedules, widths of the interval, and how losses are compared.
    """
    found = best_trial_lr(record, constants=constants)
    if found is None or advice.min_lr is None:
        return dataclasses.replace(advice, reasons=(_nothing_found(record), *advice.reasons))
    grade = _grade(advice, record, found)
    base = found / constants.peak_factor(record.schedule)
    ceiling = None if advice.ceiling is None else max(advice.ceiling, found)
    refined = rounded_advice(
        base if ceiling is None else min(base, ceiling),
        ceiling,
        constants.search.spread if grade == "high" else constants.spread.medium,
        min_lr=advice.min_lr,
        grade=grade,
        reasons=tuple(_reasons(record, found)),
        edge_lr=advice.edge_lr,
        diverged_lr=advice.diverged_lr,
    )
    # The schedule that the search was for gets the LR itself, and what is named after that schedule is the same number.
    peak = round_lr(found)
    return dataclasses.replace(
        refined,
        peaks=((record.schedule, peak),),
        max_lr=peak if record.schedule == "onecycle" else refined.max_lr,
        base_lr=peak if record.schedule == "cosine" else refined.base_lr,
    )


def advice_without_search(advice: Advice, schedule: str, budget_steps: int) -> Advice:
    """The advice where the budget has no room for a search."""
    reason = (
        f"No trial search for {schedule}: {budget_steps} steps are too few for three trials of ten. Give a larger "
        "budget, or train with the LR of the range test."
    )
    return dataclasses.replace(advice, reasons=(reason, *advice.reasons))


def advice_without_trials(advice: Advice) -> Advice:
    """The advice where Ctrl-C came before the first trial."""
    reason = "The trial search was interrupted before its first trial."
    return dataclasses.replace(advice, reasons=(reason, *advice.reasons))


def _grade(advice: Advice, record: TrialRecord, found: float) -> str:
    """Screening trials alone find the best LR as well as a range test does and no better; agreement makes it sure."""
    agreed = max(found, record.initial_lr) <= _AGREED * min(found, record.initial_lr)
    confirmed = agreed and bool(record.in_stage("confirmation"))
    sure = _is_inside(record, found) and record.improved and (advice.grade == "high" or confirmed)
    return "high" if sure else "medium"


def _is_inside(record: TrialRecord, found: float) -> bool:
    trials = record.in_stage("screening")
    return trials[0].lr < found < trials[-1].lr


def _cost(record: TrialRecord) -> str:
    """As in "Trial search: 50 optimizer steps in all, 25% of the 200 of the cosine training"."""
    return (
        f"Trial search: {record.spent} optimizer steps in all, {record.spent / record.total_steps:.0%} of the "
        f"{record.total_steps} of the {record.schedule} training"
        f"{', until it was interrupted' if record.interrupted else ''}"
    )


def _nothing_found(record: TrialRecord) -> str:
    return (
        f"{_cost(record)}. No trial lowered the {record.measured} loss it started from, so the advice is that of the "
        "range test."
    )


def _reasons(record: TrialRecord, found: float) -> Iterator[str]:
    yield (
        f"{_cost(record)}. By the {record.measured} loss, the best LR for {record.schedule} is {format_lr(found)}; the "
        f"range test advised {format_lr(record.initial_lr)}."
    )
    for stage in STAGES:
        if trials := record.in_stage(stage):
            steps = max(trial.steps for trial in trials)
            yield f"Losses after {stage} trials of {steps} steps: {', '.join(map(_outcome, trials))}."
    if not _is_inside(record, found):
        yield "That LR is not inside the range that was screened; the best may lie beyond it."
    if not record.improved:
        yield (
            "No trial improved the loss noticeably, which is typical of pretrained weights. Short trials underestimate "
            "the best LR there, so LRs below the range test's were not tried."
        )


def _outcome(trial: Trial) -> str:
    return f"{'diverged' if trial.loss is None else f'{trial.loss:.4g}'} at lr {format_lr(trial.lr)}"
