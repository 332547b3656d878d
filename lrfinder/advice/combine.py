"""The weighted mean of the evidence, from which every learning rate of the advice follows, as a formula.

Three numbers are known: the typical LR of the optimizer, where the loss of this sweep is lowest, and where it breaks.
None is enough. The typical LR is not about this model, and no point of a curve is a constant factor away from the best
LR, which depends on the schedule and the length of the training. With the symbols

    u   typical LR of the optimizer, with SGD for a loss of this size,
    f   a fitted part of the middle of the low region,
    l   a fitted part of the limit: of the edge, for SGD of where the loss had diverged,
    w   weight of the low region (sweep_weight), v weight of the limit (limit_weight),
    c   the ceiling: a fitted part of the edge, for SGD of the mean of edge and divergence (for Adam see _MOST_UNSEEN),
    s   factors of the situation: :mod:`lrfinder.tables.situations`,

the LR b for cosine and the peak of schedule kind k are

    log b = (1 - v) * [(1 - w) * log u + w * log f] + v * log l + log s,   held at b <= c
    peak_k = min(phi_k * b, max(c, b))

A new head alone on a frozen network has b at a part of the middle of edge and divergence, which show the size of its
features; the more of the loss was gone in the sweep, and the more of the features varies, the smaller is the part. A
model that is one linear layer has that in the mean, as its features may come from such a network. Trained weights whose
probe shows a gain have b at a weighted mean of what the formula gives for their training loss and of parts of the
probe's low region and edge: on fixed batches a sweep shows what is learnt and what is destroyed at each LR.

A bounded loss, or one that stays low over more than three decades, has no limit: where half of its fall was gone takes
the place of f, and s has a factor.

Weights, parts and the factors phi_k are fitted to real trainings: :mod:`lrfinder.tables.constants`. No torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

from lrfinder.advice.evidence import Evidence, weighted_mean
from lrfinder.advice.heads import head_factors, head_fall, head_weight
from lrfinder.advice.laws import adjustments
from lrfinder.advice.plateau import plateau_evidence, plateau_factors
from lrfinder.advice.situation import Situation, situation_of
from lrfinder.advice.typical import in_other_unit, typical_evidence, typical_of
from lrfinder.analysis.finding import GRADES
from lrfinder.analysis.plateau import half_fallen
from lrfinder.analysis.probe import without_probe
from lrfinder.analysis.regimes import DROP_NOISES, Reading, read_curve
from lrfinder.numbers import clamp_lr, geometric_mean, round_lr
from lrfinder.record.curve import LossCurve
from lrfinder.tables.constants import FITTED, Constants
from lrfinder.tables.heads import HEAD
from lrfinder.tables.optimizers import is_lr_free
from lrfinder.tables.situations import PROBE

__all__ = ["Estimate", "combine", "peak_lr"]

_DIVERGES_WITHIN = 20.0  # times the edge; a bounded loss, as of dead units, diverges further up, which shows little
_MOST_ABOVE_EDGE = 2.5  # of all stored sweeps the ceiling is at most 2.4 times the edge; more is an edge misread
_MOST_UNSEEN = 50  # times the typical LR of Adam, where no fall shows; heads with it get at most 23 times in all sweeps
_FAR = 2.0  # a law that moves the LR further leaves no ground for the best grade


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The combined evidence.

    Args:
        base_lr: b, unrounded; > 0.
        ceiling: c, which no schedule exceeds; > 0.
        grade: best grade that the agreement of the evidence allows.
        evidence: what b is made of.
    """

    base_lr: float
    ceiling: float
    grade: str
    evidence: tuple[Evidence, ...]


def combine(curve: LossCurve, reading: Reading, *, constants: Constants = FITTED) -> Estimate:
    """The weighted mean of the evidence, held below the ceiling; see the formula above.

    Args:
        curve: a curve that can be read.
        reading: what it shows.
        constants: fitted parts, weights and factors.
    """
    u = typical_of(curve, constants)
    if u is not None and is_lr_free(curve.optimizer):  # nothing in the curve bears on it, no edge either
        evidence = Evidence(name="typical", lr=u, weight=1.0, part=1.0, seen=(u, u), source=curve.optimizer)
        return replace(_estimate(u, "low", evidence), ceiling=u)
    if reading.probed:
        return _probed(curve, reading, constants)
    head = _head(curve, reading)
    if head is not None and head.weight == 1:
        mean = _estimate(head.lr, "low", head)
    else:
        mean = _mean(curve, reading, constants)
        for more in filter(None, (None if u is None else _limit(reading, constants), head)):
            others = (replace(each, weight=(1 - more.weight) * each.weight) for each in mean.evidence)
            weighed = (*others, more)
            mean = replace(mean, base_lr=weighted_mean(weighed), evidence=weighed)
    if head is not None:
        mean = replace(mean, grade="low")  # features of other networks have needed ten times as much
    factors = [] if head is None else head_factors(curve.facts, reading.update_rule, curve.momentum)
    for each in (*factors, *plateau_factors(mean.evidence), *adjustments(curve.facts, reading.update_rule)):
        lr = clamp_lr(mean.base_lr * each.factor)
        factor = Evidence(
            name=each.name, lr=lr, weight=0.0, part=each.factor, seen=each.seen, source=reading.update_rule
        )
        grade = mean.grade if 1 / _FAR <= each.factor <= _FAR else max(mean.grade, "medium", key=GRADES.index)
        mean = replace(mean, base_lr=lr, grade=grade, evidence=(*mean.evidence, factor))
    ceiling = _ceiling(reading, constants, math.prod(each.factor for each in factors), u)
    if mean.base_lr <= ceiling.lr:
        return replace(mean, ceiling=ceiling.lr)
    return replace(mean, base_lr=ceiling.lr, ceiling=ceiling.lr, evidence=(*mean.evidence, ceiling))


def peak_lr(kind: str, base_lr: float, ceiling: float, *, constants: Constants = FITTED) -> float:
    """Peak LR for a schedule kind, to two significant digits: ``min(phi_k * b, max(c, b))``, with b rounded likewise.

    Args:
        kind: one of the schedule kinds.
        base_lr: b; > 0.
        ceiling: c; > 0, infinite for none.
        constants: of which the factors phi are used.
    """
    base = round_lr(base_lr)
    return round_lr(clamp_lr(min(base * constants.peak_factor(kind), max(ceiling, base))))


def _mean(curve: LossCurve, reading: Reading, constants: Constants) -> Estimate:
    """The mean of typical LR and low region, the ceiling left open."""
    if (bounded := plateau_evidence(curve, reading, constants)) is not None:
        return _estimate(weighted_mean(bounded), "low", *bounded)
    low = _low_region(reading, constants)
    typical = typical_evidence(curve, reading, constants)
    if typical is None or in_other_unit(curve, reading, typical.lr, None if low is None else low.lr):
        return _without_anything(reading, constants) if low is None else _estimate(low.lr, "medium", low)
    u = typical.lr
    if low is None:
        part = constants.trained_part.of(reading.update_rule)
        return _estimate(u * part, "low", replace(typical, lr=u * part, part=part))
    f = low.lr
    w = constants.sweep_weight.up if f > u else constants.sweep_weight.down
    if typical.source == "clipping" or situation_of(curve.facts) is Situation.TUNED:
        w = min(w, constants.sweep_weight.up)  # a sweep of some dozen steps shows little of the damage of a training
    apart = max(u, f) / min(u, f)
    usual, here = typical.seen
    near = apart <= constants.agreement.high and 1 / _FAR <= here / usual <= _FAR
    grade = "low" if apart > constants.agreement.medium else "high" if near else "medium"
    return _estimate(u ** (1 - w) * f**w, grade, replace(low, weight=w), replace(typical, weight=1 - w))


def _head(curve: LossCurve, reading: Reading) -> Evidence | None:
    """What follows for a head in a training of the reference length; None for other models, or without an edge."""
    weight = head_weight(curve.facts)
    if not weight or reading.edge_lr is None:
        return None
    diverged, until = _divergence(reading)
    seen = (min(reading.edge_lr, diverged), max(reading.edge_lr, diverged))
    part = HEAD.part / head_fall(curve.facts, reading)
    lr = clamp_lr(part * geometric_mean(*seen))
    return Evidence(name="head", lr=lr, weight=weight, part=part, seen=seen, source=f"edge and {until}")


def _probed(curve: LossCurve, reading: Reading, constants: Constants) -> Estimate:
    """The estimate for trained weights whose probe shows a gain."""
    assert reading.low_region is not None
    usual = combine(plain := without_probe(curve), read_curve(plain), constants=constants).base_lr
    found = [("low region", PROBE.low_region_part, reading.low_region)]
    if (edge := reading.edge_lr) is not None:
        found.append(("edge", PROBE.edge_part, (edge, edge)))
    shown = [
        Evidence(
            name="probe",
            lr=clamp_lr(part * geometric_mean(*seen)),
            weight=PROBE.weight / len(found),
            part=part,
            seen=seen,
            source=source,
        )
        for source, part, seen in found
    ]
    usually = Evidence(
        name="training loss", lr=usual, weight=1 - PROBE.weight, part=1.0, seen=(usual, usual), source=curve.optimizer
    )
    evidence = (*shown, usually)
    mean = clamp_lr(weighted_mean(evidence))
    return replace(_estimate(mean, "medium", *evidence), ceiling=max(edge or reading.lrs[-1], mean))


def _estimate(base_lr: float, grade: str, *evidence: Evidence) -> Estimate:
    return Estimate(base_lr=base_lr, ceiling=math.inf, grade=grade, evidence=evidence)


def _low_region(reading: Reading, constants: Constants) -> Evidence | None:
    if reading.low_region is None:
        return None
    part = constants.low_region_part.of(reading.update_rule)
    lr = clamp_lr(geometric_mean(*reading.low_region) * part)
    return Evidence(name="low region", lr=lr, weight=1.0, part=part, seen=reading.low_region, source="low region")


def _without_anything(reading: Reading, constants: Constants) -> Estimate:
    """An unknown optimizer whose loss only rises."""
    seen, source = (reading.lrs[-1], "highest") if reading.edge_lr is None else (reading.edge_lr, "edge")
    lr, part = clamp_lr(constants.unknown_part * seen), constants.unknown_part
    return _estimate(lr, "low", Evidence(name="edge", lr=lr, weight=1.0, part=part, seen=(seen, seen), source=source))


def _limit(reading: Reading, constants: Constants) -> Evidence | None:
    """The limit as evidence of its own; None where the curve has no edge."""
    rule = reading.update_rule
    if reading.edge_lr is None or half_fallen(reading) is not None:
        return None
    seen, source = (reading.edge_lr, "edge") if rule == "adaptive" else _divergence(reading)
    part = constants.limit_part.of(rule)
    if seen > _DIVERGES_WITHIN * reading.edge_lr:
        seen, source, part = reading.edge_lr, "edge", _DIVERGES_WITHIN * part
    weight = constants.limit_weight.of(rule)
    return Evidence(name="limit", lr=clamp_lr(part * seen), weight=weight, part=part, seen=(seen, seen), source=source)


def _ceiling(reading: Reading, constants: Constants, allowed: float, u: float | None) -> Evidence:
    """Upper limit of the LR of every schedule; ``allowed`` multiplies its fitted part of the edge."""
    rule, edge, highest = reading.update_rule, reading.edge_lr, reading.lrs[-1]
    ceiling = partial(Evidence, name="ceiling", weight=0.0)
    if edge is None:
        return ceiling(lr=highest, part=1.0, seen=(highest, highest), source="highest")
    part = allowed * constants.edge_part.of(rule)
    if rule == "adaptive":
        unseen = reading.total_drop < DROP_NOISES * reading.noise_std
        if unseen and u is not None and (most := _MOST_UNSEEN * u) < part * edge:
            return ceiling(lr=most, part=_MOST_UNSEEN, seen=(u, u), source="typical")
        return ceiling(lr=clamp_lr(part * edge), part=part, seen=(edge, edge), source="edge")
    # With SGD, the edges of three sweeps of one task are a factor 2.4 apart in the median, and the learning rates at
    # which they had diverged a factor 1.6. A middle of the two is steadier than the edge, and no worse a guide.
    diverged, until = _divergence(reading)
    middle = edge ** (1 - constants.diverged_weight) * diverged**constants.diverged_weight
    if (lr := clamp_lr(part * middle)) > (most := _MOST_ABOVE_EDGE * edge):
        return ceiling(lr=most, part=_MOST_ABOVE_EDGE, seen=(edge, edge), source="above edge")
    both = (min(edge, diverged), max(edge, diverged))
    return ceiling(lr=lr, part=part, seen=both, source=f"edge and {until}")


def _divergence(reading: Reading) -> tuple[float, str]:
    """LR at which the loss had diverged; without divergence, the highest LR tried."""
    if reading.diverged_lr is None:
        return reading.lrs[-1], "highest"
    return reading.diverged_lr, "divergence"
