"""Curves and schedules as matplotlib pictures.

The marks are drawn from the numbers of the reading and the advice and from nothing else. Colours are those of Okabe and
Ito, which colour-blind people tell apart, and every line also differs in its dashes or its marker. Text and grid take
the colours of the current matplotlib style; the rest adapts to whether the axes are light or dark. No torch.

Nothing here calls ``show``; ``matplotlib.pyplot`` is touched only to make a figure when no axes are given.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib import colors, font_manager, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from lrfinder.advice import Advice
from lrfinder.curve import LossCurve, StopReason
from lrfinder.edges import Reading, read_curve
from lrfinder.errors import ConfigError
from lrfinder.numbers import format_lr

if TYPE_CHECKING:
    from lrfinder.recipes import Recipe

__all__ = ["figure_png", "plot_curve", "plot_curves", "plot_recipe"]

_SIZE = (6.4, 4.0)  # inches: the width of a notebook cell at 100 dpi
_ROW = 1.35  # height of a row of labels, in font sizes
_OFF_SCALE = 2.0  # a loss range this many times the readable one is cut off, or the fall would look flat
_LETTER = 0.6  # width of a letter, in font sizes: a little more than it is, to be safe
_ABOVE = 8  # curves whose legend, with their levels, still has room above the axes; for more it stands at the side
_SAMPLES = 5000  # points that a schedule is drawn with: more than a screen is wide
_COLOURS = 128  # lines and letters need no more, and a notebook full of pictures is a quarter of the size
_STRIP = 0.06  # height of the strip that names the regimes, as a part of the axes

# Softer than pure black, near the page colour of the usual dark themes.
_DARK_PAGE = {key: "#111111" for key in ("figure.facecolor", "axes.facecolor", "savefig.facecolor")}

_STOPS = {
    StopReason.COMPLETED: "swept to {lr}",
    StopReason.DIVERGED: "stopped at {lr}: the loss diverged",
    StopReason.NONFINITE: "stopped at {lr}: the loss became nan or infinite",
    StopReason.DATA_EXHAUSTED: "stopped at {lr}: the loader ran out of batches",
    StopReason.INTERRUPTED: "stopped at {lr}: interrupted",
}


@dataclass(frozen=True, kw_only=True)
class _Palette:
    """Okabe and Ito's colours, in the shades that stand out from the background."""

    curve: str
    base: str
    peak: str
    edge: str
    cycle: tuple[str, ...]


_LIGHT = _Palette(
    curve="#0072B2",
    base="#009E73",
    peak="#D55E00",
    edge="#000000",
    cycle=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"),
)
_DARK = _Palette(
    curve="#56B4E9",
    base="#009E73",
    peak="#E69F00",
    edge="#FFFFFF",
    cycle=("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#FFFFFF", "#D55E00", "#F0E442"),
)
_DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1.2)), (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def plot_curve(curve: LossCurve, advice: Advice | None = None, ax: Axes | None = None) -> Axes:
    """Loss against learning rate: raw, smoothed, and what the advice makes of it.

    Each loss is drawn at the learning rate whose effect it shows (:meth:`LossCurve.pairs`). The vertical range is that
    of the readable part, so a blow-up leaves the picture at the top and does not flatten the rest.

    Args:
        curve: result of a range test; any length, also none.
        advice: marks ``base_lr`` with the interval it is expected in, and ``max_lr``, and says the grade; without it
            only what the curve shows is drawn.
        ax: axes to draw on; by default a new pyplot figure, to be shown or saved by the caller.

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
    ax = _new_axes() if ax is None else ax
    palette = _palette(ax)
    lrs, losses = curve.pairs()
    reading = read_curve(curve)
    marks = _advice_marks(reading, advice, palette)
    _set_lr_axis(ax, [curve], [mark.x for mark in marks])
    ax.plot(lrs, losses, ".", color=palette.curve, alpha=0.55, markersize=5, markeredgewidth=0, label="raw", zorder=2)
    ax.plot(reading.lrs, reading.smooth, "-", color=palette.curve, linewidth=2, label="smoothed", zorder=3)
    _set_loss_axis(ax, reading)
    if advice is not None and advice.interval is not None:
        ax.axvspan(*advice.interval, color=palette.base, alpha=0.15, linewidth=0, label="interval", zorder=0)
    _draw_regimes(ax, reading)
    _draw_marks(ax, marks)
    what = "training loss" if curve.measured == "before" else "validation loss"
    ax.set_ylabel(f"{what} (raw and smoothed)")
    ax.set_xlabel(f"learning rate ({_stop_words(curve)})")
    title = " ".join(filter(None, (curve.optimizer, "range test")))
    title = title if advice is None else f"{title}, grade: {advice.grade}"
    _set_title(ax, title[0].upper() + title[1:], rows=len(marks))
    return ax


def plot_curves(curves: Mapping[str, LossCurve], ax: Axes | None = None) -> Axes:
    """Several range tests in one picture, smoothed, each with its stability edge marked.

    Losses of different runs differ in offset and scale, so each curve is drawn as the part of its own drop: 1 is the
    level it starts from, 0 its lowest. The legend has the levels in the loss's own units. A curve that never fell is
    scaled by its batch noise instead and stays near 1.

    Args:
        curves: label to curve; at least one.
        ax: axes to draw on; by default a new pyplot figure, to be shown or saved by the caller.

    Returns:
        The axes drawn on.

    Raises:
        ConfigError: no curve was given.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from lrfinder.curve import StopReason, SweepConfig
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
    if not curves:
        raise ConfigError("plot_curves needs at least one curve; got none. Pass a dictionary like {'SGD': curve}.")
    ax = _new_axes() if ax is None else ax
    _set_lr_axis(ax, list(curves.values()), [])
    styles = zip(itertools.cycle(_palette(ax).cycle), itertools.cycle(_DASHES), itertools.cycle(_MARKERS))
    for (label, curve), (color, dashes, marker) in zip(curves.items(), styles):
        reading = read_curve(curve)
        lrs, parts = np.asarray(reading.lrs), _parts_of_drop(reading)
        at_edge = [] if reading.edge_lr is None else [_nearest(reading.lrs, reading.edge_lr)]
        look: dict[str, Any] = {"color": color, "linestyle": dashes, "marker": marker, "markevery": at_edge}
        ax.plot(lrs, parts, linewidth=1.8, markersize=7, label=_levels(label, reading), **look)
    ax.set_ylim(-0.15, 1.6)
    ax.set_xlabel("learning rate (marker: stability edge)")
    ax.set_ylabel("loss (1: at the start, 0: at its lowest)")
    if len(curves) > _ABOVE:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), labels=list(curves), fontsize="x-small", frameon=False)
    else:
        columns = 2 if all(_width(ax, str(line.get_label())) < 0.45 for line in ax.get_lines()) else 1
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize="small", frameon=False)
    return ax


def plot_recipe(recipe: Recipe, ax: Axes | None = None) -> Axes:
    """Learning rate over the whole training, and the momentum where the schedule moves it.

    The curve has the learning rate of every update (or epoch), for the parameter group the recipe is about. Of a recipe
    without an end, the warm-up and as much again is drawn, and at least 100 updates (or epochs).

    Args:
        recipe: the schedule.
        ax: axes to draw on; by default a new pyplot figure, to be shown or saved by the caller. Momentum gets a twin
            axis on the right.

    Returns:
        The axes with the learning rate.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from lrfinder import recipe
        >>> ax = plot_recipe(recipe("cosine", peak_lr=0.1, total_steps=1000), ax=Figure().subplots())
        >>> ax.get_title(loc="left")
        'cosine: scheduler.step() after every batch'
    """
    ax = _new_axes() if ax is None else ax
    palette = _palette(ax)
    unit = "batch" if recipe.interval == "step" else "epoch"
    length = recipe.total_steps or max(2 * recipe.warmup_steps, 100)
    times = sorted({*np.linspace(0, length - 1, _SAMPLES).astype(int).tolist(), min(recipe.warmup_steps, length - 1)})
    lrs = [recipe.lr_at(t) for t in times]
    drawstyle = "default" if unit == "batch" else "steps-post"
    ax.plot(times, lrs, color=palette.curve, linewidth=2, drawstyle=drawstyle, label="learning rate", zorder=3)
    ax.set_xscale("linear")
    ax.set_xlim(-0.02 * length, 1.02 * length)
    ax.set_ylim(-0.04 * max(lrs), 1.08 * max(lrs))
    if recipe.warmup_steps:
        ax.axvspan(0, recipe.warmup_steps, color=palette.base, alpha=0.15, linewidth=0, label="warm-up", zorder=0)
    marks = _recipe_marks(recipe, times, lrs, unit, palette)
    _draw_marks(ax, marks)
    _draw_momentum(ax, times, [recipe.momentum_at(t) for t in times], drawstyle, palette)
    if recipe.kind == "plateau":
        ax.set_xlabel(f"{unit} (falls below this where the loss stops improving)")
    else:
        ax.set_xlabel(unit if recipe.total_steps else f"{unit} (goes on as long as the training)")
    ax.set_ylabel("learning rate")
    ax.set_axisbelow(True)
    ax.grid(True, alpha=0.3, linewidth=0.6)
    _set_title(ax, f"{recipe.kind}: scheduler.step() after every {unit}", rows=len(marks))
    return ax


def figure_png(
    draw: Callable[[Axes], object], *, dark: bool = False, size: tuple[float, float] = _SIZE, dpi: float = 144
) -> bytes:
    """PNG of whatever ``draw`` puts on the axes, rendered in memory.

    pyplot is not involved: no window, no figure left behind, and the caller's matplotlib settings are as before. The
    picture is the same whatever those settings are.

    Args:
        draw: gets the axes, as in ``lambda ax: plot_curve(curve, ax=ax)``.
        dark: light lines on a dark background.
        size: width and height in inches.
        dpi: pixels per inch.
    """
    with style.context(["default", "dark_background", _DARK_PAGE] if dark else "default"):
        figure = Figure(figsize=size, dpi=dpi, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.subplots())
        whole = io.BytesIO()
        figure.savefig(whole, format="png", dpi=dpi)
    small = io.BytesIO()
    Image.open(whole).convert("RGB").quantize(_COLOURS).save(small, format="png", optimize=True, dpi=(dpi, dpi))
    return small.getvalue()


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """A place on the horizontal axis to point at."""

    label: str
    detail: str = ""  # left out where there is no room
    x: float
    level: float | None  # height of the curve there
    color: str
    dashes: Any
    marker: str
    size: float = 8


def _advice_marks(reading: Reading, advice: Advice | None, palette: _Palette) -> list[_Mark]:
    """The learning rates to point at, lowest first."""
    marks = []

    def mark(label: str, lr: float, **look: Any) -> None:
        marks.append(_Mark(label=label, x=lr, level=_smooth_at(reading, lr), **look))

    if advice is not None and advice.base_lr is not None and advice.interval is not None:
        low, high = map(format_lr, advice.interval)
        label, detail = f"base_lr {format_lr(advice.base_lr)}", f" (best in {low} to {high})"
        # Larger than the others: its rim stays visible under a max_lr at the same place.
        mark(label, advice.base_lr, detail=detail, color=palette.base, dashes="-.", marker="o", size=11)
    if advice is not None and advice.max_lr is not None:
        mark(f"max_lr {format_lr(advice.max_lr)}", advice.max_lr, color=palette.peak, dashes="--", marker="^")
    if reading.edge_lr is not None:
        mark(f"edge {format_lr(reading.edge_lr)}", reading.edge_lr, color=palette.edge, dashes=":", marker="X")
    return sorted(marks, key=lambda mark: mark.x)


def _draw_marks(ax: Axes, marks: Sequence[_Mark]) -> None:
    """A line, a marker on the curve, and a label above the axes for each mark, which come from left to right.

    The labels stand like flags at the top of their lines, each in a row of its own, so none can touch another however
    close together the marks are.
    """
    ink = matplotlib.rcParams["text.color"]
    labels = [mark.label + mark.detail for mark in marks]
    if any(_width(ax, label) > 0.6 for label in labels):
        labels = [mark.label for mark in marks]
    for mark, label, (row, to_left) in zip(marks, labels, _flags(ax, marks, labels), strict=True):
        height = 3 + row * _row_points()
        top: dict[str, Any] = {"xycoords": ax.get_xaxis_transform(), "textcoords": "offset points"}
        stroke: dict[str, Any] = {"color": mark.color, "linestyle": mark.dashes, "linewidth": 1.4}
        ax.axvline(mark.x, label=mark.label, zorder=2.5, **stroke)
        ax.annotate(
            "",
            xy=(mark.x, 1),
            xytext=(0, height + 0.7 * _row_points()),
            arrowprops={"arrowstyle": "-", "shrinkA": 0, "shrinkB": 0, **stroke},
            annotation_clip=False,
            **top,
        )
        ax.annotate(
            label,
            xy=(mark.x, 1),
            xytext=(-4 if to_left else 4, height),
            ha="right" if to_left else "left",
            va="bottom",
            fontsize="small",
            color=ink,
            annotation_clip=False,
            **top,
        )
        if mark.level is not None:
            ax.plot(
                [mark.x],
                [mark.level],
                mark.marker,
                color=mark.color,
                markersize=mark.size,
                markeredgecolor=ax.get_facecolor(),
                zorder=5 - 0.01 * mark.size,  # the smaller on top
            )


def _flags(ax: Axes, marks: Sequence[_Mark], labels: Sequence[str]) -> list[tuple[int, bool]]:
    """Row of each label, and whether it stands to the left of its line.

    All stand on the side with more room, and the farther a mark is on the other side the higher its label: then no line
    passes a label. A label that would leave the axes changes sides, and goes above those that stay.
    """
    places = [_across(ax, mark.x) for mark in marks]
    widths = [_width(ax, label) for label in labels]
    to_left = sum(places) > 0.5 * len(places)
    sides = [
        to_left != (place < width if to_left else place + width > 1)
        for place, width in zip(places, widths, strict=True)
    ]
    # From the lowest row up: those that stay, beginning with the one farthest along its side; then those that changed.
    staying = [i for i in range(len(marks)) if sides[i] == to_left]
    changed = [i for i in range(len(marks)) if sides[i] != to_left]
    order = [*(staying if to_left else staying[::-1]), *(changed[::-1] if to_left else changed)]
    return [(order.index(i), sides[i]) for i in range(len(marks))]


def _set_title(ax: Axes, title: str, *, rows: int) -> None:
    """The title above that many rows of labels, which take their room from the axes unless a layout engine finds it."""
    ax.set_title(title, loc="left", pad=6 + rows * _row_points())
    if ax.figure.get_layout_engine() is None:
        box = ax.get_position()
        room = rows * _row_points() / 72 * ax.figure.dpi / ax.figure.bbox.height
        ax.set_position((box.x0, box.y0, box.width, max(box.height - room, box.height / 2)))


def _draw_regimes(ax: Axes, reading: Reading) -> None:
    """A strip along the bottom that names the flat, the falling and the unstable part."""
    if not reading.lrs or (reading.onset_lr is None and reading.edge_lr is None):
        return
    low, high = ax.get_xlim()
    edge = high if reading.edge_lr is None else reading.edge_lr
    onset = edge if reading.onset_lr is None else reading.onset_lr
    ink = matplotlib.rcParams["text.color"]
    parts = (("flat", low, onset, 0.06), ("falling", onset, edge, 0.14), ("unstable", edge, high, 0.24))
    for name, start, end, alpha in parts:
        if start >= end:
            continue
        ax.axvspan(start, end, ymax=_STRIP, color=ink, alpha=alpha, linewidth=0, zorder=1)
        left, right = _across(ax, start), _across(ax, end)
        if right - left > _width(ax, name):
            ax.text(
                (left + right) / 2,
                _STRIP / 2,
                name,
                transform=ax.transAxes,
                ha="center",
                va="center",
                fontsize="x-small",
                color=ink,
                zorder=1.1,
            )


def _recipe_marks(
    recipe: Recipe, times: Sequence[int], lrs: Sequence[float], unit: str, palette: _Palette
) -> list[_Mark]:
    """The peak, where it is first reached, and the last update, where the recipe knows them."""
    top = max(range(len(lrs)), key=lrs.__getitem__)
    label, after = f"peak {format_lr(lrs[top])}", " (after warm-up)" if recipe.warmup_steps else ""
    place = f" at {unit} {times[top]}{after}"
    look: dict[str, Any] = {"color": palette.peak, "dashes": "--", "marker": "^"}
    marks = [_Mark(label=label, detail=place, x=times[top], level=lrs[top], **look)]
    if recipe.total_steps and recipe.kind != "plateau":
        label = f"end {format_lr(lrs[-1])}"
        marks.append(_Mark(label=label, x=times[-1], level=lrs[-1], color=palette.edge, dashes=":", marker="X"))
    return marks


def _draw_momentum(
    ax: Axes, times: Sequence[int], momenta: Sequence[float | None], drawstyle: str, palette: _Palette
) -> None:
    known = [momentum for momentum in momenta if momentum is not None]
    if not known:
        return
    twin = ax.twinx()
    twin.plot(times, known, color=palette.base, linestyle=(0, (4, 2)), drawstyle=drawstyle, label="momentum")
    margin = 0.08 * (max(known) - min(known)) or 0.05
    twin.set_ylim(min(known) - margin, max(known) + margin)
    twin.set_ylabel("momentum or beta1 (dashed)")


def _set_lr_axis(ax: Axes, curves: Sequence[LossCurve], marked: Sequence[float]) -> None:
    """Wide enough for every point and mark; linear when every sweep was."""
    ends = [*marked, *(lr for curve in curves for lr in curve.lrs)]
    ends = ends or [end for curve in curves for end in (curve.config.start_lr, curve.config.end_lr)]
    low, high = min(ends), max(ends)
    if all(curve.config.mode == "linear" for curve in curves):
        ax.set_xscale("linear")
        margin = 0.02 * (high - low) or 0.1 * high
        ax.set_xlim(low - margin, high + margin)
    else:
        ax.set_xscale("log")
        factor = (high / low) ** 0.02 if high > low else 2.0
        ax.set_xlim(low / factor, high * factor)
    ax.set_axisbelow(True)
    ax.grid(True, alpha=0.3, linewidth=0.6)


def _set_loss_axis(ax: Axes, reading: Reading) -> None:
    """Range of the part that can be read: down to the lowest loss, with room for the rise and the regime strip."""
    if len(reading.losses) < 2:
        ax.set_yticks([])
        ax.text(0.5, 0.5, "too few points to draw", transform=ax.transAxes, ha="center", va="center")
        return
    losses, smooth, lrs = (np.asarray(values) for values in (reading.losses, reading.smooth, reading.lrs))
    before_rise = lrs <= reading.lowest_lr if reading.lowest_lr is not None else np.zeros(len(lrs), dtype=bool)
    if before_rise.sum() < 3:  # it never fell: whatever there is to see is where it starts
        before_rise = np.arange(len(lrs)) <= max(len(lrs) // 3, 5)
    # A quantile of raw losses: neither a spike nor a blow-up, which smoothing spreads to both sides, sets the scale.
    low, high = smooth[before_rise].min(), np.quantile(losses[before_rise], 0.98)
    span = max(high - low, 0.0)
    highest, lowest = losses.max(), losses.min()
    high = highest if highest - low <= _OFF_SCALE * span else low + 1.3 * span
    low = lowest if low - lowest <= span else low - 0.3 * span
    span = (high - low) or max(abs(high), 1.0) * 0.1
    ax.set_ylim(low - (_STRIP + 0.06) * span, high + 0.05 * span)


def _parts_of_drop(reading: Reading) -> np.ndarray[Any, np.dtype[np.float64]]:
    smooth = np.asarray(reading.smooth, dtype=float)
    if not len(smooth):
        return smooth
    start = _start_level(reading)
    # Ten standard deviations: what a curve without any fall shows by chance then stays within a tenth or two.
    scale = max(reading.total_drop, 10 * reading.noise_std) or 1.0
    return 1 + (smooth - start) / scale


def _start_level(reading: Reading) -> float:
    lowest = _smooth_at(reading, reading.lowest_lr) if reading.lowest_lr is not None else None
    return reading.smooth[0] if lowest is None else lowest + reading.total_drop


def _levels(label: str, reading: Reading) -> str:
    if not reading.smooth:
        return f"{label}: too few points"
    start = _start_level(reading)
    edge = "no edge" if reading.edge_lr is None else f"edge {format_lr(reading.edge_lr)}"
    return f"{label}: {start:.3g} to {start - reading.total_drop:.3g}, {edge}"


def _stop_words(curve: LossCurve) -> str:
    if curve.stop is StopReason.NONFINITE and curve.nonfinite_lr is not None:
        lr = curve.nonfinite_lr
    else:
        lr = curve.lrs[-1] if curve.lrs else curve.config.start_lr
    return _STOPS[curve.stop].format(lr=format_lr(lr))


def _smooth_at(reading: Reading, lr: float) -> float | None:
    """Smoothed loss at a learning rate between the points; None outside them."""
    if not reading.lrs or not reading.lrs[0] <= lr <= reading.lrs[-1]:
        return None
    return float(np.interp(math.log(lr), np.log(reading.lrs), reading.smooth))


def _nearest(lrs: Sequence[float], lr: float) -> int:
    return min(range(len(lrs)), key=lambda i: abs(math.log(lrs[i] / lr)))


def _across(ax: Axes, x: float) -> float:
    """Where a learning rate stands between the left (0) and the right (1) end of the axes."""
    return float(ax.transAxes.inverted().transform(ax.transData.transform((x, ax.get_ylim()[0])))[0])


def _width(ax: Axes, text: str) -> float:
    """Width of a small text as a part of the axes, rather too large than too small."""
    return len(text) * _LETTER * _points("small") / (ax.bbox.width * 72 / ax.figure.dpi)


def _points(size: str) -> float:
    return float(font_manager.FontProperties(size=size).get_size_in_points())


def _row_points() -> float:
    return _ROW * _points("small")


def _palette(ax: Axes) -> _Palette:
    red, green, blue, alpha = colors.to_rgba(ax.get_facecolor())
    if alpha < 0.5:
        red, green, blue, alpha = colors.to_rgba(ax.figure.get_facecolor())
    if alpha < 0.5:  # see-through all the way: the text colour was chosen for whatever lies behind
        red, green, blue = (1 - part for part in colors.to_rgb(matplotlib.rcParams["text.color"]))
    return _LIGHT if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else _DARK


def _new_axes() -> Axes:
    from matplotlib import pyplot

    _, ax = pyplot.subplots(figsize=_SIZE, layout="constrained")
    return ax
