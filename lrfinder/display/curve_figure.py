"""Contents of the plots of curves, as values: points, lines, regimes, marks, axis limits and words.

Every number and every text of a plot is made here, from a curve, its reading and the advice, so it can be checked
without drawing. :mod:`lrfinder.display.plotting` draws these values and computes nothing. No matplotlib, no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lrfinder.advice.advice import Advice
from lrfinder.analysis.diagnose import unreadable
from lrfinder.analysis.regimes import Reading
from lrfinder.display.limits import loss_limits, lr_axis
from lrfinder.display.marks import Mark, labelled, places
from lrfinder.display.summary import optimizers_in_words
from lrfinder.numbers import format_lr, printable, round_lr
from lrfinder.record.curve import LossCurve, StopReason

__all__ = ["CurveFigure", "Span", "curve_figure"]

_LONGEST = 62  # letters of a title in one line; a name that makes it longer is cut
_NAME = 28  # letters of the name of a model or of data, at most


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
        beyond: ends of the part of it that is hatched, above the edge or the end of the sweep; None for no such part.
        regimes: flat, falling and unstable stretch, those of them that the curve shows.
        marks: learning rates pointed at, lowest first.
        title, subtitle, xlabel, ylabel: texts around the axes.
        note: why nothing can be read from the curve, to be written into the axes; "" where something can.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    scale: str
    x_limits: tuple[float, float]
    y_limits: tuple[float, float] | None
    interval: tuple[float, float] | None
    beyond: tuple[float, float] | None
    regimes: tuple[Span, ...]
    marks: tuple[Mark, ...]
    title: str
    subtitle: str
    xlabel: str
    ylabel: str
    note: str


def curve_figure(
    curve: LossCurve, reading: Reading, advice: Advice | None = None, subject: tuple[str, ...] = ()
) -> CurveFigure:
    """Contents of a plot of one curve.

    Args:
        curve: result of a range test, of any length.
        reading: what :func:`read_curve` reads from it.
        advice: adds ``base_lr``, ``max_lr``, the interval and the grade.
        subject: names of model and data, where they are known.
    """
    marks = _marks(reading, advice)
    scale, limits = lr_axis([curve], [mark.x for mark in marks])
    place = places(limits, scale)
    return CurveFigure(
        lrs=reading.lrs,
        losses=reading.losses,
        smooth=reading.smooth,
        scale=scale,
        x_limits=limits,
        y_limits=loss_limits(reading),
        interval=None if advice is None else advice.interval,
        beyond=_beyond(reading, advice),
        regimes=_regimes(reading, limits, place),
        marks=labelled(marks, place),
        title=_title(curve, advice, subject),
        subtitle=_subtitle(reading, advice),
        xlabel=f"learning rate ({_stop_words(curve)})",
        ylabel=f"{_measured(curve, reading)} (raw and smoothed)",
        note=_note(curve, reading),
    )


def _title(curve: LossCurve, advice: Advice | None, subject: tuple[str, ...]) -> str:
    """Model, data, optimizer, batch and grade, those of them that are known; in two lines where one is too long."""
    named = " on ".join(name if len(name) <= _NAME else f"{name[: _NAME - 3]}..." for name in map(printable, subject))
    names, facts = printable(optimizers_in_words(curve)), curve.facts
    test = f"{names} range test" if names else "Range test"
    if facts is not None and facts.batch_size is not None:
        times = f" x {facts.accumulation_steps}" if facts.accumulation_steps > 1 else ""
        test += f", batch {facts.batch_size}{times}"
    test += "" if advice is None else f", grade: {advice.grade}"
    whole = ": ".join(filter(None, [named, test]))
    if named and len(whole) > _LONGEST:
        whole = f"{named}\n{test}"
    return whole.replace("$", r"\$")  # "$...$" would be set as a formula


def _beyond(reading: Reading, advice: Advice | None) -> tuple[float, float] | None:
    """The part of the interval above the edge or, on a curve without one, above the end of the sweep."""
    if advice is None or advice.interval is None or not reading.lrs:
        return None
    low, high = advice.interval
    end = reading.lrs[-1] if reading.edge_lr is None else reading.edge_lr
    return (max(low, end), high) if round_lr(high) > round_lr(end) else None


def _subtitle(reading: Reading, advice: Advice | None) -> str:
    """The interval, and whether it reaches above the edge or, on a curve without one, the end of the sweep."""
    if advice is None or advice.interval is None or not reading.lrs:
        return ""
    low, high = map(round_lr, advice.interval)
    why, beyond = "not swept" if reading.edge_lr is None else "unstable", _beyond(reading, advice)
    part = "shaded"
    if beyond is not None:
        part = f"hatched where {why}" if beyond[0] > advice.interval[0] else f"hatched: {why}"
    return f"best base_lr expected at {low:g} to {high:g} ({part})"


def _note(curve: LossCurve, reading: Reading) -> str:
    """Why the curve cannot be read, in a few words."""
    found = unreadable(curve, reading)
    if found is None:
        return ""
    if found.code == "flat":
        return "flat: the loss neither falls nor rises\nby more than its noise"
    points, needed = (f"{value:g}" for value in found.values)
    if found.code == "nonfinite_early":
        return f"the loss became nan or infinite\nafter {points} points; {needed} are needed"
    return f"too few points: {points} of at least {needed}"


def _measured(curve: LossCurve, reading: Reading) -> str:
    sign = "minus " if curve.maximized else ""  # all of a reading is of the loss with its sign turned
    if reading.probed:
        return f"{sign}loss on samples not trained on"
    return f"{sign}training loss" if curve.measured == "before" else f"{sign}validation loss"


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


def _smooth_at(reading: Reading, lr: float) -> float | None:
    """Smoothed loss at a learning rate between the points; None outside them."""
    if not reading.lrs or not reading.lrs[0] <= lr <= reading.lrs[-1]:
        return None
    return float(np.interp(math.log(lr), np.log(reading.lrs), reading.smooth))
