"""Folders of images: which parts and classes they have, and which of their contents are neither."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torchvision import datasets

from lrfinder.errors import SetupError

__all__ = ["IMAGE_FOLDERS", "LAYOUT", "TARGET_FOLDERS", "ClassFolders", "NoClassesError", "class_folders"]
__all__ += ["files_below", "find_parts", "is_visible"]

LAYOUT = "Expected PATH/<class>/*.jpg, or PATH/train/<class>/*.jpg and PATH/val/<class>/*.jpg."

# Names of parts, in lower case and in order of preference.
_TRAIN = ("train", "training")
_VAL = ("val", "valid", "validation", "dev")
_TEST = ("test", "testing")
_YEAR = re.compile(r"(?:19|20)\d\d$")  # as in train2017

# Written by notebooks, archivers, systems and lrfind itself, beside folders that begin with a dot.
_NO_CLASS = (
    "__macosx",
    "__pycache__",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "lrfind-out",
)

# Names of folders for segmentation and detection, in lower case and in order of preference.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit")
TARGET_FOLDERS = (
    "masks",
    "mask",
    "segmentationclass",
    "segmentation",
    "gt",
    "gtfine",
    "gtcoarse",
    "annotations",
    "annotation",
    "labels",
    "label",
    "bboxes",
    "bbox",
)


class NoClassesError(SetupError):
    """Data that are no folders of classes, or have none to train on."""


def find_parts(folder: Path, layout: str = LAYOUT) -> tuple[Path, Path | None]:
    """The folder of the training part, and that of the validation part or None. Case and a year do not matter.

    Where there are no parts, all of ``folder`` is for training. A test part is left alone.

    Raises:
        NoClassesError: the folder has parts for validation and test alone.
    """
    found = {_YEAR.sub("", path.name.lower()): path for path in sorted(class_folders(folder), reverse=True)}
    train = [found[name] for name in _TRAIN if name in found]
    val = [found[name] for name in _VAL if name in found]
    if train:
        return train[0], val[0] if val else None
    if found and set(found) <= {*_VAL, *_TEST}:
        names = ", ".join(sorted(path.name for path in found.values()))
        raise NoClassesError(f"{folder} has only {names}, and no part to train on. Rename it to train. {layout}")
    return folder, None


class ClassFolders(datasets.ImageFolder):  # type: ignore[misc]  # torchvision has no types
    """Images of a folder with one folder per class, in the order of torchvision's ``ImageFolder``.

    Hidden files and folders and those of the system are skipped, and so is a link to a folder that contains it.
    """

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """The classes, sorted, and the label of each.

        Raises:
            NoClassesError: none, or folders with images and their masks or labels.
        """
        classes = sorted(path.name for path in class_folders(Path(directory)))
        if not classes:
            raise NoClassesError(f"Couldn't find any class folder in {directory}. {LAYOUT}")
        lower = {name.lower() for name in classes}
        if lower <= {*IMAGE_FOLDERS, *TARGET_FOLDERS} and lower & {*TARGET_FOLDERS}:
            raise NoClassesError(
                f"{directory} has {' and '.join(classes)}, as data for segmentation or detection has; these are no "
                f"classes. {LAYOUT}"
            )
        return classes, {name: label for label, name in enumerate(classes)}

    @staticmethod
    def make_dataset(directory: str | Path, class_to_idx: dict[str, int] | None, *_: Any, **__: Any) -> Any:
        """Path and label of each image.

        Raises:
            NoClassesError: a class without an image, or a single class.
        """
        classes = class_to_idx or {}
        paths = {name: sorted(files_below(Path(directory) / name)) for name in classes}
        if empty := sorted(name for name, found in paths.items() if not found):
            raise NoClassesError(
                f"Found no valid file for the classes {', '.join(empty)} in {directory}; an image ends in "
                f"{', '.join(datasets.folder.IMG_EXTENSIONS)}. {LAYOUT}"
            )
        if len(classes) < 2:
            raise NoClassesError(
                f"{directory} has only the class {', '.join(classes)}; classification needs at least two classes. "
                f"{LAYOUT}"
            )
        return [(path, label) for name, label in classes.items() for path in paths[name]]


def class_folders(folder: Path) -> list[Path]:
    """Folders in a folder, without hidden ones, those of the system, and links to a folder that contains it."""
    above = _with_parents(folder)
    inside = [path for path in folder.iterdir() if path.is_dir() and is_visible(path.name)]
    return [path for path in inside if path.resolve() not in above]


def files_below(folder: Path, endings: tuple[str, ...] = datasets.folder.IMG_EXTENSIONS) -> Iterator[str]:
    """Paths of the files with these endings; each folder is visited once, whatever links lead to it."""
    seen = _with_parents(folder)
    for parent, folders, files in os.walk(folder, followlinks=True):
        inside = {name: Path(parent, name).resolve() for name in sorted(folders) if is_visible(name)}
        folders[:] = [name for name, path in inside.items() if path not in seen]
        seen |= set(inside.values())
        yield from (os.path.join(parent, name) for name in files if is_visible(name) and name.lower().endswith(endings))


def _with_parents(folder: Path) -> set[Path]:
    real = folder.resolve()
    return {real, *real.parents}


def is_visible(name: str) -> bool:
    """Whether a name is neither hidden nor the system's."""
    return not name.startswith(".") and name.lower() not in _NO_CLASS
