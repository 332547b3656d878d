"""Detection: any of torchvision's models for boxes, with masks or keypoints where the model has them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
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
from lrfinder.tasks.samples import check_numbers, chosen_classes, listed

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


def build(
    model: str,
    data: str | Path = "fake",
    *,
    val: bool = False,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    batch_size: int = 2,
    workers: int = 0,
    pin_memory: bool = False,
    augment: str = "recipe",
    seed: int = 0,
) -> Task:
    """A torchvision detection model for the categories of the data, with its loss and loaders.

    As in torchvision's training, crowds, boxes without area and images without objects are left out. With weights,
    the first layers of the backbone are frozen, and BatchNorm keeps their statistics and factors
    (``FrozenBatchNorm2d``) in the models where torchvision has it so: those of the name ``_v2`` and SSDlite train it.
    Random weights are drawn from torch's global generator.

    Args:
        model: name of one of torchvision's detection models; upper or lower case.
        data: ``"fake"`` (noise with rectangles), a folder with COCO files and images, or a COCO file.
        val: build a validation loader too; where the data has no validation part, one image in five is held out.
        weights: a file of weights, or torchvision's name of some, such as ``"DEFAULT"`` (downloaded unless they are in
            its cache); None starts from random weights, those of the backbone included.
        num_classes: outputs of the model, with the background, >= 2; None takes the number of categories, and 1. Where
            it exceeds every category id, the ids are the labels, as with 91 for COCO itself.
        image_size: shorter side that the model resizes images to, >= 1; None takes the model's own, and the size of
            fake images for these. Models with one fixed size take no other.
        batch_size: images in a batch, >= 1.
        workers, pin_memory, augment, seed: as in :func:`lrfinder.tasks.classification.build`.

    Raises:
        ConfigError: an unknown model or weights, or a number out of its range.
        SetupError: annotations or images that cannot be used, or model, weights and data that do not fit together.

    Example:
        >>> task = build("ssdlite320_mobilenet_v3_large", batch_size=2)
        >>> print(task.title)
        ssdlite320_mobilenet_v3_large on fake: 1,000 images, 4 classes with the background
        >>> images, targets = next(iter(task.train_loader))
        >>> len(images), sorted(targets[0])
        (2, ['boxes', 'labels'])
        >>> bool(task.loss_fn(task.model, (images, targets)) > 0)
        True
    """
    name = FAMILIES["detection"].check_model(model)
    check_numbers(num_classes=num_classes, image_size=image_size, batch_size=batch_size, workers=workers, seed=seed)
    kinds = {"masks": name.startswith("maskrcnn"), "keypoints": name.startswith("keypointrcnn")}
    samples, keypoints = open_coco(str(data), val=val, num_classes=num_classes, **kinds)
    samples = samples.with_val(val, seed)
    classes = chosen_classes(samples.name, samples.num_classes, num_classes, CLASSES)
    if image_size is None and data == "fake" and weights is None and not name.startswith("ssd"):
        image_size = samples.size
    detector = build_detector(name, classes, len(keypoints), weights=weights, image_size=image_size)
    check_batch_memory(batch_size, detector.image_size)
    recipe = nearest_recipe(name, weights)
    policy = recipe.augment if recipe is not None and recipe.augment is not None else "hflip"
    loading = Loading(
        batch_size=batch_size,
        workers=workers,
        pin_memory=pin_memory,
        seed=seed,
        val=val,
        units="images",
        transform=as_tensors,
        collate=listed,
        augmentation=refused(augment, str(data)) or augment_boxes(policy, detector.image_size, keypoints),
    )
    known: dict[str, Any] = {"weights": weights, "num_classes": classes, "image_size": detector.image_size}
    known |= {"classes": CLASSES, "notes": detector.notes}
    return assemble(name, samples, detector.model, loading, loss_fn=DetectionLoss(), **known)


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
