"""Augmentation: what each family does to its targets, what the seed fixes, and what is left as it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small import build_task
from test_tasks_detection import coco
from test_tasks_segmentation import folder as mask_folder
from test_tasks_video import chairs, clips
from torch import Tensor
from torchvision import models
from torchvision.ops import masks_to_boxes

from lrfinder.errors import ConfigError
from lrfinder.tables.recipes import ReferenceRecipe, recipe_rows, reference_recipe
from lrfinder.tasks import FAMILIES, Task, family_of
from lrfinder.tasks.augment import drawn_from, refused
from lrfinder.tasks.augment_flow import augment_flow
from lrfinder.tasks.augment_images import augment_images
from lrfinder.tasks.augment_scenes import augment_boxes, augment_masks, mirrored_order
from lrfinder.tasks.experiment import prepare
from lrfinder.tasks.frames import at_random, open_frames
from lrfinder.tasks.images import labelled_images
from lrfinder.tasks.samples import Samples
from lrfinder.tasks.settings import Settings


def seeds(test: Any) -> Any:
    return settings(max_examples=15)(given(st.integers(0, 2**63 - 1))(test))


SMALL = "squeezenet1_1"


def photos(count: int = 12) -> Samples:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, 40, 36, 3), dtype=np.uint8)
    images = [(Image.fromarray(each), i % 3) for i, each in enumerate(pixels)]
    return labelled_images("photos", images, 3)


def batches(task: Task, epochs: int = 1) -> list[Tensor]:
    return [images for _ in range(epochs) for images, _ in task.train_loader]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def labelled_folder(root: Path) -> Path:
    for i, (image, label) in enumerate(photos().train):
        (root / str(label)).mkdir(parents=True, exist_ok=True)
        image.save(root / str(label) / f"{i}.png")
    return root


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_the_seed_fixes_what_is_drawn_whatever_loads_it() -> None:
    drawn = []
    for seed, workers in ((0, 0), (0, 1), (0, 2), (1, 0)):
        torch.manual_seed(workers)
        task = build_task(SMALL, photos(), batch_size=4, seed=seed, workers=workers)
        drawn.append(batches(task, epochs=2))
    assert same(drawn[0], drawn[1]) and same(drawn[0], drawn[2])
    assert not same(drawn[0], drawn[3]) and not same(drawn[0][:3], drawn[0][3:])


def test_loading_leaves_the_global_random_state_alone() -> None:
    task = build_task(SMALL, photos(), batch_size=4)
    state = torch.get_rng_state()
    batches(task)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_image_that_cannot_be_read_leaves_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    with pytest.raises(OSError), drawn_from(3):
        torch.rand(3)
        raise OSError
    assert torch.equal(torch.get_rng_state(), state)


def test_an_augmented_sweep_leaves_no_trace_and_repeats_itself(tmp_path: Path) -> None:
    chosen = Settings(model=SMALL, data=str(labelled_folder(tmp_path)), batch_size=4, num_iter=3)
    curves, followed = [], []
    for sweeps in (1, 2, 0):
        experiment = prepare(dataclasses.replace(chosen, start_lr=1e-4, end_lr=1e-2))
        curves += [experiment.range_test().curve for _ in range(sweeps)]
        followed.append([*batches(experiment.task), torch.rand(3)])
    assert curves[0].losses == curves[1].losses == curves[2].losses
    assert same(followed[0], followed[2]) and same(followed[1], followed[2])


def test_validation_images_are_not_augmented() -> None:
    loaders = [
        build_task(SMALL, photos(20), val=True, batch_size=4, augment=each).val_loader
        for each in ("recipe", "none")
    ]
    first, second = ([images for images, _ in loader] for loader in loaders)
    assert same(first, second)


# --- what is chosen ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_mirrored_is_not_augmented_and_said() -> None:
    for data in ("digits", "fake"):
        task = build_task(SMALL, data, batch_size=4)
        assert "not augmented" in task.notes[-1] and task.facts["augment"] == "none"
        plain = build_task(SMALL, data, batch_size=4, augment="none")
        assert plain.notes == task.notes[:-1]
        assert torch.equal(next(iter(task.train_loader))[0], next(iter(plain.train_loader))[0])
    signs = refused(Settings(model=SMALL, dataset="MNIST"))
    assert signs is not None and signs.notes[0].startswith("MNIST is not augmented")
    assert refused(Settings(model=SMALL, dataset="CIFAR10")) is refused(Settings(model=SMALL, data="mnist")) is None


@pytest.mark.parametrize("model", [SMALL, "lraspp_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large", "mc3_18"])
def test_an_unknown_augmentation_is_refused(model: str) -> None:
    with pytest.raises(ConfigError, match="augment must be one of recipe, none; got 'recipes'"):
        build_task(model, "fake", augment="recipes")


@pytest.mark.parametrize(
    "model, weights, words",
    [
        ("resnet50", None, "crop of random size, horizontal flip"),
        ("resnet50", "IMAGENET1K_V2", "crop of random size, horizontal flip, TrivialAugment, random erasing (0.1)"),
        ("mobilenet_v3_small", None, "crop of random size, horizontal flip, AutoAugment, random erasing (0.2)"),
        ("vit_b_16", None, "crop of random size, horizontal flip, RandAugment"),
        ("densenet121", None, "crop of random size, horizontal flip"),
    ],
)
def test_the_steps_are_those_of_the_recipe(model: str, weights: str | None, words: str) -> None:
    usual = models.get_model_weights(model).DEFAULT.transforms()
    assert augment_images(reference_recipe(model, weights), usual, 32, 3).words == words


def test_what_changes_the_loss_is_left_out_and_said() -> None:
    usual = models.get_model_weights("swin_t").DEFAULT.transforms()
    note = augment_images(reference_recipe("swin_t"), usual, 32, 3).notes[0]
    assert note.endswith("Left out, as it would change the loss: label smoothing (0.1), mixup (0.8), cutmix (1).")


def kinds() -> list[ReferenceRecipe]:
    """One recipe of each kind of augmentation."""
    rows = [row for row in recipe_rows() if isinstance(row, ReferenceRecipe)]
    found = {(row.augment, row.random_erase, FAMILIES["detection"] == family_of(row.model)): row for row in rows}
    return list(found.values())


@pytest.mark.parametrize("recipe", kinds(), ids=lambda row: f"{row.model} {row.augment}")
def test_every_row_of_the_table_can_be_carried_out(recipe: ReferenceRecipe) -> None:
    if recipe.model in FAMILIES["detection"].model_names():
        assert recipe.augment is not None and augment_boxes(recipe.augment, 64).transform is not None
        return
    augmentation = augment_images(recipe, models.get_model_weights("resnet18").DEFAULT.transforms(), 32, 3)
    assert augmentation.transform is not None
    for number in range(5):
        with drawn_from(number):
            image, _ = augmentation.transform(photos().train[0])
        assert (image.shape, image.dtype, type(image)) == ((3, 32, 32), torch.float32, Tensor)


# --- masks and boxes --------------------------------------------------------------------------------------------------


def bright(height: int, width: int, box: tuple[int, int, int, int]) -> tuple[Image.Image, np.ndarray]:
    """An image that is white in a box, and the same as a mask of 0 and 1."""
    mask = np.zeros((height, width), np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return Image.fromarray(mask * 255).convert("RGB"), mask


@seeds
def test_a_mask_goes_where_its_image_goes(number: int) -> None:
    image, mask = bright(60, 90, (10, 20, 50, 55))
    change, _ = augment_masks(64, 70, 255)
    with drawn_from(number):
        pixels, labels = change(image, torch.from_numpy(mask)[None])
    assert (pixels.shape, labels.shape) == ((3, 64, 64), (1, 64, 64))
    known = labels[0] != 255
    assert ((pixels[0] > 127) == (labels[0] == 1))[known].float().mean() > 0.95
    assert not pixels[0][~known].any()


@seeds
@pytest.mark.parametrize("policy", ["hflip", "multiscale", "lsj", "ssd", "ssdlite"])
def test_boxes_and_masks_go_where_their_image_goes(policy: str, number: int) -> None:
    parts = [(10, 20, 50, 55), (60, 5, 80, 40)]
    image = Image.fromarray(np.maximum(*(np.asarray(bright(60, 90, box)[0]) for box in parts)))
    masks = torch.stack([torch.from_numpy(bright(60, 90, box)[1]) for box in parts])
    target = {"boxes": torch.tensor(parts, dtype=torch.float32), "labels": torch.tensor([1, 2]), "masks": masks}
    augmentation = augment_boxes(policy, 128)
    assert augmentation.transform is not None
    with drawn_from(number):
        pixels, found = augmentation.transform((image, target))
    assert {type(each) for each in (pixels, *found.values())} == {Tensor} and 0 <= pixels.min() <= pixels.max() <= 1
    assert len(found["boxes"]) == len(found["labels"]) == len(found["masks"])
    assert found["masks"].shape[1:] == pixels.shape[1:]
    kept = found["masks"].bool().flatten(1).any(1) if len(found["masks"]) else torch.zeros(0, dtype=torch.bool)
    edges = masks_to_boxes(found["masks"][kept]) + torch.tensor([0.0, 0, 1, 1])
    assert torch.allclose(edges, found["boxes"][kept], atol=2.5)
    if policy in ("hflip", "multiscale"):
        assert ((pixels[0] > 0.5) == found["masks"].bool().any(0)).float().mean() > 0.97
    assert torch.equal(target["boxes"], torch.tensor(parts, dtype=torch.float32))


def test_half_of_the_images_are_flipped() -> None:
    image, _ = bright(8, 10, (0, 0, 2, 8))
    target = {"boxes": torch.tensor([[0.0, 0, 2, 8]]), "labels": torch.tensor([1])}
    augmentation = augment_boxes("hflip", 8)
    assert augmentation.transform is not None
    lefts = []
    for number in range(400):
        with drawn_from(number):
            lefts.append(float(augmentation.transform((image, target))[1]["boxes"][0, 0]))
    assert set(lefts) == {0.0, 8.0} and 160 < lefts.count(8.0) < 240


@pytest.mark.parametrize(
    "names, order",
    [
        (["nose", "left_eye", "right_eye"], [0, 2, 1]),
        (["R-Hand", "Head", "L-Hand"], [2, 1, 0]),
        (["top", "bottom"], [0, 1]),
        (["left_eye", "nose"], None),
        (["tail", "tail"], None),
        ([""] * 5, None),
        ([], []),
    ],
)
def test_left_and_right_are_exchanged_by_name(names: list[str], order: list[int] | None) -> None:
    assert mirrored_order(names) == order


def test_keypoints_without_names_are_those_of_persons_or_unknown() -> None:
    order = mirrored_order([""] * 17)
    assert order is not None and order[:5] == [0, 2, 1, 4, 3] and [order[each] for each in order] == list(range(17))
    assert (augment_boxes("hflip", 8, [""] * 5).transform, augment_boxes("hflip", 8, [""] * 5).steps) == (None, ())
    assert "which keypoints are left" in augment_boxes("hflip", 8, [""] * 5).notes[0]


def test_a_flip_moves_keypoints_and_exchanges_left_and_right() -> None:
    points = torch.tensor([[[1.0, 5, 2], [7, 6, 1], [0, 0, 0]]])
    target = {"boxes": torch.tensor([[0.0, 0, 9, 8]]), "labels": torch.tensor([1]), "keypoints": points}
    augmentation = augment_boxes("hflip", 8, ["left_ear", "right_ear", "nose"])
    assert augmentation.transform is not None
    found = set()
    for number in range(20):
        with drawn_from(number):
            _, changed = augmentation.transform((Image.new("RGB", (10, 8)), target))
        found.add(tuple(changed["keypoints"].flatten().tolist()))
    assert found == {(1, 5, 2, 7, 6, 1, 0, 0, 0), (3, 6, 1, 9, 5, 2, 0, 0, 0)}
    assert torch.equal(target["keypoints"], points)


# --- clips and flow ---------------------------------------------------------------------------------------------------


def test_a_clip_begins_anywhere_and_its_frames_change_alike(tmp_path: Path) -> None:
    task = build_task("mc3_18", clips(tmp_path, 5, 20), val=True, batch_size=2, image_size=16)
    starts, steps = set(), set()
    for _ in range(12):
        for inputs, _ in task.train_loader:
            shades = inputs[:, 0].mean((2, 3))
            starts |= {round(float(each), 2) for each in shades[:, 0]}
            steps |= {round(float(each), 2) for each in shades.diff(dim=1).flatten()}
            assert torch.allclose(inputs[:, 0].amax((2, 3)), shades, atol=1e-3)
    assert len(starts) > 2 and len(steps) <= 2  # 1/255 in each step, rounded
    first, second = ([inputs for inputs, _ in task.val_loader] for _ in range(2))
    assert same(first, second)


def test_clips_of_files_alone_begin_anywhere(tmp_path: Path) -> None:
    samples = open_frames(str(clips(tmp_path, 3, 7)), 3).with_val(True, 0)
    drawn = at_random(samples.train)
    firsts = {drawn[0][0][0].getpixel((0, 0))[0] for _ in range(100)}
    assert firsts == {0, 1, 2, 3, 4} and len(drawn) == len(samples.train)
    fake = open_frames("fake", 4).train
    assert at_random(fake) is fake


@seeds
def test_flow_is_scaled_and_flipped_with_its_images(number: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(160.0), torch.arange(180.0), indexing="ij")
    image = torch.zeros(3, 160, 180, dtype=torch.uint8)
    image[:, :, :90] = 200
    valid = columns < 90
    # Every pixel moves away from the middle by its distance: the slope of 1 is kept by scales, crops and flips.
    flow = torch.where(valid, torch.stack([columns - 90, rows - 80]), 0.0)
    with drawn_from(number):
        first, second, moved, known = augment_flow((image, image, flow, valid), (128, 136))
    assert [each.shape for each in (first, second, moved, known)] == [(3, 128, 136)] * 2 + [(2, 128, 136), (128, 136)]
    assert first.min() >= -1 and first.max() <= 1 and not moved[:, ~known].any()
    across, down = known[:, 1:] & known[:, :-1], known[1:] & known[:-1]
    # A pixel at the edge of the image is interpolated from fewer.
    for slopes in (moved[0].diff(dim=1)[across], moved[1].diff(dim=0)[down]):
        assert not len(slopes) or (slopes - 1).abs().median() < 0.01
    lit = first.amax(0) > (first.max() + first.min()) / 2
    assert known.all() or not known.any() or (lit == known).float().mean() > 0.95


def test_unknown_flow_stays_unknown(tmp_path: Path) -> None:
    task = build_task("raft_small", chairs(tmp_path, 2, width=144, height=136), batch_size=1, image_size=128)
    assert task.notes[0] == "Parts of the images, 128x128 pixels."
    *_, flow, valid = next(iter(task.train_loader))
    assert flow.shape == (1, 2, 128, 128) and valid.dtype == torch.bool and (flow.abs().amax(1) > 0)[valid].all()


# --- the sweep of each family -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, make, size, step",
    [
        ("mobilenet_v3_small", labelled_folder, None, "AutoAugment"),
        ("lraspp_mobilenet_v3_large", mask_folder, None, "random crop"),
        ("ssdlite320_mobilenet_v3_large", lambda root: coco(root / "a.json", root).parent, None, "IoU crop"),
        ("mc3_18", clips, 16, "random part of the sequence"),
        ("raft_small", chairs, None, "colour jitter"),
    ],
)
def test_the_sweep_of_every_family_is_augmented(tmp_path: Path, model: str, make: Any, size: int, step: str) -> None:
    chosen = Settings(model=model, data=str(make(tmp_path)), image_size=size)
    chosen = dataclasses.replace(chosen, batch_size=1 if model == "raft_small" else 2, num_iter=2)
    experiment = prepare(dataclasses.replace(chosen, start_lr=1e-5, end_lr=1e-4))
    assert step in experiment.facts["augment"]
    assert any(note.endswith(f"{experiment.facts['augment']}.") for note in experiment.task.notes)
    assert len(experiment.range_test().curve.losses) == 2


def test_the_size_of_masks_follows_that_of_the_crops(tmp_path: Path) -> None:
    task = build_task("lraspp_mobilenet_v3_large", mask_folder(tmp_path), batch_size=2, image_size=96)
    assert task.facts["augment"] == "shorter side of 52 to 208 pixels, horizontal flip, random crop"
    images, masks = next(iter(task.train_loader))
    assert (images.shape, masks.shape, masks.dtype) == ((2, 3, 96, 96), (2, 96, 96), torch.int64)
