"""The task around a model and its samples, for every family whose samples are transformed one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lrfinder.tasks import Task
from lrfinder.tasks.augment import PLAIN, Augmentation
from lrfinder.tasks.samples import Mapped, Samples, build_loader

__all__ = ["Loading", "assemble"]


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How batches are loaded.

    Args:
        batch_size, workers, pin_memory, seed, collate: as in :func:`lrfinder.tasks.samples.build_loader`.
        val: whether there is a validation loader.
        units: what a sample is, in the plural.
        transform: from a sample of the data to tensors.
        augmentation: of the training samples.
    """

    batch_size: int
    workers: int
    pin_memory: bool
    seed: int
    val: bool
    units: str
    transform: Callable[[Any], Any]
    collate: Callable[[Any], Any] | None = None
    augmentation: Augmentation = PLAIN

    def loader(self, source: Any, *, train: bool) -> Any:
        """The loader over samples."""
        augmented = self.augmentation.transform if train else None
        return build_loader(
            Mapped(source, augmented or self.transform),
            batch_size=self.batch_size,
            workers=self.workers,
            pin_memory=self.pin_memory,
            seed=self.seed,
            collate=self.collate,
            train=train,
            random=augmented is not None,
            what=self.units,
        )


def assemble(
    name: str,
    samples: Samples,
    model: nn.Module,
    loading: Loading,
    *,
    weights: str | Path | None,
    num_classes: int | None,
    image_size: Any,
    notes: tuple[str, ...],
    classes: str = "classes",
    **loss: Any,
) -> Task:
    """The task.

    Args:
        name: of the model.
        samples: with a validation part where there is to be a loader of it.
        model: in training mode.
        loading: how batches are made.
        weights, num_classes, image_size: for the facts.
        notes: what was chosen on the user's behalf; those of the samples are added.
        classes: what the classes are called in the title.
        **loss: ``criterion`` or ``loss_fn``.

    Raises:
        SetupError: fewer training samples than one batch takes.
    """
    outputs = f", {num_classes} {classes}" if num_classes is not None else ""
    return Task(
        title=f"{name} on {samples.name}: {len(samples.train):,} {loading.units}{outputs}",
        model=model,
        train_loader=loading.loader(samples.train, train=True),
        val_loader=loading.loader(samples.val, train=False) if loading.val else None,
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
