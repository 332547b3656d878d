"""Images with one label each: the shipped digits, noise, or a folder."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import datasets

from lrfinder.errors import SetupError
from lrfinder.tasks.coco_folders import has_coco
from lrfinder.tasks.colour import in_colour
from lrfinder.tasks.folders import LAYOUT, ClassFolders, NoClassesError, find_parts
from lrfinder.tasks.image_files import probed, read_image
from lrfinder.tasks.samples import Samples, folder_name

__all__ = ["Digits", "labelled_images", "open_data", "transformed"]

_FAKE_CLASSES = 10
_FAKE = {"size": 1000, "image_size": (3, 32, 32)}


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


def open_data(data: str, *, val: bool = False, num_classes: int | None = None) -> Samples:
    """The digits, noise, or the images of a folder.

    Args:
        data: ``"digits"``, ``"fake"``, or a folder in the ImageFolder layout, with or without train and val parts.
        val: open the validation part too, where there is one.
        num_classes: classes of fake data; by default 10.

    Raises:
        SetupError: no such folder, or a folder without classes or images.
    """
    if data == "digits":
        return labelled_images("digits", Digits(), 10)
    if data == "fake":
        classes = num_classes or _FAKE_CLASSES
        return labelled_images("fake", datasets.FakeData(**_FAKE, num_classes=classes), classes)
    folder = Path(data)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise NoClassesError(f"`data` must be digits, fake or a folder of images; {str(data)!r} {what}. {LAYOUT}")
    try:
        train, val_part = find_parts(folder)
        return _folder_data(folder, train=train, val=val_part if val else None)
    except NoClassesError as error:
        if not has_coco(folder):
            raise
        raise NoClassesError(
            f"{folder} has a COCO file, which has the boxes of a detection model and no labels of whole images. "
            f"{LAYOUT}"
        ) from error


def labelled_images(name: str, train: Any, num_classes: int, *, val: Any = None) -> Samples:
    """Samples of a PIL image and its label each, from 0 to ``num_classes - 1``.

    Args:
        name, train, num_classes, val: as in :class:`lrfinder.tasks.samples.Samples`.
    """
    size = int(statistics.median(min(train[i][0].size) for i in probed(range(len(train)))))
    return Samples(name=name, train=train, val=val, num_classes=num_classes, size=size)


def transformed(
    sample: tuple[Image.Image, int], *, transform: Callable[[Image.Image], Tensor], num_classes: int
) -> tuple[Tensor, int]:
    """The image in colour, transformed, and its label.

    Raises:
        SetupError: the model has no output for the label.
    """
    image, label = sample[0], int(sample[1])
    if not 0 <= label < num_classes:
        raise SetupError(
            f"an image has the label {label}, but the model's {num_classes} classes are 0 to {num_classes - 1}. Set "
            f"`num_classes` to {label + 1} or more, or renumber the labels."
        )
    return transform(in_colour(image)), label


def _folder_data(folder: Path, *, train: Path, val: Path | None) -> Samples:
    train_images = ClassFolders(str(train), loader=read_image)
    val_images = None if val is None else ClassFolders(str(val), loader=read_image)
    if val_images is not None and val_images.classes != train_images.classes:
        odd = sorted(set(train_images.classes) ^ set(val_images.classes))
        raise SetupError(f"{train} and {val} must have the same classes; only one of them has {', '.join(odd)}.")
    return labelled_images(folder_name(folder), train_images, len(train_images.classes), val=val_images)
