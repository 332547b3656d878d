"""Pictures rendered in memory: PNG, files of several formats, and SVG that follows the colours of a page. No torch.

pyplot is not involved: no window, no figure left behind, and the caller's matplotlib settings are as before. A picture
is the same whatever those settings are.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import escape
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from lrfinder.display.drawing import DARK_CYCLE, LIGHT_CYCLE
from lrfinder.display.plotting import SIZE

__all__ = ["colours_of_page", "figure_file", "figure_png", "figure_svg"]

_COLOURS = 128  # enough for lines and letters; a notebook full of plots is a quarter of the size

# Softer than pure black, near the page colour of the usual dark themes.
_DARK_PAGE = {key: "#111111" for key in ("figure.facecolor", "axes.facecolor", "savefig.facecolor")}
_GRID = "#b0b0b0"
# Of the SVG, the light colours and the names of the variables of the page that take their place.
_VARIABLES = {
    "#000000": "--ink",
    "#ffffff": "--paper",
    _GRID: "--grid",
    **{light.lower(): f"--line-{i}" for i, light in enumerate(LIGHT_CYCLE) if light != "#000000"},
}


def figure_png(
    draw: Callable[[Axes], object], *, dark: bool = False, size: tuple[float, float] = SIZE, dpi: float = 144
) -> bytes:
    """PNG of whatever ``draw`` puts on the axes, rendered in memory.

    Args:
        draw: gets the axes, as in ``lambda ax: plot_curve(curve, ax=ax)``.
        dark: light lines on a dark background.
        size: width and height in inches.
        dpi: pixels per inch.
    """
    whole = io.BytesIO(_rendered(draw, "png", dark=dark, size=size, dpi=dpi))
    small = io.BytesIO()
    Image.open(whole).convert("RGB").quantize(_COLOURS).save(small, format="png", optimize=True, dpi=(dpi, dpi))
    return small.getvalue()


def figure_file(draw: Callable[[Axes], object], format: str) -> bytes:
    """Content of a file with whatever ``draw`` puts on the axes, made as by :func:`figure_png`.

    Args:
        draw: gets the axes, as in ``lambda ax: plot_curve(curve, ax=ax)``.
        format: ``"png"``, ``"svg"`` or ``"pdf"``.
    """
    return figure_png(draw) if format == "png" else _rendered(draw, format)


def figure_svg(
    draw: Callable[[Axes], object], *, name: str, alt: str, size: tuple[float, float] = SIZE
) -> str:
    """One ``svg`` element for a page: colours are variables, which :func:`colours_of_page` sets, letters are outlines.

    Args:
        draw: gets the axes, as in ``lambda ax: plot_curve(curve, ax=ax)``.
        name: begins the ids of the element, so that a page can have several.
        alt: what it shows, in a sentence.
        size: width and height in inches.
    """
    salt: dict[str, Any] = {"svg.hashsalt": name, "svg.fonttype": "path", "grid.color": _GRID}
    text = _rendered(draw, "svg", size=size, settings=salt, metadata={"Date": None}).decode("utf-8")
    inner = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL).partition(">")[2]
    # A prefix for every id and for what refers to it: matplotlib's own are the same in every picture.
    inner = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", inner)
    inner = re.sub(r"#[0-9a-f]{6}\b", lambda found: _variable(found[0]), inner)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    # Black is the default of matplotlib and of SVG, so matplotlib does not write it; the ink of the page is inherited.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box[0]} role="img" '
        f'aria-labelledby="{name}-title" style="fill: var(--ink)"><title id="{name}-title">{escape(alt)}</title>{inner}'
    )


def colours_of_page(*, dark: bool) -> dict[str, str]:
    """Values of the variables in the SVG for a light or a dark page, apart from ``--ink`` and ``--paper``."""
    cycle = DARK_CYCLE if dark else LIGHT_CYCLE
    lines = {f"--line-{i}": colour for i, colour in enumerate(cycle) if f"--line-{i}" in _VARIABLES.values()}
    return {"--grid": "#5f6368" if dark else _GRID, **lines}


def _variable(colour: str) -> str:
    return f"var({_VARIABLES[colour]})" if colour in _VARIABLES else colour


def _rendered(
    draw: Callable[[Axes], object],
    format: str,
    *,
    dark: bool = False,
    size: tuple[float, float] = SIZE,
    dpi: float = 144,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> bytes:
    looks: list[Any] = ["default", *(["dark_background", _DARK_PAGE] if dark else []), settings or {}]
    with style.context(looks):
        figure = Figure(figsize=size, dpi=dpi, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.subplots())
        content = io.BytesIO()
        figure.savefig(content, format=format, dpi=dpi, **options)
    return content.getvalue()
