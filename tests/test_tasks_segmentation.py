"""Segmentation on folders of images and masks: layouts, kinds of masks, void pixels, the task, and what is refused."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small import build_task
from torch import nn

from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks.masks import open_masks, read_mask
from lrfinder.tasks.segmentation import SegmentationLoss

SMALL = "lraspp_mobilenet_v3_large"
LABELS = np.array([[0, 1, 2, 255]] * 40, np.uint8).repeat(10, axis=1)


def image(path: Path, size: tuple[int, int] = (40, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path: Path, labels: np.ndarray = LABELS, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels)
    if mode == "P":
        picture = picture.copy()
        picture.putpalette([each % 256 for each in range(0, 3 * 256 * 7, 7)][:768])
    picture.save(path)


def folder(root: Path, count: int = 5, images: str = "images", masks: str = "masks", **options: Any) -> Path:
    for i in range(count):
        image(root / images / f"{i}.jpg")
        mask(root / masks / f"{i}.png", **options)
    return root


def test_masks_below_the_images_are_no_images_however_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, masks="images/masks")
    monkeypatch.chdir(tmp_path)
    for masks in ("images/masks", str(tmp_path / "images" / "masks")):
        samples = open_masks("images", masks)
        assert len(samples.train) == 5 and samples.notes == ()


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_model_trains_and_validates_on_a_folder(tmp_path: Path, mode: str) -> None:
    task = build_task(SMALL, folder(tmp_path, 10, mode=mode), val=True, batch_size=2)
    assert task.title.endswith("8 images, 3 classes")
    assert task.facts["image_size"] == 64
    images, masks = next(iter(task.train_loader))
    assert (images.shape, masks.dtype, set(masks.unique().tolist())) == ((2, 3, 64, 64), torch.int64, {0, 1, 2, 255})
    assert task.criterion is not None
    task.criterion(task.model(images), masks).backward()
    assert all(parameter.grad is not None for parameter in task.model.parameters())
    assert len(task.val_loader) == 1


@pytest.mark.parametrize(
    "images, masks",
    [("images", "masks"), ("JPEGImages", "SegmentationClass"), ("train/images", "train/masks"), ("img", "labels")],
)
def test_folders_are_found_by_their_names(tmp_path: Path, images: str, masks: str) -> None:
    samples = open_masks(str(folder(tmp_path, images=images, masks=masks)))
    assert (len(samples.train), samples.num_classes, samples.size) == (5, 3, 40)


@pytest.mark.parametrize("order", ["{part}/{kind}", "{kind}/{part}"])
def test_parts_are_found_above_and_below(tmp_path: Path, order: str) -> None:
    for part, count in (("train", 3), ("validation", 2)):
        kinds = {kind: order.format(part=part, kind=kind) for kind in ("images", "masks")}
        folder(tmp_path, count, **kinds)
    samples = open_masks(str(tmp_path), val=True)
    assert (len(samples.train), len(samples.val)) == (3, 2)


def test_a_folder_of_masks_can_be_given(tmp_path: Path) -> None:
    folder(tmp_path, images="photos", masks="truth")
    assert len(open_masks(str(tmp_path / "photos"), str(tmp_path / "truth")).train) == 5


def test_endings_that_tell_a_mask_belong_to_no_name(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.jpg")
    mask(tmp_path / "masks" / "a_mask.png")
    assert len(open_masks(str(tmp_path)).train) == 1


def test_the_folders_of_cityscapes_are_images_and_masks(tmp_path: Path) -> None:
    for part, names in (("train", ("a_0", "a_1")), ("val", ("a_0",))):
        for name in names:
            image(tmp_path / "leftImg8bit" / part / "a" / f"{name}_leftImg8bit.png")
            for kind in ("color", "instanceIds", "labelIds", "labelTrainIds"):
                labels = LABELS if kind == "labelTrainIds" else np.full_like(LABELS, 33)
                mask(tmp_path / "gtFine" / part / "a" / f"{name}_gtFine_{kind}.png", labels)
    samples = open_masks(str(tmp_path), val=True)
    assert (len(samples.train), len(samples.val), samples.num_classes) == (2, 1, 3)
    for path in tmp_path.rglob("*labelTrainIds.png"):
        path.unlink()
    assert open_masks(str(tmp_path)).num_classes == 34


def test_images_without_a_mask_are_left_out_and_counted(tmp_path: Path) -> None:
    image(folder(tmp_path) / "images" / "alone.jpg")
    samples = open_masks(str(tmp_path))
    assert (len(samples.train), samples.notes) == (5, ("1 of 6 images have no mask and are left out.",))


@pytest.mark.parametrize("outputs", [None, 2, 21])
def test_masks_of_0_and_255_alone_have_two_classes(tmp_path: Path, outputs: int | None) -> None:
    labels = np.where(LABELS > 0, 255, 0).astype(np.uint8)
    samples = open_masks(str(folder(tmp_path, labels=labels)), num_classes=outputs)
    assert samples.num_classes == 2 and "255 counts as class 1" in samples.notes[0]
    assert np.unique(samples.train[0][1]).tolist() == [0, 1]


@pytest.mark.parametrize("values, noted", [((0, 128), True), (range(256), True), ((0, 1, 3), False), ((1, 2), False)])
def test_masks_of_shades_are_noted(tmp_path: Path, values: Any, noted: bool) -> None:
    labels = np.resize(np.array(list(values), np.uint8), LABELS.shape)
    notes = open_masks(str(folder(tmp_path, labels=labels))).notes
    assert ["shades of gray" in note for note in notes] == [True] * noted


def test_void_pixels_do_not_count_and_half_of_aux_does() -> None:
    out, target = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 2], [255, 255]]])
    plain = nn.functional.cross_entropy(out, target, ignore_index=255)
    assert torch.allclose(SegmentationLoss(auxiliary=False)({"out": out}, target), plain)
    assert torch.allclose(SegmentationLoss(auxiliary=True)({"out": out, "aux": out}, target), 1.5 * plain)
    assert SegmentationLoss(auxiliary=False)({"out": out}, torch.full((1, 2, 2), 255)) == 0


@given(st.lists(st.integers(0, 255), min_size=4, max_size=4), st.sampled_from(["L", "P", "RGB", "I;16"]))
def test_labels_are_read_from_masks_of_any_mode(values: list[int], mode: str) -> None:
    path = Path(tempfile.mkdtemp()) / "mask.png"
    labels = np.array(values, np.uint8).reshape(2, 2)
    kinds = {"RGB": labels[..., None].repeat(3, 2), "I;16": labels.astype(np.uint16)}
    try:
        mask(path, kinds.get(mode, labels), mode)
        assert read_mask(str(path)).tolist() == labels.tolist()
    finally:
        shutil.rmtree(path.parent)


# --- what is refused ------------------------------------------------------------------------------------------------


def coloured(root: Path) -> None:
    Image.new("RGB", (40, 40), (1, 2, 3)).save(folder(root) / "masks" / "0.png")


def as_jpeg(root: Path) -> None:
    Image.fromarray(LABELS).save(folder(root, masks="other") / "images" / "x.jpg")
    mask(root / "masks" / "0.jpg")


def smaller_mask(root: Path) -> None:
    mask(folder(root) / "masks" / "0.png", LABELS[:20])


def turned(root: Path) -> None:
    mask(folder(root, 1) / "masks" / "0.png", LABELS[:20])
    image(root / "images" / "0.jpg", (20, 40))


def one_class(root: Path) -> None:
    folder(root, labels=np.zeros_like(LABELS))


def twice(root: Path) -> None:
    mask(folder(root) / "masks" / "0_mask.png")


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda root: image(root / "images" / "a.jpg"), "has no folder of masks. Expected PATH/images and PATH/masks"),
        (lambda root: folder(root, images="img", masks="masks/deep"), "has a mask of its name"),
        (coloured, "0.png is coloured"),
        (as_jpeg, "is a JPEG, which changes the labels"),
        (smaller_mask, "has 40x40 pixels, and its mask .* has 40x20. Both must have the same size.$"),
        (turned, "has 20x40 pixels, and its mask .* has 40x20. .* The image is read as it is stored, not turned"),
        (one_class, "hold the class 0 alone"),
        (twice, "are both masks of one image"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(tmp_path: Path, make: Any, sentence: str) -> None:
    make(tmp_path)
    with pytest.raises(SetupError, match=sentence):
        list(open_masks(str(tmp_path)).train)


def test_digits_have_no_masks() -> None:
    with pytest.raises(SetupError, match="these have no masks. Give a folder, or fake."):
        build_task(SMALL, "digits")


def test_fewer_classes_than_the_masks_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 3 classes, labelled 0 to 2; a model of 2 has no output for the last"):
        build_task(SMALL, folder(tmp_path), num_classes=2, batch_size=2)


def test_a_batch_of_one_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="BatchNorm, which cannot train on single images"):
        build_task("deeplabv3_mobilenet_v3_large", folder(tmp_path), batch_size=1)


# --- weights --------------------------------------------------------------------------------------------------------


def test_weights_for_other_classes_get_a_new_head(tmp_path: Path) -> None:
    other = build_task(SMALL, "fake", num_classes=7, batch_size=2, image_size=32).model
    torch.save(other.state_dict(), tmp_path / "w.pth")
    task = build_task(SMALL, "fake", weights=tmp_path / "w.pth", batch_size=2, image_size=32)
    assert task.notes[1].endswith("w.pth has 7 classes, not 4.")
    assert torch.equal(next(task.model.parameters()), next(other.parameters()))
