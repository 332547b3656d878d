"""What an advice is made of: learning rates with their weights, each with what it was seen from. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lrfinder.checks import check_count, check_lr, check_number

__all__ = ["SITUATION", "Adjustment", "Evidence", "weighted_mean"]

SITUATION = ("batch size", "features", "model size", "momentum", "plateau", "trained weights")
"""Names of all adjustments."""

_SAME = 0.02  # a factor so near 1 changes no digit


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One learning rate that the advice is made of.

    Args:
        name: ``"typical"`` (of the optimizer), ``"low region"``, ``"half fall"`` (in its place, for a bounded loss),
            ``"limit"``, ``"head"`` (a part of the middle of edge and divergence, for a new head alone), ``"probe"`` (a
            part of what the probe of trained weights shows), ``"training loss"`` (what all but the probe gives),
            ``"edge"`` (where nothing else is known), ``"ceiling"`` (which the others are held below), ``"trials"``
            (what a trial search found), ``"range test"`` (the advice that it started from), or a factor of the
            situation on the mean (``SITUATION``).
        lr: the learning rate it stands for; > 0.
        weight: its part of the weighted mean on a logarithmic scale, from 0 to 1; the weights add up to 1. A ceiling
            that lowered the mean has weight 0, and so has a factor, whose ``lr`` is the product.
        part: factor between ``lr`` and what was seen; 1 where ``lr`` is that itself.
        seen: (low, high) of what was seen, or the same number twice; of a factor, where it is 1, and this training.
        source: what was seen: ``"low region"``, ``"edge"``, ``"divergence"``, ``"highest"`` (LR tried), ``"edge and
            divergence"``, ``"above edge"``, ``"typical"``, ``"clipping"``, ``"plateau"``, or the class name of the
            optimizer; of a factor the update rule; of ``"trials"`` and ``"range test"`` the kind of schedule.
        steps: length of the training that trials were for; None for any other evidence.
        trained: what those trials trained: ``"head"`` (or one linear layer), ``"tuned"`` weights, or ``""``.
    """

    name: str
    lr: float
    weight: float
    part: float
    seen: tuple[float, float]
    source: str
    steps: int | None = None
    trained: str = ""

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Evidence:
        """Evidence from the dictionary of its fields.

        Raises:
            ConfigError: a number that it cannot be.
        """
        low, high = (check_number("each of seen", each, 0.0) for each in content["seen"])
        return cls(
            name=str(content["name"]),
            lr=check_lr("lr of evidence", content["lr"]),
            weight=check_number("weight of evidence", content["weight"], 0.0, 1.0),
            part=check_number("part of evidence", content["part"], 0.0),
            seen=(low, high),
            source=str(content["source"]),
            steps=None if content.get("steps") is None else check_count("steps", content["steps"]),
            trained=str(content.get("trained", "")),
        )


@dataclass(frozen=True, kw_only=True)
class Adjustment:
    """A factor of the LR.

    Args:
        name: one of :data:`SITUATION`.
        factor: > 0.
        seen: (reference of the law, value of this training).
    """

    name: str
    factor: float
    seen: tuple[float, float]

    @property
    def matters(self) -> bool:
        """Whether it changes a digit that is worth a sentence."""
        return abs(self.factor - 1) > _SAME


def weighted_mean(evidence: Iterable[Evidence]) -> float:
    """Mean of the learning rates on a logarithmic scale, by their weights, which add up to 1."""
    return float(math.prod(each.lr**each.weight for each in evidence))
