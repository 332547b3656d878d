"""Semantic segmentation: any of torchvision's segmentation models, on images with one mask each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from lrfinder.errors import SetupError
from lrfinder.tasks import FAMILIES, Task
from lrfinder.tasks.assemble import Loading, assemble
from lrfinder.tasks.augment import Augmentation, refused
from lrfinder.tasks.augment_scenes import augment_masks
from lrfinder.tasks.colour import normalised
from lrfinder.tasks.forward import check_forward
from lrfinder.tasks.image_files import default_size
from lrfinder.tasks.masks import VOID, open_masks
from lrfinder.tasks.memory import check_batch_memory
from lrfinder.tasks.samples import chosen_classes
from lrfinder.tasks.settings import Settings
from lrfinder.tasks.weights import load_state, read_state

__all__ = ["CROP", "SegmentationLoss", "build", "build_segmenter", "transformed"]

# Sides of the crops, and shorter sides of the images before, in torchvision's references/segmentation/train.py.
CROP, _RESIZED = 480, 520
_AUX_WEIGHT = 0.5  # criterion() of the same program


class SegmentationLoss(nn.Module):
    """Cross-entropy of the output "out" without void pixels, plus half of that of "aux", where there is one.

    Args:
        auxiliary: whether the model has the output "aux".
    """

    ignore_index = VOID

    def __init__(self, *, auxiliary: bool) -> None:
        super().__init__()
        self.form = "segmentation, auxiliary" if auxiliary else "segmentation"

    @classmethod
    def of(cls, model: nn.Module) -> SegmentationLoss:
        """The loss of a model of torchvision."""
        return cls(auxiliary=getattr(model, "aux_classifier", None) is not None)

    def forward(self, output: dict[str, Tensor], target: Tensor) -> Tensor:
        # Of a batch that is all void, the mean would be nan.
        count = (target != VOID).sum().clamp(min=1)
        losses = {
            name: nn.functional.cross_entropy(each, target, ignore_index=VOID, reduction="sum") / count
            for name, each in output.items()
        }
        return losses["out"] + _AUX_WEIGHT * losses["aux"] if "aux" in losses else losses["out"]


def build(settings: Settings, batch_size: int) -> Task:
    """A torchvision segmentation model for the classes of the masks, with its loss and loaders.

    Data is ``"fake"`` (noise with rectangles), or a folder with ``images`` and ``masks``, or with both in ``train`` and
    ``val``; or a folder of images, with ``masks``: a folder with files of their names, gray or palette .png with a
    label in each pixel. The outputs are the largest label in the masks, and 1.

    As in torchvision's training, the shorter side of an image becomes 520 pixels, of which 480x480 in the middle are
    taken, and pixels of the label 255 do not count. Smaller images without weights are taken as they are.

    Args:
        settings, batch_size: as in :func:`lrfinder.tasks.classification.build`.

    Raises:
        ConfigError: an unknown model or weights.
        SetupError: images or masks that cannot be read, or model, weights and data that do not fit together.

    Example:
        >>> from lrfinder.tasks.settings import Settings
        >>> task = build(Settings(model="lraspp_mobilenet_v3_large", data="fake", image_size=32), 2)
        >>> print(task.title)
        lraspp_mobilenet_v3_large on fake: 1,000 images, 4 classes
        >>> images, masks = next(iter(task.train_loader))
        >>> images.shape, masks.shape
        (torch.Size([2, 3, 32, 32]), torch.Size([2, 32, 32]))
        >>> bool(task.criterion(task.model(images), masks) > 0)
        True
    """
    name, weights = FAMILIES["segmentation"].check_model(settings.model), settings.weights
    samples = open_masks(settings.data, settings.masks, val=settings.val, num_classes=settings.num_classes)
    samples = samples.with_val(settings.val, settings.seed)
    classes = chosen_classes(samples, settings.num_classes)
    size = settings.image_size or (CROP if weights is not None else default_size(CROP, samples.size))
    check_batch_memory(batch_size, size)
    network, model_notes = build_segmenter(name, classes, weights)
    words = {"inputs": f"images of {size}x{size} pixels", "remedy": f"Set another `image_size`; its own is {CROP}."}
    check_forward(name, network, (batch_size, 3, size, size), **words)
    change, steps = augment_masks(size, size * _RESIZED // CROP, VOID)
    augmented = Augmentation.of(partial(_augmented, change=change, num_classes=classes), *steps)
    loading = Loading(
        settings=settings,
        batch_size=batch_size,
        transform=partial(transformed, size=size, num_classes=classes),
        augmentation=refused(settings) or augmented,
    )
    known: dict[str, Any] = {"num_classes": classes, "image_size": size}
    notes = (f"Images at {size}x{size} pixels (in the data about {samples.size}).", *model_notes)
    return assemble(name, samples, network, loading, criterion=SegmentationLoss.of(network), notes=notes, **known)


def build_segmenter(name: str, num_classes: int, weights: str | Path | None) -> tuple[nn.Module, list[str]]:
    """The model in training mode, and notes on its weights; arguments as in :func:`build`."""
    state = None if weights is None else read_state(name, weights)
    arguments: dict[str, Any] = {"weights_backbone": None, "num_classes": num_classes}
    if not name.startswith("lraspp"):
        arguments["aux_loss"] = state is None or any(key.startswith("aux_classifier.") for key in state)
    network: nn.Module = models.get_model(name, weights=None, **arguments)
    notes = [] if state is None else load_state(network, state, num_classes, name=name, origin=str(weights))
    if arguments.get("aux_loss") is False:
        notes.append("Without the auxiliary classifier, which the weights lack.")
    return network.train(), notes


def _augmented(sample: tuple[Image.Image, np.ndarray], *, change: Any, num_classes: int) -> tuple[Tensor, Tensor]:
    pixels, mask = change(sample[0], _mask(sample[1], num_classes))
    return normalised(pixels), mask[0].long()


def transformed(sample: tuple[Image.Image, np.ndarray], *, size: int, num_classes: int) -> tuple[Tensor, Tensor]:
    """Image and mask with the shorter side resized and the middle taken, the image normalised as torchvision does."""
    image, mask = sample[0], _mask(sample[1], num_classes)
    shorter = size * _RESIZED // CROP if size == CROP else size
    image = F.center_crop(F.resize(image, [shorter], antialias=True), [size])
    mask = F.center_crop(F.resize(mask, [shorter], InterpolationMode.NEAREST), [size])
    return normalised(F.pil_to_tensor(image)), mask[0].long()


def _mask(labels: np.ndarray, num_classes: int) -> Tensor:
    """The labels with a dimension in front.

    Raises:
        SetupError: the model has no output for one.
    """
    highest = int(labels[labels != VOID].max(initial=0))
    if highest >= num_classes:
        raise SetupError(
            f"a mask has the label {highest}, but the model's {num_classes} classes are 0 to {num_classes - 1}. Set "
            f"`num_classes` to {highest + 1} or more, or mark pixels that do not count with {VOID}."
        )
    return torch.from_numpy(labels.astype(np.uint8))[None]
