"""Rows of the tables of a page: the evidence behind the advice, and what was run. No torch, no matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lrfinder.advice.evidence import SITUATION, Evidence, weighted_mean
from lrfinder.display.summary import optimizers_in_words
from lrfinder.numbers import format_lr, printable
from lrfinder.record.curve import LossCurve
from lrfinder.record.run import RunRecord

__all__ = ["EVIDENCE_COLUMNS", "evidence_rows", "run_rows"]

EVIDENCE_COLUMNS = ("", "seen", "factor", "LR", "weight")
"""Names of the columns of the evidence, where the table itself has a name."""

_UNKNOWN = "not recorded: the test was made in Python"


def evidence_rows(evidence: Iterable[Evidence]) -> list[tuple[str, str, str, str, str]]:
    """Name, what was seen, factor, learning rate and weight of each piece of evidence, and of their mean.

    Example:
        >>> each = Evidence(name="typical", lr=0.1, weight=1.0, part=1.0, seen=(0.1, 0.1), source="SGD")
        >>> evidence_rows([each])
        [('typical (SGD)', '0.1', '1', '0.1', '100%')]
    """
    rows, weighed = [], [each for each in evidence if each.weight > 0]
    for each in weighed:
        rows.append((*_start(each), format_lr(each.lr), f"{each.weight:.0%}"))
    if len(weighed) > 1:
        rows.append(("weighted mean", "", "", format_lr(weighted_mean(weighed)), "100%"))
    # What changed the mean afterwards: factors of the situation, and the ceiling.
    return [*rows, *((*_start(each), format_lr(each.lr), "") for each in evidence if each.weight <= 0)]


def run_rows(curve: LossCurve, run: RunRecord | None) -> list[tuple[str, str]]:
    """Names and values of the settings: all that a run recorded, or else what the curve has."""
    if run is None:
        return [*_curve_rows(curve), ("model, data, seed, versions", _UNKNOWN)]
    schedule = f"{run.schedule}, {run.epochs} epochs, {run.total_steps} updates"
    rows = [(name.replace("_", " "), _words(value)) for name, value in run.setup.items() if value not in (None, {}, [])]
    return [*rows, ("schedule", schedule)]


def _curve_rows(curve: LossCurve) -> list[tuple[str, str]]:
    facts = curve.facts
    known: dict[str, Any] = {"optimizer": optimizers_in_words(curve) or "unknown", "momentum": f"{curve.momentum:g}"}
    if facts is not None:
        names = ("batch_size", "accumulation_steps", "clip_grad_norm", "amp_dtype", "device", "trainable", "frozen")
        known |= {name: getattr(facts, name) for name in (*names, "pretrained")}
    return [(name.replace("_", " "), _words(value)) for name, value in known.items() if value is not None]


def _start(each: Evidence) -> tuple[str, str, str]:
    low, high = map(format_lr, each.seen)
    name = each.name if each.source == each.name or each.name in SITUATION else f"{each.name} ({each.source})"
    return printable(name), low if low == high else f"{low} to {high}", f"{each.part:.3g}"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_words(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) and abs(value) < 10**15 else str(value)
