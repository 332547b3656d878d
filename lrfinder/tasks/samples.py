"""Samples of any kind, from data to loader: the parts, the order, and the checks that every family shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from lrfinder.checks import check_count
from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks.augment import Drawn, Draws

__all__ = ["Mapped", "Samples", "build_loader", "check_numbers", "chosen_classes", "folder_name", "listed"]
__all__ += ["open_folder", "parted", "shuffled"]

_HELD_OUT = 5  # one sample in five validates where the data has no validation part of its own
_MOST_WORKERS = 256  # each is a process with a torch of its own


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Samples of a task before any transform.

    Args:
        name: what to call them in print.
        train: ``train[i]`` is a sample; has a length.
        val: the same for validation; None where there is no such part or none was requested.
        num_classes: outputs that the labels need; 0 where there are no classes.
        size: shorter side of a typical image, in pixels.
        notes: what was chosen or left out, in sentences.
    """

    name: str
    train: Any
    val: Any = None
    num_classes: int = 0
    size: int
    notes: tuple[str, ...] = ()

    def held_out(self, seed: int) -> Samples:
        """The same with one sample in five moved from the training to the validation part, at random."""
        train, val = parted(self.train, seed)
        return replace(self, train=train, val=val)

    def with_val(self, wanted: bool, seed: int) -> Samples:
        """The same with a validation part, held out where the data has none; without one where none is wanted."""
        if not wanted:
            return replace(self, val=None)
        return self if self.val is not None else self.held_out(seed)


class Mapped(Dataset[Any]):
    """Samples with a function applied to each."""

    def __init__(self, source: Any, function: Callable[[Any], Any]) -> None:
        self._source = source
        self._function = function

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Any:
        return self._function(self._source[index])


def build_loader(
    source: Any,
    *,
    batch_size: int,
    workers: int,
    seed: int,
    train: bool,
    pin_memory: bool = False,
    collate: Callable[[Sequence[Any]], Any] | None = None,
    random: bool = False,
    what: str = "images",
) -> DataLoader[Any]:
    """Loader over samples that are ready for the model, in an order that ``seed`` fixes.

    Training draws a new order in each epoch and drops the last, smaller batch, so that BatchNorm never gets a single
    sample. Validation keeps one shuffled order, so that its first batches hold all classes and are the same each time.

    Args:
        source: samples as tensors; has a length.
        batch_size, workers, pin_memory, collate: as in torch's DataLoader.
        seed: of the order.
        train: whether it is the training part.
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
        source = Subset(source, shuffled(len(source), seed))
    return DataLoader(
        Drawn(source) if random and train else source,
        batch_size=batch_size,
        shuffle=train and not random,
        sampler=Draws(len(source), seed) if random and train else None,
        drop_last=train,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(seed),
    )


def listed(batch: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    """Images and targets of a batch, each in a list: those of detection differ in size."""
    return [image for image, _ in batch], [target for _, target in batch]


def parted(samples: Any, seed: int) -> tuple[Subset[Any], Subset[Any]]:
    """A training part of the samples, and a validation part of one in five, drawn at random.

    Raises:
        SetupError: there are fewer than five.
    """
    order = shuffled(len(samples), seed)
    held = len(order) // _HELD_OUT
    if not held:
        raise SetupError(f"the data has {len(order)} training samples, too few to validate on some of them.")
    return Subset(samples, order[held:]), Subset(samples, order[:held])


def shuffled(count: int, seed: int) -> list[int]:
    """The numbers from 0 to ``count - 1`` in an order that ``seed`` fixes."""
    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return order


def check_numbers(*, num_classes: int | None, image_size: int | None, batch_size: int, workers: int, seed: int) -> None:
    """Check the numbers that every family's ``build`` takes.

    Raises:
        ConfigError: one is out of its range.
    """
    if num_classes is not None:
        check_count("num_classes", num_classes, 2)
    if image_size is not None:
        check_count("image_size", image_size)
    check_count("batch_size", batch_size)
    check_count("workers", workers, 0, _MOST_WORKERS)
    check_count("seed", seed, 0, 2**64 - 1)


def chosen_classes(name: str, needed: int, num_classes: int | None, counted: str = "classes") -> int:
    """Outputs of the model: the number of classes in the data, or a larger one that the user asked for.

    Args:
        name: of the data.
        needed: outputs that its labels need.
        num_classes: the user's; None takes those.
        counted: what they are called.

    Raises:
        ConfigError: it is smaller than the data needs.
    """
    if num_classes is not None and num_classes < needed:
        raise ConfigError(
            f"{name} has {needed} {counted}, labelled 0 to {needed - 1}; a model of {num_classes} has no output for "
            f"the last. Set `num_classes` to {needed} or leave it out."
        )
    return num_classes or needed


def open_folder(data: str, lacks: str, layout: str) -> Path:
    """The folder that ``data`` names.

    Args:
        data: as the user gave it.
        lacks: what the shipped digits lack for the family, as the end of a sentence.
        layout: sentence that says how a folder is laid out.

    Raises:
        SetupError: there is no such folder.
    """
    if data == "digits":
        raise SetupError(f"`data` is digits where it is left out, and these {lacks}. Give a folder, or fake. {layout}")
    path = Path(data)
    if not path.exists():
        raise SetupError(f"`data` must be fake or a folder; {data!r} does not exist. {layout}")
    return path


def folder_name(folder: Path) -> str:
    """Name of a folder in print."""
    return folder.resolve().name or str(folder)
