"""What a training is, by the facts about it: from scratch, tuned, a new head alone, or adapters. No torch."""

from __future__ import annotations

import math
from enum import Enum

from lrfinder.record.facts import TRAINED_SHARE, ModelFacts
from lrfinder.tables.heads import HEAD
from lrfinder.tables.situations import PROBE

__all__ = ["Situation", "contradicted", "is_tuning", "needs_probe", "situation_of"]

_FEW = 0.05  # of the elements: the weights count as fresh, against what the user says
_FEW_BESIDE = 10  # times as many frozen elements


class Situation(Enum):
    """What a training is.

    A deep or recurrent network on frozen features is one from scratch; so is a network of which nothing is known.
    """

    SCRATCH = "from scratch"
    TUNED = "weights that have been trained before are trained further"
    HEAD = "a new head alone is trained, on a frozen network with trained weights"
    ADAPTERS = "many new weights are trained, within a frozen network with trained weights"


def situation_of(facts: ModelFacts | None) -> Situation:
    """What a training is, by the facts about it.

    Example:
        >>> situation_of(ModelFacts(pretrained=True, trained=(0.99, 0.0))).name, situation_of(ModelFacts()).name
        ('TUNED', 'SCRATCH')
        >>> new = {"pretrained": True, "trained": (0.0,), "frozen_trained": 1.0}
        >>> situation_of(ModelFacts(**new)).name, situation_of(ModelFacts(**new, trainable_depth=24)).name
        ('HEAD', 'ADAPTERS')
    """
    if facts is None or not facts.pretrained:
        return Situation.SCRATCH
    if not _new_on_frozen(facts):
        return Situation.TUNED
    if facts.recurrent:
        return Situation.SCRATCH
    if (facts.trainable_depth or 0) <= HEAD.deepest:
        return Situation.HEAD
    return Situation.SCRATCH if facts.interleaved is False else Situation.ADAPTERS


def is_tuning(facts: ModelFacts | None) -> bool:
    """Whether trained weights, or adapters, are trained, and more parameters than in any of the calibration runs.

    Example:
        >>> large = {"trainable": 4_000_000, "trained": (0.99,)}
        >>> is_tuning(ModelFacts(pretrained=True, **large)), is_tuning(ModelFacts(pretrained=False, **large))
        (True, False)
        >>> is_tuning(ModelFacts(pretrained=True, trainable=20_000, trained=(0.99,)))
        False
    """
    large = facts is not None and (facts.trainable or 0) > PROBE.larger_than
    return large and situation_of(facts) in (Situation.TUNED, Situation.ADAPTERS)


def needs_probe(facts: ModelFacts, rule: str) -> bool:
    """Whether a range test measures a probe. With SGD it does not: there a probe shows no more than the training loss.

    Example:
        >>> tuned = ModelFacts(pretrained=True, trainable=4_000_000, trained=(0.99,))
        >>> needs_probe(tuned, "adaptive"), needs_probe(tuned, "proportional")
        (True, False)
    """
    return rule == "adaptive" and is_tuning(facts)


def contradicted(facts: ModelFacts | None) -> str | None:
    """What the weights show where the user says the opposite: ``"trained"`` or ``"fresh"``; None where they agree.

    Example:
        >>> contradicted(ModelFacts(pretrained=False, trained=(0.99,))), contradicted(ModelFacts(pretrained=True))
        ('trained', None)
    """
    if facts is None or facts.pretrained is None:
        return None
    if facts.pretrained:
        seen = max(_most_trained(facts, unknown=1.0), facts.frozen_trained or 0.0)
        return "fresh" if seen < _FEW else None
    return "trained" if _most_trained(facts, unknown=0.0) >= TRAINED_SHARE else None


def _new_on_frozen(facts: ModelFacts) -> bool:
    """Whether all trainable weights are new, beside frozen weights that have been trained.

    A few elements do not show whether they are new; they count as new where far more is frozen.
    """
    few = (facts.frozen or 0) >= _FEW_BESIDE * (facts.trainable or math.inf)
    if not few and (facts.frozen_trained or 0.0) < TRAINED_SHARE:
        return False
    return _most_trained(facts, unknown=0.0 if few else 1.0) < TRAINED_SHARE


def _most_trained(facts: ModelFacts, unknown: float) -> float:
    """Share of trained elements of the parameter group that has most of them; ``unknown`` where none is known."""
    return max((share for share in facts.trained or () if share is not None), default=unknown)
