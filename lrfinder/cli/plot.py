"""Plots written for ``--plot``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

__all__ = ["write_plot"]


def write_plot(path: Path, draw: Callable[..., object]) -> None:
    """Draw on matplotlib axes to a PNG file, and print its path on stderr, so that stdout stays machine-readable.

    Raises:
        ConfigError: the file cannot be written.
    """
    from lrfinder.display.plotting import figure_png
    from lrfinder.files import write_atomic

    click.echo(f"Plot: {write_atomic(path, figure_png(draw))}", err=True)
