"""Loaders of samples, and the task around them and a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from lrfinder.errors import SetupError
from lrfinder.tasks import Task
from lrfinder.tasks.augment import PLAIN, Augmentation, Drawn, Draws
from lrfinder.tasks.samples import Mapped, Samples, shuffled
from lrfinder.tasks.settings import Settings, pick_device

__all__ = ["Loading", "assemble", "build_loader"]


def build_loader(
    source: Any,
    settings: Settings,
    batch_size: int,
    *,
    train: bool,
    collate: Callable[[Sequence[Any]], Any] | None = None,
    random: bool = False,
    what: str = "images",
) -> DataLoader[Any]:
    """Loader over samples that are ready for the model, in an order that the seed fixes.

    Training draws a new order in each epoch and drops the last, smaller batch, so that BatchNorm never gets a single
    sample. Validation keeps one shuffled order, so that its first batches hold all classes and are the same each time.

    Args:
        source: samples as tensors; has a length.
        settings: seed, device and workers are used.
        batch_size: samples in a batch.
        train: whether it is the training part.
        collate: as in torch's DataLoader.
        random: whether training samples are made with random numbers, which then depend on the seed alone.
        what: samples, in the words of a message.

    Raises:
        SetupError: fewer training samples than one batch takes.
    """
    if train and len(source) < batch_size:
        raise SetupError(
            f"there are only {len(source)} training {what}, fewer than a batch of {batch_size}. Lower `batch_size`."
        )
    if not train:
        source = Subset(source, shuffled(len(source), settings.seed))
    return DataLoader(
        Drawn(source) if random and train else source,
        batch_size=batch_size,
        shuffle=train and not random,
        sampler=Draws(len(source), settings.seed) if random and train else None,
        drop_last=train,
        num_workers=settings.worker_count,
        persistent_workers=settings.worker_count > 0,
        pin_memory=pick_device(settings.device).type == "cuda",
        collate_fn=collate,
        generator=torch.Generator().manual_seed(settings.seed),
    )


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How batches are loaded.

    Args:
        settings, batch_size, collate: as in :func:`build_loader`.
        transform: from a sample of the data to tensors.
        augmentation: of the training samples.
        units: what a sample is, in the plural.
    """

    settings: Settings
    batch_size: int
    transform: Callable[[Any], Any]
    collate: Callable[[Any], Any] | None = None
    augmentation: Augmentation = PLAIN
    units: str = "images"

    def loader(self, source: Any, *, train: bool) -> Any:
        """The loader over samples; None where there are none."""
        if source is None:
            return None
        augmented = self.augmentation.transform if train else None
        return build_loader(
            Mapped(source, augmented or self.transform),
            self.settings,
            self.batch_size,
            train=train,
            collate=self.collate,
            random=augmented is not None,
            what=self.units,
        )


def assemble(
    name: str,
    samples: Samples,
    model: nn.Module,
    loading: Loading,
    *,
    image_size: Any,
    notes: tuple[str, ...],
    num_classes: int | None = None,
    classes: str = "classes",
    **loss: Any,
) -> Task:
    """The task.

    Args:
        name: of the model.
        samples: with a validation part where there is to be a loader of it.
        model: in training mode.
        loading: how batches are made.
        image_size, num_classes: for the facts.
        notes: what was chosen on the user's behalf; those of the samples are added.
        classes: what the classes are called in the title.
        **loss: ``criterion`` or ``loss_fn``.

    Raises:
        SetupError: fewer training samples than one batch takes.
    """
    outputs = f", {num_classes} {classes}" if num_classes is not None else ""
    weights = loading.settings.weights
    return Task(
        title=f"{name} on {samples.name}: {len(samples.train):,} {loading.units}{outputs}",
        model=model,
        train_loader=loading.loader(samples.train, train=True),
        val_loader=loading.loader(samples.val, train=False),
        notes=(*notes, *loading.augmentation.notes, *samples.notes),
        facts={
            "model": name,
            "weights": None if weights is None else str(weights),
            "data": samples.name,
            "train_images": len(samples.train),
            "num_classes": num_classes,
            "image_size": image_size,
            "augment": loading.augmentation.words,
        },
        **loss,
    )
