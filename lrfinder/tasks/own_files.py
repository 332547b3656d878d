"""Files in the layouts of torchvision's families, as batches for a model of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
from lrfinder.tasks.folders import ClassFolders, NoClassesError
from lrfinder.tasks.image_files import default_size
from lrfinder.tasks.masks import VOID, has_masks, open_masks
from lrfinder.tasks.memory import check_batch_memory
from lrfinder.tasks.own_data import OwnData
from lrfinder.tasks.samples import Samples, chosen_classes, listed
from lrfinder.tasks.settings import Settings
from lrfinder.tasks.torchvision_data import open_images

__all__ = ["open_files"]

_LARGEST = 224
_OTHER_DATA = (
    "A model of your own also takes PATH/images with PATH/masks, a COCO file with its images, and what a function "
    "returns, given as `data` module:function."
)

_SEQUENCES = (
    "Each image is a sample with the label of its class, also of those in one folder below the class. For clips of "
    "frames, give `data` as module:function."
)


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


def _labels(settings: Settings) -> OwnData:
    samples = open_images(settings)
    if _in_sequences(samples.train):
        samples = replace(samples, notes=(*samples.notes, _SEQUENCES))
    size = settings.image_size or default_size(_LARGEST, samples.size)
    classes = chosen_classes(samples, settings.num_classes)
    transform = partial(images.transformed, transform=partial(_resized, size=size), num_classes=classes)
    taken = {"image_size", "num_classes"} if settings.data == "fake" else {"image_size"}
    known: dict[str, Any] = {"num_classes": classes, "image_size": size, "taken": taken}
    return _loaded(settings, "classification", samples, transform, note=_size_words("Images", size, samples), **known)


def _in_sequences(train: Any) -> bool:
    """Whether no image is in the folder of its class itself, as with folders of the frames of videos."""
    if not isinstance(train, ClassFolders):
        return False
    return all(Path(path).parent.parent != Path(train.root) for path, _ in train.samples)


def _masks(settings: Settings) -> OwnData:
    samples = open_masks(settings.data, settings.masks, val=settings.val, num_classes=settings.num_classes)
    size = settings.image_size or default_size(segmentation.CROP, samples.size)
    classes = chosen_classes(samples, settings.num_classes)
    transform = partial(segmentation.transformed, size=size, num_classes=classes)
    note = _size_words("Images and masks", size, samples)
    known: dict[str, Any] = {"num_classes": classes, "image_size": size, "void": VOID, "taken": {"image_size"}}
    return _loaded(settings, "segmentation", samples, transform, note=note, **known)


def _boxes(settings: Settings) -> OwnData:
    samples, _ = open_coco(settings.data, val=settings.val, num_classes=settings.num_classes)
    classes = chosen_classes(samples, settings.num_classes, detection.CLASSES)
    keys = ", ".join(samples.train[0][1])
    note = f"Batches are a list of images from 0 to 1 and a list of dictionaries with {keys}."
    known: dict[str, Any] = {"num_classes": classes, "taken": {"num_classes"}, "collate": listed}
    return _loaded(settings, "detection", samples, detection.as_tensors, note=note, **known)


def _loaded(
    settings: Settings,
    family: str,
    samples: Samples,
    transform: Callable[[Any], Any],
    *,
    note: str,
    taken: set[str],
    collate: Callable[[Any], Any] | None = None,
    **known: Any,
) -> OwnData:
    """Batches without augmentation of samples, as those of the family; ``known`` as in :class:`OwnData`."""
    samples = samples.with_val(settings.val, settings.seed)
    size = settings.batch_size or FAMILIES[family].batch_size
    if "image_size" in known:
        check_batch_memory(size, known["image_size"])
    loading = Loading(settings=settings, batch_size=size, transform=transform, collate=collate)
    train = loading.loader(samples.train, train=True)
    return OwnData(
        name=samples.name,
        train=train,
        val=loading.loader(samples.val, train=False),
        first=next(iter(train)),
        notes=(*samples.notes, note),
        taken={"batch_size", "workers", *taken},
        **known,
    )


def _size_words(what: str, size: int, samples: Samples) -> str:
    there = f"in the data about {samples.size}"
    return f"{what} at {size}x{size} pixels ({there}), with ImageNet's mean and standard deviation."


def _resized(image: Image.Image, *, size: int) -> Tensor:
    return normalised(F.pil_to_tensor(F.center_crop(F.resize(image, [size], antialias=True), [size])))
