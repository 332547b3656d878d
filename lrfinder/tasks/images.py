"""Images with one label each: the shipped digits, noise, or a folder; and loaders over them.

This module reads images and reports what is wrong with them. It does not depend on a model: the transform and the
number of classes are arguments.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets

from lrfinder.errors import SetupError
from lrfinder.tasks import samples
from lrfinder.tasks.colour import in_colour
from lrfinder.tasks.folders import LAYOUT, ClassFolders, find_parts
from lrfinder.tasks.image_files import probed, read_image
from lrfinder.tasks.samples import folder_name, parted

__all__ = ["Digits", "ImageData", "Transformed", "build_loader", "open_data"]

_FAKE_CLASSES = 10
_FAKE = {"size": 1000, "image_size": (3, 32, 32)}


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """A source of labelled images.

    Args:
        name: what to call it in print.
        train: ``train[i]`` is (PIL image, label); has a length.
        val: the same for validation; None when there is no such part or none was requested.
        num_classes: labels run from 0 to ``num_classes - 1``.
    """

    name: str
    train: Any
    val: Any = None
    num_classes: int

    @property
    def image_size(self) -> int:
        """Median of the shorter sides of some of the training images, in pixels."""
        return int(statistics.median(min(self.train[i][0].size) for i in probed(range(len(self.train)))))

    def held_out(self, seed: int) -> ImageData:
        """The same data with one image in five moved from the training to the validation part, at random."""
        train, val = parted(self.train, seed)
        return replace(self, train=train, val=val)


class Digits(Dataset[Any]):
    """The digits shipped with the package: 1,797 grey images of 8x8 pixels, labels 0 to 9."""

    def __init__(self) -> None:
        with resources.files("lrfinder.tasks").joinpath("data/digits.npz").open("rb") as file:
            content = np.load(file)
            self.images, self.labels = content["images"], content["labels"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        # Ink is counted from 0 to 16; pixels go from 0 to 255.
        pixels = self.images[index].astype(np.uint16) * 255 // 16
        return Image.fromarray(pixels.astype(np.uint8)), int(self.labels[index])


class Transformed(Dataset[Any]):
    """Images in colour, transformed for a model, each with a label that the model has an output for."""

    def __init__(self, source: Any, transform: Callable[[Image.Image], torch.Tensor], num_classes: int) -> None:
        self._source = source
        self._transform = transform
        self._num_classes = num_classes

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = self._source[index]
        if not 0 <= int(label) < self._num_classes:
            raise SetupError(
                f"image {index} has the label {int(label)}, but the model's {self._num_classes} classes are 0 to "
                f"{self._num_classes - 1}. Set `num_classes` to {int(label) + 1} or more, or renumber the labels."
            )
        return self._transform(in_colour(image)), int(label)


def open_data(data: str, *, val: bool = False, num_classes: int | None = None) -> ImageData:
    """The digits, noise, or the images of a folder.

    Args:
        data: ``"digits"``, ``"fake"``, or a folder in the ImageFolder layout, with or without train and val parts.
        val: open the validation part too, where there is one.
        num_classes: classes of fake data; by default 10.

    Raises:
        SetupError: no such folder, or a folder without classes or images.
    """
    if data == "digits":
        return ImageData(name="digits", train=Digits(), num_classes=10)
    if data == "fake":
        classes = num_classes or _FAKE_CLASSES
        return ImageData(name="fake", train=datasets.FakeData(**_FAKE, num_classes=classes), num_classes=classes)
    folder = Path(data)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise SetupError(f"`data` must be digits, fake or a folder of images; {str(data)!r} {what}. {LAYOUT}")
    train, val_part = find_parts(folder)
    return _folder_data(folder, train=train, val=val_part if val else None)


def build_loader(
    source: Any,
    transform: Callable[[Image.Image], torch.Tensor],
    *,
    num_classes: int,
    batch_size: int,
    workers: int,
    seed: int,
    train: bool,
    random: bool = False,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Loader of (images, labels), in an order that ``seed`` fixes.

    Training draws a new order in each epoch and drops the last, smaller batch, so that BatchNorm never gets a single
    image. Validation keeps one shuffled order, so that its first batches hold all classes and are the same each time.

    Raises:
        SetupError: fewer training images than one batch takes.
    """
    return samples.build_loader(
        Transformed(source, transform, num_classes),
        batch_size=batch_size,
        workers=workers,
        seed=seed,
        train=train,
        random=random,
        pin_memory=pin_memory,
    )


def _folder_data(folder: Path, *, train: Path, val: Path | None) -> ImageData:
    train_images = ClassFolders(str(train), loader=read_image)
    val_images = None if val is None else ClassFolders(str(val), loader=read_image)
    if val_images is not None and val_images.classes != train_images.classes:
        odd = sorted(set(train_images.classes) ^ set(val_images.classes))
        raise SetupError(f"{train} and {val} must have the same classes; only one of them has {', '.join(odd)}.")
    classes = len(train_images.classes)
    return ImageData(name=folder_name(folder), train=train_images, val=val_images, num_classes=classes)
