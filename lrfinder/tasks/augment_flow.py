"""Augmentation of pairs of images with the flow between them: torchvision's preset for optical flow.

Reference: references/optical_flow/presets.py and references/optical_flow/transforms.py of pytorch/vision, with the
values of references/optical_flow/train.py for FlyingChairs, on which training starts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

__all__ = ["FLOW_STEPS", "augment_flow"]

Pair = tuple[Tensor, Tensor, Tensor, Tensor]

FLOW_STEPS = (
    "colour jitter",
    "scale and stretch",
    "random crop",
    "horizontal and vertical flip",
    "erasing in the second image",
)
_JITTER: dict[str, Any] = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.5 / 3.14}
_UNLIKE, _RESIZED, _STRETCHED = 0.2, 0.8, 0.8  # probabilities
_SCALE, _STRETCH = (0.1, 1.0), (-0.2, 0.2)  # as powers of 2
_MARGIN = 8  # pixels that a resized image has more than a crop
_HORIZONTAL, _VERTICAL = 0.5, 0.1
_ERASED = 0.25  # the transform is drawn with 0.5, and then none or one part to erase
_KNOWN = 0.999  # of a pixel that is interpolated: all that it is made of must be known


def augment_flow(pair: Pair, size: tuple[int, int]) -> Pair:
    """Colours, size, place and direction of a pair at random.

    Args:
        pair: first and second image as bytes, shape (3, height, width), flow, shape (2, height, width), 0 where it is
            unknown, and where it is known, shape (height, width).
        size: height and width of the crop; not more than those of the images.

    Returns:
        The same as crops, the images from -1 to 1.
    """
    first, second, flow, valid = _resized(*_jittered(pair), size)
    down, across = (int(torch.randint(there - crop + 1, ())) for there, crop in zip(valid.shape, size, strict=True))
    rows, columns = slice(down, down + size[0]), slice(across, across + size[1])
    first, second, flow, valid = (each[..., rows, columns] for each in (first, second, flow, valid))
    for side, (probability, axis) in enumerate(((_HORIZONTAL, -1), (_VERTICAL, -2))):
        if _happens(probability):
            first, second, flow, valid = (each.flip(axis) for each in (first, second, flow, valid))
            flow[side] = -flow[side]
    first, second = (each.float() / 127.5 - 1 for each in (first, second))
    if _happens(_ERASED):
        second = v2.RandomErasing(1.0)(second)
    return first.contiguous(), second.contiguous(), flow.contiguous(), valid.contiguous()


def _jittered(pair: Pair) -> Pair:
    first, second, flow, valid = pair
    jitter = v2.ColorJitter(**_JITTER)
    if _happens(_UNLIKE):
        return jitter(first), jitter(second), flow, valid
    first, second = jitter(torch.stack([first, second]))
    return first, second, flow, valid


def _resized(first: Tensor, second: Tensor, flow: Tensor, valid: Tensor, size: tuple[int, int]) -> Pair:
    height, width = valid.shape
    least = max((size[0] + _MARGIN) / height, (size[1] + _MARGIN) / width)
    scale = _power(*_SCALE)
    stretched = _happens(_STRETCHED)
    down, across = (max(least, scale * (_power(*_STRETCH) if stretched else 1.0)) for _ in range(2))
    if not _happens(_RESIZED):
        return first, second, flow, valid
    new = [round(height * down), round(width * across)]
    first, second, flow = (v2.functional.resize(each, new) for each in (first, second, flow))
    known = v2.functional.resize(valid[None].float(), new)[0] > _KNOWN
    factors = torch.tensor([new[1] / width, new[0] / height])
    return first, second, torch.where(known, flow * factors[:, None, None], 0.0), known


def _happens(probability: float) -> bool:
    return bool(torch.rand(()) < probability)


def _power(low: float, high: float) -> float:
    return float(2 ** torch.empty(()).uniform_(low, high))
