"""Every sentence about a trial search, beside :mod:`lrfinder.advice.words`. No torch."""

from __future__ import annotations

from collections.abc import Iterator

from lrfinder.numbers import format_lr
from lrfinder.record.trials import STAGES, Trial, TrialRecord

__all__ = ["SEARCH_SENTENCES", "explain_trials"]


SEARCH_SENTENCES: dict[str, str] = {
    "search_too_short": (
        "No trial search for {detail}: {values[0]:g} steps are too few for three trials of ten. Give a larger budget, "
        "or train with the LR of the range test."
    ),
    "search_interrupted": "The trial search was interrupted before its first trial.",
    "no_trial_learned": (
        "Trial search: no trial lowered the {detail} loss noticeably, as is typical of short trials of trained "
        "weights. The advice is that of the range test."
    ),
    "trials_lag": (
        "Trial search: the {detail} loss does not follow the training loss, as where the running statistics of "
        "BatchNorm move too slowly for short trials. The advice is that of the range test."
    ),
    "outside_screening": "{lr} is not inside the range that was screened; the best LR may lie beyond it.",
    "trials_overfit": (
        "The best long trial overfits: its training loss is {values[1]:.3g}, its validation loss {values[2]:.3g}. The "
        "training is longer and would overfit more, so it gets {values[0]:.2g} times the LR of that trial."
    ),
    "many_passes": (
        "The training goes through its data {values[1]:.0f} times. With more than eight it overfits more than its "
        "trials do, so it gets {values[0]:.2g} times the LR that they show."
    ),
}
"""By code, the sentence of each finding of a trial search, as a text to be filled in."""


def explain_trials(record: TrialRecord) -> Iterator[str]:
    """Sentences on the cost of a trial search and the losses it measured."""
    until = ", until it was interrupted" if record.interrupted else ""
    yield (
        f"The trials took {record.spent} optimizer steps in all, {record.spent / record.total_steps:.0%} of the "
        f"{record.total_steps} of the {record.schedule} training{until}. They started from lr "
        f"{format_lr(record.initial_lr)}."
    )
    for stage in STAGES:
        if trials := record.in_stage(stage):
            steps = max(trial.steps for trial in trials)
            losses = ", ".join(map(_outcome, trials))
            yield f"{record.measured.capitalize()} losses after {stage} trials of {steps} steps: {losses}."


def _outcome(trial: Trial) -> str:
    return f"{'diverged' if trial.loss is None else f'{trial.loss:.4g}'} at lr {format_lr(trial.lr)}"
