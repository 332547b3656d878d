"""Made-up samples for any task: noise with rectangles whose brightness and colour tell their class.

Each sample is drawn from its own index, so that a data set of any length takes no memory and is always the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from lrfinder.tasks.samples import Mapped

__all__ = ["Scene", "fake_clip", "fake_pair", "fake_scene", "made_up"]

_LENGTH = 1000  # samples, as of torchvision's FakeData here
_MOST_OBJECTS = 3
_UNKNOWN_FLOW = 1e10  # as in .flo files, where any value above 1e9 is unknown


@dataclass(frozen=True)
class Scene:
    """An image with rectangles.

    Args:
        image: of three colours.
        boxes: left, upper, right and lower edge of each rectangle.
        labels: class of each, from 1.
    """

    image: Image.Image
    boxes: tuple[tuple[int, int, int, int], ...]
    labels: tuple[int, ...]


def made_up(make: Callable[..., Any], **options: Any) -> Mapped:
    """Samples that ``make`` gives of their index and the options."""
    return Mapped(range(_LENGTH), partial(make, **options))


def fake_scene(index: int, *, size: int, num_classes: int, seed: int) -> Scene:
    """A square image with one to three rectangles.

    Args:
        index: of the sample.
        size: pixels on a side.
        num_classes: classes with the background.
        seed: the same index gives another scene with another seed.
    """
    random = np.random.default_rng((seed, index))
    pixels = random.integers(0, 96, (size, size, 3), dtype=np.uint8)
    boxes, labels = [], []
    for _ in range(random.integers(1, _MOST_OBJECTS + 1)):
        label = int(random.integers(1, num_classes))
        width, height = random.integers(size // 5, size // 2 + 1, 2)
        left, upper = random.integers(0, size - width), random.integers(0, size - height)
        pixels[upper : upper + height, left : left + width] = _colour(label, num_classes)
        boxes.append((int(left), int(upper), int(left + width), int(upper + height)))
        labels.append(label)
    return Scene(Image.fromarray(pixels), tuple(boxes), tuple(labels))


def fake_clip(index: int, *, size: int, num_classes: int, frames: int) -> tuple[list[Image.Image], int]:
    """A sequence of frames with its class: a rectangle moves in a direction that the class gives.

    Args:
        index: of the sample.
        size: pixels on a side.
        num_classes: classes.
        frames: in a sequence.
    """
    random = np.random.default_rng(index)
    label = index % num_classes
    angle = 2 * np.pi * label / num_classes
    start, side = random.uniform(0, size, 2), size // 4
    images = []
    for step in range(frames):
        pixels = random.integers(0, 96, (size, size, 3), dtype=np.uint8)
        moved = start + step * size / 16 * np.array([np.cos(angle), np.sin(angle)])
        rows, columns = ((int(place) + np.arange(side)) % size for place in moved)
        pixels[np.ix_(rows, columns)] = 224
        images.append(Image.fromarray(pixels))
    return images, label


def fake_pair(index: int, *, size: int) -> tuple[Image.Image, Image.Image, np.ndarray]:
    """Two images and the flow between them: the second is the first, moved as a whole.

    Args:
        index: of the sample.
        size: pixels on a side.
    """
    random = np.random.default_rng(index)
    across, down = (int(each) for each in random.integers(-8, 9, 2))
    coarse = random.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    first = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BILINEAR))
    second = np.roll(first, (down, across), (0, 1))
    flow = np.empty((2, size, size), np.float32)
    flow[0], flow[1] = across, down
    rows, columns = np.mgrid[:size, :size] + np.array([down, across])[:, None, None]
    outside = (rows < 0) | (rows >= size) | (columns < 0) | (columns >= size)
    flow[:, outside] = _UNKNOWN_FLOW
    return Image.fromarray(first), Image.fromarray(second), flow


def _colour(label: int, num_classes: int) -> tuple[int, int, int]:
    shade = 128 + 127 * label // max(1, num_classes - 1)
    colours = ((shade, 32, 32), (32, shade, 32), (32, 32, shade))
    return colours[label % len(colours)]
