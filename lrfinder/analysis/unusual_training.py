"""Findings about a training that was swept: its data, its optimizer and its parameter groups. No torch."""

from __future__ import annotations

from collections.abc import Callable

from lrfinder.analysis.finding import Finding
from lrfinder.analysis.groups import optimizers_of
from lrfinder.analysis.regimes import Reading
from lrfinder.param_groups import reference_group
from lrfinder.record.curve import LossCurve
from lrfinder.tables.optimizers import divisor, find_optimizer, update_rule

__all__ = ["TRAINING_CHECKS", "batches_differ", "lr_free"]

_MANY_PASSES = 4  # in calibration runs with more, the advice was twice the best LR, and lost 6 % with the grade "high"


def _sorted(curve: LossCurve, reading: Reading) -> Finding | None:
    alike = curve.facts is not None and curve.facts.same_target
    return Finding(code="sorted", caps_grade="low") if alike else None


def _repeated(curve: LossCurve, reading: Reading) -> Finding | None:
    """Whether the data are so few that a training repeats them often, and may overfit.

    Of a step on all data, every training has as many passes as steps, so that they tell nothing.
    """
    facts = curve.facts
    if facts is None or not facts.loader_batches or facts.full_batch:
        return None
    passes = curve.batches / facts.loader_batches
    return Finding(code="repeated", values=(passes,), caps_grade="medium") if passes > _MANY_PASSES else None


def lr_free(curve: LossCurve) -> Finding | None:
    """That the optimizer sets its own step size, and the LR to keep; None for any other."""
    row = find_optimizer(curve.optimizer)
    if row is None or not row.lr_free or row.lr is None:
        return None
    return Finding(code="lr_free", detail=curve.optimizer, values=(row.lr,), caps_grade="low")


def batches_differ(curve: LossCurve) -> Finding | None:
    """That the steps of an optimizer that compares their gradients train on different batches."""
    row, facts = find_optimizer(curve.optimizer), curve.facts
    if row is None or not row.whole_data or facts is None or facts.full_batch:
        return None
    return Finding(code="batches_differ", detail=curve.optimizer, caps_grade="low")


def _large_epsilon(curve: LossCurve, reading: Reading) -> Finding | None:
    large = None if curve.facts is None else divisor(curve.facts.epsilon)
    if large is None or update_rule(curve.optimizer, large) == update_rule(curve.optimizer):
        return None
    return Finding(code="large_epsilon", values=(large,), detail=curve.optimizer)


def _not_calibrated(curve: LossCurve, reading: Reading) -> Finding | None:
    for name in filter(None, optimizers_of(curve)):
        if (row := find_optimizer(name)) is None or not row.calibrated:
            code = "unknown_optimizer" if row is None else "not_calibrated"
            return Finding(code=code, detail=name, caps_grade="medium")
    return None


def _maximized(curve: LossCurve, reading: Reading) -> Finding | None:
    return Finding(code="maximized") if curve.maximized else None


def _groups(curve: LossCurve, reading: Reading) -> Finding | None:
    if len(set(curve.group_scales)) == 1:
        return None
    name = _group_name(curve, reference_group(curve.group_scales))
    return Finding(code="groups", values=curve.group_scales, detail=name)


def _initial_lrs(curve: LossCurve, reading: Reading) -> Finding | None:
    return Finding(code="initial_lrs") if curve.facts is not None and curve.facts.initial_lrs else None


def _frozen_reference(curve: LossCurve, reading: Reading) -> Finding | None:
    scales, sizes = curve.group_scales, () if curve.facts is None else curve.facts.group_sizes or ()
    first = next((number for number, each in enumerate(zip(scales, sizes, strict=False)) if all(each)), None)
    if first is None or scales[first] == scales[reference_group(scales)]:
        return None
    return Finding(code="frozen_reference", values=(first, scales[first]), detail=_group_name(curve, first))


def _group_name(curve: LossCurve, number: int) -> str:
    """Its name, or its place among several optimizers, whose groups are counted on; "" where neither is known."""
    names, counts = ((), ()) if curve.facts is None else (curve.facts.group_names, curve.facts.optimizers or ())
    places = [f"group {group} of optimizer[{at}]" for at, (_, count) in enumerate(counts) for group in range(count)]
    found = next((each for each in (names, places) if len(each) == len(curve.group_scales)), None)
    return "" if found is None else found[number]


TRAINING_CHECKS: tuple[Callable[[LossCurve, Reading], Finding | None], ...] = (
    _sorted,
    _repeated,
    _large_epsilon,
    _not_calibrated,
    _maximized,
    _groups,
    _initial_lrs,
    _frozen_reference,
)
