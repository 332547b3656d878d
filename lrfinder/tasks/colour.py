"""Images of any mode in colour, at the range of brightness that they were saved with, and normalised for a model."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

__all__ = ["in_colour", "normalised"]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as in torchvision's presets


def in_colour(image: Image.Image) -> Image.Image:
    """The image in RGB.

    Pillow cuts brighter values than 255 off, so that most images of 16 bits would be white. Such an image is scaled:
    one of 16 bits from 0..65535; one of floats or of 32 bits from the least of 0..1 (floats alone), 0..255 and 0..65535
    that holds all its values. Transparency is dropped, as torchvision does.

    Raises:
        ValueError: a value that is negative, nan or above 65535.
    """
    if image.mode.startswith("I;16"):
        return _scaled(np.asarray(image), 65535)
    if image.mode in ("I", "F"):
        return _scaled(np.asarray(image), _top(image))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # else Pillow warns
    return image.convert("RGB")


def normalised(pixels: Tensor) -> Tensor:
    """Pixels of eight bits as floats, with ImageNet's mean and standard deviation."""
    normal: Tensor = F.normalize(F.convert_image_dtype(pixels, torch.float), mean=_MEAN, std=_STD)
    return normal


def _top(image: Image.Image) -> int:
    """The value of white."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 65535):
        raise ValueError(
            f"its values are from {low:g} to {high:g}, and what is black and what is white is not known; save it with "
            "values from 0 to 1, 255 or 65535"
        )
    if image.mode == "F" and high <= 1:
        return 1
    # A PNG of 16 bits has mode I in some versions of Pillow.
    return 255 if high <= 255 and image.format != "PNG" else 65535


def _scaled(values: np.ndarray, top: int) -> Image.Image:
    pixels = np.rint(values.astype(np.float64) * (255 / top)).astype(np.uint8)
    return Image.fromarray(pixels).convert("RGB")
