"""Contents of the plots of curves, as values: points, lines, regimes, marks, axis limits and words.

Every number and every text of a plot is made here, from a curve, its reading and the advice, so it can be checked
without drawing. :mod:`lrfinder.display.plotting` draws these values and computes nothing. No matplotlib, no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrfinder.advice.advise import Advice
from lrfinder.analysis.regimes import Reading, read_curve
from lrfinder.display.marks import Mark, labelled, places
from lrfinder.display.summary import optimizers_of
from lrfinder.numbers import format_lr, printable, round_lr
from lrfinder.record.curve import LossCurve, StopReason

__all__ = ["STRIP", "CurveFigure", "CurvesFigure", "SmoothedLine", "Span", "curve_figure", "curves_figure"]

STRIP = 0.06  # height of the strip that names the regimes, as a part of the axes
_OFF_SCALE = 2.0  # a loss range this many times the readable one is cut off, or the fall would look flat
_ABOVE = 6  # curves whose legend, with their levels, still has room above the axes; for more it stands beside them


@dataclass(frozen=True, kw_only=True)
class Span:
    """A named stretch of the learning-rate axis; ``share`` is the part of the axis that it covers, in (0, 1]."""

    name: str
    start: float
    end: float
    share: float


@dataclass(frozen=True, kw_only=True)
class CurveFigure:
    """Everything that :func:`lrfinder.plot_curve` draws.

    Args:
        lrs: learning rates of the points, shape (m,).
        losses: raw losses, shape (m,).
        smooth: smoothed losses, shape (m,).
        scale: of the learning-rate axis, ``"log"`` or ``"linear"``.
        x_limits: ends of the learning-rate axis.
        y_limits: ends of the loss axis; None for a curve of fewer than two points.
        interval: ends of the shaded interval; None without advice.
        regimes: flat, falling and unstable stretch, those of them that the curve shows.
        marks: learning rates pointed at, lowest first.
        title, subtitle, xlabel, ylabel: texts around the axes.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    scale: str
    x_limits: tuple[float, float]
    y_limits: tuple[float, float] | None
    interval: tuple[float, float] | None
    regimes: tuple[Span, ...]
    marks: tuple[Mark, ...]
    title: str
    subtitle: str
    xlabel: str
    ylabel: str


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
    scale: str
    x_limits: tuple[float, float]
    beside: bool


def curve_figure(curve: LossCurve, reading: Reading, advice: Advice | None = None) -> CurveFigure:
    """Contents of a plot of one curve.

    Args:
        curve: result of a range test, of any length.
        reading: what :func:`read_curve` reads from it.
        advice: adds ``base_lr``, ``max_lr``, the interval and the grade.
    """
    marks = _marks(reading, advice)
    scale, limits = _lr_axis([curve], [mark.x for mark in marks])
    place = places(limits, scale)
    return CurveFigure(
        lrs=reading.lrs,
        losses=reading.losses,
        smooth=reading.smooth,
        scale=scale,
        x_limits=limits,
        y_limits=_loss_limits(reading),
        interval=None if advice is None else advice.interval,
        regimes=_regimes(reading, limits, place),
        marks=labelled(marks, place),
        title=_title(curve, advice),
        subtitle=_subtitle(reading, advice),
        xlabel=f"learning rate ({_stop_words(curve)})",
        ylabel=f"{'training' if curve.measured == 'before' else 'validation'} loss (raw and smoothed)",
    )


def curves_figure(curves: Mapping[str, LossCurve]) -> CurvesFigure:
    """Contents of a plot of several curves; at least one."""
    scale, limits = _lr_axis(list(curves.values()), [])
    beside = len(curves) > _ABOVE
    lines = []
    for label, curve in curves.items():
        reading = read_curve(curve)
        lines.append(
            SmoothedLine(
                label=label if beside else f"{label}: {_levels(reading)}",
                lrs=reading.lrs,
                parts=_parts_of_drop(reading),
                edge=None if reading.edge_lr is None else _nearest(reading.lrs, reading.edge_lr),
            )
        )
    return CurvesFigure(lines=tuple(lines), scale=scale, x_limits=limits, beside=beside)


def _title(curve: LossCurve, advice: Advice | None) -> str:
    names = printable(optimizers_of(curve)).replace("$", r"\$")  # "$...$" would be set as a formula
    grade = "" if advice is None else f", grade: {advice.grade}"
    return (f"{names} range test" if names else "Range test") + grade


def _subtitle(reading: Reading, advice: Advice | None) -> str:
    """The interval, and whether it reaches above the edge or, on a curve without one, the end of the sweep."""
    if advice is None or advice.interval is None or not reading.lrs:
        return ""
    low, high = map(round_lr, advice.interval)
    end, above = (reading.lrs[-1], "not swept") if reading.edge_lr is None else (reading.edge_lr, "unstable")
    part = "" if high <= round_lr(end) else f", partly {above}" if low < end else f", {above}"
    return f"best base_lr expected between {low:g} and {high:g} (shaded{part})"


def _stop_words(curve: LossCurve) -> str:
    """Mark of the end of the sweep, with the reason."""
    lr = curve.lrs[-1] if curve.lrs else curve.config.start_lr
    if curve.stop.is_failure and curve.nonfinite_lr is not None:
        lr = curve.nonfinite_lr
    if curve.stop is StopReason.COMPLETED:
        return f"swept to {format_lr(lr)}"
    return f"stopped at {format_lr(lr)}: {curve.error or curve.stop.short}"


def _marks(reading: Reading, advice: Advice | None) -> list[Mark]:
    """The learning rates to point at, lowest first."""
    known = [("edge", reading.edge_lr)]
    if advice is not None:
        known = [("base_lr", advice.base_lr), ("max_lr", advice.max_lr), *known]
    marks = [
        Mark(role=role, x=lr, y=_smooth_at(reading, lr), value=format_lr(lr)) for role, lr in known if lr is not None
    ]
    return sorted(marks, key=lambda mark: mark.x)


def _regimes(reading: Reading, limits: tuple[float, float], place: Callable[[float], float]) -> tuple[Span, ...]:
    """The flat, the falling and the unstable stretch; none where the curve neither falls nor rises."""
    if not reading.lrs or (reading.onset_lr is None and reading.edge_lr is None):
        return ()
    low, high = limits
    edge = high if reading.edge_lr is None else reading.edge_lr
    onset = edge if reading.onset_lr is None else min(reading.onset_lr, edge)
    ends = (("flat", low, onset), ("falling", onset, edge), ("unstable", edge, high))
    return tuple(
        Span(name=name, start=start, end=end, share=place(end) - place(start))
        for name, start, end in ends
        if start < end
    )


def _lr_axis(curves: Sequence[LossCurve], marked: Sequence[float]) -> tuple[str, tuple[float, float]]:
    """Scale of the axis, linear when every sweep was, and its ends: every point and every mark, and a margin."""
    ends = [*marked, *(lr for curve in curves for lr in curve.lrs)]
    ends = ends or [end for curve in curves for end in (curve.config.start_lr, curve.config.end_lr)]
    low, high = min(ends), max(ends)
    if any(curve.config.mode == "exp" for curve in curves):
        factor = (high / low) ** 0.02 if high > low else 2.0
        return "log", (low / factor, high * factor)
    margin = 0.02 * (high - low) or 0.1 * high
    return "linear", (low - margin, high + margin)


def _loss_limits(reading: Reading) -> tuple[float, float] | None:
    """Ends of the part that can be read: down to the lowest loss, with room for the rise and the regime strip."""
    if len(reading.losses) < 2:
        return None
    losses, smooth, lrs = (np.asarray(values) for values in (reading.losses, reading.smooth, reading.lrs))
    before_rise = lrs <= reading.lowest_lr if reading.lowest_lr is not None else np.zeros(len(lrs), dtype=bool)
    if before_rise.sum() < 3:  # it never fell: show the start
        before_rise = np.arange(len(lrs)) <= max(len(lrs) // 3, 5)
    # A quantile of raw losses: neither a spike nor a blow-up, which smoothing spreads to both sides, sets the scale.
    low, high = float(smooth.min()), float(np.quantile(losses[before_rise], 0.98))
    span = max(high - low, 0.0)
    highest, lowest = float(losses.max()), float(losses.min())
    high = highest if highest - low <= _OFF_SCALE * span else low + 1.3 * span
    low = lowest if low - lowest <= span else low - 0.3 * span
    span = (high - low) or max(abs(high), 1.0) * 0.1
    return low - (STRIP + 0.06) * span, high + 0.05 * span


def _parts_of_drop(reading: Reading) -> tuple[float, ...]:
    """Smoothed losses as parts of the drop: 1 at the starting level, 0 at the lowest."""
    # Ten standard deviations: what a curve without any fall shows by chance then stays within a tenth or two.
    noises = 1 if reading.lowest_lr is not None else 10
    scale = max(reading.total_drop, noises * reading.noise_std) or 1.0
    return tuple(1 + (loss - _start_level(reading)) / scale for loss in reading.smooth)


def _start_level(reading: Reading) -> float:
    return min(reading.smooth) + reading.total_drop


def _levels(reading: Reading) -> str:
    """Starting level, lowest level and edge in words."""
    if not reading.smooth:
        return "too few points"
    edge = "no edge" if reading.edge_lr is None else f"edge {format_lr(reading.edge_lr)}"
    return f"{_start_level(reading):.3g} to {min(reading.smooth):.3g}, {edge}"


def _smooth_at(reading: Reading, lr: float) -> float | None:
    """Smoothed loss at a learning rate between the points; None outside them."""
    if not reading.lrs or not reading.lrs[0] <= lr <= reading.lrs[-1]:
        return None
    return float(np.interp(math.log(lr), np.log(reading.lrs), reading.smooth))


def _nearest(lrs: Sequence[float], lr: float) -> int:
    return min(range(len(lrs)), key=lambda i: abs(math.log(lrs[i] / lr)))
