"""How batch, model, length and trained weights change the LR: which :mod:`lrfinder.tables.situations` apply. No torch.

At the reference of a law, which is usual in the calibration runs, its factor is 1 and the reasons do not mention it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lrfinder.advice.evidence import Adjustment, Evidence
from lrfinder.advice.heads import of_head
from lrfinder.advice.situation import Situation, situation_of
from lrfinder.record.facts import TRAINED_SHARE, ModelFacts
from lrfinder.tables.heads import HEAD
from lrfinder.tables.situations import BATCH_SIZE, LAYER_NORM_SIZE, LENGTH, MODEL_SIZE, TRAINED, TUNING_LENGTH, Law

__all__ = ["adjustments", "length_factor", "trained_part"]

_MOST = 0.5  # of the elements: the law for trained weights counts in full


def adjustments(facts: ModelFacts | None, rule: str) -> Iterator[Adjustment]:
    """The factors that are not 1, for an update rule; none for a new head alone, which has evidence of its own.

    Args:
        facts: of the model, the optimizer and the first batch; what is unknown changes nothing.
        rule: ``"proportional"`` or ``"adaptive"``.

    Example:
        >>> facts = ModelFacts(trainable=60_000, batch_size=4)
        >>> [(each.name, each.factor) for each in adjustments(facts, "proportional")]
        [('batch size', 0.125)]
    """
    situation = situation_of(facts)
    if facts is None or situation is Situation.HEAD:
        return
    size = facts.batch_size
    if size is not None:
        # Several targets of a sample make a batch no smaller than usual, and are too much alike to make it larger.
        size *= facts.accumulation_steps
        size = max(size, min((facts.targets or 1) * facts.accumulation_steps, int(BATCH_SIZE.reference)))
        if facts.full_batch:  # a small batch needs a lower LR for its noise, and all data together have none
            size = max(size, int(BATCH_SIZE.reference))
        yield from _by_law("batch size", BATCH_SIZE, size, rule)
    if facts.trainable:
        tuned = situation is Situation.TUNED
        law = LAYER_NORM_SIZE if _layer_normalised(facts) and not tuned else MODEL_SIZE  # TRAINED was chosen beside it
        yield from _by_law("model size", law, facts.trainable, rule)
        if tuned:
            yield from _by_law("trained weights", TRAINED, facts.trainable, rule, part=_trained_part(facts))


def length_factor(evidence: Iterable[Evidence], total_steps: int) -> float:
    """Factor of the LR for a training of that length, where the advice is made of this evidence.

    Example:
        >>> probe = Evidence(name="probe", lr=1e-4, weight=0.4, part=0.36, seen=(1e-4, 1e-3), source="low region")
        >>> length_factor([probe], 400), length_factor([probe], 1600), length_factor([], 1600)
        (1.0, 0.5, 1.0)
    """
    evidence = tuple(evidence)
    factor = {"head": HEAD.length, "tuned": TUNING_LENGTH, "": LENGTH}[trained_part(evidence)].factor
    tried = next((each.steps for each in evidence if each.steps is not None), None)  # that is in the LR already
    known = factor(total_steps, "adaptive")
    return known if tried is None else min(1.0, known / factor(tried, "adaptive"))


def trained_part(evidence: Iterable[Evidence]) -> str:
    """What an advice of this evidence is for: a new ``"head"``, ``"tuned"`` weights (as with Adam), or ``""``."""
    evidence = tuple(evidence)
    if of_head(evidence):
        return "head"
    return "tuned" if any(map(_is_tuned, evidence)) else ""


def _is_tuned(each: Evidence) -> bool:
    by_law = each.name == "trained weights" and each.source == "adaptive"
    return by_law or each.name == "probe" or each.trained == "tuned"


def _layer_normalised(facts: ModelFacts) -> bool:
    return any("LayerNorm" in name or "RMSNorm" in name for name, _ in facts.norm_layers or ())


def _trained_part(facts: ModelFacts) -> float:
    """Part of the power of :data:`TRAINED`: 1 from half of the weights on, and where the user alone calls them so."""
    groups = zip(facts.trained or (), facts.group_sizes or (), strict=False)
    known = [(share, size) for share, size in groups if share is not None]
    trained = sum(share * size for share, size in known) / max(1, sum(size for _, size in known))
    return min(1.0, trained / _MOST) if trained >= TRAINED_SHARE else 1.0


def _by_law(name: str, law: Law, value: float, rule: str, *, part: float = 1.0) -> Iterator[Adjustment]:
    found = Adjustment(name=name, factor=law.factor(value, rule) ** part, seen=(law.reference, float(value)))
    if found.matters:
        yield found
