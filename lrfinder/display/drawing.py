"""Parts of the plots: colours, axes, and marks with their labels.

Colours are those of Okabe and Ito, which are safe for colour-blind readers, and every line also differs in its dashes
or its marker. Text and grid take the colours of the current matplotlib style; the rest adapts to whether the axes are
light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import matplotlib
from matplotlib import colors, font_manager, ticker
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from lrfinder.display.curve_figure import Span
from lrfinder.display.limits import STRIP
from lrfinder.display.marks import Mark
from lrfinder.numbers import geometric_mean

__all__ = [
    "DARK_CYCLE",
    "DASHES",
    "LIGHT_CYCLE",
    "MARKERS",
    "cycle_for",
    "draw_interval",
    "draw_marks",
    "draw_note",
    "draw_regimes",
    "ink",
    "palette_for",
    "set_axis",
    "set_texts",
    "shade",
    "take_room",
    "text_size",
]

DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1.2)), (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LIGHT_CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
DARK_CYCLE = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#FFFFFF", "#D55E00", "#F0E442")
# Dashes, marker and its size. That of base_lr is larger: its rim stays visible under a max_lr at the same place.
_LOOKS = {
    "base_lr": ("-.", "o", 11),
    "max_lr": ("--", "^", 8),
    "edge": (":", "X", 8),
    "peak": ("--", "^", 8),
    "end": (":", "X", 8),
}
_SHADES = {"flat": 0.06, "falling": 0.14, "unstable": 0.24}
_ROW = 1.35  # height of a row of labels, in font sizes
_NAME = 0.55  # inches that the name of a regime needs
_PART, _FEW = 0.7, 2.0  # decades: below, ticks are as on a linear axis; above, powers of ten are enough
_TICK = 0.75  # inches that a label of a tick needs
_NARROW = 4.0  # inches: axes that are not wider have smaller texts, and no second line of the title
_LETTERS = 14  # of a text per inch of narrow axes


def palette_for(ax: Axes) -> dict[str, str]:
    """Colour of the curve and of each kind of mark, to stand out from the background."""
    curve, peak, base, _, edge, *_ = cycle_for(ax)
    return {"curve": curve, "base_lr": base, "max_lr": peak, "edge": edge, "peak": peak, "end": edge}


def cycle_for(ax: Axes) -> tuple[str, ...]:
    """Colours for several curves, in the shades that stand out from the background."""
    red, green, blue, alpha = colors.to_rgba(ax.get_facecolor())
    if alpha < 0.5:
        red, green, blue, alpha = colors.to_rgba(ax.figure.get_facecolor())
    if alpha < 0.5:  # transparent throughout: the text colour was chosen for whatever lies behind
        red, green, blue = (1 - part for part in colors.to_rgb(ink()))
    return LIGHT_CYCLE if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else DARK_CYCLE


def shade(ax: Axes) -> float:
    """Opacity of a shaded stretch: on black, a faint colour is hardly seen."""
    return 0.15 if cycle_for(ax) is LIGHT_CYCLE else 0.25


def ink() -> Any:
    """Colour of text in the current style."""
    return matplotlib.rcParams["text.color"]


def text_size(ax: Axes) -> str:
    """Font size of the texts around the axes."""
    return "small" if _narrow(ax) else "medium"


def set_axis(ax: Axes, scale: str, limits: tuple[float, float]) -> None:
    """Set the horizontal axis, with a faint grid below the curves."""
    ax.set_xscale(scale)
    ax.set_xlim(limits)
    if scale == "log":
        _label_decades(ax, math.log10(limits[1]) - math.log10(limits[0]))
    ax.yaxis.get_offset_text().set_horizontalalignment("right")  # as 1e6: left of the labels of the marks
    ax.set_axisbelow(True)
    ax.grid(True, alpha=0.3, linewidth=0.6)


def _label_decades(ax: Axes, decades: float) -> None:
    """Label a logarithmic axis, where matplotlib's own labels between the powers of ten run into each other."""
    if decades < _PART:
        ax.xaxis.set_major_locator(ticker.MaxNLocator(4))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(ticker.NullLocator())
    elif decades < _FEW and (between := _between(decades, ax.bbox.width / ax.figure.dpi)):
        ax.xaxis.set_minor_locator(ticker.LogLocator(subs=between))
        ax.xaxis.set_minor_formatter(ticker.LogFormatterSciNotation(minor_thresholds=(math.inf, math.inf)))
    else:
        ax.xaxis.set_minor_formatter(ticker.NullFormatter())


def _between(decades: float, inches: float) -> tuple[int, ...]:
    """Numbers between 1 and 10 whose multiples have room for labels beside those of the powers of ten."""
    labels = inches / _TICK / decades
    return (2, 5) if labels >= 3 else (3,) if labels >= 2 else ()


def set_texts(ax: Axes, title: str, subtitle: str, xlabel: str, ylabel: str, marks: Sequence[Mark]) -> None:
    """Set the texts around the axes; the title stands above the labels of the marks.

    Without a layout engine, the room for them is taken from the axes.
    """
    ax.set_xlabel(_wrapped(ax, xlabel) if _narrow(ax) else xlabel, fontsize=text_size(ax))
    ax.set_ylabel(ylabel, fontsize=text_size(ax))
    rows = 1 + max((mark.row for mark in marks), default=-1)
    lines = [*title.split("\n"), *([subtitle] if subtitle else [])]
    if _narrow(ax):
        lines = _wrapped(ax, title).split("\n")
    ax.set_title("\n".join(lines), loc="left", fontsize=text_size(ax), pad=6 + rows * _row_points())
    take_room(ax, (rows + len(lines) - 1) * _row_points())


class _WithRoom:
    """Place of axes, as matplotlib asks an axes locator for it: with room, in points, above and to the right of them.

    ``set_position`` would add up when axes are drawn on again, and a later ``tight_layout`` would take it back.
    """

    def __init__(self, ax: Axes, above: float, beside: float) -> None:
        self.ax, self.above, self.beside = ax, above, beside

    def __call__(self, ax: Axes, renderer: Any) -> Bbox:
        box = ax.get_position(original=True)
        inches = ax.figure.bbox.width / ax.figure.dpi, ax.figure.bbox.height / ax.figure.dpi
        width, height = box.width - self.beside / 72 / inches[0], box.height - self.above / 72 / inches[1]
        return Bbox.from_bounds(box.x0, box.y0, max(width, box.width / 2), max(height, box.height / 2))

    def get_subplotspec(self) -> Any:
        """Where the axes are in a grid; ``tight_layout`` asks the locator for it."""
        return self.ax.get_subplotspec()


def take_room(ax: Axes, above: float, beside: float = 0.0) -> None:
    """Take room, in points, above and to the right of the axes from them, where no layout engine makes it."""
    if ax.figure.get_layout_engine() is not None or not isinstance(ax.get_axes_locator(), _WithRoom | None):
        return
    for each in ax.get_shared_x_axes().get_siblings(ax):
        if each is ax or each.get_subplotspec() == ax.get_subplotspec() is not None:  # a twin
            each.set_axes_locator(_WithRoom(each, above, beside))


def draw_regimes(ax: Axes, regimes: Sequence[Span]) -> None:
    """Draw a strip along the bottom that names the regimes, where their names have room."""
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": "x-small", "color": ink(), "zorder": 1.1}
    # In units of the data, and clipped: the names stay on their stretches where the axis is moved afterwards.
    look |= {"transform": ax.get_xaxis_transform(), "clip_on": True}
    for span in regimes:
        shade = _SHADES[span.name]
        ax.axvspan(span.start, span.end, ymax=STRIP, color=ink(), alpha=shade, linewidth=0, zorder=1)
        if span.share * ax.bbox.width > _NAME * ax.figure.dpi:
            log = ax.get_xscale() == "log"
            middle = geometric_mean(span.start, span.end) if log else (span.start + span.end) / 2
            ax.text(middle, STRIP / 2, span.name, **look)


def draw_interval(ax: Axes, whole: tuple[float, float], beyond: tuple[float, float] | None) -> None:
    """Shade the interval, and hatch the part that lies above the edge or outside the sweep."""
    color = palette_for(ax)["base_lr"]
    ax.axvspan(*whole, color=color, alpha=shade(ax), linewidth=0, label="interval", zorder=0)
    if beyond is not None:
        hatched: dict[str, Any] = {"facecolor": "none", "edgecolor": color, "hatch": "///", "alpha": 0.5}
        ax.axvspan(*beyond, linewidth=0, label="beyond", zorder=0.1, **hatched)


def draw_note(ax: Axes, note: str) -> None:
    """Write into the axes why the curve cannot be read."""
    box = {"facecolor": ax.get_facecolor(), "edgecolor": ink(), "alpha": 0.9, "boxstyle": "round,pad=0.5"}
    ax.text(0.5, 0.82, note, transform=ax.transAxes, ha="center", va="center", bbox=box, zorder=6)


def draw_marks(ax: Axes, marks: Sequence[Mark]) -> None:
    """Draw a line, a marker on the curve, and above the axes a label on a pole, for each mark."""
    for mark in marks:
        dashes, marker, size = _LOOKS[mark.role]
        stroke: dict[str, Any] = {"color": palette_for(ax)[mark.role], "linestyle": dashes, "linewidth": 1.4}
        ax.axvline(mark.x, label=mark.role, zorder=2.5, **stroke)
        if mark.y is not None:
            rim, order = ax.get_facecolor(), 5 - 0.01 * size  # the smaller on top
            ax.plot(mark.x, mark.y, marker, color=stroke["color"], ms=size, mec=rim, zorder=order)
        if mark.label:
            # The pole goes up along that side of the label where its line is.
            side = 1 if mark.to_left else 0
            ax.annotate(
                f"{mark.label} " if mark.to_left else f" {mark.label}",
                xy=(mark.x, 1),
                xycoords=ax.get_xaxis_transform(),
                xytext=(0, 3 + mark.row * _row_points()),
                textcoords="offset points",
                ha="right" if mark.to_left else "left",
                va="bottom",
                fontsize="small",
                color=ink(),
                arrowprops={"arrowstyle": "-", "shrinkA": 0, "shrinkB": 0, "relpos": (side, 1), **stroke},
                annotation_clip=True,  # where the axis is moved afterwards, and the line lies outside
            )


def _narrow(ax: Axes) -> bool:
    return bool(ax.bbox.width <= _NARROW * ax.figure.dpi)


def _wrapped(ax: Axes, text: str) -> str:
    """The text in lines as long as narrow axes are wide."""
    letters = round(_LETTERS * ax.bbox.width / ax.figure.dpi)
    return "\n".join(part for line in text.split("\n") for part in wrap(line, letters, break_on_hyphens=False))


def _row_points() -> float:
    return _ROW * float(font_manager.FontProperties(size="small").get_size_in_points())
