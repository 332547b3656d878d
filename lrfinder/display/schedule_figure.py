"""Contents of the plot of a schedule, as a value. No matplotlib: :mod:`lrfinder.display.plotting` draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrfinder.display.marks import Mark, labelled, places
from lrfinder.numbers import format_lr
from lrfinder.schedules.schedule import Schedule
from lrfinder.tables.kinds import KIND_TABLE

__all__ = ["ScheduleFigure", "schedule_figure"]

_SAMPLES = 5000  # points that a schedule is drawn with, at most some more: more than a screen is wide


@dataclass(frozen=True, kw_only=True)
class ScheduleFigure:
    """Everything that :func:`lrfinder.plot_recipe` draws.

    Args:
        times: calls of ``scheduler.step()`` so far, rising, shape (k,).
        lrs: learning rate at these times, shape (k,).
        momenta: momentum at these times, shape (k,); empty where the schedule leaves it alone.
        stepwise: whether the learning rate stays the same for a whole epoch.
        warmup: end of the shaded warm-up; 0 for none.
        x_limits, y_limits, momentum_limits: ends of the axes; ``momentum_limits`` is None without momenta.
        marks: peak and end, in this order.
        title, subtitle, xlabel: texts around the axes.
    """

    times: tuple[int, ...]
    lrs: tuple[float, ...]
    momenta: tuple[float, ...]
    stepwise: bool
    warmup: int
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    momentum_limits: tuple[float, float] | None
    marks: tuple[Mark, ...]
    title: str
    subtitle: str
    xlabel: str


def schedule_figure(schedule: Schedule) -> ScheduleFigure:
    """Contents of a plot of the schedule: the whole of it, or its beginning where it has no end."""
    unit = schedule.unit
    warmup = schedule.warmup_steps
    length = schedule.total_steps or max(2 * warmup, 100)
    times = _times(schedule, length)
    lrs = [schedule.lr_at(t) for t in times]
    momenta = [momentum for momentum in map(schedule.momentum_at, times) if momentum is not None]
    limits = (-0.02 * length, 1.02 * length)
    top = lrs.index(max(lrs))
    value = f"{format_lr(lrs[top])} at {unit} {times[top]}"
    marks = [Mark(role="peak", x=times[top], y=lrs[top], value=value)]
    if schedule.total_steps and not KIND_TABLE[schedule.kind].follows_loss:
        marks.append(Mark(role="end", x=times[-1], y=lrs[-1], value=format_lr(lrs[-1])))
    units = unit if warmup == 1 else {"batch": "batches", "update": "updates", "epoch": "epochs"}[unit]
    return ScheduleFigure(
        times=tuple(times),
        lrs=tuple(lrs),
        momenta=tuple(momenta),
        stepwise=unit == "epoch",
        warmup=warmup,
        x_limits=limits,
        y_limits=(-0.04 * max(lrs), 1.08 * max(lrs)),
        momentum_limits=_momentum_limits(momenta),
        marks=labelled(marks, places("linear", limits)),
        title=f"{schedule.kind}: scheduler.step() after every {unit}",
        subtitle=f"{warmup} {units} of warm-up (shaded)" if warmup else "",
        xlabel=_time_label(schedule, unit),
    )


def _times(schedule: Schedule, length: int) -> list[int]:
    """Times to draw: evenly spaced, and ever closer around the highest learning rate, until its place is exact."""
    times, low, high, gap = {min(schedule.warmup_steps, length - 1)}, 0, length - 1, length
    while gap > 1:
        times.update(np.linspace(low, high, _SAMPLES).astype(int).tolist())
        gap = -(-(high - low) // (_SAMPLES - 1))
        top = max(sorted(times), key=schedule.lr_at)
        low, high = max(top - gap, 0), min(top + gap, length - 1)
    return sorted(times)


def _momentum_limits(momenta: Sequence[float]) -> tuple[float, float] | None:
    if not momenta:
        return None
    margin = 0.08 * (max(momenta) - min(momenta)) or 0.05
    return min(momenta) - margin, max(momenta) + margin


def _time_label(schedule: Schedule, unit: str) -> str:
    if KIND_TABLE[schedule.kind].follows_loss:
        return f"{unit} (falls below this where the loss stops improving)"
    return unit if schedule.total_steps else f"{unit} (goes on as long as the training)"
