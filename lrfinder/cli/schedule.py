"""``lrfind schedule``: the scheduler lines, plot and JSON from a saved result, without torch."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfinder.cli.options import NAMED_PATH, parse_pairs
from lrfinder.cli.plot import check_plot, write_plot
from lrfinder.cli.terminal import echo
from lrfinder.errors import ConfigError
from lrfinder.tables.kinds import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lrfinder.recipes import Recipe

__all__ = ["schedule"]

_from = click.IntRange  # _from(1): 1, 2, 3, ...
# What follows from the training that was swept.
_SWEPT = ("closure", "form", "group_scales", "grouping", "optimizers", "ranks", "train_mode", "updates")


@click.command(
    short_help="Turn a saved result into a scheduler.",
    epilog="""\b
Examples:
  lrfind schedule lr.json --epochs 30 --steps-per-epoch 300 --plot lr.png
  lrfind schedule lr.json --kind cosine --total-steps 9000 --warmup-steps 500
  lrfind schedule lr.json --kind step --epochs 90 --option gamma=0.2""",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="onecycle",
    show_default=True,
    metavar="KIND",
    help=f"Kind of schedule: {', '.join(KINDS)}.",
)
@click.option("--epochs", type=_from(1), metavar="N", help="Length of training in epochs.")
@click.option("--steps-per-epoch", type=_from(1), metavar="N", help="Optimizer steps in one epoch.")
@click.option("--total-steps", type=_from(1), metavar="N", help="Length in optimizer steps, instead of epochs.")
@click.option("--warmup-steps", type=_from(0), metavar="N", help="Rise to the peak over this many steps first.")
@click.option("--peak-lr", type=float, metavar="LR", help="Peak learning rate, instead of the advised one.")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="Another setting of the schedule; may be repeated."
)
@click.option("--plot", type=NAMED_PATH, metavar="FILE", help="Draw the schedule to this .png, .svg or .pdf.")
@click.option("--json", "as_json", is_flag=True, help="Print the recipe as JSON.")
def schedule(file: Path, kind: str, options: tuple[str, ...], plot: Path | None, as_json: bool, **given: Any) -> None:
    """Print the scheduler lines to paste, from the result in FILE."""
    from lrfinder.result import RangeTestResult

    check_plot(plot)
    settings = {"kind": kind, **{key: value for key, value in given.items() if value is not None}}
    pairs = parse_pairs("--option", options)
    if twice := sorted(settings.keys() & pairs.keys()):
        raise ConfigError(f"`{twice[0]}` and an --option set the same. Give one of them.")
    if fixed := sorted(pairs.keys() & set(_SWEPT)):
        raise ConfigError(f"--option {fixed[0]} follows from the training that was swept. Leave it out.")
    recipe = RangeTestResult.load(file).recipe(**settings, **pairs)
    if plot is not None:
        write_plot(plot, partial(_draw, recipe))
    echo(json.dumps(recipe.to_dict(), indent=1) if as_json else recipe.code().rstrip())


def _draw(recipe: Recipe, ax: Axes) -> None:
    from lrfinder.display.plotting import plot_recipe

    plot_recipe(recipe, ax=ax)
