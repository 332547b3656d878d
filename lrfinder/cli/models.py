"""``lrfind models``: the names that ``lrfind run`` takes, and how torchvision trained them."""

from __future__ import annotations

import dataclasses
import fnmatch
import json

import click

from lrfinder.cli.terminal import echo
from lrfinder.errors import ConfigError
from lrfinder.tables.recipes import NoRecipe, ReferenceRecipe, recipe_rows
from lrfinder.tasks import FAMILIES, model_names

__all__ = ["models"]


@click.command(
    short_help="List the models.",
    epilog="""\b
Examples:
  lrfind models
  lrfind models resnet
  lrfind models --family detection
  lrfind models 'vit_*_16' --json
  lrfind models regnet --recipes""",
)
@click.argument("pattern", default="")
@click.option("--family", type=click.Choice(list(FAMILIES)), help="List models of this kind only.")
@click.option("--recipes", is_flag=True, help="Print torchvision's recipe for their weights, or why there is none.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def models(pattern: str, family: str | None, recipes: bool, as_json: bool) -> None:
    """List torchvision's models that can be trained and whose name contains PATTERN (or matches it, with * ? [])."""
    glob = pattern.lower() if any(sign in pattern for sign in "*?[") else f"*{pattern.lower()}*"
    names = fnmatch.filter(model_names(family), glob)
    if not names:
        where = f" in the family {family}" if family else ""
        raise ConfigError(f"no model{where} matches {pattern!r}. Give part of a name, as in `lrfind models resnet`.")
    if not recipes:
        echo(json.dumps(names) if as_json else "\n".join(names))
        return
    rows = [row for row in recipe_rows() if row.model in names]
    echo(json.dumps([dataclasses.asdict(row) for row in rows]) if as_json else "\n".join(map(_line, rows)))


def _line(row: ReferenceRecipe | NoRecipe) -> str:
    name = f"{row.model} {row.weights}: "
    if isinstance(row, NoRecipe):
        return f"{name}none, {row.reason}, {row.link}"
    options = ", ".join(f"{key}={value:g}" for key, value in row.optimizer_options.items())
    return f"{name}{row.optimizer}({options}), lr {row.lr:g} at a batch of {row.batch}, {row.schedule}, {row.link}"
