"""Plots of curves and schedules.

What is drawn is a value of :mod:`lrfinder.display.curve_figure` or :mod:`lrfinder.display.schedule_figure`; nothing is
computed here. Nothing calls ``show``, and ``matplotlib.pyplot`` is used only to make a figure when no axes are given.
No torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from lrfinder.advice.advice import Advice
from lrfinder.analysis.regimes import Reading, read_curve
from lrfinder.analysis.series import check_curve
from lrfinder.display.curve_figure import CurveFigure
from lrfinder.display.curves_figure import curves_figure
from lrfinder.display.drawing import (
    DASHES,
    MARKERS,
    cycle_for,
    draw_interval,
    draw_marks,
    draw_note,
    draw_regimes,
    ink,
    palette_for,
    set_axis,
    set_texts,
    shade,
    take_room,
    text_size,
)
from lrfinder.display.schedule_figure import schedule_figure
from lrfinder.errors import ConfigError
from lrfinder.record.curve import LossCurve
from lrfinder.schedules.schedule import Schedule

__all__ = ["SIZE", "plot_curve", "plot_curves", "plot_recipe"]

SIZE = (6.4, 4.0)  # inches: the width of a notebook cell at 100 dpi


def plot_curve(
    curve: LossCurve,
    advice: Advice | None = None,
    ax: Axes | None = None,
    *,
    reading: Reading | None = None,
    subject: tuple[str, ...] = (),
) -> Axes:
    """Loss against learning rate: raw, smoothed, and the learning rates that the advice takes from it.

    Each loss is drawn at the learning rate whose effect it shows (:meth:`LossCurve.pairs`). The vertical range is that
    of the readable part, so a loss that blows up leaves the plot at the top and does not flatten the rest.

    Args:
        curve: result of a range test; any length, also none.
        advice: marks ``base_lr`` with the interval it is expected in, and ``max_lr``, and adds the grade; without it
            only what the curve shows is drawn.
        ax: axes to draw on; by default a new pyplot figure, to be shown or saved by the caller.
        reading: of this curve, where it is known already; by default the curve is read here.
        subject: names for the title, as in ``("resnet18", "digits")``: model and data.

    Returns:
        The axes drawn on.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from lrfinder import LossCurve, StopReason, SweepConfig
        >>> config = SweepConfig(start_lr=1e-4, end_lr=1.0, num_iter=5)
        >>> lrs = tuple(config.lr_at(i) for i in range(5))
        >>> curve = LossCurve(lrs=lrs, losses=(2.3, 2.3, 2.0, 1.0, 4.0), stop=StopReason.COMPLETED, config=config)
        >>> plot_curve(curve, ax=Figure().subplots()).get_ylabel()
        'training loss (raw and smoothed)'
    """
    ax = _axes(ax)
    palette = palette_for(ax)
    reading = read_curve(curve) if reading is None else reading
    shown = CurveFigure(curve, reading, advice, subject)
    set_axis(ax, *shown.axis)
    dots: dict[str, Any] = {"color": ink(), "markersize": 3.8, "mec": ax.get_facecolor(), "mew": 0.6}
    ax.plot(reading.lrs, reading.smooth, "-", color=palette["curve"], linewidth=2, label="smoothed", zorder=2)
    ax.plot(reading.lrs, reading.losses, "o", alpha=0.7, label="raw", zorder=3, **dots)  # above the line, to be seen
    if (limits := shown.y_limits) is None:
        ax.set_yticks([])
    else:
        bottom, top = limits
        ax.set_ylim(bottom=None if bottom <= 0 and ax.get_yscale() == "log" else bottom, top=top)
    if shown.note:
        draw_note(ax, shown.note)
    if shown.interval is not None:
        draw_interval(ax, shown.interval, shown.beyond)
    draw_regimes(ax, shown.regimes)
    draw_marks(ax, shown.marks)
    set_texts(ax, shown.title, shown.subtitle, shown.xlabel, shown.ylabel, shown.marks)
    return ax


def plot_curves(curves: Mapping[str, LossCurve], ax: Axes | None = None) -> Axes:
    """Several range tests in one plot, smoothed, each with its stability edge marked.

    Losses of different runs differ in offset and scale, so each curve is drawn as the part of its own drop: 1 is the
    level it starts from, 0 its lowest. The legend has the levels in the loss's own units. A curve that never fell is
    scaled by its batch noise instead and stays near 1; one that fell by less than 2 % of its level does not reach 0.

    Args:
        curves: label to curve; at least one.
        ax: axes to draw on; by default a new pyplot figure, to be shown or saved by the caller.

    Returns:
        The axes drawn on.

    Raises:
        ConfigError: no dictionary of curves was given.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from lrfinder.record.curve import StopReason, SweepConfig
        >>> config = SweepConfig(start_lr=1e-4, end_lr=1.0, num_iter=60)
        >>> lrs = tuple(config.lr_at(i) for i in range(60))
        >>> curves = {
        ...     name: LossCurve(
        ...         lrs=lrs, losses=tuple(1 / (1 + lr / best) for lr in lrs), stop=StopReason.COMPLETED, config=config
        ...     )
        ...     for name, best in {"SGD": 0.1, "AdamW": 0.001}.items()
        ... }
        >>> ax = plot_curves(curves, ax=Figure().add_subplot())
        >>> [line.get_label().split(":")[0] for line in ax.get_lines()]
        ['SGD', 'AdamW']
    """
    if not curves or not isinstance(curves, Mapping):
        what = "none" if not curves else f"a {type(curves).__name__}"
        raise ConfigError(f"plot_curves needs at least one curve; got {what}. Pass a dictionary as {{'SGD': curve}}.")
    for curve in curves.values():
        check_curve(curve)
    ax = _axes(ax)
    shown = curves_figure(curves)
    set_axis(ax, *shown.axis)
    looks = zip(itertools.cycle(cycle_for(ax)), itertools.cycle(DASHES), itertools.cycle(MARKERS))
    for line, (color, dashes, marker) in zip(shown.lines, looks):
        look: dict[str, Any] = {"color": color, "linestyle": dashes, "marker": marker, "markersize": 7}
        at_edge = [] if line.edge is None else [line.edge]
        ax.plot(line.lrs, line.parts, linewidth=1.8, markevery=at_edge, label=line.label, **look)
    ax.set_ylim(-0.15, 1.6)
    ax.set_xlabel("learning rate (marker: stability edge)", fontsize=text_size(ax))
    ax.set_ylabel("loss (1: at the start, 0: at its lowest)", fontsize=text_size(ax))
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "fontsize": "small"}
    if shown.beside:
        place = {"loc": "upper left", "bbox_to_anchor": (1, 1), "fontsize": "x-small"}
    size, points = ax.legend(frameon=False, **place).get_window_extent(), 72 / ax.figure.dpi
    take_room(ax, *(0, size.width * points) if shown.beside else (size.height * points, 0))
    return ax


def plot_recipe(recipe: Schedule, ax: Axes | None = None) -> Axes:
    """Learning rate over the whole training, and the momentum where the schedule moves it.

    The curve has the learning rate of every update (or epoch), for the reference parameter group. Of a schedule without
    an end, the warm-up and as much again is drawn, and at least 100 updates (or epochs).

    Args:
        recipe: the schedule.
        ax: axes to draw on; by default a new pyplot figure, to be shown or saved by the caller. Momentum gets a twin
            axis on the right.

    Returns:
        The axes with the learning rate.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from lrfinder import recipe
        >>> ax = plot_recipe(recipe("cosine", peak_lr=0.1, total_steps=1000, warmup_steps=0), ax=Figure().subplots())
        >>> ax.get_title(loc="left")
        'cosine: scheduler.step() after every batch'
    """
    ax = _axes(ax)
    palette = palette_for(ax)
    shown = schedule_figure(recipe)
    drawstyle = "steps-post" if shown.stepwise else "default"
    set_axis(ax, "linear", shown.x_limits)
    ax.plot(shown.times, shown.lrs, color=palette["curve"], lw=2, drawstyle=drawstyle, label="learning rate", zorder=3)
    ax.set_ylim(shown.y_limits)
    ax.yaxis.set_major_formatter("{x:g}")  # a common factor of all ticks would stand where the labels do
    if shown.warmup:
        ax.axvspan(0, shown.warmup, color=palette["base_lr"], alpha=shade(ax), linewidth=0, label="warm-up", zorder=0)
    draw_marks(ax, shown.marks)
    if shown.momentum_limits is not None:
        twin = ax.twinx()
        dashed: dict[str, Any] = {"linestyle": (0, (4, 2)), "drawstyle": drawstyle}
        twin.plot(shown.times, shown.momenta, color=palette["base_lr"], label="momentum", **dashed)
        twin.set_ylim(shown.momentum_limits)
        twin.set_ylabel("momentum or beta1 (dashed)", fontsize=text_size(ax))
    set_texts(ax, shown.title, shown.subtitle, shown.xlabel, "learning rate", shown.marks)
    return ax


def _axes(ax: Axes | None) -> Axes:
    """The axes given, or new ones."""
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots(figsize=SIZE, layout="constrained")
    if not isinstance(ax, Axes):
        hint = "Of several axes give one, as axs[0]."
        raise ConfigError(f"ax must be matplotlib axes, as of plt.subplots(); got a {type(ax).__name__}. {hint}")
    return ax
