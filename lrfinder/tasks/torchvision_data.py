"""Images with one label each, as the settings name them: a data set of torchvision, or other data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchvision import datasets

from lrfinder.errors import SetupError
from lrfinder.tasks.images import labelled_images, open_data
from lrfinder.tasks.names import check_name
from lrfinder.tasks.samples import Samples
from lrfinder.tasks.settings import Settings

__all__ = ["TORCHVISION", "open_images", "open_torchvision"]

# Arguments that select the training part of each data set and the part to validate on (None: there is only one part).
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


def open_images(settings: Settings) -> Samples:
    """The images of a data set of torchvision, of a folder, shipped, made up, or given as samples.

    Raises:
        LRFinderError: as :func:`open_torchvision` and :func:`lrfinder.tasks.images.open_data`.
    """
    if settings.dataset is not None:
        return open_torchvision(settings.dataset, settings.root, val=settings.val, download=settings.download)
    if isinstance(settings.data, Samples):
        return settings.data
    return open_data(settings.data, val=settings.val, num_classes=settings.num_classes)


def open_torchvision(name: str, root: str, *, val: bool = False, download: bool = False) -> Samples:
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
    name = check_name("dataset", name, TORCHVISION)
    train_part, val_part = TORCHVISION[name]
    train = _open_part(name, root, train_part, download)
    val_images = _open_part(name, root, val_part, download) if val and val_part is not None else None
    return labelled_images(name, train, _count_classes(train), val=val_images)


def _open_part(name: str, root: str, part: dict[str, Any], download: bool) -> Any:
    offers_download = name not in _NO_DOWNLOAD
    arguments = {**part, "download": download} if offers_download else part
    try:
        return getattr(datasets, name)(root, **arguments)
    # torchvision raises RuntimeError or FileNotFoundError for "not found", and URLError for "no network".
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        if download and offers_download:
            raise SetupError(f"cannot download {name} to {root}: {reason}.") from error
        remedy = (
            "Set `download` to fetch it there, or give its folder as `root`."
            if offers_download
            else f"It cannot be downloaded automatically: get its archives as torchvision.datasets.{name} describes."
        )
        raise SetupError(f"{name} is not in {root} ({reason}). {remedy}") from error
    except Exception as error:  # what a damaged file raises depends on where the damage is
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
        raise SetupError(f"cannot read {name} in {root}: {reason}. Remove its files and fetch them again.") from error


def _count_classes(source: Any) -> int:
    classes: Sequence[str] | None = getattr(source, "classes", None)
    if classes:
        return len(classes)
    for field in ("targets", "labels", "_labels", "_samples"):
        labels = getattr(source, field, None)
        if labels is not None:
            return 1 + max(int(each[1] if isinstance(each, tuple) else each) for each in labels)
    raise SetupError(
        f"cannot count the classes of {type(source).__name__} in this version of torchvision. Choose another data set."
    )
