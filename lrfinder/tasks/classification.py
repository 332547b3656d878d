"""Classification of images: any of torchvision's classification models, on images with one label each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from lrfinder.tasks import FAMILIES, Task
from lrfinder.tasks.assemble import Loading, assemble
from lrfinder.tasks.augment import refused
from lrfinder.tasks.augment_images import augment_images
from lrfinder.tasks.classification_models import build_classifier
from lrfinder.tasks.images import open_data, transformed
from lrfinder.tasks.reference import nearest_recipe
from lrfinder.tasks.samples import Samples, check_numbers, chosen_classes
from lrfinder.tasks.torchvision_data import open_torchvision

__all__ = ["build"]


def build(
    model: str,
    data: str | Path | Samples = "digits",
    *,
    dataset: str | None = None,
    root: str | Path = "data",
    download: bool = False,
    val: bool = False,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    batch_size: int = 64,
    workers: int = 0,
    pin_memory: bool = False,
    augment: str = "recipe",
    seed: int = 0,
) -> Task:
    """A torchvision model for the classes of the data, with its loss and with loaders of transformed images.

    Random weights are drawn from torch's global generator: call ``torch.manual_seed`` before this to fix them.

    Args:
        model: name of one of torchvision's classification models; upper or lower case.
        data: ``"digits"`` (1,797 images shipped with the package), ``"fake"`` (noise), a folder laid out as
            ``<class>/*.jpg`` or as ``train/<class>/*.jpg`` and ``val/<class>/*.jpg``, or images of your own, as
            :func:`lrfinder.tasks.images.labelled_images` makes them into samples.
        dataset: name of one of torchvision's data sets, to use instead of ``data``.
        root: folder that holds ``dataset``.
        download: fetch ``dataset`` to ``root`` if it is not there.
        val: build a validation loader too; where the data has no validation part, one training image in five is held
            out for it.
        weights: a file of weights, or torchvision's name of some, such as ``"DEFAULT"`` (downloaded unless they are in
            its cache); None starts from random weights.
        num_classes: outputs of the model, >= 2; None takes the number of classes in the data.
        image_size: pixels on a side, >= 1; None takes the model's own, or less where the images are smaller and there
            are no weights.
        batch_size: images in a batch, >= 1.
        workers: processes that load images, 0 to 256.
        pin_memory: load into pinned memory, for faster copies to a GPU.
        augment: ``"recipe"`` changes training images at random as torchvision's training program does, with the policy
            of the model's recipe; ``"none"`` trains on them as they are validated. The digits, fake data and
            torchvision's data sets of characters and signs are never changed.
        seed: of the order of the batches, of the images held out and of what augmentation draws; 0 to 2**64 - 1.

    Raises:
        ConfigError: an unknown model, data set or weights, or a number out of its range.
        SetupError: images that cannot be read, or model, weights and data that do not fit together.

    Example:
        >>> import torch
        >>> from lrfinder import LRFinder
        >>> from lrfinder.tasks import classification
        >>> _ = torch.manual_seed(0)
        >>> task = classification.build("squeezenet1_1", data="digits", batch_size=8)
        >>> print(task.title)
        squeezenet1_1 on digits: 1,797 images, 10 classes
        >>> optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1, momentum=0.9)
        >>> finder = LRFinder(task.model, optimizer, task.criterion)
        >>> result = finder.range_test(task.train_loader, start_lr=1e-4, end_lr=1e-2, num_iter=4)
        >>> result.curve.stop.name
        'COMPLETED'
    """
    name = FAMILIES["classification"].check_model(model)
    check_numbers(num_classes=num_classes, image_size=image_size, batch_size=batch_size, workers=workers, seed=seed)
    samples = _open(data, dataset, root=root, download=download, val=val, num_classes=num_classes).with_val(val, seed)
    outputs = chosen_classes(samples.name, samples.num_classes, num_classes)
    known: dict[str, Any] = {"weights": weights, "num_classes": outputs}
    found = build_classifier(name, needed_size=samples.size, image_size=image_size, batch_size=batch_size, **known)
    augmented = augment_images(nearest_recipe(name, weights), found.transform, found.image_size, outputs)
    loading = Loading(
        batch_size=batch_size,
        workers=workers,
        pin_memory=pin_memory,
        seed=seed,
        val=val,
        units="images",
        transform=partial(transformed, transform=found.transform, num_classes=outputs),
        augmentation=refused(augment, data, dataset) or augmented,
    )
    known |= {"image_size": found.image_size, "notes": found.notes}
    return assemble(name, samples, found.model, loading, criterion=found.criterion, **known)


def _open(
    data: str | Path | Samples,
    dataset: str | None,
    *,
    root: str | Path,
    download: bool,
    val: bool,
    num_classes: int | None,
) -> Samples:
    if dataset is not None:
        return open_torchvision(dataset, str(root), val=val, download=download)
    if isinstance(data, Samples):
        return data
    return open_data(str(data), val=val, num_classes=num_classes)
