"""Detection: any of torchvision's models for boxes, with masks or keypoints where the model has them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as F

from lrfinder.tasks import FAMILIES, Task
from lrfinder.tasks.assemble import Loading, assemble
from lrfinder.tasks.augment import refused
from lrfinder.tasks.augment_scenes import augment_boxes
from lrfinder.tasks.coco_folders import open_coco
from lrfinder.tasks.detection_models import build_detector
from lrfinder.tasks.memory import check_batch_memory
from lrfinder.tasks.reference import nearest_recipe
from lrfinder.tasks.samples import chosen_classes, listed
from lrfinder.tasks.settings import Settings

__all__ = ["CLASSES", "DetectionLoss", "as_tensors", "build"]

CLASSES = "classes with the background"
"""What the outputs of a model are called."""
_VALIDATION_SEED = 0  # of the proposals that a validation loss is computed on

_FROZEN = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


class DetectionLoss:
    """Sum of the losses that a detection model of torchvision computes in training mode.

    A model in eval mode computes detections instead. Its losses are then computed in training mode with the layers of
    normalisation and dropout in eval mode, on the same draw of proposals each time; the modes and the random state are
    restored.
    """

    form = "detection"

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        images, targets = batch
        if model.training:
            return _sum(model(images, targets))
        with _measuring(model, images[0].device):
            return _sum(model(images, targets))


def build(settings: Settings, batch_size: int) -> Task:
    """A torchvision detection model for the categories of the data, with its loss and loaders.

    Data is ``"fake"`` (noise with rectangles), a folder with COCO files and images, or a COCO file. As in torchvision's
    training, crowds, boxes without area and images without objects are left out. With weights, the first layers of the
    backbone are frozen, and BatchNorm keeps their statistics and factors (``FrozenBatchNorm2d``) in the models where
    torchvision has it so: those of the name ``_v2`` and SSDlite train it.

    The outputs are the categories and the background; where ``num_classes`` exceeds every category id, the ids are the
    labels, as with 91 for COCO itself. ``image_size`` is the shorter side that the model resizes images to, and the
    size of fake images for it; models with one fixed size take no other.

    Args:
        settings, batch_size: as in :func:`lrfinder.tasks.classification.build`.

    Raises:
        ConfigError: an unknown model or weights.
        SetupError: annotations or images that cannot be used, or model, weights and data that do not fit together.

    Example:
        >>> from lrfinder.tasks.settings import Settings
        >>> task = build(Settings(model="ssdlite320_mobilenet_v3_large", data="fake"), 2)
        >>> print(task.title)
        ssdlite320_mobilenet_v3_large on fake: 1,000 images, 4 classes with the background
        >>> images, targets = next(iter(task.train_loader))
        >>> len(images), sorted(targets[0])
        (2, ['boxes', 'labels'])
        >>> bool(task.loss_fn(task.model, (images, targets)) > 0)
        True
    """
    name, weights, image_size = FAMILIES["detection"].check_model(settings.model), settings.weights, settings.image_size
    kinds = {"masks": name.startswith("maskrcnn"), "keypoints": name.startswith("keypointrcnn")}
    samples, keypoints = open_coco(settings.data, val=settings.val, num_classes=settings.num_classes, **kinds)
    samples = samples.with_val(settings.val, settings.seed)
    classes = chosen_classes(samples, settings.num_classes, CLASSES)
    if image_size is None and settings.data == "fake" and weights is None and not name.startswith("ssd"):
        image_size = samples.size
    model, size, notes = build_detector(name, classes, len(keypoints), weights=weights, image_size=image_size)
    check_batch_memory(batch_size, size)
    recipe = nearest_recipe(name, weights)
    policy = recipe.augment if recipe is not None and recipe.augment is not None else "hflip"
    loading = Loading(
        settings=settings,
        batch_size=batch_size,
        transform=as_tensors,
        collate=listed,
        augmentation=refused(settings) or augment_boxes(policy, size, keypoints),
    )
    known: dict[str, Any] = {"num_classes": classes, "classes": CLASSES, "image_size": size, "notes": notes}
    return assemble(name, samples, model, loading, loss_fn=DetectionLoss(), **known)


def _sum(losses: Any) -> Tensor:
    return torch.stack([each.reshape(()) for each in losses.values()]).sum()


@contextlib.contextmanager
def _measuring(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Context in training mode with frozen statistics and one draw of random numbers, all restored on the way out."""
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(_VALIDATION_SEED)
        for module, _ in modes:
            module.training = not isinstance(module, _FROZEN)
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


def as_tensors(sample: tuple[Image.Image, dict[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
    """The image, from 0 to 1, and its target."""
    image, target = sample
    return F.convert_image_dtype(F.pil_to_tensor(image), torch.float), target
