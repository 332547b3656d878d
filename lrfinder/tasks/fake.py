"""Made-up samples for any task: noise with rectangles whose brightness and colour tell their class.

Each sample is drawn from its own index, so that a data set of any length takes no memory and is always the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

__all__ = ["FakeClips", "FakePairs", "FakeScenes", "UNKNOWN_FLOW", "Scene"]

_LENGTH = 1000  # samples, as of torchvision's FakeData here
_MOST_OBJECTS = 3
UNKNOWN_FLOW = 1e10  # as in .flo files, where any value above 1e9 is unknown


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


class FakeScenes(Dataset[Any]):
    """Square images with one to three rectangles.

    Args:
        size: pixels on a side.
        num_classes: classes with the background.
        seed: the same index gives another scene with another seed.
    """

    def __init__(self, size: int, num_classes: int, seed: int = 0) -> None:
        self._size = size
        self._num_classes = num_classes
        self._seed = seed

    def __len__(self) -> int:
        return _LENGTH

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < _LENGTH:
            raise IndexError(index)
        random = np.random.default_rng((self._seed, index))
        pixels = random.integers(0, 96, (self._size, self._size, 3), dtype=np.uint8)
        boxes, labels = [], []
        for _ in range(random.integers(1, _MOST_OBJECTS + 1)):
            label = int(random.integers(1, self._num_classes))
            width, height = random.integers(self._size // 5, self._size // 2 + 1, 2)
            left, upper = random.integers(0, self._size - width), random.integers(0, self._size - height)
            pixels[upper : upper + height, left : left + width] = _colour(label, self._num_classes)
            boxes.append((int(left), int(upper), int(left + width), int(upper + height)))
            labels.append(label)
        return Scene(Image.fromarray(pixels), tuple(boxes), tuple(labels))


class FakeClips(Dataset[Any]):
    """Sequences of frames, each with its class: a rectangle moves in a direction that the class gives.

    Args:
        size: pixels on a side.
        num_classes: classes.
        frames: in a sequence.
    """

    def __init__(self, size: int, num_classes: int, frames: int) -> None:
        self._size = size
        self._num_classes = num_classes
        self._frames = frames

    def __len__(self) -> int:
        return _LENGTH

    def __getitem__(self, index: int) -> tuple[list[Image.Image], int]:
        if not 0 <= index < _LENGTH:
            raise IndexError(index)
        random = np.random.default_rng(index)
        label = index % self._num_classes
        angle = 2 * np.pi * label / self._num_classes
        start, side = random.uniform(0, self._size, 2), self._size // 4
        frames = []
        for step in range(self._frames):
            pixels = random.integers(0, 96, (self._size, self._size, 3), dtype=np.uint8)
            moved = start + step * self._size / 16 * np.array([np.cos(angle), np.sin(angle)])
            rows, columns = ((int(place) + np.arange(side)) % self._size for place in moved)
            pixels[np.ix_(rows, columns)] = 224
            frames.append(Image.fromarray(pixels))
        return frames, label


class FakePairs(Dataset[Any]):
    """Two images and the flow between them: the second is the first, moved as a whole.

    Args:
        size: pixels on a side.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return _LENGTH

    def __getitem__(self, index: int) -> tuple[Image.Image, Image.Image, np.ndarray]:
        if not 0 <= index < _LENGTH:
            raise IndexError(index)
        random = np.random.default_rng(index)
        across, down = (int(each) for each in random.integers(-8, 9, 2))
        coarse = random.integers(0, 256, (self._size // 8, self._size // 8, 3), dtype=np.uint8)
        first = np.asarray(Image.fromarray(coarse).resize((self._size, self._size), Image.Resampling.BILINEAR))
        second = np.roll(first, (down, across), (0, 1))
        flow = np.empty((2, self._size, self._size), np.float32)
        flow[0], flow[1] = across, down
        rows, columns = np.mgrid[: self._size, : self._size] + np.array([down, across])[:, None, None]
        outside = (rows < 0) | (rows >= self._size) | (columns < 0) | (columns >= self._size)
        flow[:, outside] = UNKNOWN_FLOW
        return Image.fromarray(first), Image.fromarray(second), flow


def _colour(label: int, num_classes: int) -> tuple[int, int, int]:
    shade = 128 + 127 * label // max(1, num_classes - 1)
    colours = ((shade, 32, 32), (32, shade, 32), (32, 32, shade))
    return colours[label % len(colours)]
