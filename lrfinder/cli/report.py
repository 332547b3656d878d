"""A result in words and as a small plot, in the width of the terminal. No torch, no matplotlib."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from lrfinder.display.text import COLUMNS, describe
from lrfinder.display.text_plot import text_plot

if TYPE_CHECKING:
    from lrfinder.result import RangeTestResult

__all__ = ["result_text", "text_columns"]


def text_columns() -> int:
    """Width of words: 80 columns at most, as longer lines are harder to read, and 80 in a pipe."""
    return min(shutil.get_terminal_size().columns, COLUMNS)


def result_text(result: RangeTestResult) -> str:
    """What ``print(result)`` prints, and the curve below; in a pipe 80 columns, or those of the variable COLUMNS."""
    words, plot = describe(result, text_columns()), text_plot(result, shutil.get_terminal_size().columns)
    return "\n".join([words, *(["", "Curve", *plot] if plot else [])])
