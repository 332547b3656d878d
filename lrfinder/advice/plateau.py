"""The evidence of a curve that ends on a plateau, as that of a bounded loss: half of its fall, and the typical LR."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lrfinder.advice.evidence import Adjustment, Evidence
from lrfinder.advice.typical import typical_evidence
from lrfinder.analysis.plateau import half_fallen
from lrfinder.analysis.regimes import Reading
from lrfinder.numbers import clamp_lr
from lrfinder.record.curve import LossCurve
from lrfinder.tables.constants import Constants
from lrfinder.tables.situations import PLATEAU

__all__ = ["plateau_evidence", "plateau_factors"]


def plateau_evidence(curve: LossCurve, reading: Reading, constants: Constants) -> tuple[Evidence, Evidence] | None:
    """Half fall and typical LR with their weights; None unless there is a plateau and a typical LR is known."""
    if (half := half_fallen(reading)) is None:
        return None
    if (typical := typical_evidence(curve, reading, constants)) is None:
        return None
    # The edge of a bounded loss does not show its unit, so a typical LR far from the edge is used as well.
    lr = clamp_lr(min(max(half, typical.lr / PLATEAU.within), typical.lr * PLATEAU.within))
    low = Evidence(name="half fall", lr=lr, weight=PLATEAU.weight, part=lr / half, seen=(half, half), source="plateau")
    return low, replace(typical, weight=1 - PLATEAU.weight)


def plateau_factors(evidence: Iterable[Evidence]) -> Iterator[Adjustment]:
    """The factor of a mean that has a half fall among its evidence."""
    for each in evidence:
        if each.name == "half fall":
            yield Adjustment(name="plateau", factor=PLATEAU.part, seen=each.seen)
