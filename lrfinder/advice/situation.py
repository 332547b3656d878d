"""How batch, model and trained weights change the LR: which :mod:`lrfinder.tables.situations` apply. No torch.

Within what the calibration runs cover every factor is 1, and no law is mentioned.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lrfinder.advice.evidence import Evidence
from lrfinder.analysis.regimes import Reading
from lrfinder.record.facts import TRAINED_SHARE, ModelFacts
from lrfinder.tables.situations import (
    BATCH_SIZE,
    HEAD,
    LAYER_NORM_SIZE,
    LENGTH,
    MODEL_SIZE,
    PROBE,
    TRAINED,
    Law,
)

__all__ = ["SITUATION", "Adjustment", "adjustments", "contradicted", "fine_tuned", "head_alone", "head_fall"]
__all__ += ["head_momentum", "head_weight", "is_probed", "is_tuning", "length_factor", "of_head", "spread_of"]

SITUATION = ("batch size", "model size", "momentum", "trained weights")
"""Names of all adjustments."""

_FEW = 0.05  # of the elements: the weights count as fresh, against what the user says
_DEEPEST_HEAD = 3  # weights in a row, as of a head with two hidden layers
_FEW_BESIDE = 10  # times as many frozen elements
_SAME = 0.02  # a factor so near 1 changes no digit worth a sentence


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


def adjustments(facts: ModelFacts | None, rule: str, momentum: float | None = None) -> Iterator[Adjustment]:
    """The factors that are not 1, for an update rule; only that of the momentum for a new head alone.

    Args:
        facts: of the model, the optimizer and the first batch; what is unknown changes nothing.
        rule: ``"proportional"`` or ``"adaptive"``.
        momentum: of the optimizer, from 0 to 1, where the LR follows in part from what is known of heads; else None.

    Example:
        >>> facts = ModelFacts(trainable=60_000, batch_size=4)
        >>> [(each.name, each.factor) for each in adjustments(facts, "proportional")]
        [('batch size', 0.125)]
    """
    if facts is None:
        return
    if momentum is not None and abs((factor := head_momentum(facts, rule, momentum)) - 1) > _SAME:
        yield Adjustment(name="momentum", factor=factor, seen=(1 - HEAD.momentum.reference, momentum))
    if head_alone(facts):
        return
    size = facts.batch_size
    if size is not None:
        # Several targets of a sample make a batch no smaller than usual, and are too much alike to make it larger.
        size = max(size, min(facts.targets or 1, int(BATCH_SIZE.reference))) * facts.accumulation_steps
        yield from _by_law("batch size", BATCH_SIZE, size, rule)
    if facts.trainable:
        tuned = fine_tuned(facts)
        law = LAYER_NORM_SIZE if _layer_normalised(facts) and not tuned else MODEL_SIZE  # TRAINED was chosen beside it
        yield from _by_law("model size", law, facts.trainable, rule)
        if tuned:
            yield from _by_law("trained weights", TRAINED, facts.trainable, rule)


def fine_tuned(facts: ModelFacts | None) -> bool:
    """Whether weights that have been trained before are trained again; not so for a new head or adapters alone.

    Example:
        >>> fine_tuned(ModelFacts(pretrained=True)), fine_tuned(ModelFacts(pretrained=True, trained=(0.99, 0.0)))
        (True, True)
        >>> fine_tuned(ModelFacts(pretrained=True, trained=(0.0,), frozen_trained=1.0))
        False
    """
    return facts is not None and bool(facts.pretrained) and not _new_on_frozen(facts)


def head_alone(facts: ModelFacts | None) -> bool:
    """Whether a new head is all that is trained, on a frozen network that is trained.

    Adapters, which are many new weights within the network, are no head, and neither is a recurrent or deep network on
    frozen features: it is one from scratch.

    Example:
        >>> new = {"pretrained": True, "trained": (0.0,), "frozen_trained": 1.0}
        >>> head_alone(ModelFacts(**new)), head_alone(ModelFacts(**new, trainable_depth=24)), head_alone(ModelFacts())
        (True, False, False)
    """
    if facts is None or facts.recurrent or (facts.trainable_depth or 0) > _DEEPEST_HEAD:
        return False
    return _new_on_frozen(facts)


def head_weight(facts: ModelFacts | None) -> float:
    """Weight of what is known of heads: 1 for a new head alone, less for a model that is one linear layer, else 0.

    A linear layer on features that were computed beforehand is the same training as a head on the frozen network, but
    its features may be raw data as well.

    Example:
        >>> head_weight(ModelFacts(depth=1, trainable_depth=1)) > 0, head_weight(ModelFacts(depth=2, trainable_depth=2))
        (True, 0.0)
    """
    if head_alone(facts):
        return 1.0
    linear = facts is not None and facts.depth == facts.trainable_depth == 1
    return HEAD.linear_weight if linear else 0.0


def head_momentum(facts: ModelFacts | None, rule: str, momentum: float | None) -> float:
    """Factor of the LR of a head, or of a linear layer, for its momentum; 1 for other models, and for None."""
    if momentum is None:
        return 1.0
    return float(HEAD.momentum.factor(1 - min(momentum, 0.999), rule) ** head_weight(facts))


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


def is_tuning(facts: ModelFacts | None) -> bool:
    """Whether trained weights, or adapters of them, are tuned, of a network larger than those of the calibration runs.

    Example:
        >>> large = {"trainable": 4_000_000, "trained": (0.99,)}
        >>> is_tuning(ModelFacts(pretrained=True, **large)), is_tuning(ModelFacts(pretrained=False, **large))
        (True, False)
        >>> is_tuning(ModelFacts(pretrained=True, trainable=20_000, trained=(0.99,)))
        False
    """
    if facts is None or not facts.pretrained or (facts.trainable or 0) <= PROBE.larger_than:
        return False
    return fine_tuned(facts) or (facts.interleaved is not False and not facts.recurrent and not head_alone(facts))


def is_probed(facts: ModelFacts, rule: str) -> bool:
    """Whether a range test measures a probe. With SGD it does not: there a probe shows no more than the training loss.

    Example:
        >>> tuned = ModelFacts(pretrained=True, trainable=4_000_000, trained=(0.99,))
        >>> is_probed(tuned, "adaptive"), is_probed(tuned, "proportional")
        (True, False)
    """
    return rule == "adaptive" and is_tuning(facts)


def _new_on_frozen(facts: ModelFacts) -> bool:
    """Whether all that is trained is new, on a frozen network that is trained.

    Few new elements cannot be told from trained ones; they count as new where far more is frozen.
    """
    if not facts.pretrained:
        return False
    few = (facts.frozen or 0) >= _FEW_BESIDE * (facts.trainable or math.inf)
    if not few and (facts.frozen_trained or 0.0) < TRAINED_SHARE:
        return False
    return _most_trained(facts, unknown=0.0 if few else 1.0) < TRAINED_SHARE


def length_factor(evidence: Iterable[Evidence], total_steps: int) -> float:
    """Factor of the LR for a training of that length, where the advice is made of this evidence."""
    law = HEAD.length if of_head(evidence) else LENGTH
    return law.factor(total_steps, "adaptive")


def of_head(evidence: Iterable[Evidence]) -> bool:
    """Whether an advice that is made of this evidence is for a new head alone, or for one linear layer."""
    return any(each.name == "head" for each in evidence)


def spread_of(evidence: Iterable[Evidence], usual: float) -> float:
    """Half width of the interval of an advice that is made of this evidence, as a factor; a head has its own."""
    return HEAD.spread if of_head(evidence) else usual


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


def _layer_normalised(facts: ModelFacts) -> bool:
    return any("LayerNorm" in name or "RMSNorm" in name for name, _ in facts.norm_layers or ())


def _most_trained(facts: ModelFacts, unknown: float) -> float:
    return max((share for share in facts.trained or () if share is not None), default=unknown)


def _by_law(name: str, law: Law, value: float, rule: str) -> Iterator[Adjustment]:
    factor = law.factor(value, rule)
    if abs(factor - 1) > _SAME:
        yield Adjustment(name=name, factor=factor, seen=(law.reference, float(value)))
