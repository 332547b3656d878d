"""Detection on COCO files: layouts, what is left out, targets, the losses in both modes, and what is frozen."""

from __future__ import annotations

import json
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
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

from lrfinder import LRFinder
from lrfinder.errors import SetupError
from lrfinder.tasks.coco_folders import open_coco
from lrfinder.tasks.coco_masks import decode_counts, mask_of
from lrfinder.tasks.detection import DetectionLoss
from lrfinder.tasks.detection_models import build_detector

SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"
SSDLITE = "ssdlite320_mobilenet_v3_large"
SQUARE = [[8, 8, 24, 8, 24, 24, 8, 24]]


def annotation(number: int, image: int, **changes: Any) -> dict[str, Any]:
    row = {"id": number, "image_id": image, "category_id": 7, "bbox": [8, 8, 16, 16], "iscrowd": 0}
    return {**row, "segmentation": SQUARE, "keypoints": [9, 9, 2, 20, 20, 1], **changes}


def coco(path: Path, images: Path, *, rows: list[dict[str, Any]] | None = None, count: int = 4) -> Path:
    """A COCO file with gaps in its ids, and its images of 48x32 pixels."""
    ids = [10 * i + 3 for i in range(count)]
    rows = [annotation(i, image) for i, image in enumerate(ids)] if rows is None else rows
    images.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    for each in ids:
        Image.new("RGB", (48, 32), (each, 50, 50)).save(images / f"{each}.jpg")
    listed = [{"id": each, "file_name": f"{each}.jpg", "width": 48, "height": 32} for each in ids]
    categories = [{"id": each, "name": str(each)} for each in (2, 7)]
    path.write_text(json.dumps({"images": listed, "annotations": rows, "categories": categories}))
    return path


def opened(root: Path, **kinds: bool) -> Any:
    return open_coco(str(root), **{"masks": False, "keypoints": False, **kinds})[0]


def test_a_model_trains_and_validates_on_a_folder(tmp_path: Path) -> None:
    coco(tmp_path / "annotations" / "instances_train2017.json", tmp_path / "train2017")
    coco(tmp_path / "annotations" / "instances_val2017.json", tmp_path / "val2017", count=2)
    torch.manual_seed(0)
    task = build_task(SMALL, tmp_path, val=True, image_size=32, batch_size=2)
    assert task.title.endswith("4 images, 3 classes with the background")
    finder = LRFinder(task.model, torch.optim.SGD(task.model.parameters(), lr=0.1), loss_fn=task.loss_fn)
    result = finder.range_test(task.train_loader, val_loader=task.val_loader, start_lr=1e-4, end_lr=1e-3, num_iter=3)
    assert (len(result.curve.losses), result.curve.measured) == (3, "after")
    assert result.curve.facts is not None
    assert (result.curve.facts.batch_size, result.curve.facts.form) == (2, "detection")


@pytest.mark.parametrize(
    "file, images",
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/train.json", "images/train"),
        ("train/_annotations.coco.json", "train"),
        ("annotations.json", "images"),
        ("labels.json", "."),
    ],
)
def test_files_and_images_are_found_in_the_usual_layouts(tmp_path: Path, file: str, images: str) -> None:
    path = coco(tmp_path / file, tmp_path / images)
    for data in (tmp_path, path):
        assert len(opened(data).train) == 4


def test_file_names_may_have_the_separator_of_windows(tmp_path: Path) -> None:
    path = coco(tmp_path / "result.json", tmp_path / "images")
    path.write_text(path.read_text().replace('"file_name": "', '"file_name": "images\\\\'))
    assert opened(tmp_path).train[0][0].size == (48, 32)


def test_the_keypoints_of_persons_have_a_file_of_their_own(tmp_path: Path) -> None:
    coco(tmp_path / "annotations" / "instances_train.json", tmp_path / "train", count=2)
    coco(tmp_path / "annotations" / "person_keypoints_train.json", tmp_path / "train", count=3)
    coco(tmp_path / "annotations" / "captions_train.json", tmp_path / "train")
    assert [len(opened(tmp_path, keypoints=each).train) for each in (False, True)] == [2, 3]


def test_crowds_empty_images_and_boxes_without_area_are_left_out(tmp_path: Path) -> None:
    rows = [
        annotation(1, 3),
        annotation(2, 3, category_id=2),
        annotation(3, 3, iscrowd=1, segmentation={"size": [32, 48], "counts": [1536]}),
        annotation(4, 3, bbox=[4, 4, 0, 9]),
        annotation(5, 13, bbox=[4, 4, 9, 0]),
        annotation(6, 4),
    ]
    samples = opened(coco(tmp_path / "a.json", tmp_path, rows=rows))
    image, target = samples.train[0]
    assert (len(samples.train), samples.num_classes, image.size) == (1, 3, (48, 32))
    assert target["boxes"].tolist() == [[8, 8, 24, 24]] * 2
    assert target["labels"].tolist() == [2, 1]
    assert "3 of 4 images" in samples.notes[0]
    assert samples.notes[1] == (
        "4 annotations are left out: 1 marked as a crowd (iscrowd), 1 on images that are not listed, 2 without area."
    )


def test_images_of_another_size_than_the_file_says_are_noted(tmp_path: Path) -> None:
    path = coco(tmp_path / "a.json", tmp_path)
    assert len(opened(path).notes) == 1
    path.write_text(path.read_text().replace('"width": 48, "height": 32', '"width": 32, "height": 48'))
    sentence = "3.jpg has 48x32 pixels, and 32x48 in a.json, so its boxes may be misplaced."
    assert [note.startswith(sentence) for note in opened(path).notes] == [True, False]
    given, unused = '"width": 32, "height": 48', ('"width": "48", "height": "32"', '"width": 0, "height": 0')
    for sizes in unused:  # as some programs write them; training does not use them
        path.write_text(path.read_text().replace(given, sizes))
        assert len(opened(path).notes) == 1
        given = sizes


@pytest.mark.parametrize("box, noted", [([20, 8, 44, 24], True), ([32, 8, 17, 25], False), ([0, 0, 48, 32], False)])
def test_boxes_given_by_their_corners_are_noted(tmp_path: Path, box: list[int], noted: bool) -> None:
    rows = [annotation(i, image, bbox=box) for i, image in enumerate((3, 13, 23, 33))]
    notes = opened(coco(tmp_path / "a.json", tmp_path, rows=rows)).notes
    assert ["4 of 4 boxes looked at reach beyond their image" in note for note in notes] == [True] * noted + [False]


def test_boxes_are_cut_at_the_edges_of_the_image(tmp_path: Path) -> None:
    rows = [annotation(1, 3, bbox=[-4, 8, 100, 100]), annotation(2, 3, bbox=[60, 8, 9, 9])]
    assert opened(coco(tmp_path / "a.json", tmp_path, rows=rows)).train[0][1]["boxes"].tolist() == [[0, 8, 48, 32]]


def test_ids_are_labels_where_the_model_has_outputs_for_them(tmp_path: Path) -> None:
    path = coco(tmp_path / "a.json", tmp_path)
    kinds = {"masks": False, "keypoints": False}
    labels = [open_coco(str(path), num_classes=each, **kinds)[0].train[0][1]["labels"][0] for each in (None, 8)]
    assert labels == [2, 7]


def test_masks_and_keypoints_are_in_the_targets(tmp_path: Path) -> None:
    path = coco(tmp_path / "a.json", tmp_path)
    masks = opened(path, masks=True).train[0][1]["masks"]
    assert (masks.dtype, masks.shape, int(masks[0, 16, 16]), int(masks[0, 2, 2])) == (torch.uint8, (1, 32, 48), 1, 0)
    samples, names = open_coco(str(path), masks=False, keypoints=True)
    assert (samples.train[0][1]["keypoints"].tolist(), names) == ([[[9, 9, 2], [20, 20, 1]]], ("", ""))


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=9))
def test_compressed_run_lengths_are_decoded(counts: list[int]) -> None:
    text = ""
    for i, count in enumerate(counts):
        left, more = count - (counts[i - 2] if i > 2 else 0), True
        while more:
            code, left = left & 31, left >> 5
            more = left != (-1 if code & 16 else 0)
            text += chr(48 + code + 32 * more)
    assert decode_counts(text) == counts


def test_run_lengths_go_down_the_columns() -> None:
    assert mask_of({"size": [2, 2], "counts": [1, 2, 1]}, 2, 2).tolist() == [[0, 1], [1, 0]]


# --- the loss -------------------------------------------------------------------------------------------------------


def test_the_validation_loss_changes_nothing_and_is_the_same_again() -> None:
    torch.manual_seed(0)
    task = build_task(SMALL, "fake", image_size=64, batch_size=2)
    batch = next(iter(task.train_loader))
    state = {name: value.clone() for name, value in task.model.state_dict().items()}
    task.model.eval()
    random = torch.get_rng_state()
    with torch.no_grad():
        first, second = (float(DetectionLoss()(task.model, batch)) for _ in range(2))
    assert first == second > 0
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module.training for module in task.model.modules())
    assert all(torch.equal(value, state[name]) for name, value in task.model.state_dict().items())


def test_the_training_loss_is_the_sum_of_the_models_losses() -> None:
    class Parts(nn.Module):
        def forward(self, images: Any, targets: Any) -> dict[str, torch.Tensor]:
            return {"boxes": torch.tensor(2.0), "classes": torch.tensor(0.5)}

    assert DetectionLoss()(Parts(), ([torch.zeros(3, 4, 4)], [{}])) == 2.5


class Detects(nn.Module):
    """Computes losses in training mode, and detections in eval mode, as torchvision's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 1, 3))

    def forward(self, images: list[torch.Tensor], targets: list[dict[str, torch.Tensor]]) -> Any:
        maps = self.layers(torch.stack([image[:, :16, :16] for image in images]))
        if not self.training:
            return [{"boxes": each} for each in maps]
        sums = torch.stack([target["boxes"].sum() / 200 for target in targets])
        return {"boxes": (maps.mean((1, 2, 3)) - sums).square().mean()}


@pytest.mark.parametrize("with_val", [False, True])
def test_a_range_test_of_a_detector_is_refined_by_its_validation_loss(tmp_path: Path, with_val: bool) -> None:
    coco(tmp_path / "a.json", tmp_path, count=20)
    torch.manual_seed(0)
    task = build_task(SMALL, tmp_path, val=with_val, batch_size=2)
    model = Detects()
    finder = LRFinder(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), loss_fn=task.loss_fn)
    result = finder.range_test(task.train_loader, val_loader=task.val_loader, start_lr=1e-5, end_lr=10, num_iter=30)
    refined = finder.refine(
        result, task.train_loader, task.val_loader, schedule="cosine", total_steps=200, budget=0.5
    )
    assert refined.trials is not None and refined.trials.trials and model.training


# --- weights --------------------------------------------------------------------------------------------------------


def test_trained_weights_keep_batchnorm_frozen_and_get_new_heads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = models.get_model(SMALL, num_classes=9, weights_backbone=None).state_dict()
    torch.save(state, tmp_path / "w.pth")
    model, _, notes = build_detector(SMALL, 4, 0, weights=tmp_path / "w.pth", image_size=None)
    kinds = {type(module) for module in model.modules()}
    assert FrozenBatchNorm2d in kinds and nn.BatchNorm2d not in kinds
    assert "New layers" in notes[1] and "box_predictor.cls_score" in notes[1]
    assert torch.equal(model.state_dict()["backbone.fpn.inner_blocks.0.0.weight"], state[
        "backbone.fpn.inner_blocks.0.0.weight"
    ])


@pytest.mark.parametrize("name", [SMALL, SSDLITE, "fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"])
def test_with_weights_the_layers_that_torchvision_freezes_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.device("meta"):
        state = models.get_model(name, weights_backbone=None, num_classes=3).state_dict()
    backbones = {"vgg": models.VGG16_Weights, "mobilenet": models.MobileNet_V3_Large_Weights}
    weights = next((each for key, each in backbones.items() if key in name), models.ResNet50_Weights).DEFAULT
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda self, state, **options: ([], []))
    monkeypatch.setattr(type(weights), "get_state_dict", lambda self, **options: {})
    theirs = models.get_model(name, weights_backbone=weights, num_classes=3)
    torch.save({key: torch.zeros(value.shape) for key, value in list(state.items())[:1]}, tmp_path / "w.pth")
    frozen = {key for key, each in theirs.named_parameters() if not each.requires_grad}
    monkeypatch.undo()
    saved = {key: torch.zeros(()).expand(value.shape) for key, value in state.items()}
    monkeypatch.setattr(torch, "load", lambda *args, **options: saved)
    ours, *_ = build_detector(name, 3, 0, weights=tmp_path / "w.pth", image_size=None)
    assert {key for key, each in ours.named_parameters() if not each.requires_grad} == frozen
    assert [type(each) for each in ours.modules()] == [type(each) for each in theirs.modules()]


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows, kinds, sentence",
    [
        ([], {}, "has no object to train on: it has no annotations."),
        ([annotation(1, 3, iscrowd=1)], {}, "no object to train on: 1 marked as a crowd .*set iscrowd to 0"),
        ([annotation(1, 3, bbox=[1, 2, 0, 3])], {}, "has no object to train on: 1 without area."),
        ([annotation(1, 3, bbox=[1, 2, 3])], {}, "annotation 1 in .* needs a bbox of four finite numbers"),
        ([annotation(1, 3, bbox=[1, 2, 3, "4"])], {}, "needs a bbox of four finite numbers"),
        ([annotation(1, 3, category_id=5)], {}, "has the category_id 5, which no category has"),
        ([annotation(1, 3, segmentation=[])], {"masks": True}, "has no segmentation, which this model is trained on"),
        ([annotation(1, 3, segmentation=[[1, 2, "x"] * 3])], {"masks": True}, "must be polygons or run lengths"),
        ([annotation(1, 3, segmentation={"counts": "1", "size": [9, 9]})], {"masks": True}, "do not fill the image"),
        ([annotation(1, 3, keypoints=[1, 2])], {"keypoints": True}, "must have the same keypoints"),
    ],
)
def test_annotations_that_cannot_be_used_are_refused(
    tmp_path: Path, rows: Any, kinds: dict[str, bool], sentence: str
) -> None:
    path = coco(tmp_path / "a.json", tmp_path, rows=rows)
    with pytest.raises(SetupError, match=sentence):
        list(opened(path, **kinds).train)


@pytest.mark.parametrize(
    "names, sentence",
    [
        (["devices.json"], "found none, but for validation or test devices.json. Expected"),
        (["a/test.json", "val.json"], "found none, but for validation or test val.json, a/test.json."),
        (["one.json", "two.json"], "found 2 such files: one.json, two.json. Expected"),
        (["captions_train.json"], "found none. Expected"),
    ],
)
def test_a_folder_must_have_one_file_to_train_on(tmp_path: Path, names: list[str], sentence: str) -> None:
    for name in names:
        coco(tmp_path / name, tmp_path)
    with pytest.raises(SetupError, match=sentence):
        opened(tmp_path)


def test_two_images_of_one_id_are_refused(tmp_path: Path) -> None:
    path = coco(tmp_path / "a.json", tmp_path)
    path.write_text(path.read_text().replace('"id": 13,', '"id": 3,'))
    with pytest.raises(SetupError, match="a.json has two images with the id 3, 3.jpg and 13.jpg"):
        opened(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": 1, "annotations": [], "categories": []}'])
def test_files_of_another_kind_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SetupError, match="a.json"):
        opened(tmp_path)


def test_missing_images_and_several_files_are_refused(tmp_path: Path) -> None:
    path = coco(tmp_path / "a.json", tmp_path)
    (tmp_path / "13.jpg").unlink()
    with pytest.raises(SetupError, match="1 of the 4 images in .* such as 13.jpg"):
        opened(path)
    coco(tmp_path / "b.json", tmp_path)
    with pytest.raises(SetupError, match="one COCO file to train on; found 2 such files: a.json, b.json"):
        opened(tmp_path)


def test_digits_have_no_boxes_and_fixed_sizes_are_kept() -> None:
    with pytest.raises(SetupError, match="these have no boxes"):
        build_task(SMALL, "digits")
    with pytest.raises(SetupError, match="takes images of 320x320 pixels alone"):
        build_task("ssdlite320_mobilenet_v3_large", image_size=64)


def test_a_folder_of_the_name_fake_is_no_fake_data(tmp_path: Path) -> None:
    coco(tmp_path / "fake" / "labels.json", tmp_path / "fake")
    task = build_task(SMALL, tmp_path / "fake", batch_size=2)
    assert (task.facts["data"], task.facts["image_size"]) == ("fake", 320)


def test_pixels_outside_every_polygon_are_background() -> None:
    assert np.count_nonzero(mask_of(SQUARE, 32, 48)) == 16 * 16
