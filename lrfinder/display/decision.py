"""The first line of every output: the learning rate to use, as a value and in words. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrfinder.advice.advice import Advice
from lrfinder.analysis.finding import Finding
from lrfinder.display.parts import other_parts
from lrfinder.display.reference import reference_sentence
from lrfinder.numbers import format_lr, geometric_mean, round_lr
from lrfinder.param_groups import reference_group
from lrfinder.record.run import RunRecord
from lrfinder.tables.recipes import ReferenceRecipe, scaled_lr

__all__ = ["Decision", "decide"]

_CAUSES = {
    "flat": "the loss neither falls nor rises",
    "nonfinite_early": "the loss became nan or infinite too early",
    "too_few_points": "it has too few points",
}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One learning rate with its bounds, in numbers and in words.

    Args:
        lr: learning rate to use, ``base_lr`` of the advice; None where the curve has none.
        lr_of: part of the model that it is for, as in "the head"; None where it is for all that is trained.
        interval: (low, high), where the best one is expected; None without ``lr``.
        limit: learning rate that no schedule should exceed: the geometric mean of the stability edge and of where the
            loss had diverged, or what the advice has above it; with one of the two, that one. The benchmark's page says
            how often the best learning rate lies above. None where the sweep found neither, or where the advice itself
            lies above what there is.
        grade: of the advice.
        schedule: kind of schedule of the run; None where that is not known.
        schedule_lr: peak of that schedule; None without ``schedule`` or ``lr``.
        reference_lr: learning rate of torchvision's recipe at the batch of the run; None where there is no recipe.
        sentences: the same in words, a sentence each: the decision, then the recipe where there is one.
    """

    lr: float | None
    lr_of: str | None
    interval: tuple[float, float] | None
    limit: float | None
    grade: str
    schedule: str | None
    schedule_lr: float | None
    reference_lr: float | None
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentences in one line."""
        return " ".join(self.sentences)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary with the numbers and ``text``."""
        return {"text": self.text, **{key: each for key, each in vars(self).items() if key != "sentences"}}


def decide(advice: Advice, run: RunRecord | None = None) -> Decision:
    """The decision that follows from the advice.

    Args:
        advice: of a range test.
        run: how it was set up, where that is known: adds the peak of the schedule, and torchvision's recipe.

    Example:
        >>> advice = Advice(max_lr=0.014, base_lr=0.011, min_lr=0.001, interval=(0.002, 0.02), grade="high",
        ...     reasons=("Clear.",), edge_lr=0.012, diverged_lr=0.024)
        >>> decide(advice).text
        'Use 0.011 (0.002 to 0.02); never above 0.02.'
    """
    row = None if run is None else run.reference
    scaled = None if run is None or not isinstance(row, ReferenceRecipe) else round_lr(scaled_lr(row, run.batch))
    decision = Decision(
        lr=advice.base_lr,
        lr_of=None if run is None else run.setup.get("lr_of"),
        interval=advice.interval,
        limit=_limit(advice),
        grade=advice.grade,
        schedule=None if run is None else run.schedule,
        schedule_lr=None if run is None or advice.base_lr is None else advice.lr_for(run.schedule, run.total_steps),
        reference_lr=scaled,
        sentences=(),
    )
    found = {finding.code: finding for finding in advice.findings}
    more = filter(None, [_of_highest(decision, found.get("groups")), reference_sentence(run)])
    return dataclasses.replace(decision, sentences=(_words(decision, found, run), *more))


def _limit(advice: Advice) -> float | None:
    """Highest LR of any schedule; None where the advice itself goes above what the sweep found."""
    found = [lr for lr in (advice.edge_lr, advice.diverged_lr) if lr is not None]
    if not found or advice.interval is None or advice.max_lr is None:
        return None
    highest = max(advice.interval[1], advice.max_lr, *(lr for _, lr in advice.peaks))
    if highest > round_lr(max(found)):
        return None
    return max(highest, round_lr(geometric_mean(found[0], found[-1])))


def _words(decision: Decision, found: Mapping[str, Finding], run: RunRecord | None) -> str:
    if decision.lr is None or decision.interval is None:
        cause = next((words for code, words in _CAUSES.items() if code in found), None)
        return f"No learning rate can be read from this curve{f': {cause}' if cause else '; see why'}."
    if "lr_free" in found:
        return f"Keep {format_lr(decision.lr)}: {found['lr_free'].detail} sets its own step size."
    low, high = map(format_lr, decision.interval)
    words = f"{'Only a hint:' if decision.grade == 'low' else 'Use'} {format_lr(decision.lr)}"
    of = f" for {decision.lr_of}" if decision.lr_of else _of_group(found.get("groups"))
    words += f"{of} ({low} to {high})"
    if decision.schedule_lr is not None and format_lr(decision.schedule_lr) != format_lr(decision.lr):
        words += f", as peak of {decision.schedule} {format_lr(decision.schedule_lr)}"
    words += "" if run is None else other_parts(run.setup)
    return f"{words}; never above {format_lr(decision.limit)}." if decision.limit is not None else f"{words}."


def _of_group(groups: Finding | None) -> str:
    """The parameter group that a learning rate is for, where they differ; "" where it is for all."""
    if groups is None:
        return ""
    if "optimizer[" in groups.detail:  # a place among several optimizers, which counts from their own first group
        return f" for {groups.detail}"
    name = f", {groups.detail}" if groups.detail else ""
    return f" for parameter group {reference_group(groups.values)}{name}"


def _of_highest(decision: Decision, groups: Finding | None) -> str:
    """The learning rate of the group with the highest, which under layer decay is that of factor 1; "" where told."""
    if groups is None or decision.lr is None or decision.lr_of or "optimizer[" in groups.detail:
        return ""
    highest, scale = groups.values.index(max(groups.values)), groups.values[reference_group(groups.values)]
    ratio = groups.values[highest] / scale
    return f"Parameter group {highest} then has {format_lr(round_lr(decision.lr * ratio))}." if ratio > 1 else ""
