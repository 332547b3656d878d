"""Advice from a curve: learning rates per schedule, a grade of confidence, and the reasons.

:mod:`lrfinder.analysis.regimes` reads the curve, :mod:`lrfinder.advice.combine` weighs what was read (with the
formula), and :mod:`lrfinder.analysis.diagnose` finds what is unusual. This module turns that into advice. No torch.
"""

from __future__ import annotations

from lrfinder.advice.advice import Advice, rounded_advice
from lrfinder.advice.combine import Estimate, combine
from lrfinder.advice.heads import around
from lrfinder.advice.situation import contradicted, is_tuning
from lrfinder.advice.typical import typical_evidence
from lrfinder.analysis.diagnose import diagnose, unreadable
from lrfinder.analysis.finding import GRADES, Finding
from lrfinder.analysis.regimes import Reading, read_curve
from lrfinder.analysis.unusual_training import batches_differ, lr_free
from lrfinder.numbers import clamp_lr, round_lr
from lrfinder.record.curve import LossCurve
from lrfinder.tables.constants import FITTED, Constants
from lrfinder.tables.optimizers import unscaled_kinds

__all__ = ["advise"]


def advise(curve: LossCurve, *, reading: Reading | None = None, constants: Constants = FITTED) -> Advice:
    """Learning rates for this curve, or the reasons why there are none.

    Any curve is accepted; one without information gets grade "none" and what to do.

    Args:
        curve: what a range test recorded.
        reading: what it shows, where it was read already.
        constants: fitted parts, weights and factors.

    Example:
        >>> from lrfinder.record.curve import SweepConfig
        >>> from lrfinder.record.sweep import Sweep
        >>> sweep = Sweep(SweepConfig(start_lr=0.001, end_lr=10.0, num_iter=101))
        >>> weight = 1.0  # gradient descent on weight**2, stable below lr 1
        >>> while not sweep.done:
        ...     sweep.record(weight**2)
        ...     weight -= sweep.last_lr * 2 * weight
        >>> advice = advise(sweep.curve(optimizer="SGD"))
        >>> advice.base_lr < advice.edge_lr, advice.grade
        (True, 'high')
    """
    reading = reading or read_curve(curve)
    keeps_lr = tuple(filter(None, [lr_free(curve), batches_differ(curve)]))  # then nothing else has a bearing on the LR
    refused = unreadable(curve, reading)
    if refused is not None and not (keeps_lr and refused.code == "flat"):
        findings = (refused, *keeps_lr)
        return Advice(max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", findings=findings)
    estimate = combine(curve, reading, constants=constants)
    findings = keeps_lr or (*_findings(curve, reading, estimate, constants), *diagnose(curve, reading))
    grade = max((estimate.grade, *(finding.caps_grade for finding in findings)), key=GRADES.index)
    top = reading.lrs[-1] if reading.edge_lr is None else reading.edge_lr
    return rounded_advice(
        estimate.base_lr,
        estimate.ceiling,
        around(estimate.evidence, constants.spread.of(grade)),
        grade=grade,
        min_lr=reading.onset_lr or max(clamp_lr(constants.onset_part * top), reading.lrs[0]),  # none below was tried
        edge_lr=None if keeps_lr else reading.edge_lr,
        diverged_lr=None if keeps_lr else reading.diverged_lr,
        evidence=estimate.evidence,
        findings=findings,
        constants=constants,
        peaks=tuple((kind, round_lr(estimate.base_lr)) for kind in unscaled_kinds(curve.optimizer)),
    )


def _findings(curve: LossCurve, reading: Reading, estimate: Estimate, constants: Constants) -> tuple[Finding, ...]:
    """Findings about the edge, about a typical LR that is unknown or not used, and about trained weights."""
    found = []
    if reading.edge_lr is not None and reading.edge_interval is not None:
        found.append(Finding(code="edge", lr=reading.edge_lr, values=reading.edge_interval))
    if (typical := typical_evidence(curve, reading, constants)) is None:
        found.append(Finding(code="no_typical_lr", detail=curve.optimizer))
    elif not {"typical", "head", "probe"} & {each.name for each in estimate.evidence}:
        found.append(Finding(code="other_unit", lr=typical.lr, detail=curve.optimizer, caps_grade="low"))
    if reading.edge_lr is not None and (base := round_lr(estimate.base_lr)) > reading.edge_lr:
        found.append(Finding(code="above_edge", lr=base, values=(reading.edge_lr,), caps_grade="low"))
    if reading.update_rule == "proportional" and is_tuning(curve.facts):
        found.append(Finding(code="tuned_sgd", detail=curve.optimizer, caps_grade="low"))
    if (seen := contradicted(curve.facts)) is not None:
        found.append(Finding(code="pretrained_contradicted", detail=seen, caps_grade="medium"))
    return tuple(found)
