"""Sequences of frames with one label each: class folders of folders of images, or made up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset

from lrfinder.errors import SetupError
from lrfinder.tasks.fake import fake_clip, made_up
from lrfinder.tasks.folders import class_folders, files_below, find_parts
from lrfinder.tasks.image_files import read_image, typical_size
from lrfinder.tasks.samples import Samples, folder_name, open_folder

__all__ = ["FrameFolders", "at_random", "open_frames"]

LAYOUT = (
    "Expected PATH/<class>/<sequence>/*.jpg, or these in PATH/train and PATH/val, with the frames of a sequence in the "
    "order of the numbers in their names."
)

_FAKE_SIZE, _FAKE_CLASSES = 32, 4
_ENCODED = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv", ".gif")


class FrameFolders(Dataset[Any]):
    """Clips from each sequence, each a list of images in colour with its label.

    Args:
        sequences: paths of the frames, in order, and the label.
        frames: in a clip; the frames of a shorter sequence are repeated evenly.
        random: whether a clip begins at a place that torch's global generator draws, and not in the middle.
    """

    def __init__(self, sequences: Sequence[tuple[list[str], int]], frames: int, *, random: bool = False) -> None:
        self.sequences = sequences
        self.frames = frames
        self._random = random

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> tuple[list[Image.Image], int]:
        paths, label = self.sequences[index]
        later = len(paths) - self.frames
        first = int(torch.randint(later + 1, ())) if self._random and later > 0 else None
        chosen = [paths[place] for place in clip_places(len(paths), self.frames, first)]
        images = [read_image(path) for path in chosen]
        for path, image in zip(chosen, images, strict=True):
            if image.size != images[0].size:
                raise SetupError(
                    f"{path} has {image.width}x{image.height} pixels, and {chosen[0]} has {images[0].width}x"
                    f"{images[0].height}. The frames of a sequence must have one size."
                )
        return images, label


def at_random(source: Any) -> Any:
    """The same sequences with clips from a random place in each; what is no sequence of files stays as it is."""
    if isinstance(source, Subset):
        return Subset(at_random(source.dataset), source.indices)
    return FrameFolders(source.sequences, source.frames, random=True) if isinstance(source, FrameFolders) else source


def clip_places(count: int, frames: int, first: int | None = None) -> list[int]:
    """Places of the frames of a clip in a sequence: from ``first`` or the middle of it, or all of it, repeated evenly.

    Example:
        >>> clip_places(7, 3), clip_places(2, 4)
        ([2, 3, 4], [0, 0, 1, 1])
    """
    if count >= frames:
        first = (count - frames) // 2 if first is None else first
        return list(range(first, first + frames))
    places: list[int] = (np.arange(frames) * count // frames).tolist()
    return places


def open_frames(data: str, frames: int, *, val: bool = False, num_classes: int | None = None) -> Samples:
    """Sequences of a folder, or made-up ones.

    Args:
        data: ``"fake"``, or a folder with a folder for each class, which has a folder of images for each sequence.
        frames: in a clip.
        val: open the validation part too, where there is one.
        num_classes: classes of fake data.

    Raises:
        SetupError: there is no such folder, or no sequences in it, or they are encoded.
    """
    if data == "fake":
        classes = num_classes or _FAKE_CLASSES
        train = made_up(fake_clip, size=_FAKE_SIZE, num_classes=classes, frames=frames)
        return Samples(name="fake", train=train, num_classes=classes, size=_FAKE_SIZE)
    folder = open_folder(data, "are no sequences", LAYOUT)
    if not folder.is_dir():
        raise SetupError(_encoded(folder) if folder.suffix.lower() in _ENCODED else f"{folder} is a file. {LAYOUT}")
    train_folder, val_folder = find_parts(folder, LAYOUT)
    names = _classes(train_folder)
    sequences = _sequences(train_folder, names)
    val_part = None
    if val and val_folder is not None:
        if odd := sorted(set(_classes(val_folder)) ^ set(names)):
            raise SetupError(
                f"{train_folder} and {val_folder} must have the same classes; only one of them has {', '.join(odd)}."
            )
        val_part = FrameFolders(_sequences(val_folder, names), frames)
    short = sum(len(paths) < frames for paths, _ in sequences)
    note = f"{short:,} of {len(sequences):,} sequences have fewer than {frames} frames, which are repeated."
    return Samples(
        name=folder_name(folder),
        train=FrameFolders(sequences, frames),
        val=val_part,
        num_classes=len(names),
        size=typical_size([paths[0] for paths, _ in sequences]),
        notes=(note,) if short else (),
    )


def _classes(folder: Path) -> list[str]:
    classes = sorted(path.name for path in class_folders(folder))
    if len(classes) < 2:
        if encoded := next(files_below(folder, _ENCODED), None):
            raise SetupError(_encoded(Path(encoded)))
        raise SetupError(f"{folder} has {len(classes)} class folders; at least two are needed. {LAYOUT}")
    return classes


def _sequences(folder: Path, classes: list[str]) -> list[tuple[list[str], int]]:
    found = []
    for label, name in enumerate(classes):
        sequences = [sorted(files_below(path), key=_by_numbers) for path in sorted(class_folders(folder / name))]
        sequences = [paths for paths in sequences if paths]
        if not sequences:
            if encoded := next(files_below(folder / name, _ENCODED), None):
                raise SetupError(_encoded(Path(encoded)))
            raise SetupError(f"the class {folder / name} has no folder with images. {LAYOUT}")
        found += [(paths, label) for paths in sequences]
    return found


def _by_numbers(path: str) -> list[str | int]:
    """Sorts frame9 before frame10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path)]


def _encoded(path: Path) -> str:
    return (
        f"{path} is encoded video, which torchvision no longer decodes. Write its frames as images, for example with "
        f"`ffmpeg -i VIDEO PATH/<class>/<sequence>/%05d.jpg`. {LAYOUT}"
    )
