"""Advice from a curve: learning rates per schedule, a grade of confidence, and the reasons.

:mod:`lrfinder.analysis.regimes` reads the curve, :mod:`lrfinder.advice.combine` weighs what was read (with the
formula), and :mod:`lrfinder.analysis.diagnose` finds what is unusual. This module turns that into advice. No torch.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from lrfinder.advice.combine import Estimate, combine, peak_lr
from lrfinder.advice.evidence import Evidence
from lrfinder.advice.heads import spread_of
from lrfinder.advice.saved import check_saved
from lrfinder.advice.situation import contradicted, is_tuning, length_factor
from lrfinder.advice.typical import typical_evidence
from lrfinder.advice.words import explain
from lrfinder.analysis.diagnose import diagnose, unreadable
from lrfinder.analysis.finding import GRADES, Finding
from lrfinder.analysis.regimes import Reading, read_curve
from lrfinder.analysis.unusual_training import lr_free
from lrfinder.checks import check_choice, check_count
from lrfinder.errors import ConfigError, NoAdviceError
from lrfinder.files import saved_content
from lrfinder.numbers import clamp_lr, round_lr
from lrfinder.record.curve import LossCurve
from lrfinder.tables.constants import FITTED, Constants
from lrfinder.tables.kinds import KINDS
from lrfinder.tables.optimizers import unscaled_kinds

__all__ = ["GRADES", "Advice", "advise", "rounded_advice"]


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Learning rates to train with, how sure they are, and why.

    Args:
        max_lr: peak for OneCycle. None, as ``base_lr``, ``min_lr`` and ``interval``, exactly if the grade is "none".
        base_lr: peak for cosine and linear schedules.
        min_lr: lowest LR that visibly trains.
        interval: (low, high), where the best ``base_lr`` is expected.
        grade: ``"high"``, ``"medium"``, ``"low"`` or ``"none"``.
        evidence: the learning rates that ``base_lr`` is averaged from, with their weights.
        findings: what is unusual about the curve, with the grade that each allows.
        reasons: evidence and findings in sentences; made from the two where none are given.
        edge_lr: stability edge; None when the sweep found none.
        diverged_lr: where the loss had given back most of its fall for good; None when the sweep did not get there.
        ceiling: highest LR that any schedule gets by its factor; None for no limit but the interval's.
        peaks: (kind, LR) of schedules that need no factor: of a trial search, or constant if the optimizer averages.

    Raises:
        ConfigError: an unknown grade, or LRs that do not fit it.
    """

    max_lr: float | None
    base_lr: float | None
    min_lr: float | None
    interval: tuple[float, float] | None
    grade: str
    reasons: tuple[str, ...] = ()
    edge_lr: float | None = None
    ceiling: float | None = None
    peaks: tuple[tuple[str, float], ...] = ()
    diverged_lr: float | None = None
    evidence: tuple[Evidence, ...] = ()
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        check_choice("grade", self.grade, GRADES)
        for name in ("max_lr", "base_lr", "min_lr", "interval"):
            if (getattr(self, name) is None) != (self.grade == "none"):
                raise ConfigError(
                    f"{name} must be None exactly if the grade is 'none'; got {getattr(self, name)!r} with grade "
                    f"{self.grade!r}."
                )
        if not self.reasons:
            object.__setattr__(self, "reasons", explain(self.evidence, self.findings))

    def with_findings(self, *findings: Finding) -> Advice:
        """The same learning rates with findings, and their sentences, in front of the others."""
        reasons = (*explain((), findings), *self.reasons)
        return dataclasses.replace(self, findings=(*findings, *self.findings), reasons=reasons)

    def lr_for(self, kind: str, total_steps: int | None = None, *, constants: Constants = FITTED) -> float:
        """Peak LR to put into the scheduler of that kind, to two significant digits.

        It is ``base_lr`` times the factor of the schedule, held below ``ceiling``.

        Args:
            kind: one of the schedule kinds, as in ``"cosine"``.
            total_steps: length of the training in optimizer steps, >= 1. Up to 2000, the longest of the calibration
                runs, and up to that of a trial search, it changes nothing; beyond, the LR falls by the fourth root of
                the length. That of a new head alone, and of one linear layer, goes by the square root of 500 over it.
            constants: of which the factors of the schedules are used.

        Raises:
            ConfigError: an unknown kind, or ``total_steps`` that is no positive integer.
            NoAdviceError: the curve has no advice.

        Example:
            >>> advice = Advice(max_lr=0.12, base_lr=0.1, min_lr=0.001, interval=(0.03, 0.12), grade="high",
            ...     ceiling=0.12)
            >>> advice.lr_for("cosine"), advice.lr_for("constant") < 0.1, advice.lr_for("exponential")
            (0.1, True, 0.12)
        """
        check_choice("kind", kind, KINDS)
        if total_steps is not None:
            check_count("total_steps", total_steps)
        if self.base_lr is None or self.interval is None:
            raise NoAdviceError(f"no learning rate for {kind!r}: " + " ".join(self.reasons))
        known = dict(self.peaks).get(kind)
        fixed = known is not None and all(each.steps is None for each in self.evidence)  # by no trial
        ceiling = self.interval[1] if self.ceiling is None else self.ceiling
        known = known or (self.max_lr if kind == "onecycle" else None)
        lr = known or peak_lr(kind, self.base_lr, ceiling, constants=constants)
        factor = 1.0 if fixed or total_steps is None else length_factor(self.evidence, total_steps)
        return lr if factor == 1 else round_lr(min(lr * factor, max(lr, ceiling)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary; :meth:`from_dict` gives equal advice back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Advice:
        """Advice from :meth:`to_dict`.

        Raises:
            FileFormatError: a field is missing, unknown or out of range.
        """
        with saved_content("advice", hint="Run the range test again."):
            # Fields that the first files did not have.
            fields: dict[str, Any] = {"diverged_lr": None, "evidence": (), "findings": (), **content}
            for name in ("max_lr", "base_lr", "min_lr", "edge_lr", "ceiling", "diverged_lr"):
                fields[name] = None if fields[name] is None else float(fields[name])
            if fields["interval"] is not None:
                fields["interval"] = tuple(map(float, fields["interval"]))
            fields["peaks"] = tuple((str(kind), float(lr)) for kind, lr in fields["peaks"])
            fields["reasons"] = tuple(map(str, fields["reasons"]))
            fields["evidence"] = tuple(map(Evidence.from_dict, fields["evidence"]))
            fields["findings"] = tuple(map(Finding.from_dict, fields["findings"]))
            check_saved(fields)
            return cls(**fields)


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
    keeps_lr = lr_free(curve)  # then no other finding has a bearing on the LR
    if (refused := unreadable(curve, reading)) is not None:
        findings = (refused, *filter(None, [keeps_lr]))
        return Advice(max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", findings=findings)
    estimate = combine(curve, reading, constants=constants)
    findings = (keeps_lr,) if keeps_lr else (*_findings(curve, reading, estimate, constants), *diagnose(curve, reading))
    grade = max((estimate.grade, *(finding.caps_grade for finding in findings)), key=GRADES.index)
    top = reading.lrs[-1] if reading.edge_lr is None else reading.edge_lr
    return rounded_advice(
        estimate.base_lr,
        estimate.ceiling,
        spread_of(estimate.evidence, constants.spread.of(grade)),
        grade=grade,
        min_lr=reading.onset_lr or max(clamp_lr(constants.onset_part * top), reading.lrs[0]),  # none below was tried
        edge_lr=None if keeps_lr else reading.edge_lr,
        diverged_lr=None if keeps_lr else reading.diverged_lr,
        evidence=estimate.evidence,
        findings=findings,
        constants=constants,
        peaks=tuple((kind, round_lr(estimate.base_lr)) for kind in unscaled_kinds(curve.optimizer)),
    )


def rounded_advice(
    base_lr: float,
    ceiling: float | None,
    spread: float,
    *,
    min_lr: float,
    edge_lr: float | None,
    diverged_lr: float | None,
    constants: Constants = FITTED,
    **rest: Any,
) -> Advice:
    """Advice of two significant digits around a ``base_lr``.

    Args:
        base_lr: peak LR for cosine; > 0.
        ceiling: highest LR for any schedule; None for none.
        spread: half width of the interval, as a factor; >= 1.
        min_lr: lowest LR that visibly trains; lowered to the others where it is above them.
        edge_lr: stability edge, or None.
        diverged_lr: where the loss had diverged, or None.
        constants: of which the factors of the schedules are used.
        rest: the other fields of :class:`Advice`.
    """
    max_lr = peak_lr("onecycle", base_lr, math.inf if ceiling is None else ceiling, constants=constants)
    base = round_lr(base_lr)
    # In 30 of 366 sweeps of the benchmark the best LR lay above the edge, and in none above where the sweep diverged.
    limit = diverged_lr if diverged_lr is not None else edge_lr
    high = base * spread if limit is None else min(base * spread, max(limit, base))
    return Advice(
        max_lr=max_lr,
        base_lr=base,
        min_lr=round_lr(min(min_lr, base, max_lr)),
        interval=(clamp_lr(round_lr(base / spread)), max(clamp_lr(round_lr(high)), base)),
        edge_lr=edge_lr,
        ceiling=ceiling,
        diverged_lr=diverged_lr,
        **rest,
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
