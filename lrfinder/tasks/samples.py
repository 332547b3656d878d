"""Samples of any kind: their parts, their order, and the checks that every family shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Subset

from lrfinder.errors import ConfigError, SetupError

__all__ = ["Mapped", "Samples", "chosen_classes", "folder_name", "listed", "open_folder", "parted", "shuffled"]

_HELD_OUT = 5  # one sample in five validates where the data has no validation part of its own


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

    def with_val(self, wanted: bool, seed: int) -> Samples:
        """The same with a validation part; without one where none is wanted.

        Where the data has none, one sample in five is moved to it from the training part, at random.
        """
        if not wanted:
            return replace(self, val=None)
        if self.val is not None:
            return self
        train, val = parted(self.train, seed)
        return replace(self, train=train, val=val)


class Mapped(Dataset[Any]):
    """Samples with a function applied to each."""

    def __init__(self, source: Any, function: Callable[[Any], Any]) -> None:
        self.source = source
        self._function = function

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        return self._function(self.source[index])


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


def chosen_classes(samples: Samples, num_classes: int | None, counted: str = "classes") -> int:
    """Outputs of the model: the number of classes in the data, or a larger one that the user asked for.

    Args:
        samples: the data.
        num_classes: the user's; None takes those that the labels need.
        counted: what they are called.

    Raises:
        ConfigError: it is smaller than the data needs.
    """
    needed = samples.num_classes
    if num_classes is not None and num_classes < needed:
        raise ConfigError(
            f"{samples.name} has {needed} {counted}, labelled 0 to {needed - 1}; a model of {num_classes} has no "
            f"output for the last. Set `num_classes` to {needed} or leave it out."
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
