"""Images to train on: digits, folders, torchvision's data sets, noise; and which of them are rejected."""

from __future__ import annotations

import struct
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms.functional import to_tensor

from lrfinder.errors import ConfigError, SetupError
from lrfinder.tasks.assemble import build_loader
from lrfinder.tasks.images import labelled_images, open_data, transformed
from lrfinder.tasks.samples import Mapped, parted
from lrfinder.tasks.settings import Settings
from lrfinder.tasks.torchvision_data import TORCHVISION, open_torchvision


def save_images(folder: Path, *, classes: tuple[str, ...] = ("cat", "dog"), count: int = 6, size: int = 40) -> Path:
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (size, size), (12 * i, 0, 200 * label)).save(folder / name / f"{i}.png")
    return folder


def load(source: Any, batch_size: int = 4, *, seed: int = 0, train: bool = True) -> Any:
    samples = Mapped(source, partial(transformed, transform=to_tensor, num_classes=10))
    return build_loader(samples, Settings(model="any", seed=seed), batch_size, train=train)


def write_mnist(root: Path, labels: list[int]) -> None:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        images = struct.pack(">4i", 0x803, len(labels), 28, 28) + bytes(28 * 28 * len(labels))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, len(labels)) + bytes(labels))


def test_the_digits_are_the_1797_of_the_uci() -> None:
    data = open_data("digits")
    labels = Counter(data.train[i][1] for i in range(len(data.train)))
    assert [labels[i] for i in range(10)] == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (data.num_classes, data.size, data.val) == (10, 8, None)


def test_the_first_digit_is_a_zero_in_full_range() -> None:
    image, label = open_data("digits").train[0]
    pixels = np.asarray(image)
    assert (image.mode, image.size, label) == ("L", (8, 8), 0)
    assert pixels[0].tolist() == [0, 0, 79, 207, 143, 15, 0, 0]  # ink 0 0 5 13 9 1 0 0, of 16


def test_fake_data_has_the_requested_classes_and_is_the_same_each_time() -> None:
    first, second = open_data("fake", num_classes=3), open_data("fake", num_classes=3)
    assert first.num_classes == 3
    assert open_data("fake").num_classes == 10
    assert {first.train[i][1] for i in range(50)} == {0, 1, 2}
    assert first.train[7][0].tobytes() == second.train[7][0].tobytes()


def test_a_folder_of_class_folders_has_no_validation_part(tmp_path: Path) -> None:
    data = open_data(str(save_images(tmp_path / "pets")), val=True)
    assert (data.name, len(data.train), data.val, data.num_classes, data.size) == ("pets", 12, None, 2, 40)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_train_and_val_folders_are_both_found(tmp_path: Path, name: str) -> None:
    save_images(tmp_path / "train")
    save_images(tmp_path / name, count=2)
    data = open_data(str(tmp_path), val=True)
    assert (len(data.train), len(data.val)) == (12, 4)
    assert open_data(str(tmp_path)).val is None


def test_a_train_folder_alone_is_enough(tmp_path: Path) -> None:
    save_images(tmp_path / "train")
    assert open_data(str(tmp_path), val=True).val is None


@pytest.mark.parametrize(
    "train, val", [("Train", "Val"), ("training", "validation"), ("TRAIN", "Valid"), ("Training", "Dev")]
)
def test_parts_are_found_in_any_spelling(tmp_path: Path, train: str, val: str) -> None:
    save_images(tmp_path / train)
    save_images(tmp_path / val, count=2)
    save_images(tmp_path / "Test", count=1)
    data = open_data(str(tmp_path), val=True)
    assert (len(data.train), len(data.val), data.num_classes) == (12, 4, 2)


@pytest.mark.parametrize("parts", [("Val", "Test"), ("test",), ("valid", "TEST")])
def test_parts_without_one_to_train_on_are_no_classes(tmp_path: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        save_images(tmp_path / part)
    with pytest.raises(SetupError, match="no part to train on. Rename it to train. Expected PATH"):
        open_data(str(tmp_path))


@pytest.mark.parametrize("names", [("images", "masks"), ("Images", "Labels"), ("JPEGImages", "Annotations")])
@pytest.mark.parametrize("below", [".", "train"])
def test_images_with_masks_are_refused_with_the_reason(tmp_path: Path, names: tuple[str, ...], below: str) -> None:
    save_images(tmp_path / below, classes=names)
    with pytest.raises(SetupError, match="segmentation or detection has; these are no classes. Expected PATH"):
        open_data(str(tmp_path))


def test_a_class_may_have_a_name_like_that(tmp_path: Path) -> None:
    assert open_data(str(save_images(tmp_path, classes=("masks", "gloves")))).train.classes == ["gloves", "masks"]


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX", ".git", "__pycache__", "@eaDir"])
def test_folders_of_the_system_are_no_classes(tmp_path: Path, name: str) -> None:
    save_images(tmp_path, classes=("cat", "dog", name))
    save_images(tmp_path / "cat", classes=(name,))
    (tmp_path / "cat" / "._0.png").write_bytes(b"not an image")
    data = open_data(str(tmp_path))
    assert (data.train.classes, len(data.train)) == (["cat", "dog"], 12)


@pytest.mark.parametrize("link, target", [("all", "."), ("cat/up", ".."), ("cat/self", "."), ("all", "..")])
def test_a_link_to_a_folder_above_adds_no_images(tmp_path: Path, link: str, target: str) -> None:
    root = save_images(tmp_path / "pets")
    (root / link).symlink_to(target, target_is_directory=True)
    data = open_data(str(root))
    assert (data.train.classes, len(data.train)) == (["cat", "dog"], 12)


def test_links_to_folders_elsewhere_are_followed(tmp_path: Path) -> None:
    save_images(tmp_path / "store")
    (tmp_path / "pets").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).symlink_to(tmp_path / "store" / name, target_is_directory=True)
    assert len(open_data(str(tmp_path / "pets")).train) == 12


def test_images_are_in_the_order_of_torchvision(tmp_path: Path) -> None:
    save_images(tmp_path, count=12)
    save_images(tmp_path / "cat", classes=("inner",), count=2)
    assert sorted(open_data(str(tmp_path)).train.samples) == sorted(datasets.ImageFolder(str(tmp_path)).samples)


# --- modes of images --------------------------------------------------------------------------------------------------


RAMP = np.linspace(0, 1, 64).reshape(8, 8)


@pytest.mark.parametrize(
    "name, values",
    [
        ("x.png", (RAMP * 65535).astype(np.uint16)),
        ("x.tif", (RAMP * 65535).astype(np.uint16)),
        ("x.tif", RAMP.astype(np.float32)),
        ("y.tif", (RAMP * 255).astype(np.float32)),
        ("y.tif", (RAMP * 65535).astype(np.float32)),
        ("y.tif", (RAMP * 65535).astype(np.int32)),
        ("y.tif", (RAMP * 255).astype(np.int32)),
        ("x.png", (RAMP * 255).astype(np.uint8)),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
def test_a_grey_image_is_read_at_its_range(tmp_path: Path, name: str, values: Any) -> None:
    save_images(tmp_path)
    Image.fromarray(values).save(tmp_path / "cat" / name)
    data = open_data(str(tmp_path))
    image = next(image for image, _ in data.train if image.size == (8, 8))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image)[..., 0] - 255 * RAMP).max() <= 1


@pytest.mark.parametrize("bad", [float("nan"), -3.0, 1e9])
def test_floats_without_a_known_range_are_refused(tmp_path: Path, bad: float) -> None:
    save_images(tmp_path)
    Image.fromarray(np.where(RAMP < 0.5, RAMP, bad).astype(np.float32)).save(tmp_path / "cat" / "x.tif")
    with pytest.raises(SetupError, match="x.tif: its values are from .* with values from 0 to 1, 255 or 65535. Repair"):
        for _ in open_data(str(tmp_path)).train:
            pass


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_an_image_of_any_mode_keeps_its_brightness(mode: str) -> None:
    white, black = (Image.new("RGB", (2, 2), colour).convert(mode) for colour in ("white", "black"))
    images = [transformed((image, 0), transform=to_tensor, num_classes=2)[0] for image in (white, black)]
    assert [float(image.mean()) for image in images] == [1.0, 0.0]


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    Image.new("P", (4, 4), 1).save(tmp_path / "x.png", transparency=bytes([0, 255]))
    with Image.open(tmp_path / "x.png") as image:
        assert transformed((image, 0), transform=to_tensor, num_classes=2)[0].shape == (3, 4, 4)


def test_the_image_size_is_the_median_of_the_shorter_sides(tmp_path: Path) -> None:
    save_images(tmp_path, size=100)
    Image.new("RGB", (9, 5000)).save(tmp_path / "cat" / "odd.png")
    assert open_data(str(tmp_path)).size == 100


def test_a_path_that_is_no_folder_of_images_is_rejected_with_the_layout(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare" / "cat").mkdir(parents=True)
    for name, reason in [
        ("nowhere", "does not exist"),
        ("file.txt", "is a file"),
        ("empty", "Couldn't find any class folder"),
        ("bare", "no valid file for the classes cat"),
    ]:
        with pytest.raises(SetupError, match=rf"{reason}.*Expected PATH/<class>/\*.jpg"):
            open_data(str(tmp_path / name))


def test_one_class_is_rejected_and_two_are_enough(tmp_path: Path) -> None:
    save_images(tmp_path, classes=("cat",))
    with pytest.raises(SetupError, match="only the class cat; classification needs at least two classes"):
        open_data(str(tmp_path))
    save_images(tmp_path, classes=("dog",))
    assert open_data(str(tmp_path)).num_classes == 2


def test_train_and_val_with_different_classes_are_rejected(tmp_path: Path) -> None:
    save_images(tmp_path / "train")
    save_images(tmp_path / "val", classes=("cat", "cow"))
    with pytest.raises(SetupError, match="only one of them has cow, dog"):
        open_data(str(tmp_path), val=True)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n half"])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes) -> None:
    save_images(tmp_path)
    bad = tmp_path / "dog" / "broken.png"
    bad.write_bytes(content)
    with pytest.raises(SetupError, match=f"cannot read the image {bad}: "):
        for _ in load(open_data(str(tmp_path)).train):
            pass


def test_grey_images_become_colour_images() -> None:
    images, labels = next(iter(load(open_data("digits").train)))
    assert images.shape == (4, 3, 8, 8)
    assert torch.equal(images[:, 0], images[:, 2])
    assert labels.dtype == torch.int64


def test_a_label_that_the_model_has_no_output_for_is_rejected() -> None:
    sample = (Image.new("RGB", (4, 4)), 4)
    assert transformed(sample, transform=to_tensor, num_classes=5)[1] == 4
    with pytest.raises(SetupError, match="label 4, but the model's 4 classes are 0 to 3. Set `num_classes` to 5"):
        transformed(sample, transform=to_tensor, num_classes=4)


def test_training_batches_are_all_full() -> None:
    source = [(Image.new("RGB", (4, 4)), 0)] * 10
    assert [len(labels) for _, labels in load(source)] == [4, 4]


def test_fewer_images_than_one_batch_are_rejected() -> None:
    source = [(Image.new("RGB", (4, 4)), 0)] * 4
    assert len(list(load(source))) == 1
    with pytest.raises(SetupError, match="only 3 training images, fewer than a batch of 4. Lower `batch_size`"):
        load(source[:3])


def test_the_seed_fixes_the_order_of_training() -> None:
    source = open_data("digits").train
    first, again, other = (next(iter(load(source, seed=seed)))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_validation_mixes_the_classes_and_keeps_its_order(tmp_path: Path) -> None:
    source = open_data(str(save_images(tmp_path, count=20))).train
    loader = load(source, train=False, batch_size=16)
    rounds = [torch.cat([labels for _, labels in loader]) for _ in range(2)]
    assert torch.equal(*rounds)
    assert len(rounds[0]) == 40
    assert set(rounds[0][:16].tolist()) == {0, 1}


def test_too_few_to_hold_any_out_are_refused_and_one_more_accepted() -> None:
    source = list(range(5))
    with pytest.raises(SetupError, match="the data has 4 training samples, too few to validate on some of them"):
        parted(source[:4], seed=0)
    assert len(parted(source, seed=0)[1]) == 1


def test_held_out_images_are_a_fifth_and_none_of_them_is_trained_on() -> None:
    source = [(Image.new("RGB", (4, 4)), i) for i in range(50)]
    data = labelled_images("n", source, 50).with_val(True, seed=0)
    train, val = ({label for _, label in part} for part in (data.train, data.val))
    assert (len(train), len(val), train & val) == (40, 10, set())


def test_every_listed_data_set_is_torchvisions() -> None:
    assert all(hasattr(datasets, name) for name in TORCHVISION)


def test_a_torchvision_data_set_is_opened_from_its_folder(tmp_path: Path) -> None:
    write_mnist(tmp_path, labels=[3, 1, 9, 9])
    data = open_torchvision("mnist", str(tmp_path), val=True)
    assert (data.name, len(data.train), len(data.val), data.num_classes, data.size) == ("MNIST", 4, 4, 10, 28)
    assert next(iter(load(data.train)))[0].shape == (4, 3, 28, 28)


def test_a_missing_torchvision_data_set_is_not_downloaded_unasked(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=rf"CIFAR10 is not in {tmp_path} .*Set `download`"):
        open_torchvision("CIFAR10", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_damaged_torchvision_data_set_is_one_sentence(tmp_path: Path) -> None:
    write_mnist(tmp_path, labels=[3, 1, 9, 9])
    for file in (tmp_path / "MNIST" / "raw").iterdir():
        file.write_bytes(b"")
    with pytest.raises(SetupError, match=rf"cannot read MNIST in {tmp_path}: .*Remove its files and fetch them again"):
        open_torchvision("mnist", str(tmp_path))


def test_a_data_set_without_download_names_its_description(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="get its archives as torchvision.datasets.ImageNet describes"):
        open_torchvision("ImageNet", str(tmp_path), download=True)


def test_a_failed_download_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(root: str, train: bool, download: bool) -> Any:
        assert download
        raise OSError("no network")

    monkeypatch.setattr(datasets, "CIFAR10", refuse)
    with pytest.raises(SetupError, match="cannot download CIFAR10 to .*: no network."):
        open_torchvision("CIFAR10", str(tmp_path), download=True)


def test_a_misspelled_data_set_offers_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'CIFAR10'"):
        open_torchvision("cifar", str(tmp_path))
