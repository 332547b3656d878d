"""Contents of a plot of several curves, as values; one curve is in :mod:`lrfinder.display.curve_figure`. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrfinder.analysis.regimes import Reading, read_curve
from lrfinder.display.limits import lr_axis
from lrfinder.numbers import format_lr
from lrfinder.record.curve import LossCurve

__all__ = ["CurvesFigure", "SmoothedLine", "curves_figure"]

_ABOVE = 6  # curves whose legend, with their levels, still has room above the axes; for more it stands beside them
_FAINT = 0.02  # part of its starting level that a curve has to fall by to be drawn at full height


@dataclass(frozen=True, kw_only=True)
class SmoothedLine:
    """One curve among several: ``parts`` are its smoothed losses, 1 at the start and 0 at the lowest, shape (m,).

    ``edge`` is the index of the point nearest to the stability edge; None without an edge.
    """

    label: str
    lrs: tuple[float, ...]
    parts: tuple[float, ...]
    edge: int | None


@dataclass(frozen=True, kw_only=True)
class CurvesFigure:
    """Everything that :func:`lrfinder.plot_curves` draws; ``beside`` places the legend beside the axes, not above."""

    lines: tuple[SmoothedLine, ...]
    axis: tuple[str, tuple[float, float]]
    beside: bool


def curves_figure(curves: Mapping[str, LossCurve]) -> CurvesFigure:
    """Contents of a plot of several curves; at least one."""
    beside = len(curves) > _ABOVE
    lines = []
    for label, curve in curves.items():
        reading = read_curve(curve)
        lines.append(
            SmoothedLine(
                label=label if beside else f"{label}: {_levels(reading, -1 if curve.maximized else 1)}",
                lrs=reading.lrs,
                parts=_parts_of_drop(reading),
                edge=None if reading.edge_lr is None else _nearest(reading.lrs, reading.edge_lr),
            )
        )
    return CurvesFigure(lines=tuple(lines), axis=lr_axis(list(curves.values()), []), beside=beside)


def _parts_of_drop(reading: Reading) -> tuple[float, ...]:
    """Smoothed losses as parts of the drop: 1 at the starting level, 0 at the lowest.

    A drop that is small beside the starting level, or beside the noise of a curve without any fall, is drawn as small.
    """
    # Ten standard deviations: what a curve without any fall shows by chance then stays within a tenth or two.
    noises = 1 if reading.lowest_lr is not None else 10
    scale = max(reading.total_drop, noises * reading.noise_std, _FAINT * _level_size(reading)) or 1.0
    return tuple(1 + (loss - _start_level(reading)) / scale for loss in reading.smooth)


def _start_level(reading: Reading) -> float:
    return min(reading.smooth) + reading.total_drop


def _level_size(reading: Reading) -> float:
    return abs(_start_level(reading)) if reading.smooth else 0.0


def _levels(reading: Reading, sign: int) -> str:
    """Starting level, lowest level and edge in words; ``sign`` is that of the loss in the reading."""
    if not reading.smooth:
        return "too few points"
    edge = "no edge" if reading.edge_lr is None else f"edge {format_lr(reading.edge_lr)}"
    levels = (_start_level(reading), min(reading.smooth))
    start, lowest = (f"{sign * level + 0.0:.3g}" for level in levels)  # without the sign of a zero
    moves = "falls" if sign > 0 else "rises"
    fall = f"{start} to {lowest}" if start != lowest else f"{start}, {moves} by {reading.total_drop:.1g}"
    return f"{fall}, {edge}"


def _nearest(lrs: Sequence[float], lr: float) -> int:
    return min(range(len(lrs)), key=lambda i: abs(math.log(lrs[i] / lr)))
