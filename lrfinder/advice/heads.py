"""A new head alone, and one linear layer: which trainings are such, and what changes their LR. No torch."""

from __future__ import annotations

from collections.abc import Iterable

from lrfinder.advice.evidence import Adjustment, Evidence
from lrfinder.advice.situation import Situation, situation_of
from lrfinder.analysis.regimes import Reading
from lrfinder.record.facts import ModelFacts
from lrfinder.tables.heads import HEAD

__all__ = ["around", "head_factors", "head_fall", "head_weight", "of_head"]


def head_weight(facts: ModelFacts | None) -> float:
    """Weight of what is known of heads: 1 for a new head alone, less for a model that is one linear layer, else 0.

    A linear layer on features that were computed beforehand is the same training as a head on the frozen network, but
    its features may be raw data as well.

    Example:
        >>> head_weight(ModelFacts(depth=1, trainable_depth=1)) > 0, head_weight(ModelFacts(depth=2, trainable_depth=2))
        (True, 0.0)
    """
    if situation_of(facts) is Situation.HEAD:
        return 1.0
    linear = facts is not None and facts.depth == facts.trainable_depth == 1
    return HEAD.linear_weight if linear else 0.0


def head_factors(facts: ModelFacts | None, rule: str, momentum: float) -> list[Adjustment]:
    """Factors of the LR of a head, or of a linear layer, that are not 1: for its momentum and for its features.

    Args:
        facts: what is unknown changes nothing.
        rule: ``"proportional"`` or ``"adaptive"``.
        momentum: of the optimizer, from 0 to 1. Without it the best LR is near the limit whatever the features are.

    Example:
        >>> facts = ModelFacts(depth=1, trainable_depth=1, feature_variation=0.1)
        >>> [each.name for each in head_factors(facts, "adaptive", 0.9)]
        ['features']
        >>> [each.name for each in head_factors(facts, "proportional", 0.0)]
        ['momentum']
    """
    weight, varied = head_weight(facts), None if facts is None else facts.feature_variation
    factor = HEAD.momentum.factor(1 - min(momentum, 0.999), rule) ** weight
    found = [Adjustment(name="momentum", factor=factor, seen=(1 - HEAD.momentum.reference, momentum))]
    if varied is not None and momentum:
        factor = HEAD.variation.factor(max(varied, HEAD.least_variation), rule) ** weight
        found.append(Adjustment(name="features", factor=factor, seen=(HEAD.variation.reference, varied)))
    return [each for each in found if each.matters]


def head_fall(facts: ModelFacts | None, reading: Reading) -> float:
    """Part of its level by which the sweep of a linear head lowered the loss, from 1/16 to 1; 1/2 for other heads.

    Features that tell much of the classes lower the loss long before the edge; those that tell little need an LR as
    near to the edge as can be. The batch noise hides a part of the fall, so it is added. The lowest possible loss is
    taken to be 0, as that of cross-entropy is; a constant that is added to the loss raises the LR.
    """
    if facts is None or facts.trainable_depth != 1 or not reading.level > 0:
        return HEAD.usual_fall
    fall = max(reading.total_drop, HEAD.least_fall * reading.level) + reading.noise_std
    return min(fall / reading.level, 1.0)


def of_head(evidence: Iterable[Evidence]) -> bool:
    """Whether an advice that is made of this evidence is for a new head alone, or for one linear layer."""
    return any("head" in (each.name, each.trained) for each in evidence)


def around(evidence: Iterable[Evidence], usual: float) -> tuple[float, float]:
    """Ends of the interval as multiples of the LR, for an advice that is made of this evidence; a head has its own.

    Args:
        evidence: what the advice is made of.
        usual: half width for other models, as a factor.
    """
    if of_head(evidence):
        return HEAD.middle / HEAD.spread, HEAD.middle * HEAD.spread
    return 1 / usual, usual
