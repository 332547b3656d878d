"""``lrfind models``: the names that ``lrfind run`` takes."""

from __future__ import annotations

import fnmatch
import json

import click

from lrfinder.cli.terminal import echo
from lrfinder.errors import ConfigError

__all__ = ["models"]


@click.command(
    short_help="List the models.",
    epilog="""\b
Examples:
  lrfind models
  lrfind models resnet
  lrfind models 'vit_*_16' --json""",
)
@click.argument("pattern", default="")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def models(pattern: str, as_json: bool) -> None:
    """List torchvision's classification models whose name contains PATTERN (or matches it, with * ? [])."""
    from lrfinder.tasks import model_names

    glob = pattern.lower() if any(sign in pattern for sign in "*?[") else f"*{pattern.lower()}*"
    names = fnmatch.filter(model_names(), glob)
    if not names:
        raise ConfigError(f"no model matches {pattern!r}. Give part of a name, as in `lrfind models resnet`.")
    echo(json.dumps(names) if as_json else "\n".join(names))
