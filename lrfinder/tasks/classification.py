"""Classification of images: any of torchvision's classification models, on images with one label each."""

from __future__ import annotations

from functools import partial
from typing import Any

from lrfinder.tasks import FAMILIES, Task
from lrfinder.tasks.assemble import Loading, assemble
from lrfinder.tasks.augment import refused
from lrfinder.tasks.augment_images import augment_images
from lrfinder.tasks.classification_models import build_classifier
from lrfinder.tasks.images import transformed
from lrfinder.tasks.reference import nearest_recipe
from lrfinder.tasks.samples import chosen_classes
from lrfinder.tasks.settings import Settings
from lrfinder.tasks.torchvision_data import open_images

__all__ = ["build"]


def build(settings: Settings, batch_size: int) -> Task:
    """A torchvision model for the classes of the data, with its loss and with loaders of transformed images.

    Data is ``"digits"``, ``"fake"``, a folder laid out as ``<class>/*.jpg`` or as ``train/<class>/*.jpg`` and
    ``val/<class>/*.jpg``, or samples. Random weights are drawn from torch's global generator: call
    ``torch.manual_seed`` before this to fix them.

    Args:
        settings: of the experiment; those that belong to the optimizer and to the sweep are not used.
        batch_size: images in a batch.

    Raises:
        ConfigError: an unknown model, data set or weights.
        SetupError: images that cannot be read, or model, weights and data that do not fit together.

    Example:
        >>> import torch
        >>> from lrfinder import LRFinder
        >>> from lrfinder.tasks.settings import Settings
        >>> _ = torch.manual_seed(0)
        >>> task = build(Settings(model="squeezenet1_1"), 8)
        >>> print(task.title)
        squeezenet1_1 on digits: 1,797 images, 10 classes
        >>> optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1, momentum=0.9)
        >>> finder = LRFinder(task.model, optimizer, task.criterion)
        >>> result = finder.range_test(task.train_loader, start_lr=1e-4, end_lr=1e-2, num_iter=4)
        >>> result.curve.stop.name
        'COMPLETED'
    """
    name, weights = FAMILIES["classification"].check_model(settings.model), settings.weights
    samples = open_images(settings).with_val(settings.val, settings.seed)
    outputs = chosen_classes(samples, settings.num_classes)
    known: dict[str, Any] = {"image_size": settings.image_size, "batch_size": batch_size}
    found = build_classifier(name, num_classes=outputs, needed_size=samples.size, weights=weights, **known)
    augmented = augment_images(nearest_recipe(name, weights), found.transform, found.image_size, outputs)
    loading = Loading(
        settings=settings,
        batch_size=batch_size,
        transform=partial(transformed, transform=found.transform, num_classes=outputs),
        augmentation=refused(settings) or augmented,
    )
    known = {"num_classes": outputs, "image_size": found.image_size, "notes": found.notes}
    return assemble(name, samples, found.model, loading, criterion=found.criterion, **known)
