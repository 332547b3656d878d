"""The constants of the advice, typed: those that ``scripts/bench_advice fit`` writes to ``calibration.json``.

The advice of a range test takes them as an argument, so that a fit can try others; a trial search reads :data:`FITTED`.
What is known of an optimizer or a schedule kind without a fit is a row of :mod:`lrfinder.tables.optimizers` or
:mod:`lrfinder.tables.kinds`.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from lrfinder.tables.kinds import KIND_TABLE

__all__ = ["FITTED", "Agreement", "ByRule", "Constants", "SearchConstants", "Spread", "SweepWeight"]


@dataclass(frozen=True, kw_only=True)
class ByRule:
    """One value for each update rule."""

    proportional: float
    adaptive: float

    def of(self, rule: str) -> float:
        """The value for ``"proportional"`` or ``"adaptive"``."""
        return self.proportional if rule == "proportional" else self.adaptive


@dataclass(frozen=True, kw_only=True)
class SweepWeight:
    """Weight of the low region against the typical LR, where it lies above it (``up``) and below it."""

    up: float
    down: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Factors between low region and typical LR up to which the grade may be high, and medium."""

    high: float
    medium: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Half widths of the interval, as factors, by grade."""

    high: float
    medium: float
    low: float

    def of(self, grade: str) -> float:
        """The half width for a grade other than "none"."""
        return float(getattr(self, grade))


@dataclass(frozen=True, kw_only=True)
class SearchConstants:
    """Constants of the trial search.

    Args:
        trials: screening trials at most.
        screening_part: length of a screening trial, as a part of the training.
        probed_part: the same after a range test with a probe.
        confirmation_part: shortest confirmation trial, as a part of the training.
        margin: factor below an LR at which a trial went wrong that is taken to be safe.
        trial_variance: of what trials as long as the training find, in squared octaves.
        worst_part: losses count as at most this part of the best improvement.
        min_improvement_noises: batch noises by which a loss has to fall to show learning.
        overfit_part: part of the fall of the validation loss by which it is above the training loss in overfitting.
    """

    trials: int
    screening_part: float
    probed_part: float
    confirmation_part: float
    margin: float
    trial_variance: float
    worst_part: float
    min_improvement_noises: float
    overfit_part: float


@dataclass(frozen=True, kw_only=True)
class Constants:
    """Everything that is fitted or assumed to turn a reading into learning rates.

    Args:
        typical_lr: typical peak LR of the fitted optimizer families, as in ``{"sgd": 0.5}``; > 0.
        momentum_power: the typical LR of SGD is multiplied by ``(1 - momentum)`` to this power.
        sweep_weight: weight of the low region against the typical LR.
        low_region_part: best LR as a part of the middle of the low region.
        trained_part: best LR as a part of the typical LR where the sweep shows no fall.
        edge_part: highest LR as a part of the limit.
        diverged_weight: weight of where SGD diverged against the edge, in the limit.
        limit_part: the part of the limit that is averaged in as evidence of its own.
        limit_weight: its weight.
        agreement: factors between the evidence up to which a grade is given.
        unknown_part: part of the edge that is advised for an unknown optimizer whose loss only rises.
        onset_part: part of the edge that stands in for the onset where the loss does not fall.
        schedule_factor: best peak relative to cosine, of the fitted kinds.
        spread: half widths of the interval by grade.
        search: constants of the trial search.
    """

    typical_lr: Mapping[str, float]
    momentum_power: float
    sweep_weight: SweepWeight
    low_region_part: ByRule
    trained_part: ByRule
    edge_part: ByRule
    diverged_weight: float
    limit_part: ByRule
    limit_weight: ByRule
    agreement: Agreement
    unknown_part: float
    onset_part: float
    schedule_factor: Mapping[str, float]
    spread: Spread
    search: SearchConstants

    def peak_factor(self, kind: str) -> float:
        """Best peak LR of a schedule kind relative to that of ``cosine``."""
        assumed = KIND_TABLE[kind].factor
        return self.schedule_factor[kind] if assumed is None else assumed

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, as in ``calibration.json``; :meth:`from_dict` gives equal constants back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Constants:
        """Constants from :meth:`to_dict`.

        Raises:
            TypeError: a name is missing or unknown.
        """
        return typing.cast(Constants, _build(cls, content))


def _build(cls: type[Any], content: Mapping[str, Any]) -> Any:
    kinds = typing.get_type_hints(cls)
    values = {
        name: _build(kinds[name], value) if dataclasses.is_dataclass(kinds.get(name)) else value
        for name, value in content.items()
    }
    return cls(**values)


def _load() -> Constants:
    text = (resources.files("lrfinder.tables") / "calibration.json").read_text(encoding="utf-8")
    return Constants.from_dict(json.loads(text)["constants"])


FITTED = _load()
"""The constants of this release."""
