"""The curve in characters, for a terminal of any width: no colour, nothing but what any encoding has. No torch."""

from __future__ import annotations

import itertools
import math
import textwrap

from lrfinder.display.curve_figure import CurveFigure
from lrfinder.display.marks import places
from lrfinder.display.outcome import Outcome
from lrfinder.numbers import format_lr

__all__ = ["text_plot"]

_ROWS = 10
_INDENT = "  "
_NARROWEST, _WIDEST = 36, 100  # columns: less shows nothing, and more makes the curve flat


def text_plot(result: Outcome, columns: int) -> list[str]:
    """Lines of a plot: ``*`` is the smoothed loss, ``|`` marks base_lr, ``:`` the edge, and ``=`` is the interval.

    Args:
        result: of a range test.
        columns: width of the terminal; no line is longer.

    Returns:
        None at all where the curve is too short, or the terminal narrower than 36 columns.

    Example:
        >>> from lrfinder.record.curve import LossCurve, StopReason, SweepConfig
        >>> config = SweepConfig(start_lr=1e-4, end_lr=1.0, num_iter=60)
        >>> lrs = tuple(config.lr_at(i) for i in range(60))
        >>> losses = tuple(1 / (1 + lr / 0.01) + 8 * lr**2 for lr in lrs)
        >>> curve = LossCurve(lrs=lrs, losses=losses, stop=StopReason.COMPLETED, config=config)
        >>> lines = text_plot(Outcome(curve=curve), 80)
        >>> len(lines), max(map(len, lines)) <= 80, lines[-1].split("  ")[-3]
        (13, True, '| base_lr 0.042')
    """
    shown = CurveFigure(result.curve, result.reading, result.advice)
    if (limits := shown.y_limits) is None or columns < _NARROWEST:
        return []
    low, high = limits
    if not shown.note:  # of a curve that never moved, the height of the axes keeps noise small
        low, high = min(shown.reading.smooth), min(max(shown.reading.smooth), high)
    top, bottom = f"{high:.3g}", f"{low:.3g}"
    margin = max(len(top), len(bottom))
    width = min(columns, _WIDEST) - margin - 2
    grid = _grid(shown, width, low, high)
    labels = [top, *[""] * (_ROWS - 2), bottom]
    lines = [f"{label:>{margin}} |{''.join(row)}" for label, row in zip(labels, grid, strict=True)]
    lines += [" " * margin + " +" + _axis(shown, width), " " * (margin + 2) + _ends(shown, width)]
    room = min(columns, _WIDEST) - len(_INDENT)
    lines += [_INDENT + line for line in (*_legend(shown, room), *textwrap.wrap(shown.note, room))]
    return [line.rstrip() for line in lines]


def _grid(shown: CurveFigure, width: int, low: float, high: float) -> list[list[str]]:
    grid = [[" "] * width for _ in range(_ROWS)]
    for mark in shown.marks:
        if mark.role in _MARKS:
            for row in grid:
                row[_column(shown, mark.x, width)] = _MARKS[mark.role]
    for column, loss in _heights(shown, width):
        if loss <= high:
            part = (loss - low) / (high - low) if high > low else 0.5
            grid[round((1 - part) * (_ROWS - 1))][column] = "*"
    return grid


_MARKS = {"base_lr": "|", "edge": ":"}


def _heights(shown: CurveFigure, width: int) -> list[tuple[int, float]]:
    """Smoothed loss in the middle of each column that the curve covers, between the points on either side."""
    columns = [_column(shown, lr, width) for lr in shown.reading.lrs]
    heights = []
    pairs = zip(itertools.pairwise(columns), itertools.pairwise(shown.reading.smooth), strict=True)
    for (start, end), (left, right) in pairs:
        for column in range(start, end + 1):
            part = (column - start) / (end - start) if end > start else 1.0
            heights.append((column, left * (1 - part) + right * part))
    return list(dict(heights).items())


def _column(shown: CurveFigure, lr: float, width: int) -> int:
    return min(max(math.floor(places(*shown.axis)(lr) * width), 0), width - 1)


def _axis(shown: CurveFigure, width: int) -> str:
    axis = ["-"] * width
    if shown.interval is not None:
        start, end = (_column(shown, lr, width) for lr in shown.interval)
        axis[start : end + 1] = "=" * (end + 1 - start)
    return "".join(axis)


def _ends(shown: CurveFigure, width: int) -> str:
    """Lowest and highest learning rate, swept or marked, below the ends of the axis."""
    known = [*shown.reading.lrs, *(mark.x for mark in shown.marks)]
    first, last = format_lr(min(known)), format_lr(max(known))
    return f"{first}{last:>{max(width - len(first), len(last) + 1)}}"


def _legend(shown: CurveFigure, width: int) -> list[str]:
    """What the marks stand for, in as many lines as the width needs."""
    known = [f"{_MARKS[mark.role]} {mark.role} {mark.value}" for mark in shown.marks if mark.role in _MARKS]
    if shown.interval is not None:
        known.append(f"= interval {format_lr(shown.interval[0])} to {format_lr(shown.interval[1])}")
    lines: list[str] = []
    for words in ["* loss", *known]:
        if lines and len(lines[-1]) + 2 + len(words) <= width:
            lines[-1] += f"  {words}"
        else:
            lines.append(words)
    return lines
