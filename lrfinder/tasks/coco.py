"""Images with boxes, masks and keypoints in a COCO file, as torchvision's training program reads them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lrfinder.checks import is_finite_number
from lrfinder.errors import SetupError
from lrfinder.tasks.coco_masks import mask_of
from lrfinder.tasks.image_files import read_image

__all__ = ["CocoFile", "read_scene"]

Row = tuple[dict[str, Any], list[dict[str, Any]]]  # entry of an image, and the objects on it

_CROWD = "marked as a crowd (iscrowd)"


class CocoFile:
    """Content of a COCO file, checked: images with the objects on them.

    Crowds, boxes without area and objects on images that are not listed are left out, and then images without objects.

    Args:
        path: of the file.
        needs: ``"segmentation"`` or ``"keypoints"`` where every object must have them; else "".

    Raises:
        SetupError: it cannot be read, is no COCO file, or has an object that cannot be used.
    """

    def __init__(self, path: Path, needs: str = "") -> None:
        self.path = path
        content = _content(path)
        self._needs = needs
        self._names = [each["keypoints"] for each in content["categories"] if each.get("keypoints")]
        self.category_ids = sorted({_field(path, "category", each, "id", int) for each in content["categories"]})
        images = _images(path, content)
        objects: dict[int, list[dict[str, Any]]] = {key: [] for key in images}
        self.left_out: Counter[str] = Counter()
        for each in content["annotations"]:
            place = _field(path, "annotation", each, "image_id", int)
            if place not in objects:
                self.left_out["on images that are not listed"] += 1
            elif each.get("iscrowd", 0):
                self.left_out[_CROWD] += 1
            elif self._has_area(each):
                objects[place].append(each)
            else:
                self.left_out["without area"] += 1
        self.listed = len(images)
        self.images: list[Row] = [(images[key], found) for key, found in objects.items() if found]
        if not self.images:
            crowds = " Where a crowd is one object, set iscrowd to 0." if self.left_out[_CROWD] else ""
            raise SetupError(f"{path} has no object to train on: {self.reasons or 'it has no annotations'}.{crowds}")

    @property
    def reasons(self) -> str:
        """Why annotations are left out, with the number of each; empty where none is."""
        return ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.left_out.items()))

    def _has_area(self, each: dict[str, Any]) -> bool:
        """Whether the box of an object has an area; the object is checked."""
        name = f"the annotation {each.get('id')} in {self.path}"
        box = each.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(is_finite_number(value) for value in box):
            raise SetupError(f"{name} needs a bbox of four finite numbers (x, y, width, height); got {box!r}.")
        if each.get("category_id") not in self.category_ids:
            raise SetupError(f"{name} has the category_id {each.get('category_id')!r}, which no category has.")
        if box[2] <= 0 or box[3] <= 0:
            return False
        if self._needs and not each.get(self._needs):
            raise SetupError(
                f"{name} has no {self._needs}, which this model is trained on. Choose a model for boxes alone, such as "
                "fasterrcnn_resnet50_fpn."
            )
        return True

    def all_have(self, name: str) -> bool:
        """Whether every object has ``"segmentation"``, or as many ``"keypoints"`` as the others."""
        values = [each.get(name) for _, found in self.images for each in found]
        lengths = {len(each) for each in values if isinstance(each, list)}
        return all(values) and (name != "keypoints" or len(lengths) == 1)

    @property
    def num_keypoints(self) -> int:
        """Keypoints of an object.

        Raises:
            SetupError: they are not three numbers each, or not the same number for every object.
        """
        every = [each["keypoints"] for _, found in self.images for each in found]
        if wrong := [each for each in every if not isinstance(each, list) or not all(map(is_finite_number, each))]:
            raise SetupError(f"the keypoints in {self.path} must be lists of finite numbers; got {str(wrong[0])[:60]}.")
        lengths = {len(each) for each in every}
        if len(lengths) > 1 or lengths.copy().pop() % 3:
            raise SetupError(
                f"every object in {self.path} must have the same keypoints, three numbers (x, y, visibility) each; the "
                f"lists have the lengths {', '.join(map(str, sorted(lengths)[:5]))}."
            )
        return lengths.pop() // 3

    @property
    def keypoint_names(self) -> tuple[str, ...]:
        """Name of each keypoint of an object; empty texts where the categories do not name them, or not alike.

        Raises:
            SetupError: as :attr:`num_keypoints`.
        """
        count = self.num_keypoints
        named = {tuple(map(str, names)) for names in self._names if isinstance(names, list)}
        return named.pop() if [len(names) for names in named] == [count] else ("",) * count


def read_scene(
    row: Row, *, file: Path, folder: Path, labels: dict[int, int], masks: bool, keypoints: bool
) -> tuple[Image.Image, dict[str, Tensor]]:
    """An image with its target, as torchvision's detection models take it.

    Args:
        row: one of :attr:`CocoFile.images`.
        file: of the annotations.
        folder: of the images.
        labels: label of each category id.
        masks, keypoints: whether the target has them.

    Raises:
        SetupError: image or segmentation cannot be read.
    """
    entry, objects = row
    image = read_image(folder / entry["file_name"])
    boxes = torch.tensor([each["bbox"] for each in objects], dtype=torch.float32)
    boxes[:, 2:] += boxes[:, :2]
    boxes[:, 0::2].clamp_(0, image.width)
    boxes[:, 1::2].clamp_(0, image.height)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    target = {"boxes": boxes, "labels": torch.tensor([labels[each["category_id"]] for each in objects])}
    if masks:
        target["masks"] = torch.from_numpy(np.stack([_mask(each, file, image) for each in objects]))
    if keypoints:
        points = torch.tensor([each["keypoints"] for each in objects], dtype=torch.float32)
        target["keypoints"] = points.reshape(len(objects), -1, 3)
    return image, {key: value[kept] for key, value in target.items()}


def _mask(each: dict[str, Any], file: Path, image: Image.Image) -> np.ndarray:
    try:
        return mask_of(each["segmentation"], image.height, image.width)
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise SetupError(
            f"the segmentation of the annotation {each.get('id')} in {file} cannot be read: "
            f"{str(error).rstrip('.')}. It must be polygons or run lengths."
        ) from error


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise SetupError(
            f"cannot read {path}: {reason}. Give a COCO file with images, annotations and categories."
        ) from error
    parts = ("images", "annotations", "categories")
    lists = isinstance(content, dict) and all(isinstance(content.get(part), list) for part in parts)
    if not lists or not all(isinstance(each, dict) for part in parts for each in content[part]):
        raise SetupError(f"{path} is no COCO file: it needs lists of images, annotations and categories.")
    return dict(content)


def _images(path: Path, content: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The images by their ids, with "/" in the names of their files."""
    images: dict[int, dict[str, Any]] = {}
    for each in content["images"]:
        name = _field(path, "image", each, "file_name", str)
        if "\0" in name:
            raise SetupError(f"the file_name {name!r} in {path} cannot be the name of a file.")
        each["file_name"] = name.replace("\\", "/")  # written on Windows
        other = images.setdefault(_field(path, "image", each, "id", int), each)["file_name"]
        if other != each["file_name"]:
            raise SetupError(f"{path} has two images with the id {each['id']}, {other} and {name}. Give each its own.")
    return images


def _field(path: Path, kind: str, row: dict[str, Any], name: str, type_: type) -> Any:
    value = row.get(name)
    if not isinstance(value, type_) or isinstance(value, bool):
        allowed = "a whole number" if type_ is int else "a text"
        raise SetupError(f"the {name} of each {kind} in {path} must be {allowed}; got {value!r}.")
    return value
