"""``lrfind show``: a saved result again, without torch and without the model."""

from __future__ import annotations

from pathlib import Path

import click

from lrfinder.cli.options import NAMED_PATH, html_option
from lrfinder.cli.plot import check_plot, own_backend, write_plot
from lrfinder.cli.targets import page_path
from lrfinder.cli.terminal import echo
from lrfinder.files import json_text, write_atomic

__all__ = ["show"]


@click.command(
    short_help="Print a saved result again.",
    epilog="""\b
Examples:
  lrfind show lrfind-out/resnet18-sgd.json
  lrfind show lrfind-out/resnet18-sgd.json --plot curve.png
  lrfind show lrfind-out/resnet18-sgd.json --html page.html
  lrfind show lrfind-out/resnet18-sgd.json --json""",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--plot", type=NAMED_PATH, metavar="FILE", help="Draw the curve to this .png, .svg or .pdf.")
@html_option("[default: beside FILE]")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
def show(file: Path, plot: Path | None, html_file: str | None, as_json: bool) -> None:
    """Print the advice from a FILE that `lrfind run` or result.save() wrote."""
    from lrfinder.cli.report import result_text
    from lrfinder.result import RangeTestResult

    check_plot(plot)
    result = RangeTestResult.load(file)
    page = page_path(html_file, file.with_suffix(".html"))
    if plot is not None:
        write_plot(plot, result.plot)
    if page is not None:
        with own_backend():
            echo(f"Page: {write_atomic(page, result.to_html())}", err=True)
    if as_json:
        echo(json_text("result", result.to_dict(), first={"decision": result.decision.to_dict()}).rstrip())
    else:
        echo(result_text(result))
