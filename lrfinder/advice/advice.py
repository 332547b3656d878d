"""Advice as a value: learning rates per schedule, a grade of confidence, evidence, and the reasons. No torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrfinder.advice.combine import peak_lr
from lrfinder.advice.evidence import Evidence
from lrfinder.advice.laws import length_factor
from lrfinder.advice.words import explain
from lrfinder.analysis.finding import GRADES, Finding
from lrfinder.checks import check_choice, check_count, check_lr
from lrfinder.errors import ConfigError, NoAdviceError
from lrfinder.files import saved_content
from lrfinder.numbers import clamp_lr, round_lr
from lrfinder.tables.constants import FITTED, Constants
from lrfinder.tables.kinds import KINDS

__all__ = ["Advice", "rounded_advice"]


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Learning rates to train with, how sure they are, and why.

    Args:
        max_lr: peak for OneCycle. This and the next three are None if the grade is "none", and only then.
        base_lr: peak for cosine and linear schedules.
        min_lr: lowest LR that visibly trains.
        interval: (low, high), where the best ``base_lr`` is expected.
        grade: ``"high"``, ``"medium"``, ``"low"`` or ``"none"``.
        evidence: the learning rates that ``base_lr`` is averaged from, with their weights.
        findings: what is unusual about the curve, with the grade that each allows.
        reasons: evidence and findings in sentences; made from the two where none are given.
        edge_lr: stability edge; None when the sweep found none.
        diverged_lr: where the loss had given back most of its fall for good; None when the sweep did not get there.
        ceiling: no factor of a schedule lifts its LR above this; None where only the interval limits it.
        peaks: (kind, LR) where no factor is needed: from a trial search, or constant if the optimizer averages weights.

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

        It is ``base_lr`` times the factor of the schedule, and at most ``ceiling``.

        Args:
            kind: one of the schedule kinds, as in ``"cosine"``.
            total_steps: length of the training in optimizer steps, >= 1. Up to 2000, the longest of the calibration
                runs, and up to the length that a trial search was for, it changes nothing. Beyond, the LR is multiplied
                by the fourth root of 2000 / length. For trained weights and an adaptive optimizer, such as AdamW, it is
                multiplied by the square root of 400 / length from 400 steps on; for a new head alone, or one linear
                layer, by the square root of 500 / length at any length.
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
            fields = dict(content)
            for name in ("max_lr", "base_lr", "min_lr", "edge_lr", "ceiling", "diverged_lr"):
                fields[name] = None if fields[name] is None else float(fields[name])
            if fields["interval"] is not None:
                fields["interval"] = tuple(map(float, fields["interval"]))
            fields["peaks"] = tuple((str(kind), float(lr)) for kind, lr in fields["peaks"])
            fields["reasons"] = tuple(map(str, fields["reasons"]))
            fields["evidence"] = tuple(map(Evidence.from_dict, fields["evidence"]))
            fields["findings"] = tuple(map(Finding.from_dict, fields["findings"]))
            _check_saved(fields)
            return cls(**fields)


def rounded_advice(
    base_lr: float,
    ceiling: float | None,
    around: tuple[float, float],
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
        around: ends of the interval, as multiples of ``base_lr``; the first at most 1, the second at least.
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
    low, high = (base * end for end in around)
    high = high if limit is None else min(high, max(limit, base))
    return Advice(
        max_lr=max_lr,
        base_lr=base,
        min_lr=round_lr(min(min_lr, base, max_lr)),
        interval=(clamp_lr(round_lr(low)), max(clamp_lr(round_lr(high)), base)),
        edge_lr=edge_lr,
        ceiling=ceiling,
        diverged_lr=diverged_lr,
        **rest,
    )


def _check_saved(fields: Mapping[str, Any]) -> None:
    """Check the learning rates among the fields of an ``Advice``: positive, finite, and in order.

    Raises:
        ConfigError: they are not.
    """
    for name in ("max_lr", "base_lr", "min_lr", "edge_lr", "ceiling", "diverged_lr"):
        if fields[name] is not None:
            check_lr(name, fields[name])
    for kind, lr in fields["peaks"]:
        check_lr(f"the peak of {check_choice('kind', kind, KINDS)}", lr)
    if fields["interval"] is None or fields["base_lr"] is None:
        return
    low, high = (check_lr("each end of interval", end) for end in fields["interval"])
    if not low <= fields["base_lr"] <= high:
        raise ConfigError(f"base_lr must lie in interval; got {fields['base_lr']:g} and ({low:g}, {high:g})")
    for name in ("max_lr", "base_lr"):
        if None not in (fields["min_lr"], fields[name]) and fields["min_lr"] > fields[name]:
            raise ConfigError(f"min_lr must not be above {name}; got {fields['min_lr']:g} and {fields[name]:g}")
