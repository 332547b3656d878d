"""COCO files and the folders of their images, found in the layouts that people use, or made up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lrfinder.checks import is_finite_number
from lrfinder.errors import SetupError
from lrfinder.tasks.coco import CocoFile, read_scene
from lrfinder.tasks.fake import Scene, fake_scene, made_up
from lrfinder.tasks.folders import class_folders
from lrfinder.tasks.image_files import image_size_of, probed, typical_size
from lrfinder.tasks.samples import Mapped, Samples, folder_name, open_folder

__all__ = ["has_coco", "open_coco"]

LAYOUT = (
    "Expected PATH/annotations/*train*.json with PATH/train*/*.jpg, or PATH/train/*.json beside the images, or a COCO "
    "file as PATH."
)

_ROUNDED = 1  # pixels that a box may reach beyond its image
_MOST_BEYOND = 0.25  # share of boxes that do so
_FAKE_SIZE, _FAKE_CLASSES, _FAKE_KEYPOINTS = 128, 4, 17
_PARTS = {"train": re.compile(r"train", re.IGNORECASE), "val": re.compile(r"val|dev", re.IGNORECASE)}
_TEST = re.compile(r"test", re.IGNORECASE)
_NO_OBJECTS = (".", "captions", "stuff", "panoptic")  # beginnings of other files


def open_coco(
    data: str,
    *,
    masks: bool | None = None,
    keypoints: bool | None = None,
    val: bool = False,
    num_classes: int | None = None,
) -> tuple[Samples, tuple[str, ...]]:
    """Images with targets, and the names of the keypoints of an object (empty where the model has none).

    Args:
        data: ``"fake"``, a folder or a COCO file.
        masks, keypoints: what the model is trained on besides boxes; None for what every object has.
        val: open the validation part too, where there is one.
        num_classes: of the model, with the background; where every category id is smaller, the ids are the labels.

    Raises:
        SetupError: files or images are missing, or the annotations cannot be used.
    """
    if data == "fake":
        return _fake(num_classes or (2 if keypoints else _FAKE_CLASSES), bool(masks), bool(keypoints))
    path = open_folder(data, "have no boxes", LAYOUT)
    needs = "segmentation" if masks else "keypoints" if keypoints else ""
    train, *others = (CocoFile(each, needs) for each in _find(path, bool(keypoints), val))
    labels = _labels(train, num_classes)
    given = {"masks": (masks, "segmentation"), "keypoints": (keypoints, "keypoints")}
    kinds: dict[str, Any] = {
        kind: all(each.all_have(name) for each in (train, *others)) if wanted is None else wanted
        for kind, (wanted, name) in given.items()
    }
    folder = _image_folder(train)
    read = partial(read_scene, labels=labels, **kinds)
    val_part = None
    for other in others:
        if unknown := sorted(set(other.category_ids) - set(labels)):
            raise SetupError(f"{other.path} has the category {unknown[0]}, which {train.path} has not.")
        val_part = Mapped(other.images, partial(read, file=other.path, folder=_image_folder(other)))
    samples = Samples(
        name=folder_name(path),
        train=Mapped(train.images, partial(read, file=train.path, folder=folder)),
        val=val_part,
        num_classes=max(labels.values()) + 1,
        size=typical_size([folder / row["file_name"] for row, _ in train.images]),
        notes=(*_image_notes(train, folder), *_notes(train, labels)),
    )
    return samples, train.keypoint_names if kinds["keypoints"] else ()


def _labels(file: CocoFile, num_classes: int | None) -> dict[int, int]:
    """Label of each category id, from 1: 0 is the background."""
    if num_classes is not None and 0 < min(file.category_ids) and max(file.category_ids) < num_classes:
        return {each: each for each in file.category_ids}
    return {each: label for label, each in enumerate(file.category_ids, start=1)}


def _image_notes(file: CocoFile, folder: Path) -> Iterator[str]:
    """Notes where some of the images show that the file was made for others, or by another convention."""
    seen = [(row, objects, image_size_of(folder / row["file_name"])) for row, objects in probed(file.images)]
    for row, _, size in seen:
        listed = (row.get("width"), row.get("height"))
        if all(is_finite_number(side) and side for side in listed) and listed != size:
            yield (
                f"{row['file_name']} has {size[0]}x{size[1]} pixels, and {listed[0]}x{listed[1]} in {file.path.name}, "
                "so its boxes may be misplaced. Images are read as they are stored, not turned as their EXIF data says."
            )
            return
    beyond = [_is_beyond(each["bbox"], size) for _, objects, size in seen for each in objects]
    if sum(beyond) > _MOST_BEYOND * len(beyond):
        yield (
            f"{sum(beyond):,} of {len(beyond):,} boxes looked at reach beyond their image and are cut at its edges. A "
            "bbox must be x, y, width and height in pixels, not two corners."
        )


def _is_beyond(box: list[float], size: tuple[int, int]) -> bool:
    return any(start + length > side + _ROUNDED for start, length, side in zip(box[:2], box[2:], size, strict=True))


def _notes(file: CocoFile, labels: dict[int, int]) -> Iterator[str]:
    without = file.listed - len(file.images)
    if without:
        yield f"{without:,} of {file.listed:,} images have no object to train on and are left out."
    if file.left_out:
        yield f"{sum(file.left_out.values()):,} annotations are left out: {file.reasons}."
    if any(each != label for each, label in labels.items()):
        yield f"The category ids are numbered anew, from 1 to {len(labels)}, in their order; 0 is the background."


def has_coco(path: Path) -> bool:
    """Whether a path is a JSON file, or a folder with one that lists images, as COCO files do and few others."""
    if not path.is_dir():
        return path.suffix.lower() == ".json" and path.is_file()
    return any(_lists_images(each) for each in _json_files(path))


def _lists_images(file: Path) -> bool:
    try:
        return b'"images"' in file.read_bytes()
    except OSError:  # reading it as a COCO file says why
        return True


def _json_files(folder: Path) -> list[Path]:
    """Files in a folder and in those inside it that may be COCO files of objects."""
    folders = [folder, *sorted(class_folders(folder))]
    files = [each for inside in folders for each in sorted(inside.glob("*.json"))]
    return [each for each in files if not each.name.startswith(_NO_OBJECTS)]


def _find(path: Path, keypoints: bool, val: bool) -> list[Path]:
    """COCO files for training, and for validation where there is one and it is wanted."""
    if path.is_file():
        return [path]
    files = _json_files(path)
    people = [each for each in files if each.name.startswith("person_keypoints")]
    others = [each for each in files if each not in people]
    files = people if people and (keypoints or not others) else others
    parts = {part: [each for each in files if name.search(_words(each, path))] for part, name in _PARTS.items()}
    train = parts["train"] or [
        each for each in files if each not in parts["val"] and not _TEST.search(_words(each, path))
    ]
    if len(train) != 1:
        names = ", ".join(_words(each, path) for each in (train or files)[:5])
        none = f"none, but for validation or test {names}" if names else "none"
        found = f"{len(train)} such files: {names}" if train else none
        raise SetupError(f"{path} must have one COCO file to train on; found {found}. {LAYOUT}")
    return [train[0], *(parts["val"][:1] if val else [])]


def _words(file: Path, root: Path) -> str:
    return str(file.relative_to(root))


def _image_folder(file: CocoFile) -> Path:
    """The folder that has the images of a file.

    Raises:
        SetupError: no folder near the file has all of them.
    """
    names = [row["file_name"] for row, _ in file.images]
    near = [file.path.parent, file.path.parent.parent]
    inside = [each for folder in near for each in sorted(class_folders(folder))]
    deeper = [each for folder in inside for each in sorted(class_folders(folder))]
    part = next((name for name in _PARTS.values() if name.search(file.path.name)), None)
    for folder in (*near, *sorted([*inside, *deeper], key=lambda each: not (part and part.search(each.name)))):
        if (folder / names[0]).is_file():
            missing = [name for name in names if not (folder / name).is_file()]
            if missing:
                raise SetupError(
                    f"{len(missing):,} of the {len(names):,} images in {file.path} are not in {folder}, such as "
                    f"{missing[0]}. Copy them there, or remove them from the file."
                )
            return folder
    raise SetupError(f"the image {names[0]} of {file.path} is in no folder near it. {LAYOUT}")


def _fake(num_classes: int, masks: bool, keypoints: bool) -> tuple[Samples, tuple[str, ...]]:
    scenes = (made_up(fake_scene, size=_FAKE_SIZE, num_classes=num_classes, seed=seed) for seed in (0, 1))
    train, val = (Mapped(each, partial(_target, masks=masks, keypoints=keypoints)) for each in scenes)
    samples = Samples(name="fake", train=train, val=val, num_classes=num_classes, size=_FAKE_SIZE)
    return samples, ("",) * _FAKE_KEYPOINTS if keypoints else ()


def _target(scene: Scene, masks: bool, keypoints: bool) -> tuple[Image.Image, dict[str, Tensor]]:
    """Target of a made-up scene; keypoints lie on the diagonals of the boxes."""
    boxes = torch.tensor(scene.boxes, dtype=torch.float32)
    target: dict[str, Any] = {"boxes": boxes, "labels": torch.tensor(scene.labels)}
    if masks:
        stack = np.zeros((len(boxes), scene.image.height, scene.image.width), np.uint8)
        for mask, (left, upper, right, lower) in zip(stack, scene.boxes, strict=True):
            mask[upper:lower, left:right] = 1
        target["masks"] = torch.from_numpy(stack)
    if keypoints:
        part = torch.linspace(0.05, 0.95, _FAKE_KEYPOINTS)[:, None]
        points = boxes[:, None, :2] * (1 - part) + boxes[:, None, 2:] * part
        target["keypoints"] = torch.cat([points, torch.full((len(boxes), _FAKE_KEYPOINTS, 1), 2.0)], dim=2)
    return scene.image, target
