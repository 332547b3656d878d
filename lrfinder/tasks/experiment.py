"""A range test set up from names and numbers: task, device, optimizer and finder, as ``lrfind run`` uses them."""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass, replace
from typing import Any

import torch
import torchvision
from torch import nn

from lrfinder import __version__
from lrfinder.advice.published import beside_published, published_lr
from lrfinder.advice.search import LEAST_BUDGET
from lrfinder.checks import check_choice
from lrfinder.errors import ConfigError, SetupError
from lrfinder.finder import LRFinder
from lrfinder.record.run import RunRecord
from lrfinder.result import RangeTestResult
from lrfinder.tables.recipes import NoRecipe, ReferenceRecipe
from lrfinder.tasks import Task, family_of
from lrfinder.tasks.grouped import Grouped, grouped_optimizer
from lrfinder.tasks.memory import memory_errors_explained
from lrfinder.tasks.optimizers import chosen_options
from lrfinder.tasks.own import build as build_own
from lrfinder.tasks.own_loss import own_code_explained, with_loss
from lrfinder.tasks.reference import torchvision_recipe
from lrfinder.tasks.settings import Settings, check_settings, pick_device
from lrfinder.tasks.user_code import check_form, is_reference

__all__ = ["Experiment", "prepare"]

_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A range test that is ready to run.

    Args:
        settings: what it was prepared from, with the family's batch size where none was given.
        task: model, loss and loaders.
        grouped: the optimizer, and what it trains.
        finder: over the model on its device.
    """

    settings: Settings
    task: Task
    grouped: Grouped
    finder: LRFinder

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the training images."""
        return math.ceil(len(self.task.train_loader) / self.settings.accumulation_steps)

    @property
    def reference(self) -> ReferenceRecipe | NoRecipe | None:
        """How torchvision trained the model, or why that is not known; None for a model without a row."""
        return torchvision_recipe(self.task.facts["model"], self.settings.weights)

    @property
    def facts(self) -> dict[str, Any]:
        """The settings in force, JSON-ready."""
        return {
            **self.task.facts,
            "optimizer": type(self.finder.optimizer).__name__,
            "optimizer_options": chosen_options(self.finder.optimizer),
            **self.grouped.facts,
            "batch_size": self.settings.batch_size,
            "accumulation_steps": self.settings.accumulation_steps,
            "steps_per_epoch": self.steps_per_epoch,
            "device": str(self.finder.device),
            "amp": self.settings.amp,
            "seed": self.settings.seed,
            "loss": self.settings.loss,
        }

    def range_test(self) -> RangeTestResult:
        """Run the range test.

        Raises:
            LRFinderError: the data or the settings turn out to be unusable, or the device's memory is too small.
        """
        chosen = self.settings
        with own_code_explained(chosen), memory_errors_explained(self.finder.device):
            result = self.finder.range_test(
                self.task.train_loader,
                val_loader=self.task.val_loader,
                val_batches=self._val_batches,
                start_lr=chosen.start_lr,
                end_lr=chosen.end_lr,
                num_iter=chosen.num_iter,
                mode=chosen.mode,
            )
        return self._beside_recipe(result)

    def check_refinement(self, epochs: int, budget: float) -> None:
        """Refuse a budget without room for trials; :meth:`refine` would say so after the range test.

        Raises:
            ConfigError: it has none.
        """
        total = epochs * self.steps_per_epoch
        if (steps := int(budget * total)) < LEAST_BUDGET:
            least = math.ceil(1000 * LEAST_BUDGET / total) / 1000
            raise ConfigError(
                f"`budget` {budget:g} of {total} steps is {steps} steps; three trials of ten steps need "
                f"{LEAST_BUDGET}. Set `budget` to {least:g} or more, or give more `epochs`."
            )

    def refine(self, result: RangeTestResult, schedule: str, epochs: int, budget: float) -> RangeTestResult:
        """Refine the advice of ``result`` for a training of ``epochs`` epochs; see :meth:`lrfinder.LRFinder.refine`.

        Raises:
            LRFinderError: as :meth:`range_test`.
        """
        with own_code_explained(self.settings), memory_errors_explained(self.finder.device):
            refined = self.finder.refine(
                result,
                self.task.train_loader,
                self.task.val_loader,
                schedule=schedule,
                total_steps=epochs * self.steps_per_epoch,
                budget=budget,
                val_batches=self._val_batches,
            )
        return self._beside_recipe(refined)

    def _beside_recipe(self, result: RangeTestResult) -> RangeTestResult:
        """The result with a low grade where torchvision's recipe, if it may be compared, has a far learning rate."""
        row = self.reference
        if not isinstance(row, ReferenceRecipe) or (lr := published_lr(row, self.facts)) is None:
            return result
        return replace(result, advice=beside_published(result.advice, lr, row.schedule))

    def record(self, schedule: str, epochs: int) -> RunRecord:
        """What is kept beside the result: settings in force, versions of the packages, and the training to come.

        Args:
            schedule: kind of schedule of the training.
            epochs: length of the training; >= 1.
        """
        packages = {"lrfinder": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
        versions = {name: str(each) for name, each in packages.items()} | {"python": platform.python_version()}
        row = self.reference
        entry = None if row is None else row.weights
        return RunRecord(setup={**self.facts, "versions": versions}, schedule=schedule, epochs=epochs, entry=entry)

    @property
    def _val_batches(self) -> int | None:
        return self.settings.val_batches if self.settings.val else None


def prepare(settings: Settings) -> Experiment:
    """Set up an experiment, rejecting everything that can be rejected before the first batch is trained.

    Sets the seed of torch's global generator.

    Raises:
        LRFinderError: a setting that cannot be used, or data, model and weights that do not fit together.

    Example:
        >>> from lrfinder.tasks.settings import Settings
        >>> settings = Settings(model="squeezenet1_1", batch_size=8, start_lr=1e-4, end_lr=1e-2, num_iter=4)
        >>> experiment = prepare(settings)
        >>> experiment.facts["image_size"], experiment.facts["optimizer_options"]
        (32, {'momentum': 0.9, 'weight_decay': 0.0002})
        >>> experiment.range_test().curve.stop.name
        'COMPLETED'
    """
    check_settings(settings)
    device = pick_device(settings.device)
    amp_dtype = None if settings.amp is None else _AMP[check_choice("amp", settings.amp, _AMP)]
    torch.manual_seed(settings.seed)
    with memory_errors_explained("cpu"):
        task, settings = _task(settings)
    model = _to_device(task.model, device)
    grouped = grouped_optimizer(settings, task.facts["model"], model)
    finder = LRFinder(
        model,
        grouped.optimizer,
        task.criterion,
        loss_fn=task.loss_fn,
        device=device,
        amp_dtype=amp_dtype,
        clip_grad_norm=settings.clip_grad_norm,
        accumulation_steps=settings.accumulation_steps,
        pretrained=True if settings.weights is not None else None,
    )
    task = replace(task, notes=(*task.notes, *grouped.notes))
    return Experiment(settings=settings, task=task, grouped=grouped, finder=finder)


def _task(settings: Settings) -> tuple[Task, Settings]:
    """The task, and the settings with the batch size in use."""
    family = family_of(settings.model)
    check_form("data", settings.data)
    if is_reference(settings.model) or is_reference(settings.data):
        task = build_own(settings)
        size = task.facts["batch_size"]
    else:
        task, size = family.build(settings), family.batch_size_of(settings)
    return with_loss(task, settings.loss), replace(settings, batch_size=size)


def _to_device(model: nn.Module, device: torch.device) -> nn.Module:
    try:
        with memory_errors_explained(device):
            return model.to(device)
    except (AssertionError, RuntimeError) as error:  # a device this torch was not built for
        raise SetupError(f"cannot use `device` {device}: {str(error).splitlines()[0].rstrip('.')}. Use cpu.") from error
