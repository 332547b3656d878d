"""What ``lrfind run`` sets up from what was typed: data, model, optimizer and loaders, joined to a range test."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lrfinder.errors import ConfigError, SetupError
from lrfinder.finder import LRFinder
from lrfinder.result import RangeTestResult
from lrfinder.tasks.classification import Classifier, build_classifier, check_model_name
from lrfinder.tasks.images import ImageData, build_loader, open_data, open_torchvision
from lrfinder.tasks.optimizers import build_optimizer, chosen_options
from lrfinder.training.setup import resolve_device

__all__ = ["Experiment", "Settings", "prepare"]

_AMP = {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}
_MOST_WORKERS = 8


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of ``lrfind run``, by the same names; see its help."""

    model: str
    data: str
    dataset: str | None
    root: str
    download: bool
    weights: str | None
    num_classes: int | None
    image_size: int | None
    optimizer: str
    opt: dict[str, Any]
    batch_size: int
    accumulation: int
    clip_grad_norm: float | None
    device: str
    amp: str | None
    workers: int | None
    start_lr: float | None
    end_lr: float | None
    num_iter: int | None
    mode: str
    val: bool
    val_batches: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A range test that is ready to run.

    Args:
        settings: as typed.
        data: the images.
        classifier: the model with its transform and loss.
        finder: over the model on its device.
        loader: training batches.
        val_loader: validation batches; None measures the training loss.
    """

    settings: Settings
    data: ImageData
    classifier: Classifier
    finder: LRFinder
    loader: Any
    val_loader: Any

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the training images."""
        return math.ceil(len(self.loader) / self.settings.accumulation)

    @property
    def facts(self) -> dict[str, Any]:
        """What was set up, JSON-ready."""
        return {
            "model": self.settings.model.lower(),
            "weights": self.settings.weights,
            "data": self.data.name,
            "train_images": len(self.data.train),
            "num_classes": self.settings.num_classes or self.data.num_classes,
            "image_size": self.classifier.image_size,
            "optimizer": type(self.finder.optimizer).__name__,
            "optimizer_options": chosen_options(self.finder.optimizer),
            "batch_size": self.settings.batch_size,
            "accumulation_steps": self.settings.accumulation,
            "steps_per_epoch": self.steps_per_epoch,
            "device": str(self.finder.device),
            "amp": self.settings.amp,
            "seed": self.settings.seed,
        }

    def range_test(self) -> RangeTestResult:
        """Run it.

        Raises:
            LRFinderError: the data or the settings turn out to be unusable, or the device's memory is too small.
        """
        chosen = self.settings
        with _memory_errors_told(self.finder.device):
            return self.finder.range_test(
                self.loader,
                val_loader=self.val_loader,
                val_batches=self._val_batches,
                start_lr=chosen.start_lr,
                end_lr=chosen.end_lr,
                num_iter=chosen.num_iter,
                mode=chosen.mode,
            )

    def refine(self, result: RangeTestResult, schedule: str, epochs: int, budget: float) -> RangeTestResult:
        """Search around its advice with short trials, for a training of so many epochs.

        Raises:
            LRFinderError: as :meth:`range_test`.
        """
        with _memory_errors_told(self.finder.device):
            return self.finder.refine(
                result,
                self.loader,
                self.val_loader,
                schedule=schedule,
                total_steps=epochs * self.steps_per_epoch,
                budget=budget,
                val_batches=self._val_batches,
            )

    @property
    def _val_batches(self) -> int | None:
        return self.settings.val_batches if self.settings.val else None


def prepare(settings: Settings) -> Experiment:
    """Everything that can be refused before the first batch is trained, refused; the rest ready to run.

    Raises:
        LRFinderError: an option that cannot be used, or data, model and weights that do not fit together.
    """
    check_model_name(settings.model)
    device = _pick_device(settings.device)
    data = _open(settings)
    num_classes = _check_classes(settings, data)
    torch.manual_seed(settings.seed)
    classifier = build_classifier(
        settings.model,
        num_classes=num_classes,
        needed_size=data.image_size,
        image_size=settings.image_size,
        weights=settings.weights,
        batch_size=settings.batch_size,
    )
    loaders = [
        build_loader(
            source,
            classifier.transform,
            num_classes=num_classes,
            batch_size=settings.batch_size,
            workers=_workers(settings.workers, device),
            seed=settings.seed,
            train=source is data.train,
            pin_memory=device.type == "cuda",
        )
        for source in (data.train, data.val)
        if source is not None
    ]
    model = _to_device(classifier.model, device)
    return Experiment(
        settings=settings,
        data=data,
        classifier=classifier,
        finder=LRFinder(
            model,
            build_optimizer(settings.optimizer, settings.opt, model.parameters()),
            classifier.criterion,
            device=device,
            amp_dtype=_AMP[settings.amp],
            clip_grad_norm=settings.clip_grad_norm,
            accumulation_steps=settings.accumulation,
        ),
        loader=loaders[0],
        val_loader=loaders[1] if len(loaders) > 1 else None,
    )


def _open(settings: Settings) -> ImageData:
    if settings.dataset is not None:
        data = open_torchvision(settings.dataset, settings.root, val=settings.val, download=settings.download)
    else:
        data = open_data(settings.data, val=settings.val, num_classes=settings.num_classes)
    return data.held_out(settings.seed) if settings.val and data.val is None else data


def _check_classes(settings: Settings, data: ImageData) -> int:
    if settings.num_classes is not None and settings.num_classes < data.num_classes:
        raise ConfigError(
            f"{data.name} has {data.num_classes} classes, labelled 0 to {data.num_classes - 1}; a model of "
            f"{settings.num_classes} has no output for the last. Give --num-classes {data.num_classes} or leave it out."
        )
    return settings.num_classes or data.num_classes


def _pick_device(name: str) -> torch.device:
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
        with _memory_errors_told(device):
            return model.to(device)
    except (AssertionError, RuntimeError) as error:  # a device this torch was not built for
        raise SetupError(f"cannot use --device {device}: {str(error).splitlines()[0]}") from error


def _workers(wanted: int | None, device: torch.device) -> int:
    """As many as asked for; by default none on the CPU, where they would take time from the model."""
    if wanted is not None:
        return wanted
    return 0 if device.type == "cpu" else min(_MOST_WORKERS, os.cpu_count() or 1)


@contextmanager
def _memory_errors_told(device: torch.device) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise SetupError(
            f"the memory of {device} is too small for this. Lower --batch-size (and raise --accumulation)."
        ) from error
