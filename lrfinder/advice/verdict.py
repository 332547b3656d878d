"""The outcome of a trial search: the advice that follows from what its trials show. No torch.

The LR that they show (:mod:`lrfinder.advice.trial_reading`) is weighed against the advice that they started from, each
by its variance in octaves: the advice by its interval, the trials by ``trial_variance * total_steps / steps`` of the
longest, and by less where the training goes through its data a few times only. Both variances give the interval. Where
the longest trial at the initial LR diverged, the trials alone count; where none improved the loss, the advice stays.
The constants are fitted to real trainings: :mod:`lrfinder.tables.constants`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from lrfinder.advice.advice import Advice, rounded_advice
from lrfinder.advice.evidence import Evidence, weighted_mean
from lrfinder.advice.heads import around, of_head
from lrfinder.advice.laws import trained_part
from lrfinder.advice.search_words import explain_trials
from lrfinder.advice.trial_reading import best_trial_lr, lags, overfitting
from lrfinder.advice.words import explain
from lrfinder.analysis.finding import GRADES, Finding
from lrfinder.analysis.probe import without_probe
from lrfinder.analysis.regimes import read_curve
from lrfinder.numbers import round_lr
from lrfinder.record.curve import LossCurve
from lrfinder.record.trials import TrialRecord
from lrfinder.tables.constants import FITTED
from lrfinder.tables.heads import HEAD
from lrfinder.tables.situations import PASSES

__all__ = ["advice_without_search", "advice_without_trials", "refined_advice", "trial_levels"]

_OUTSIDE_INTERVAL = 1.28  # standard deviations from which a tenth lies beyond: the interval holds 80 %
_AGREED = 2.0  # factor up to which search and range test count as agreed
# Findings that trials do not settle.
_OF_TRAINING = (
    "lr_free", "batches_differ", "sorted", "groups", "initial_lrs", "frozen_reference", "maximized", "large_epsilon",
)


def trial_levels(curve: LossCurve, *, compressed: bool) -> tuple[float, float]:
    """Highest training loss and smallest improvement allowed for trials, from the training loss of the range test.

    Args:
        curve: of the range test.
        compressed: whether the screening trials are long ones, which have the whole schedule.

    Returns:
        Training loss that no useful training exceeds: the level at the start, plus the drop and ten batch noises. Fall
        of the loss that counts as an improvement: any in long trials and if the range test had shown a fall, else half
        of the batch noise.
    """
    reading = read_curve(without_probe(curve))
    any_counts = compressed or reading.onset_lr is not None
    least = 0.0 if any_counts else FITTED.search.min_improvement_noises * reading.noise_std
    return reading.level + reading.total_drop + 10 * reading.noise_std, least


def refined_advice(advice: Advice, record: TrialRecord) -> Advice:
    """The advice after a trial search: its schedule gets the LR found, and the others follow by their factors.

    Args:
        advice: of the range test.
        record: what the search measured.
    """
    if not record.trials:
        return advice_without_trials(advice)
    found = best_trial_lr(record)
    if found is None or advice.min_lr is None or advice.base_lr is None:
        refused = Finding(code="trials_lag" if lags(record) else "no_trial_learned", detail=record.measured)
        reasons = (*explain((), (refused,)), *explain_trials(record), *advice.reasons)
        return dataclasses.replace(advice, findings=(refused, *advice.findings), reasons=reasons)
    variances = _variances(advice, record)
    evidence = tuple(_weighed(record, found, *variances, trained=trained_part(advice.evidence)))
    weighed = weighted_mean(evidence)
    findings = (*_findings(record, found), *(each for each in advice.findings if each.code in _OF_TRAINING))
    grade = max((_grade(advice, record, found), *(each.caps_grade for each in findings)), key=GRADES.index)
    known = dict(advice.peaks).get(record.schedule)
    base = weighed / (FITTED.peak_factor(record.schedule) if known is None else known / advice.base_lr)
    ceiling = None if advice.ceiling is None else max(advice.ceiling, weighed)
    refined = rounded_advice(
        base if ceiling is None else min(base, ceiling),
        ceiling,
        around(advice.evidence, _spread(*variances)),
        min_lr=advice.min_lr,
        edge_lr=advice.edge_lr,
        diverged_lr=advice.diverged_lr,
        grade=grade,
        evidence=evidence,
        findings=findings,
        reasons=(*explain(evidence, ()), *explain_trials(record), *explain((), findings)),
    )
    # The schedule that the search was for gets the LR itself, and what is named after that schedule is the same number.
    peak = round_lr(weighed)
    return dataclasses.replace(
        refined,
        peaks=((record.schedule, peak), *_other_peaks(advice, refined, record)),
        max_lr=peak if record.schedule == "onecycle" else refined.max_lr,
    )


def _other_peaks(advice: Advice, refined: Advice, record: TrialRecord) -> Iterator[tuple[str, float]]:
    """Those of the schedules that need no factor whatever the trials show, moved with ``base_lr``."""
    for kind, lr in advice.peaks:
        if kind != record.schedule and advice.base_lr is not None and refined.base_lr is not None:
            yield kind, round_lr(lr * refined.base_lr / advice.base_lr)


def advice_without_search(advice: Advice, schedule: str, budget_steps: int) -> Advice:
    """The advice where the budget has no room for a search."""
    return advice.with_findings(Finding(code="search_too_short", values=(budget_steps,), detail=schedule))


def advice_without_trials(advice: Advice) -> Advice:
    """The advice where Ctrl-C came before the first trial."""
    return advice.with_findings(Finding(code="search_interrupted"))


def _variances(advice: Advice, record: TrialRecord) -> tuple[float, float]:
    """Of the advice that the trials started from, and of what they found, in squared octaves."""
    assert advice.base_lr is not None and advice.interval is not None  # or there were no trials
    head = of_head(advice.evidence)
    half_width = HEAD.spread if head else advice.base_lr / advice.interval[0]
    prior = (math.log2(half_width) / _OUTSIDE_INTERVAL) ** 2
    length = record.total_steps / max(trial.steps for trial in record.trials)
    if record.passes is not None and not record.probed and not head:
        length = max(1.0, length * min(1.0, record.passes / PASSES.reference))  # it repeats little that trials lack
    return prior, FITTED.search.trial_variance * length


def _spread(prior: float, measured: float) -> float:
    """Half width of the interval of both together, as a factor."""
    return float(2 ** (_OUTSIDE_INTERVAL * math.sqrt(prior * measured / (prior + measured))))


def _weighed(record: TrialRecord, found: float, prior: float, measured: float, *, trained: str) -> Iterator[Evidence]:
    """What the trials found and, unless it diverged, the LR that they started from, with their weights.

    A head may be best where a constant LR diverges and a decaying one does not, so its short trials do not decide that.
    """
    initial = record.initial_lr
    at_initial = [trial for trial in record.trials if math.isclose(trial.lr, initial)]
    longest = max(at_initial, key=lambda trial: trial.steps, default=None)
    refuted = longest is None or (longest.loss is None and not (trained == "head" and longest.stage == "screening"))
    weight = 1.0 if refuted else prior / (prior + measured)
    for name, lr, part in (("trials", found, weight), ("range test", initial, 1 - weight)):
        if part > 0:
            seen, steps = (lr, lr), record.total_steps
            yield Evidence(
                name=name, lr=lr, weight=part, part=1.0, seen=seen, source=record.schedule, steps=steps, trained=trained
            )


def _findings(record: TrialRecord, found: float) -> Iterator[Finding]:
    if (more := overfitting(record)) is not None:
        yield more
    screened = record.in_stage("screening")
    if not screened[0].lr < found < screened[-1].lr:
        yield Finding(code="outside_screening", lr=found, caps_grade="medium")


def _grade(advice: Advice, record: TrialRecord, found: float) -> str:
    """Screening trials alone find the best LR as well as a range test does and no better; agreement makes it sure.

    Of a new head it does not: range test and trials may agree far below the best LR.
    """
    agreed = max(found, record.initial_lr) <= _AGREED * min(found, record.initial_lr)
    confirmed = agreed and bool(record.in_stage("confirmation")) and not of_head(advice.evidence)
    return "high" if advice.grade == "high" or confirmed else "medium"
