"""Files in the layouts of torchvision's families, as batches for a model of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

from lrfinder.errors import SetupError
from lrfinder.tasks import FAMILIES, detection, images, segmentation
from lrfinder.tasks.assemble import Loading
from lrfinder.tasks.coco_folders import has_coco, open_coco
from lrfinder.tasks.colour import normalised
from lrfinder.tasks.folders import NoClassesError
from lrfinder.tasks.image_files import default_size
from lrfinder.tasks.masks import VOID, has_masks, open_masks
from lrfinder.tasks.memory import check_batch_memory
from lrfinder.tasks.own_data import OwnData
from lrfinder.tasks.samples import Samples, chosen_classes, listed
from lrfinder.tasks.settings import Settings
from lrfinder.tasks.torchvision_data import open_torchvision

__all__ = ["open_files"]

_LARGEST = 224
_OTHER_DATA = (
    "A model of your own also takes PATH/images with PATH/masks, a COCO file with its images, and what a function "
    "returns, given as `data` module:function."
)


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """Samples of one of the families, without augmentation.

    Args:
        family: that has such batches.
        samples: with a validation part where the data has one and it is requested.
        transform: from a sample to tensors.
        num_classes: that the labels need, or that the user chose.
        image_size: pixels on a side; None where images keep their size.
        words: what a batch has, as a sentence.
        collate: as in torch's DataLoader.
        void: label that does not count; None for none.
        taken: settings that have an effect besides the size and the number of batches.
    """

    family: str
    samples: Samples
    transform: Callable[[Any], Any]
    num_classes: int
    image_size: int | None
    words: str
    collate: Callable[[Any], Any] | None = None
    void: int | None = None
    taken: tuple[str, ...] = ("image_size",)


def open_files(settings: Settings) -> OwnData:
    """Images of files, or made up, with what belongs to each: a label, a mask, or boxes.

    A folder is read as folders of classes; where it has none, as a COCO file and its images, or as images and masks.
    Labelled images have ``settings.image_size`` pixels on a side, the next multiple of 32 of their own size without it,
    at most 224; images with masks at most 480. Both are normalised with ImageNet's mean and standard deviation. Images
    with boxes keep their size; the targets have masks where every object of the file has one, and keypoints where all
    have the same number.

    Raises:
        ConfigError: an unknown data set, or a number out of its range.
        SetupError: files that cannot be read, or are laid out otherwise.
    """
    found = _read(settings)
    samples = found.samples.with_val(settings.val, settings.seed)
    size = settings.batch_size or FAMILIES[found.family].batch_size
    if found.image_size is not None:
        check_batch_memory(size, found.image_size)
    loading = Loading(settings=settings, batch_size=size, transform=found.transform, collate=found.collate)
    train = loading.loader(samples.train, train=True)
    return OwnData(
        name=samples.name,
        train=train,
        val=loading.loader(samples.val, train=False),
        first=next(iter(train)),
        num_classes=found.num_classes,
        image_size=found.image_size,
        void=found.void,
        notes=(*samples.notes, found.words),
        taken={"batch_size", "workers", *found.taken},
    )


def _read(settings: Settings) -> _Kind:
    if settings.masks is not None:
        return _masks(settings)
    try:
        return _labels(settings)
    except NoClassesError as error:
        folder = Path(settings.data)
        if has_coco(folder):
            return _boxes(settings)
        if has_masks(folder):
            return _masks(settings)
        raise SetupError(f"{error} {_OTHER_DATA}") from error


def _labels(settings: Settings) -> _Kind:
    wanted: dict[str, Any] = {"val": settings.val}
    if settings.dataset is not None:
        samples = open_torchvision(settings.dataset, settings.root, download=settings.download, **wanted)
    else:
        samples = images.open_data(settings.data, num_classes=settings.num_classes, **wanted)
    size = settings.image_size or default_size(_LARGEST, samples.size)
    classes = chosen_classes(samples.name, samples.num_classes, settings.num_classes)
    return _Kind(
        family="classification",
        samples=samples,
        transform=partial(images.transformed, transform=partial(_resized, size=size), num_classes=classes),
        num_classes=classes,
        image_size=size,
        words=_size_words("Images", size, samples),
        taken=("image_size", *(("num_classes",) if settings.data == "fake" else ())),
    )


def _masks(settings: Settings) -> _Kind:
    samples = open_masks(settings.data, settings.masks, val=settings.val, num_classes=settings.num_classes)
    size = settings.image_size or default_size(segmentation.CROP, samples.size)
    classes = chosen_classes(samples.name, samples.num_classes, settings.num_classes)
    return _Kind(
        family="segmentation",
        samples=samples,
        transform=partial(segmentation.transformed, size=size, num_classes=classes),
        num_classes=classes,
        image_size=size,
        words=_size_words("Images and masks", size, samples),
        void=VOID,
    )


def _boxes(settings: Settings) -> _Kind:
    samples, _ = open_coco(settings.data, val=settings.val, num_classes=settings.num_classes)
    classes = chosen_classes(samples.name, samples.num_classes, settings.num_classes, detection.CLASSES)
    keys = ", ".join(samples.train[0][1])
    return _Kind(
        family="detection",
        samples=samples,
        transform=detection.as_tensors,
        num_classes=classes,
        image_size=None,
        words=f"Batches are a list of images from 0 to 1 and a list of dictionaries with {keys}.",
        collate=listed,
        taken=("num_classes",),
    )


def _size_words(what: str, size: int, samples: Samples) -> str:
    there = f"in the data about {samples.size}"
    return f"{what} at {size}x{size} pixels ({there}), with ImageNet's mean and standard deviation."


def _resized(image: Image.Image, *, size: int) -> Tensor:
    return normalised(F.pil_to_tensor(F.center_crop(F.resize(image, [size], antialias=True), [size])))
