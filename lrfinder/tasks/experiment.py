"""A range test set up from names and numbers: task, device, optimizer and finder, as ``lrfind run`` uses them."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from lrfinder.checks import check_choice, check_count
from lrfinder.errors import SetupError
from lrfinder.finder import LRFinder
from lrfinder.result import RangeTestResult
from lrfinder.tables.recipes import NoRecipe, ReferenceRecipe
from lrfinder.tasks import Task, family_of
from lrfinder.tasks.memory import memory_errors_explained
from lrfinder.tasks.optimizers import build_optimizer, chosen_options
from lrfinder.tasks.reference import default_optimizer, torchvision_recipe
from lrfinder.tasks.settings import Settings, check_settings
from lrfinder.training.setup import resolve_device

__all__ = ["Experiment", "pick_device", "prepare"]

_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SOURCES = ("dataset", "root", "download", "masks")
_BUILT_FROM = (*_SOURCES, "val", "weights", "num_classes", "image_size", "batch_size", "seed")
_MOST_WORKERS = 8


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A range test that is ready to run.

    Args:
        settings: what it was prepared from, with the family's batch size where none was given.
        task: model, loss and loaders.
        finder: over the model on its device.
    """

    settings: Settings
    task: Task
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
            "batch_size": self.settings.batch_size,
            "accumulation_steps": self.settings.accumulation_steps,
            "steps_per_epoch": self.steps_per_epoch,
            "device": str(self.finder.device),
            "amp": self.settings.amp,
            "seed": self.settings.seed,
        }

    def range_test(self) -> RangeTestResult:
        """Run the range test.

        Raises:
            LRFinderError: the data or the settings turn out to be unusable, or the device's memory is too small.
        """
        chosen = self.settings
        with memory_errors_explained(self.finder.device):
            return self.finder.range_test(
                self.task.train_loader,
                val_loader=self.task.val_loader,
                val_batches=self._val_batches,
                start_lr=chosen.start_lr,
                end_lr=chosen.end_lr,
                num_iter=chosen.num_iter,
                mode=chosen.mode,
            )

    def refine(self, result: RangeTestResult, schedule: str, epochs: int, budget: float) -> RangeTestResult:
        """Refine the advice of ``result`` for a training of ``epochs`` epochs; see :meth:`lrfinder.LRFinder.refine`.

        Raises:
            LRFinderError: as :meth:`range_test`.
        """
        with memory_errors_explained(self.finder.device):
            return self.finder.refine(
                result,
                self.task.train_loader,
                self.task.val_loader,
                schedule=schedule,
                total_steps=epochs * self.steps_per_epoch,
                budget=budget,
                val_batches=self._val_batches,
            )

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
    family = family_of(settings.model)
    if settings.batch_size is None:
        fake = family.fake_batch_size if settings.data == "fake" else None
        settings = replace(settings, batch_size=fake or family.batch_size)
    check_settings(settings)
    device = pick_device(settings.device)
    amp_dtype = None if settings.amp is None else _AMP[check_choice("amp", settings.amp, _AMP)]
    torch.manual_seed(check_count("seed", settings.seed, 0, 2**64 - 1))
    with memory_errors_explained("cpu"):
        loading = {"workers": _workers(settings.workers, device), "pin_memory": device.type == "cuda"}
        options = {name: getattr(settings, name) for name in _BUILT_FROM}
        task = family.build(settings.model, settings.data, **loading, **options)
    model = _to_device(task.model, device)
    usual = default_optimizer(task.facts["model"], settings.weights)
    optimizer, usual_options = usual if settings.optimizer is None else (settings.optimizer, {})
    finder = LRFinder(
        model,
        build_optimizer(optimizer, settings.optimizer_options, model.parameters(), usual=usual_options),
        task.criterion,
        loss_fn=task.loss_fn,
        device=device,
        amp_dtype=amp_dtype,
        clip_grad_norm=settings.clip_grad_norm,
        accumulation_steps=settings.accumulation_steps,
        pretrained=True if settings.weights is not None else None,
    )
    return Experiment(settings=settings, task=task, finder=finder)


def pick_device(name: str) -> torch.device:
    """The device of that name; for ``"auto"`` a CUDA or MPS device where there is one, else the CPU.

    Raises:
        SetupError: the name is not a device, or the device cannot be used here.
    """
    if name != "auto":
        device = resolve_device(name)
        if device.type == "meta":
            raise SetupError("device meta computes nothing, so there is no loss to measure. Use cpu, cuda or mps.")
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _to_device(model: nn.Module, device: torch.device) -> nn.Module:
    try:
        with memory_errors_explained(device):
            return model.to(device)
    except (AssertionError, RuntimeError) as error:  # a device this torch was not built for
        raise SetupError(f"cannot use `device` {device}: {str(error).splitlines()[0].rstrip('.')}. Use cpu.") from error


def _workers(requested: int | None, device: torch.device) -> int:
    """The number requested; by default 0 on the CPU, where workers would compete with the model."""
    if requested is not None:
        return requested
    return 0 if device.type == "cpu" else min(_MOST_WORKERS, os.cpu_count() or 1)
