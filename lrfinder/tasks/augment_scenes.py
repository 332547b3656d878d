"""Augmentation of images with masks, boxes and keypoints: torchvision's presets for segmentation and for detection.

References: references/segmentation/presets.py, references/detection/presets.py and references/detection/transforms.py
of pytorch/vision.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from lrfinder.tasks.augment import Augmentation

__all__ = ["augment_boxes", "augment_masks", "mirrored_order"]

Scene = tuple[Any, dict[str, Any]]

_MEAN = (123.0, 117.0, 104.0)  # colour of what lies outside the image
_FILL = {tv_tensors.Image: _MEAN, "others": 0}
# Sizes of the presets, which go with the shorter side of 800 pixels that the models resize to.
_SIDE, _LSJ, _LONGEST, _SIDES = 800, 1024, 1333, range(480, 801, 32)
_PERSON = "0 2 1 4 3 6 5 8 7 10 9 12 11 14 13 16 15"  # keypoints of COCO's persons, left and right exchanged
_SIDE_NAME = re.compile(r"(?<![a-z])(left|right|l|r)(?![a-z])", re.IGNORECASE)
_OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}
_NO_ORDER = "Not flipped: the annotations do not say which keypoints are left and which are right."


def augment_masks(size: int, shorter: int, void: int) -> tuple[Callable[[Image.Image, Tensor], Any], tuple[str, ...]]:
    """Of segmentation: a random size, a flip, and a random crop; what is outside the image is void.

    Args:
        size: of the crops, in pixels on a side.
        shorter: shorter side that goes with such crops; from half to twice of it is drawn.
        void: label of pixels that do not count.

    Returns:
        The transform of image and mask, and its steps.
    """
    low, high = shorter // 2, 2 * shorter
    fill = {tv_tensors.Image: 0, tv_tensors.Mask: void}
    crop = v2.RandomCrop(size, pad_if_needed=True, fill=fill)
    transform = v2.Compose([v2.RandomResize(low, high + 1), v2.RandomHorizontalFlip(), crop])
    steps = (f"shorter side of {low} to {high} pixels", "horizontal flip", "random crop")
    return partial(_masked, transform=transform), steps


def augment_boxes(policy: str, size: int, keypoints: Sequence[str] = ()) -> Augmentation:
    """Of detection: one of torchvision's policies.

    Args:
        policy: ``"hflip"``, ``"multiscale"``, ``"lsj"``, ``"ssd"`` or ``"ssdlite"``.
        size: shorter side that the model resizes images to; the sizes of a policy go with it.
        keypoints: names of those of an object, as in :func:`mirrored_order`; empty where there are none. They are
            flipped alone, so the policy is ``"hflip"``.
    """
    order = mirrored_order(keypoints)
    if order is None:
        return Augmentation(notes=(_NO_ORDER,))
    scale = size / _SIDE
    kept = v2.SanitizeBoundingBoxes()  # without the boxes that a crop has left no area
    iou_crop = [v2.RandomIoUCrop(), kept]
    policies: dict[str, tuple[list[Any], tuple[str, ...]]] = {
        "hflip": ([], ()),
        "multiscale": ([_resize_of(scale)], ("random size",)),
        "lsj": ([partial(_jittered, size=max(1, round(_LSJ * scale))), kept], ("large scale jitter",)),
        "ssd": (
            [v2.RandomPhotometricDistort(), v2.RandomZoomOut(_FILL), *iou_crop],
            ("photometric distortion", "zoom out", "IoU crop"),
        ),
        "ssdlite": (iou_crop, ("IoU crop",)),
    }
    parts, steps = policies[policy]
    return Augmentation.of(partial(_boxed, parts=tuple(parts), order=tuple(order)), *steps, "horizontal flip")


def mirrored_order(names: Sequence[str]) -> list[int] | None:
    """Places of the keypoints after a horizontal flip; None where left and right are not known.

    Args:
        names: of the keypoints, as in ``"left_eye"``; empty texts for unknown. Seventeen without names are those of
            persons in COCO.

    Example:
        >>> mirrored_order(["nose", "left_eye", "right_eye"]), mirrored_order(["", ""])
        ([0, 2, 1], None)
    """
    if not all(names):
        order = list(map(int, _PERSON.split()))
        return order if len(names) == len(order) else None
    low = [name.lower() for name in names]
    others = [_SIDE_NAME.sub(lambda found: _OTHER_SIDE[found[0]], name.replace("_", " ")) for name in low]
    places = {name.replace("_", " "): place for place, name in enumerate(low)}
    if len(places) < len(low) or any(other not in places for other in others):
        return None
    return [places[other] for other in others]


def _masked(image: Image.Image, mask: Tensor, *, transform: Any) -> tuple[Tensor, Tensor]:
    pixels, labels = transform(_pixels(image), tv_tensors.Mask(mask))
    return pixels.as_subclass(Tensor), labels.as_subclass(Tensor)


def _pixels(image: Image.Image) -> tv_tensors.Image:
    return tv_tensors.Image(v2.functional.pil_to_tensor(image))


def _boxed(
    sample: tuple[Image.Image, dict[str, Tensor]], *, parts: tuple[Any, ...], order: tuple[int, ...]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Image from 0 to 1 and target, transformed by the parts and flipped with a probability of a half."""
    image, target = sample
    boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=(image.height, image.width))
    scene: Scene = _pixels(image), {**target, "boxes": boxes}
    if "masks" in target:
        scene[1]["masks"] = tv_tensors.Mask(target["masks"])
    for part in parts:
        scene = part(*scene)
    if torch.rand(()) < 0.5:
        scene = _flipped(scene, list(order))
    pixels, found = scene
    target = {name: value.as_subclass(Tensor) for name, value in found.items()}
    return v2.functional.to_dtype(pixels, torch.float32, scale=True).as_subclass(Tensor), target


def _flipped(scene: Scene, order: list[int]) -> Scene:
    image, target = v2.RandomHorizontalFlip(1.0)(*scene)
    if "keypoints" in target:
        points = target["keypoints"][:, order]
        points[..., 0] = image.shape[-1] - points[..., 0]
        points[points[..., 2] == 0] = 0  # as COCO has those that are not labelled
        target["keypoints"] = points
    return image, target


def _jittered(image: Any, target: dict[str, Any], *, size: int) -> Scene:
    """Scaled to 0.1 to 2 of a square and cut or padded to it: v2.ScaleJitter, which fails below one pixel."""
    height, width = image.shape[-2:]
    ratio = min(size / height, size / width) * float(torch.empty(()).uniform_(0.1, 2.0))
    resize = v2.Resize([max(1, int(height * ratio)), max(1, int(width * ratio))])
    scene: Scene = v2.RandomCrop(size, pad_if_needed=True, fill=_FILL)(*resize(image, target))
    return scene


def _resize_of(scale: float) -> Any:
    sides = [max(1, round(side * scale)) for side in _SIDES]
    return v2.RandomShortestSize(sides, max_size=max(1, round(_LONGEST * scale)))
