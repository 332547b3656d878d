"""The typical LR of a training: that of its optimizers, and with SGD of its loss and its clipping. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable

from lrfinder.advice.evidence import Evidence
from lrfinder.advice.situation import Situation, situation_of
from lrfinder.analysis.groups import Group, groups_of, optimizers_of, rule_of
from lrfinder.analysis.regimes import Reading
from lrfinder.numbers import clamp_lr
from lrfinder.record.curve import LossCurve
from lrfinder.record.facts import ModelFacts
from lrfinder.tables.constants import Constants
from lrfinder.tables.optimizers import divisor, find_optimizer, typical_lr
from lrfinder.tables.situations import CLIPPED, LOSS_SIZE

__all__ = ["clipped_lr", "in_other_unit", "size_factor", "typical_evidence", "typical_of"]

_OTHER_UNIT = 1e3  # in stored sweeps SGD had its low region at 1/310 to 60 times the typical LR
_UNLIKE_ADAM = 50  # tried by hand with 32 optimizers: factors of 30 to 100 lose about as little


def typical_evidence(curve: LossCurve, reading: Reading, constants: Constants) -> Evidence | None:
    """The typical LR with weight 1; None where it is unknown."""
    u = typical_of(curve, constants)
    if u is None:
        return None
    lr, seen, source = u, (u, u), curve.optimizer
    if reading.update_rule == "proportional":
        lr = clamp_lr(u * size_factor(curve.facts, reading))
        seen = (u, lr)
        clipped = clipped_lr(curve, lr)
        if clipped is not None and clipped > lr:
            seen, lr, source = (lr, clipped), clipped, "clipping"
    return Evidence(name="typical", lr=lr, weight=1.0, part=1.0, seen=seen, source=source)


def in_other_unit(curve: LossCurve, reading: Reading, lr: float, shown: float | None) -> bool:
    """Whether a typical LR is so far from what the sweep shows that inputs or loss must have another scale.

    Args:
        curve: of which the optimizers are used.
        reading: what it shows.
        lr: the typical one.
        shown: LR that the sweep suggests; None to compare with its edge.
    """
    shown = shown or reading.edge_lr
    if reading.update_rule == "proportional":
        # Without an edge the low region ends where the sweep does.
        most = math.inf if reading.edge_lr is None else _OTHER_UNIT
    else:
        most = math.inf if all(map(find_optimizer, optimizers_of(curve))) else _UNLIKE_ADAM
    return shown is not None and max(lr, shown) > most * min(lr, shown)


def size_factor(facts: ModelFacts | None, reading: Reading) -> float:
    """Factor of the typical LR of SGD for a loss larger or smaller than usual; 1 for most losses.

    A sum over the samples of a batch is such a loss, and the mean squared error of small numbers. A constant that is
    added raises only the level, so the loss counts as large, or small, where level and movement both are. A trained
    network has a small loss because it is trained, so its LR is not raised.
    """
    smaller, larger = sorted((abs(reading.level), LOSS_SIZE.moves * max(reading.total_drop, reading.noise_std)))
    if smaller > LOSS_SIZE.highest:
        far = min(math.log2(smaller / LOSS_SIZE.highest), 1.0)  # whole from twice the highest on
        return float((LOSS_SIZE.usual / smaller) ** far)
    if 0 < larger < LOSS_SIZE.lowest and situation_of(facts) is not Situation.TUNED:
        return LOSS_SIZE.lowest / larger
    return 1.0


def typical_of(curve: LossCurve, constants: Constants) -> float | None:
    """Typical LR for the reference group, for a loss of usual size; None where an optimizer has no name.

    It is the logarithmic mean over all elements of what is typical of the optimizer of their group, so that which group
    or optimizer comes first changes no training. One optimizer that mixes units, as some Muon, keeps its own.
    """
    epsilon, groups = None if curve.facts is None else curve.facts.epsilon, groups_of(curve)
    names = optimizers_of(curve)
    typical = {name: typical_lr(name, curve.momentum, constants, epsilon) for name in names}
    if len(names) == 1:
        (name,) = names
        row = find_optimizer(name)
        mixes = row is not None and (row.mixes or row.lr_free)
        if mixes or {group.scale for group in groups} <= {1.0}:
            return typical[name]
    known = {name: lr for name, lr in typical.items() if lr is not None}
    return _mean_of(groups, lambda group: known[group.optimizer] / group.scale) if len(known) == len(names) else None


def clipped_lr(curve: LossCurve, lr: float) -> float | None:
    """LR at which a clipped update of SGD moves the weights as far as usual; None where few gradients are clipped.

    The length of the update is then the LR times the clipping norm, whatever the loss. Usual is the length of the first
    update without clipping, with the LR given. Of recurrent nets, whose gradients are short at first and grow, and
    where the first norm is not known, it is a part of the norm of the weights.

    Args:
        curve: of which the facts are used.
        lr: typical without clipping.
    """
    facts = curve.facts
    if facts is None or facts.clip_grad_norm is None or rule_of(curve) == "adaptive":
        return None
    if facts.gradient_norm is not None and not facts.recurrent:
        longer = facts.gradient_norm / facts.clip_grad_norm
        return clamp_lr(lr * longer) if longer > 1 else None
    if facts.weight_norm is None or (curve.clipped_part or 0.0) < CLIPPED.least_part:
        return None
    usual = CLIPPED.movement * facts.weight_norm / facts.clip_grad_norm
    return (divisor(facts.epsilon) or 1.0) * usual / _mean_of(groups_of(curve), lambda group: group.scale)


def _mean_of(groups: tuple[Group, ...], value: Callable[[Group], float]) -> float:
    """Logarithmic mean over all elements; 1 without groups."""
    total = sum(group.size for group in groups)
    return math.exp(sum(group.size / total * math.log(value(group)) for group in groups))
