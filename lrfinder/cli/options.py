"""Options of ``lrfind run``, and values given as ``key=value``. Imports no torch, so that ``--help`` stays fast."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from lrfinder.cli.sections import options_below
from lrfinder.cli.targets import PAGE_ENDINGS, check_ending
from lrfinder.errors import ConfigError
from lrfinder.tables.kinds import KINDS, MODES

__all__ = ["NAMED_PATH", "html_option", "parse_pairs", "run_options"]

_from = click.IntRange  # _from(1): 1, 2, 3, ...


class _NamedPath(click.Path):
    """A path that is not empty, as that of a variable of the shell which is not set; it would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty. Give a path, such as ./ for this folder, or leave the option out.", param, ctx)
        return super().convert(value, param, ctx)


NAMED_PATH = _NamedPath(path_type=Path)


def html_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--html FILE``, also without FILE; ``default`` says where the page goes then."""
    words = f"Write one page with everything, too.  {default}"
    return click.option(
        "--html", "html_file", is_flag=False, flag_value="", metavar="[FILE]", help=words, callback=_page_name
    )


def _page_name(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """The value of ``--html``. One that names no page may be the argument after it, as in `lrfind run --html resnet18`.

    Raises:
        ConfigError: it has another ending. Checked here, before click misses the argument.
    """
    if value and not context.resilient_parsing:
        try:
            check_ending("--html", Path(value), *PAGE_ENDINGS)
        except ConfigError as error:
            argument = next(each for each in context.command.params if isinstance(each, click.Argument))
            name = argument.human_readable_name
            raise ConfigError(f"{error} To leave the file out, write --html after {name}.") from None
    return value


# Parameters that set up the experiment have the names and the defaults of lrfinder.tasks.settings.Settings.
_RUN = {
    "Data": (
        click.option(
            "--data",
            default="digits",
            metavar="digits|fake|PATH|MODULE:FUNCTION",
            help="Data: the shipped digits, fake for any model, a folder or file, or what a function of yours returns.",
        ),
        click.option("--dataset", metavar="NAME", help="A data set of torchvision instead of --data, such as CIFAR10."),
        click.option("--root", default="data", metavar="DIR", help="Where --dataset is."),
        click.option("--download", is_flag=True, help="Fetch --dataset to --root if it is not there."),
        click.option("--masks", metavar="DIR", help="Folder of the masks, if not beside the images of --data."),
        click.option(
            "--image-size", type=_from(1), metavar="N", help="Pixels on a side.  [default: what model and images need]"
        ),
        click.option(
            "--augment",
            type=click.Choice(["recipe", "none"]),
            default="recipe",
            help="Random changes to training images: as torchvision's training program makes them, or none.",
        ),
        click.option(
            "--batch-size",
            type=_from(1),
            metavar="N",
            help="Images in a batch.  [default: 64, for segmentation 8, for detection and flow 2, for video 24]",
        ),
        click.option(
            "--workers",
            type=_from(0),
            metavar="N",
            help="Processes that load images.  [default: 0 on the CPU, else up to 8]",
        ),
        click.option("--seed", type=_from(0, 2**64 - 1), default=0, metavar="N", help="Random seed."),
    ),
    "Model": (
        click.option(
            "--weights",
            metavar="FILE|NAME",
            help="Trained weights to start from: a file, or a name of torchvision's, such as DEFAULT.",
        ),
        click.option("--num-classes", type=_from(2), metavar="N", help="Model outputs.  [default: as the data has]"),
        click.option(
            "--loss",
            metavar="NAME|MODULE:FUNCTION",
            help="A loss of torch.nn, or a function of (output, target) or of (model, batch).  [default: the model's]",
        ),
        click.option(
            "--freeze",
            multiple=True,
            metavar="PATTERN",
            help="Layers not to train, such as layer1, 'features.*' or all-but-head; may be repeated.",
        ),
    ),
    "Training": (
        click.option(
            "--optimizer", metavar="NAME", help="Such as AdamW.  [default: torchvision's, else AdamW for ViTs or SGD]"
        ),
        click.option(
            "--opt",
            "optimizer_options",
            multiple=True,
            metavar="KEY=VALUE",
            help="An option of the optimizer; may be repeated.  [default: as torchvision's, or momentum=0.9 for SGD]",
        ),
        click.option(
            "--head-lr-scale",
            type=float,
            metavar="X",
            help="Train the head, whose outputs are the classes, at X times the learning rate of the rest.",
        ),
        click.option(
            "--layer-decay", type=float, metavar="X", help="Learning rate of a layer divided by that of the next, <= 1."
        ),
        click.option(
            "--norm-weight-decay",
            type=float,
            metavar="X",
            help="Weight decay of normalisation layers, such as 0.  [default: as torchvision's, or that of all]",
        ),
        click.option(
            "--bias-weight-decay", type=float, metavar="X", help="Weight decay of biases.  [default: that of all]"
        ),
        click.option(
            "--accumulation", "accumulation_steps", type=_from(1), default=1, metavar="N", help="Batches per update."
        ),
        click.option("--clip-grad-norm", type=float, metavar="NORM", help="Clip the gradient norm, as you train."),
        click.option("--amp", type=click.Choice(["bf16", "fp16"]), help="Mixed precision."),
        click.option(
            "--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1, mps, or auto, the best there is."
        ),
    ),
    "Range test": (
        click.option("--start-lr", type=float, metavar="LR", help="First learning rate.  [default: automatic]"),
        click.option("--end-lr", type=float, metavar="LR", help="Last learning rate.  [default: automatic]"),
        click.option("--num-iter", type=int, metavar="N", help="Learning rates to try.  [default: 12 per decade]"),
        click.option("--mode", type=click.Choice(MODES), default="exp", help="Their spacing."),
        click.option("--val", is_flag=True, help="Measure the loss on validation images (slower)."),
        click.option("--val-batches", type=_from(1), default=4, metavar="N", help="How many, with --val."),
    ),
    "Schedule": (
        click.option(
            "--schedule",
            type=click.Choice(KINDS),
            default="onecycle",
            metavar="KIND",
            help=f"Schedule to write: {', '.join(KINDS)}.",
        ),
        click.option("--epochs", type=_from(1), default=30, metavar="N", help="Epochs of the whole training."),
        click.option(
            "--refine",
            "budget",
            type=click.FloatRange(min=0, min_open=True, max=100),
            metavar="PART",
            help="Then train short trials around the advice, with this part of the training's steps, such as 0.25.",
        ),
    ),
    "Output": (
        click.option(
            "--out", type=NAMED_PATH, default=Path("lrfind-out"), metavar="DIR", help="Folder for the files."
        ),
        click.option(
            "--csv",
            "csv_file",
            type=NAMED_PATH,
            metavar="FILE",
            help="Write step, learning rate and loss of each iteration to this .csv, too.",
        ),
        html_option("[default: in --out]"),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout."),
    ),
}

run_options = options_below(_RUN)
"""Decorator that gives the command all options of ``lrfind run``."""


def parse_pairs(option: str, pairs: Iterable[str]) -> dict[str, Any]:
    """The pairs as a dictionary; each value is a Python literal or else a bare word.

    Args:
        option: name of the option that the pairs belong to, for the message.
        pairs: as typed.

    Raises:
        ConfigError: a pair without ``=``, or one key twice.

    Example:
        >>> parse_pairs("--opt", ["betas=(0.9, 0.99)", "nesterov=True", "line_search_fn=strong_wolfe"])
        {'betas': (0.9, 0.99), 'nesterov': True, 'line_search_fn': 'strong_wolfe'}
    """
    parsed = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ConfigError(f"{option} takes KEY=VALUE, as in {option} gamma=0.1; got {pair!r}.")
        if key in parsed:
            raise ConfigError(f"{option} {key} is given twice. Give it once.")
        try:
            parsed[key] = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # all that it may raise
            parsed[key] = value
    return parsed
