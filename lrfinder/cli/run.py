"""``lrfind run``: a range test on a torchvision model, from options to advice, plot and files."""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lrfinder.checks import check_number
from lrfinder.cli.completion import complete_model
from lrfinder.cli.launchers import refuse_launcher
from lrfinder.cli.options import parse_pairs, run_options
from lrfinder.cli.sections import SectionedCommand
from lrfinder.cli.targets import check_target, page_path
from lrfinder.cli.terminal import echo, with_options
from lrfinder.errors import ConfigError

if TYPE_CHECKING:
    from lrfinder.cli.outputs import Outputs
    from lrfinder.recipes import Recipe
    from lrfinder.result import RangeTestResult
    from lrfinder.tasks.experiment import Experiment

__all__ = ["run"]


@click.command(
    cls=SectionedCommand,
    context_settings={"show_default": True},
    short_help="Run a range test on a model.",
    epilog="""\b
Examples:
  lrfind run resnet18
  lrfind run mobilenet_v3_small --data photos --weights DEFAULT
  lrfind run resnet50 --dataset CIFAR10 --download --amp bf16
  lrfind run swin_t --optimizer AdamW --opt weight_decay=0.05
  lrfind run resnet18 --schedule cosine --epochs 10 --refine 0.25
  lrfind run resnet18 --html page.html
  lrfind run resnet18 --json | jq .advice.max_lr
  lrfind run deeplabv3_resnet50 --data streets --val
  lrfind run fasterrcnn_resnet50_fpn --data coco --weights DEFAULT
  lrfind run train.models:build --data train.data:loaders
  lrfind run train.models:detector --data coco

\b
PATH, or the same in PATH/train and PATH/val:
  classification  PATH/<class>/*.jpg
  segmentation    PATH/images/*.jpg and PATH/masks/*.png
  detection       a COCO file and images, as PATH/annotations.json and
                  PATH/images/*.jpg
  video           PATH/<class>/<sequence>/*.jpg
  optical flow    .flo files and images, as in FlyingChairs or Sintel
A model of your own takes any of the first three.

\b
MODULE:FUNCTION is a function of yours in a module of Python, looked up in the
current folder too, and called with what it has parameters for:
  MODEL   num_classes, image_size, weights; returns a torch.nn.Module
  --data  batch_size, num_workers, image_size, num_classes, seed, val;
          returns a DataLoader or a Dataset, or a pair of them, the second
          for validation
  --loss  (output, target), or (model, batch) where the first is named model""",
)
@click.argument("model", shell_complete=complete_model)
@run_options
@click.pass_context
def run(
    ctx: click.Context,
    /,
    schedule: str,
    epochs: int,
    budget: float | None,
    out: Path,
    csv_file: Path | None,
    html_file: str | None,
    as_json: bool,
    optimizer_options: tuple[str, ...],
    **settings: Any,
) -> None:
    """Find the learning rate of torchvision's MODEL (`lrfind models` lists them), or of yours, on your data.

    Prints the advice and the scheduler lines to paste, and writes plot, result and recipe to --out.
    """
    refuse_launcher()
    with _output_folder(out):
        from lrfinder.cli.outputs import Outputs, as_text
        from lrfinder.cli.outputs import as_json as json_of
        from lrfinder.tasks.estimate import Meter, estimate

        if budget is not None:
            check_number("budget", budget, 0, 100)  # click's range has nan in it
        check_target("--csv", csv_file, ".csv")
        page_path(html_file, out / "page.html")  # the name follows from the optimizer, which is not built yet
        experiment = _prepared(ctx, optimizer_options, settings)
        _check_training(experiment, schedule, epochs, budget)
        echo(_headline(experiment), err=True)
        with redirect_stdout(sys.stderr):  # a model of the user's own may print
            expected = estimate(experiment, epochs=epochs, budget=budget)
        if expected is not None:
            expected.check()
            echo(with_options(expected.words, ctx.command), err=True)
        meter = Meter(experiment.finder.device, expected)
        name = f"{experiment.facts['model']}-{experiment.facts['optimizer'].lower()}".replace(":", ".")
        page = page_path(html_file, out / f"{name}.html")
        outputs = Outputs(out, name, csv_file, page)
        render = partial(json_of, meter=meter) if as_json else as_text
        ctx.exit(_run(experiment, outputs, schedule, epochs, budget, render))


def _prepared(ctx: click.Context, optimizer_options: tuple[str, ...], settings: dict[str, Any]) -> Experiment:
    """The experiment that the options describe."""
    from lrfinder.tasks.experiment import prepare
    from lrfinder.tasks.settings import Settings, check_together
    from lrfinder.tasks.user_code import any_reference

    if any_reference(settings["model"], settings["data"], settings["loss"]):
        sys.path.insert(0, os.getcwd())  # where `python -m` looks modules up, too
    chosen = Settings(**settings, optimizer_options=parse_pairs("--opt", optimizer_options))
    typed = [name for name in settings if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    check_together(chosen, typed)
    with redirect_stdout(sys.stderr):  # torchvision prints what it downloads
        return prepare(chosen)


def _check_training(experiment: Experiment, schedule: str, epochs: int, budget: float | None) -> None:
    """Refuse before the sweep what cannot be scheduled or refined."""
    from lrfinder.recipes import recipe

    recipe(schedule, peak_lr=1.0, epochs=epochs, steps_per_epoch=experiment.steps_per_epoch)
    if budget is not None:
        experiment.check_refinement(epochs, budget)


def _run(
    experiment: Experiment,
    outputs: Outputs,
    schedule: str,
    epochs: int,
    budget: float | None,
    render: Callable[..., str],
) -> int:
    """Sweep, save, refine, draw and print; returns the exit status. Once the sweep is over, nothing loses it."""
    run = experiment.record(schedule, epochs)
    with redirect_stdout(sys.stderr):  # which a model of the user's own may print on
        result = dataclasses.replace(experiment.range_test(), run=run)
    try:
        plan = _plan(result, experiment, schedule, epochs)
        outputs.save(result, plan)
        outputs.save_losses(result)
        if budget is not None and plan is not None:
            with outputs.kept("the advice is not refined"), redirect_stdout(sys.stderr):
                result = experiment.refine(result, schedule, epochs, budget)
                plan = _plan(result, experiment, schedule, epochs)
                outputs.save(result, plan)
        outputs.draw(result)
        outputs.write_page(result, plan)
        outputs.show(render(result, plan, outputs.files))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(outputs.saved) from None
    outputs.check()
    return 0 if plan is not None else 1


def _plan(result: RangeTestResult, experiment: Experiment, schedule: str, epochs: int) -> Recipe | None:
    if result.advice.grade == "none":
        return None
    return result.recipe(schedule, epochs=epochs, steps_per_epoch=experiment.steps_per_epoch)


@contextmanager
def _output_folder(folder: Path) -> Iterator[None]:
    """Make the folder and check that it is writable; remove it again if it was made here and nothing was written."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.NamedTemporaryFile(dir=folder).close()
    except OSError as error:
        _remove_empty(made)
        raise ConfigError(f"cannot write to --out {folder}: {error.strerror}. Give a writable folder.") from error
    try:
        yield
    except BaseException:
        _remove_empty(made)
        raise


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _headline(experiment: Experiment) -> str:
    facts = experiment.facts
    options = ", ".join(f"{key}={value}" for key, value in facts["optimizer_options"].items())
    training = f"{facts['optimizer']}({options}), batch {facts['batch_size']}, {facts['device']}"
    return "\n".join((experiment.task.title, training, *experiment.task.notes))
