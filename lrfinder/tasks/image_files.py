"""Image files: their content in colour, their size, and which of many are looked at before training."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from lrfinder.errors import LRFinderError, SetupError
from lrfinder.tasks.colour import in_colour

__all__ = ["image_size_of", "opened_image", "probed", "read_image", "typical_size"]

T = TypeVar("T")

_PROBED = 32  # images whose size is looked at, at least


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
