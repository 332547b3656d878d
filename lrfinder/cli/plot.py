"""Pictures asked for with ``--plot``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_plot"]


def write_plot(path: Path, draw: Callable[[Axes], object]) -> None:
    """Draw to a PNG file and say so on stderr, where it is in nobody's way.

    Raises:
        ConfigError: the file cannot be written.
    """
    from lrfinder.display.plotting import figure_png
    from lrfinder.files import write_atomic

    click.echo(f"Plot: {write_atomic(path, figure_png(draw))}", err=True)
