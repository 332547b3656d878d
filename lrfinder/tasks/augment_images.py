"""Augmentation of images with one label each, and of clips: torchvision's presets for classification and for video.

References: references/classification/presets.py and references/video_classification/presets.py of pytorch/vision,
class ClassificationPresetTrain and VideoClassificationPresetTrain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from lrfinder.tables.recipes import ReferenceRecipe
from lrfinder.tasks.augment import Augmentation
from lrfinder.tasks.images import transformed

__all__ = ["augment_clips", "augment_images"]

_POLICIES: dict[str, tuple[str, Any]] = {
    "imagenet": ("AutoAugment", v2.AutoAugment),
    "ra": ("RandAugment", v2.RandAugment),
    "ta_wide": ("TrivialAugment", v2.TrivialAugmentWide),
}
_LEFT_OUT = {"label_smoothing": "label smoothing", "mixup": "mixup", "cutmix": "cutmix"}


def augment_images(recipe: ReferenceRecipe | None, usual: Any, size: int, num_classes: int) -> Augmentation:
    """Of classification: a crop of random size, a flip, the recipe's policy, and erasing where the recipe has it.

    Label smoothing, mixup and cutmix change the loss, and not the images alone. They are left out, so that the losses
    of training, of validation and of the lines to paste are the same.

    Args:
        recipe: of the model; None for the crop and the flip alone, as torchvision's oldest recipes have them.
        usual: transform of validation, for its interpolation and normalisation.
        size: of the crops, in pixels on a side.
        num_classes: outputs of the model.
    """
    steps = ["crop of random size", "horizontal flip"]
    parts: list[Any] = [v2.RandomResizedCrop(size, interpolation=usual.interpolation), v2.RandomHorizontalFlip()]
    if recipe is not None and recipe.augment is not None:
        name, policy = _POLICIES[recipe.augment]
        steps.append(name)
        parts.append(policy(interpolation=usual.interpolation))
    parts += [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(usual.mean), list(usual.std))]
    if recipe is not None and recipe.random_erase is not None:
        steps.append(f"random erasing ({recipe.random_erase:g})")
        parts.append(v2.RandomErasing(recipe.random_erase))
    transform = partial(transformed, transform=v2.Compose(parts), num_classes=num_classes)
    return Augmentation.of(transform, *steps, but=_without(recipe))


def augment_clips(usual: Any, size: int) -> Augmentation:
    """Of video: a random place in the sequence, a resize, a flip and a random crop, the same for all frames of a clip.

    Args:
        usual: transform of validation, for its sizes and normalisation.
        size: of the crops, in pixels on a side.
    """
    resized = [math.ceil(side * size / usual.crop_size[0]) for side in usual.resize_size]
    resize = v2.Resize(resized, interpolation=usual.interpolation, antialias=True)
    random = v2.Compose([resize, v2.RandomCrop(size), v2.RandomHorizontalFlip()])
    normal = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(usual.mean), list(usual.std))])
    transform = partial(_clip, transform=v2.Compose([random, normal]))
    return Augmentation.of(transform, "random part of the sequence", "random crop", "horizontal flip")


def _without(recipe: ReferenceRecipe | None) -> str:
    found = {words: getattr(recipe, name) for name, words in _LEFT_OUT.items() if getattr(recipe, name, None)}
    if not found:
        return ""
    listed = ", ".join(f"{words} ({value:g})" for words, value in found.items())
    return f"Left out, as it would change the loss: {listed}."


def _clip(sample: tuple[Sequence[Image.Image], int], *, transform: Any) -> tuple[Tensor, int]:
    """A clip, shape (3, frames, size, size), and its label."""
    images, label = sample
    frames = torch.stack([v2.functional.pil_to_tensor(image) for image in images])
    clip: Tensor = transform(frames)
    return clip.transpose(0, 1), label
