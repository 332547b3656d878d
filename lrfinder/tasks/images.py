"""Images with one label each: the shipped digits, a folder, torchvision's data sets, or noise; and loaders over them.

This module knows where images come from and what can be wrong with them. It knows no model: the transform and the
number of classes are handed in.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets

from lrfinder.errors import ConfigError, SetupError

__all__ = ["ImageData", "TORCHVISION", "build_loader", "open_data", "open_torchvision"]

_PROBED = 32  # images looked at to learn how large they are
_HELD_OUT = 5  # one image in five validates where the data has no validation part of its own
_FAKE_CLASSES = 10
_FAKE = {"size": 1000, "image_size": (3, 32, 32)}
_LAYOUT = "Expected PATH/<class>/*.jpg, or PATH/train/<class>/*.jpg and PATH/val/<class>/*.jpg."

# How each data set names its training part and the part to validate on (None: it has only one part).
TORCHVISION: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "CIFAR10": ({"train": True}, {"train": False}),
    "CIFAR100": ({"train": True}, {"train": False}),
    "Country211": ({"split": "train"}, {"split": "valid"}),
    "DTD": ({"split": "train"}, {"split": "val"}),
    "EuroSAT": ({}, None),
    "FGVCAircraft": ({"split": "train"}, {"split": "val"}),
    "FashionMNIST": ({"train": True}, {"train": False}),
    "Flowers102": ({"split": "train"}, {"split": "val"}),
    "Food101": ({"split": "train"}, {"split": "test"}),
    "GTSRB": ({"split": "train"}, {"split": "test"}),
    "ImageNet": ({"split": "train"}, {"split": "val"}),
    "Imagenette": ({"split": "train"}, {"split": "val"}),
    "KMNIST": ({"train": True}, {"train": False}),
    "MNIST": ({"train": True}, {"train": False}),
    "OxfordIIITPet": ({"split": "trainval"}, {"split": "test"}),
    "QMNIST": ({"what": "train"}, {"what": "test"}),
    "RenderedSST2": ({"split": "train"}, {"split": "val"}),
    "STL10": ({"split": "train"}, {"split": "test"}),
    "SUN397": ({}, None),
    "SVHN": ({"split": "train"}, {"split": "test"}),
    "StanfordCars": ({"split": "train"}, {"split": "test"}),
    "USPS": ({"train": True}, {"train": False}),
}
_NO_DOWNLOAD = ("ImageNet", "StanfordCars")


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """A source of labelled images.

    Args:
        name: what to call it in print.
        train: ``train[i]`` is (PIL image, label); has a length.
        val: the same for validation; None when it has no such part or none was wanted.
        num_classes: labels run from 0 to ``num_classes - 1``.
    """

    name: str
    train: Any
    val: Any
    num_classes: int

    @property
    def image_size(self) -> int:
        """Shorter side of a usual image, in pixels."""
        count = len(self.train)
        probed = range(0, count, max(1, count // _PROBED))
        return int(statistics.median(min(self.train[i][0].size) for i in probed))

    def held_out(self, seed: int) -> ImageData:
        """The same data with one image in five moved from the training to the validation part, at random."""
        order = _shuffled(len(self.train), seed)
        held = len(order) // _HELD_OUT
        return ImageData(
            name=self.name,
            train=Subset(self.train, order[held:]),
            val=Subset(self.train, order[:held]),
            num_classes=self.num_classes,
        )


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
    """Images made ready for a model: in colour, transformed, with a label that the model has an output for."""

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
                f"{self._num_classes - 1}. Give --num-classes {int(label) + 1} or more, or renumber the labels."
            )
        return self._transform(image.convert("RGB")), int(label)


def open_data(data: str, *, val: bool = False, num_classes: int | None = None) -> ImageData:
    """The images that ``--data`` names.

    Args:
        data: ``"digits"``, ``"fake"``, or a folder in the ImageFolder layout, with or without train and val parts.
        val: open the validation part too, where there is one.
        num_classes: classes of fake data; by default 10.

    Raises:
        SetupError: no such folder, or a folder without classes or images.
    """
    if data == "digits":
        return ImageData(name="digits", train=Digits(), val=None, num_classes=10)
    if data == "fake":
        classes = num_classes or _FAKE_CLASSES
        fake = datasets.FakeData(**_FAKE, num_classes=classes)
        return ImageData(name="fake", train=fake, val=None, num_classes=classes)
    folder = Path(data)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise SetupError(f"--data must be digits, fake or a folder of images; {data!r} {what}. {_LAYOUT}")
    if not (folder / "train").is_dir():
        return _folder_data(folder, train=folder, val=None)
    parts = [folder / name for name in ("val", "valid", "validation") if val and (folder / name).is_dir()]
    return _folder_data(folder, train=folder / "train", val=parts[0] if parts else None)


def open_torchvision(name: str, root: str, *, val: bool = False, download: bool = False) -> ImageData:
    """One of torchvision's classification data sets.

    Args:
        name: as in ``torchvision.datasets``; upper or lower case.
        root: folder that holds it, as torchvision lays it out.
        val: open the validation part too, where there is one.
        download: fetch it first when it is not there.

    Raises:
        ConfigError: a name torchvision does not have, or one without single labels.
        SetupError: it is not under ``root``, or cannot be downloaded.
    """
    known = {each.lower(): each for each in TORCHVISION}
    if name.lower() not in known:
        near = get_close_matches(name.lower(), known, n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(known[each] for each in near)}?" if near else ""
        raise ConfigError(f"unknown data set {name!r}; choose one of {', '.join(TORCHVISION)}.{hint}")
    name = known[name.lower()]
    train_part, val_part = TORCHVISION[name]
    train = _open_part(name, root, train_part, download)
    val_images = _open_part(name, root, val_part, download) if val and val_part is not None else None
    return ImageData(name=name, train=train, val=val_images, num_classes=_count_classes(train))


def build_loader(
    source: Any,
    transform: Callable[[Image.Image], torch.Tensor],
    *,
    num_classes: int,
    batch_size: int,
    workers: int,
    seed: int,
    train: bool,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Loader of (images, labels), in an order that ``seed`` fixes.

    Training draws a new order each time round and drops the last, smaller batch, so that BatchNorm never sees a single
    image. Validation keeps one mixed order, so that its first batches hold all classes and are the same each time.

    Raises:
        SetupError: fewer training images than one batch takes.
    """
    if train and len(source) < batch_size:
        raise SetupError(
            f"there are only {len(source)} training images, less than a batch of {batch_size}; lower --batch-size."
        )
    if not train:
        source = Subset(source, _shuffled(len(source), seed))
    return DataLoader(
        Transformed(source, transform, num_classes),
        batch_size=batch_size,
        shuffle=train,
        drop_last=train,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(seed),
    )


def _folder_data(folder: Path, *, train: Path, val: Path | None) -> ImageData:
    train_images = _open_folder(train)
    val_images = None if val is None else _open_folder(val)
    if val_images is not None and val_images.classes != train_images.classes:
        odd = sorted(set(train_images.classes) ^ set(val_images.classes))
        raise SetupError(f"{train} and {val} must have the same classes; only one of them has {', '.join(odd)}.")
    name = folder.resolve().name or str(folder)
    return ImageData(name=name, train=train_images, val=val_images, num_classes=len(train_images.classes))


def _open_folder(folder: Path) -> Any:
    try:
        images = datasets.ImageFolder(str(folder), loader=_read_image)
    except FileNotFoundError as error:  # no class folder, or one without images
        raise SetupError(f"{str(error).splitlines()[0].rstrip('.')}. {_LAYOUT}") from error
    if len(images.classes) < 2:
        raise SetupError(f"{folder} has only the class {images.classes[0]}; telling apart needs two. {_LAYOUT}")
    return images


def _read_image(path: str) -> Image.Image:
    try:
        with Image.open(path) as file:
            image: Image.Image = file.convert("RGB")
    # Pillow raises SyntaxError and ValueError too for damaged files of some formats.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not an image Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise SetupError(f"cannot read the image {path}: {reason}. Mend it or take it out of the folder.") from error
    return image


def _open_part(name: str, root: str, part: dict[str, Any], download: bool) -> Any:
    offers_download = name not in _NO_DOWNLOAD
    arguments = {**part, "download": download} if offers_download else part
    try:
        return getattr(datasets, name)(root, **arguments)
    # torchvision says "not found" with RuntimeError or FileNotFoundError, and "no network" with URLError.
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        if download and offers_download:
            raise SetupError(f"cannot download {name} to {root}: {reason}.") from error
        mend = (
            "Add --download to fetch it there, or give its folder with --root."
            if offers_download
            else f"It cannot be downloaded automatically: get its archives as torchvision.datasets.{name} describes."
        )
        raise SetupError(f"{name} is not in {root} ({reason}). {mend}") from error


def _count_classes(source: Any) -> int:
    classes: Sequence[str] | None = getattr(source, "classes", None)
    if classes:
        return len(classes)
    for field in ("targets", "labels", "_labels", "_samples"):
        labels = getattr(source, field, None)
        if labels is not None:
            return 1 + max(int(each[1] if isinstance(each, tuple) else each) for each in labels)
    raise SetupError(f"this torchvision's {type(source).__name__} does not say which classes it has.")


def _shuffled(count: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return order
