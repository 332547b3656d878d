"""Parameter groups of a curve, and the update rule of most parameters. No torch."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from lrfinder.record.curve import LossCurve
from lrfinder.tables.optimizers import update_rule

__all__ = ["Group", "groups_of", "optimizers_of", "rule_of"]


class Group(NamedTuple):
    """A parameter group that is trained.

    Args:
        optimizer: class name of its optimizer.
        size: number of trained elements; >= 1.
        scale: its LR divided by that of the reference group; > 0.
    """

    optimizer: str
    size: int
    scale: float


def groups_of(curve: LossCurve) -> tuple[Group, ...]:
    """The parameter groups that are trained; empty where their sizes are unknown."""
    facts, scales = curve.facts, curve.group_scales
    if facts is None or facts.group_sizes is None:
        return ()
    counted = facts.optimizers or ((curve.optimizer, len(scales)),)
    names = [name for name, count in counted for _ in range(count)]
    if not len(names) == len(facts.group_sizes) == len(scales):
        return ()
    groups = map(Group, names, facts.group_sizes, scales)
    return tuple(group for group in groups if group.size and group.scale > 0)


def optimizers_of(curve: LossCurve) -> list[str]:
    """Class names of all optimizers that train a parameter, sorted by name."""
    return sorted({group.optimizer for group in groups_of(curve)} or {curve.optimizer})


def rule_of(curve: LossCurve) -> str:
    """Update rule of the optimizer of most parameters, ``"proportional"`` or ``"adaptive"``.

    Example:
        >>> from lrfinder.record.curve import StopReason, SweepConfig
        >>> from lrfinder.record.facts import ModelFacts
        >>> curve = LossCurve(
        ...     lrs=(0.1, 1.0), losses=(1.0, 2.0), stop=StopReason.COMPLETED, optimizer="AdamW",
        ...     config=SweepConfig(start_lr=0.1, end_lr=1.0, num_iter=2), group_scales=(1.0, 100.0),
        ...     facts=ModelFacts(optimizers=(("AdamW", 1), ("SGD", 1)), group_sizes=(100, 9000)),
        ... )
        >>> rule_of(curve)
        'proportional'
    """
    sizes: Counter[str] = Counter()
    for group in groups_of(curve):
        sizes[group.optimizer] += group.size
    name = max(sorted(sizes), key=sizes.__getitem__, default=curve.optimizer)
    return update_rule(name, None if curve.facts is None else curve.facts.epsilon)
