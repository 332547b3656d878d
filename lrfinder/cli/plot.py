"""Plots written by the commands. Imports matplotlib late, and without the backend that the environment names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lrfinder.cli.terminal import echo
from lrfinder.errors import ConfigError

__all__ = ["PLOT_ENDINGS", "check_plot", "own_backend", "write_plot"]

PLOT_ENDINGS = (".png", ".svg", ".pdf")


def check_plot(path: Path | None) -> None:
    """Check the ending of a plot's file name; None is no plot.

    Raises:
        ConfigError: an ending other than those in ``PLOT_ENDINGS``, in upper or lower case.
    """
    if path is not None and path.suffix.lower() not in PLOT_ENDINGS:
        raise ConfigError(f"--plot takes a file that ends in {', '.join(PLOT_ENDINGS)}; got {str(path)!r}.")


def write_plot(path: Path, draw: Callable[..., object]) -> None:
    """Draw on matplotlib axes to a PNG, SVG or PDF file, and print its path on stderr; stdout stays machine-readable.

    Raises:
        ConfigError: the file cannot be written.
    """
    with own_backend():
        from lrfinder.display.pictures import figure_file
        from lrfinder.files import write_atomic

        echo(f"Plot: {write_atomic(path, figure_file(draw, path.suffix.lower()[1:]))}", err=True)


@contextmanager
def own_backend() -> Iterator[None]:
    """Context in which matplotlib is imported without the backend in ``MPLBACKEND``.

    A command inherits that variable from a notebook, where it names a backend that may not be installed for the
    command: the import would fail. Plots are drawn by Agg in any case.
    """
    named = os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
