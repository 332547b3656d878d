"""Marks: places on the horizontal axis that a plot points at, and where their labels stand. No matplotlib."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Mark", "labelled", "places"]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A vertical line with a marker on the curve and a label above the axes.

    Args:
        role: what is marked: ``base_lr``, ``max_lr``, ``edge``, ``peak`` or ``end``.
        x: place on the horizontal axis.
        y: height of the curve there; None outside the curve.
        value: text of the label after the role.
        label: text above the axes; empty where the mark before it has one label for both.
        row: row of the label, counted upwards from 0.
        to_left: whether the label is left of its line.
    """

    role: str
    x: float
    y: float | None
    value: str
    label: str = ""
    row: int = 0
    to_left: bool = False


def labelled(marks: Sequence[Mark], place: Callable[[float], float]) -> tuple[Mark, ...]:
    """Marks with labels, none of which touches another label or the line of another mark.

    Marks of equal value share a label. Each label has a row of its own, at the upper end of its line. All labels point
    into the widest gap between two lines, or between a line and an end of the axis; away from that gap the lines get
    longer, so none passes a label. A label may be as wide as the gap, which is at least a fourth of the axis for three
    labels.

    Args:
        marks: from left to right.
        place: where on the axis an x is, from 0 (left end) to 1 (right end); see :func:`places`.

    Example:
        >>> marks = [Mark(role=name, x=x, y=None, value=f"{x:g}") for name, x in (("base_lr", 0.1), ("max_lr", 0.1))]
        >>> [(mark.label, mark.to_left) for mark in labelled(marks, places("linear", (0.0, 1.0)))]
        [('base_lr = max_lr 0.1', False), ('', False)]
    """
    groups = [list(group) for _, group in itertools.groupby(marks, key=lambda mark: mark.value)]
    ends = [0.0, *(place(group[0].x) for group in groups), 1.0]
    gaps = [right - left for left, right in itertools.pairwise(ends)]
    split = gaps.index(max(gaps))  # groups to the left of the widest gap
    placed = []
    for i, group in enumerate(groups):
        row = i - split if i >= split else len(groups) - 1 - i
        label = f"{' = '.join(mark.role for mark in group)} {group[0].value}"
        labels = [label, *[""] * (len(group) - 1)]
        placed += [
            dataclasses.replace(mark, label=label, row=row, to_left=i >= split)
            for mark, label in zip(group, labels, strict=True)
        ]
    return tuple(placed)


def places(scale: str, limits: tuple[float, float]) -> Callable[[float], float]:
    """Function from a value to its place between the left (0) and the right (1) end of an axis.

    Args:
        scale: ``"log"`` or ``"linear"``.
        limits: values at both ends; above 0 on a logarithmic axis.

    Example:
        >>> places("log", (0.01, 1.0))(0.1)
        0.5
    """
    scaled = math.log if scale == "log" else float
    low, high = map(scaled, limits)
    return lambda x: (scaled(x) - low) / (high - low)
