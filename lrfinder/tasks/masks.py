"""Images with a mask each: a folder of images and a folder of masks, found by their names or given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks.fake import Scene, fake_scene, made_up
from lrfinder.tasks.folders import IMAGE_FOLDERS, TARGET_FOLDERS, class_folders, files_below, find_parts
from lrfinder.tasks.image_files import opened_image, read_image, typical_size
from lrfinder.tasks.samples import Mapped, Samples, folder_name, open_folder

__all__ = ["VOID", "has_masks", "open_masks", "read_mask"]

VOID = 255
"""Label of pixels that do not count."""

LAYOUT = "Expected PATH/images and PATH/masks, or these in PATH/train and PATH/val, with a .png mask for each image."

_FAKE_SIZE, _FAKE_CLASSES = 64, 4
_COUNTED = 1000  # masks in which the classes are counted
_ENDING = re.compile(
    r"(?:_gtfine|_gtcoarse)?[_-](?:masks?|seg|segmentation|labels?|label(?:train)?ids|gt|l)$|_leftimg8bit$",
    re.IGNORECASE,
)
_BINARY = {0, VOID}

Pair = tuple[str, str]  # paths of image and mask


def open_masks(data: str, masks: str | None = None, *, val: bool = False, num_classes: int | None = None) -> Samples:
    """Images with masks, from folders or made up.

    Args:
        data: ``"fake"``, or a folder with images and masks; the images alone with ``masks``.
        masks: folder of the masks; None looks for it in ``data`` by its name.
        val: open the validation part too, where there is one.
        num_classes: classes of fake data.

    Raises:
        ConfigError: masks for fake data.
        SetupError: folders or files are missing, or the masks hold no classes.
    """
    if data == "fake":
        if masks is not None:
            raise ConfigError("`masks` is of no use for fake data, which has its own. Leave it out, or give `data`.")
        classes = num_classes or _FAKE_CLASSES
        scenes = (made_up(fake_scene, size=_FAKE_SIZE, num_classes=classes, seed=seed) for seed in (0, 1))
        parts = [Mapped(each, _as_mask) for each in scenes]
        return Samples(name="fake", train=parts[0], val=parts[1], num_classes=classes, size=_FAKE_SIZE)
    folder = open_folder(data, "have no masks", LAYOUT)
    if not folder.is_dir():
        raise SetupError(f"`data` must be fake or a folder; {data!r} is a file. {LAYOUT}")
    train_folders, val_folders = _find(folder, masks)
    train, notes = _pairs(*train_folders)
    seen = _labels([mask for _, mask in train])
    binary = seen == _BINARY
    classes = 2 if binary else max(seen - {VOID}, default=0) + 1
    if binary:
        notes.append("The masks hold 0 and 255 alone: 255 counts as class 1, not as void.")
    elif classes < 2:
        alone = "the class 0" if 0 in seen else f"{VOID}, which is void,"
        raise SetupError(f"the masks in {train_folders[1]} hold {alone} alone; at least two classes are needed.")
    elif 2 * len(seen - {VOID}) < classes or classes == VOID:
        notes.append(
            f"The masks hold {len(seen - {VOID})} labels, from {min(seen)} to {classes - 1}, which takes {classes} "
            "outputs. If these are shades of gray, save the number of the class in each pixel instead."
        )
    if len(train) > _COUNTED:
        notes.append(f"Classes counted in {_COUNTED:,} of {len(train):,} masks.")
    read = partial(_read_pair, binary=binary)
    val_part = Mapped(_pairs(*val_folders)[0], read) if val and val_folders is not None else None
    return Samples(
        name=folder_name(folder),
        train=Mapped(train, read),
        val=val_part,
        num_classes=classes,
        size=typical_size([image for image, _ in train]),
        notes=tuple(notes),
    )


def has_masks(folder: Path) -> bool:
    """Whether a folder, or its part to train on, has folders whose names are those of images and of masks."""
    train = find_parts(folder)[0] if folder.is_dir() else folder
    return train.is_dir() and all(_child(train, names) is not None for names in (IMAGE_FOLDERS, TARGET_FOLDERS))


def _read_pair(paths: Pair, *, binary: bool) -> tuple[Image.Image, np.ndarray]:
    """An image in colour, and its mask as an array of labels, shape (height, width); of a binary one 255 is class 1."""
    image_path, mask_path = paths
    image, mask = read_image(image_path), read_mask(mask_path)
    if (image.height, image.width) != mask.shape:
        stored = " The image is read as it is stored, not turned as its EXIF data says."
        raise SetupError(
            f"{image_path} has {image.width}x{image.height} pixels, and its mask {mask_path} has "
            f"{mask.shape[1]}x{mask.shape[0]}. Both must have the same size.{stored * (image.size == mask.shape)}"
        )
    return image, np.minimum(mask, 1) if binary else mask


def read_mask(path: str) -> np.ndarray:
    """Labels of a mask, shape (height, width): indices of its palette, or its gray values.

    Raises:
        SetupError: it cannot be read, or is coloured, so that its labels are not known.
    """
    return opened_image(path, lambda file: _labels_of(file, path))


def _labels_of(image: Image.Image, path: str) -> np.ndarray:
    if image.mode in ("RGB", "RGBA", "LA"):
        values = np.asarray(image.convert("RGB"))
        if (values != values[..., :1]).any():
            raise SetupError(
                f"the mask {path} is coloured, so the classes of its colours are not known. Save it as a gray or "
                "palette .png with the number of the class in each pixel."
            )
        return values[..., 0]
    if image.mode in ("P", "L", "1"):
        return np.asarray(image).astype(np.uint8)
    values = np.asarray(image)
    # Any comparison with nan is false.
    if not (values.min() >= 0 and values.max() <= VOID and (values == np.rint(values)).all()):
        raise SetupError(
            f"the mask {path} holds values from {values.min():g} to {values.max():g}; labels are whole numbers from 0 "
            f"to {VOID - 1}, and {VOID} is void."
        )
    return values.astype(np.uint8)


def _as_mask(scene: Scene) -> tuple[Image.Image, np.ndarray]:
    mask = np.zeros((scene.image.height, scene.image.width), np.uint8)
    for (left, upper, right, lower), label in zip(scene.boxes, scene.labels, strict=True):
        mask[upper:lower, left:right] = label
    return scene.image, mask


def _find(folder: Path, masks: str | None) -> tuple[tuple[Path, Path], tuple[Path, Path] | None]:
    """Folders of images and masks, for training, and for validation where there are such."""
    if masks is None:
        train, val = find_parts(folder, LAYOUT)
        if train != folder:
            return _both(train), _both(val) if val is not None else None
        images, mask_folder = _both(folder)
    else:
        images, mask_folder = _child(folder, IMAGE_FOLDERS) or folder, Path(masks)
        if not mask_folder.is_dir():
            raise SetupError(f"`masks` must be a folder of masks; {masks!r} is none.")
    (image_train, image_val), (mask_train, mask_val) = (find_parts(each, LAYOUT) for each in (images, mask_folder))
    both = (image_val, mask_val) if image_val is not None and mask_val is not None else None
    return (image_train, mask_train), both


def _both(folder: Path) -> tuple[Path, Path]:
    images, masks = _child(folder, IMAGE_FOLDERS), _child(folder, TARGET_FOLDERS)
    if images is None or masks is None:
        missing = " and ".join(name for name, found in (("images", images), ("masks", masks)) if found is None)
        raise SetupError(f"{folder} has no folder of {missing}. {LAYOUT} Or give the folder of masks as `masks`.")
    return images, masks


def _child(folder: Path, names: Iterable[str]) -> Path | None:
    inside = {path.name.lower(): path for path in class_folders(folder)}
    return next((inside[name] for name in names if name in inside), None)


def _pairs(images: Path, masks: Path) -> tuple[list[Pair], list[str]]:
    """Images with the mask of the same name, sorted, and a note where some images have none."""
    paths = [path for path in sorted(files_below(images)) if masks.absolute() not in Path(path).absolute().parents]
    found = {_key(path, images): path for path in paths}
    by_key: dict[str, str] = {}
    masked = sorted(files_below(masks, (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".jpg", ".jpeg")))
    # Cityscapes may have the labels of the files and, beside them, those of the classes that are trained.
    for path in [each for each in masked if each.lower().endswith("_labeltrainids.png")] or masked:
        if by_key.setdefault(_key(path, masks), path) != path:
            raise SetupError(f"{by_key[_key(path, masks)]} and {path} are both masks of one image. Keep one of them.")
    pairs = [(path, by_key[key]) for key, path in found.items() if key in by_key]
    if not pairs:
        raise SetupError(
            f"no image in {images} has a mask of its name in {masks} ({len(found)} images, {len(by_key)} masks). "
            f"{LAYOUT}"
        )
    if lossy := [mask for _, mask in pairs if mask.lower().endswith((".jpg", ".jpeg"))]:
        raise SetupError(f"{lossy[0]} is a JPEG, which changes the labels of a mask. Save the masks as .png.")
    without = len(found) - len(pairs)
    return pairs, [f"{without:,} of {len(found):,} images have no mask and are left out."] if without else []


def _key(path: str, root: Path) -> str:
    """Path within the folder without the ending of the file, and of the name, that tell a mask."""
    return _ENDING.sub("", str(Path(path).relative_to(root).with_suffix("")))


def _labels(masks: Sequence[str]) -> set[int]:
    seen: set[int] = set()
    for path in masks[:: max(1, len(masks) // _COUNTED)]:
        seen.update(np.unique(read_mask(path)).tolist())
    return seen
