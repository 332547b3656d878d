"""Image files: their content in colour, their sizes, and the size that a model takes them in."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from lrfinder.errors import LRFinderError, SetupError
from lrfinder.tasks.colour import in_colour

__all__ = ["default_size", "image_size_of", "opened_image", "probed", "read_image", "typical_size"]

T = TypeVar("T")

_STEP = 32  # total stride of nearly every network
_PROBED = 32  # images whose size is looked at, at least


def default_size(own: int, needed: int, least: int = 0) -> int:
    """Pixels on a side where the user chose none: the model's own, or less where the images are smaller.

    Args:
        own: size that the model was made for.
        needed: shorter side of a typical image.
        least: smallest size that the model takes.

    Example:
        >>> default_size(224, 500), default_size(224, 40)
        (224, 64)
    """
    return min(own, -(-max(needed, least) // _STEP) * _STEP)


def typical_size(paths: Sequence[str | Path]) -> int:
    """Median of the shorter sides of some of the images, in pixels.

    Raises:
        SetupError: one of them cannot be read.
    """
    return int(statistics.median(min(image_size_of(path)) for path in probed(paths)))


def probed(every: Sequence[T]) -> Sequence[T]:
    """Some of many, evenly, to look at before training."""
    return every[:: max(1, len(every) // _PROBED)]


def image_size_of(path: str | Path) -> tuple[int, int]:
    """Width and height of an image, from its header.

    Raises:
        SetupError: it cannot be read.
    """
    return opened_image(path, lambda file: (file.width, file.height))


def read_image(path: str | Path) -> Image.Image:
    """An image in colour.

    Raises:
        SetupError: it cannot be read.
    """
    return opened_image(path, in_colour)


def opened_image(path: str | Path, use: Callable[[Image.Image], T]) -> T:
    """What ``use`` makes of an image file.

    Raises:
        SetupError: the image cannot be read.
    """
    try:
        with Image.open(path) as file:
            return use(file)
    except LRFinderError:  # a ValueError too
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # by format
        reason = getattr(error, "strerror", None) or error
        reason = "not in a format that Pillow can read" if isinstance(error, UnidentifiedImageError) else reason
        raise SetupError(f"cannot read the image {path}: {reason}. Repair it or remove it from the folder.") from error
