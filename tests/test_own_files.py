"""Models of the user's own on COCO files and on folders of images and masks: which batches they get, and the loss."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from test_tasks_detection import annotation, coco
from test_tasks_segmentation import folder

from lrfinder.errors import LRFinderError
from lrfinder.tasks.experiment import Experiment, prepare
from lrfinder.tasks.settings import Settings

MODELS = """
import torch
from torch import nn

class Detector(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layer, self.num_classes = nn.Conv2d(3, 2, 1), num_classes

    def forward(self, images, targets):
        maps = [self.layer(image).mean((1, 2)) for image in images]
        wanted = [target["boxes"].mean() for target in targets]
        return {"boxes": sum((each[0] - one) ** 2 for each, one in zip(maps, wanted)), "classes": maps[0][1] ** 2}

def segmenter(num_classes):
    return nn.Conv2d(3, num_classes, 1)

def segmenter_of_torchvision(num_classes):
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large
    return lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=num_classes)
"""
FEW = {"num_iter": 3, "start_lr": 1e-5, "end_lr": 1e-4, "device": "cpu", "batch_size": 2}


@pytest.fixture(autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = tmp_path_factory.mktemp("own")
    (root / "own_nets.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(root))
    yield
    sys.modules.pop("own_nets", None)


def prepared(model: str, data: Path, **settings: Any) -> Experiment:
    return prepare(Settings(model=f"own_nets:{model}", data=str(data), **{**FEW, **settings}))


def refused(model: str, data: Path, **settings: Any) -> str:
    with pytest.raises(LRFinderError) as caught:
        prepared(model, data, **settings)
    return str(caught.value)


@pytest.mark.parametrize("file", ["a.json", "annotations/instances_train2017.json"])
@pytest.mark.parametrize("given", ["folder", "file"])
def test_an_own_detector_trains_on_a_coco_file(tmp_path: Path, file: str, given: str) -> None:
    path = coco(tmp_path / file, tmp_path / "images")
    experiment = prepared("Detector", tmp_path if given == "folder" else path)
    images, targets = next(iter(experiment.task.train_loader))
    assert [image.shape for image in images] == [(3, 32, 48)] * 2 and 0 <= images[0].min() <= images[0].max() <= 1
    assert [sorted(target) for target in targets] == [["boxes", "keypoints", "labels", "masks"]] * 2
    assert (experiment.facts["num_classes"], experiment.task.model.num_classes) == (3, 3)
    assert experiment.task.notes[-1].startswith("Batches are a list of images")
    curve = experiment.range_test().curve
    assert len(curve.losses) == 3 and curve.facts is not None and curve.facts.form == "detection"


def test_targets_have_what_every_object_has(tmp_path: Path) -> None:
    rows = [annotation(1, 3), annotation(2, 13, keypoints=[]), annotation(3, 23), annotation(4, 33, segmentation=[])]
    experiment = prepared("Detector", coco(tmp_path / "a.json", tmp_path, rows=rows))
    assert sorted(next(iter(experiment.task.train_loader))[1][0]) == ["boxes", "labels"]


def test_keypoints_of_several_lengths_are_left_out(tmp_path: Path) -> None:
    rows = [annotation(1, 3), annotation(2, 13, keypoints=[8, 8, 2])]
    experiment = prepared("Detector", coco(tmp_path / "a.json", tmp_path, rows=rows))
    assert sorted(next(iter(experiment.task.train_loader))[1][0]) == ["boxes", "labels", "masks"]


def test_a_file_of_the_keypoints_of_persons_is_taken_where_it_is_alone(tmp_path: Path) -> None:
    for part in ("train", "val"):
        coco(tmp_path / "annotations" / f"person_keypoints_{part}2017.json", tmp_path / f"{part}2017")
    experiment = prepared("Detector", tmp_path, val=True)
    assert "keypoints" in next(iter(experiment.task.train_loader))[1][0]


def test_category_ids_are_labels_where_the_classes_allow_it(tmp_path: Path) -> None:
    path = coco(tmp_path / "a.json", tmp_path)
    labels = [
        int(next(iter(prepared("Detector", path, num_classes=count).task.train_loader))[1][0]["labels"])
        for count in (7, 8)
    ]
    assert labels == [2, 7]


def test_a_part_validates_an_own_detector(tmp_path: Path) -> None:
    coco(tmp_path / "annotations" / "train.json", tmp_path / "train")
    coco(tmp_path / "annotations" / "val.json", tmp_path / "val", count=2)
    experiment = prepared("Detector", tmp_path, val=True, val_batches=1)
    assert experiment.facts["train_images"] == 4
    assert experiment.range_test().curve.measured == "after"


@pytest.mark.parametrize("model, form", [("segmenter", "plain"), ("segmenter_of_torchvision", "segmentation")])
@pytest.mark.parametrize("given", ["found", "named"])
def test_an_own_segmenter_trains_on_masks(tmp_path: Path, model: str, form: str, given: str) -> None:
    if given == "found":
        experiment = prepared(model, folder(tmp_path))
    else:
        folder(tmp_path, images="pictures", masks="drawn")
        experiment = prepared(model, tmp_path / "pictures", masks=str(tmp_path / "drawn"))
    images, masks = next(iter(experiment.task.train_loader))
    assert (images.shape, masks.shape, masks.dtype) == ((2, 3, 64, 64), (2, 64, 64), torch.int64)
    assert (experiment.facts["num_classes"], experiment.facts["image_size"]) == (3, 64)
    curve = experiment.range_test().curve
    assert len(curve.losses) == 3 and curve.facts is not None and curve.facts.form == form


def test_void_pixels_do_not_count_for_an_own_segmenter(tmp_path: Path) -> None:
    task = prepared("segmenter", folder(tmp_path)).task
    images, masks = next(iter(task.train_loader))
    assert task.criterion is not None and (masks == 255).any()
    output = task.model(images)
    changed = output + 1e3 * (masks == 255)[:, None] * torch.arange(3.0)[:, None, None]
    assert torch.allclose(task.criterion(output, masks), task.criterion(changed, masks))


def test_a_named_loss_leaves_void_pixels_out_where_it_can(tmp_path: Path) -> None:
    criterion = prepared("segmenter", folder(tmp_path), loss="CrossEntropyLoss").task.criterion
    assert criterion is not None and criterion.ignore_index == 255
    assert not hasattr(prepared("segmenter", folder(tmp_path), loss="MSELoss").task.criterion, "ignore_index")


def test_the_batch_size_is_by_default_that_of_the_kind_of_data(tmp_path: Path) -> None:
    path = coco(tmp_path / "coco" / "a.json", tmp_path / "coco")
    assert prepared("Detector", path, batch_size=None).facts["batch_size"] == 2
    assert prepared("segmenter", folder(tmp_path / "masks", 9), batch_size=None).facts["batch_size"] == 8


def test_folders_of_classes_are_labels_also_beside_a_json_file(tmp_path: Path) -> None:
    for name in ("images", "other"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (40, 40)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "classes.json").write_text("{}")
    experiment = prepared("segmenter", tmp_path)
    assert next(iter(experiment.task.train_loader))[1].shape == (2,)


def test_data_that_is_laid_out_otherwise_is_sent_to_a_function(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    sentence = refused("segmenter", tmp_path / "bare")
    assert "Expected PATH/<class>/*.jpg" in sentence
    assert sentence.endswith("and what a function returns, given as `data` module:function.")
    (tmp_path / "bare" / "a.json").write_text('{"images": []}')
    assert "is no COCO file" in refused("Detector", tmp_path / "bare")


@pytest.mark.parametrize("file", ["annotations/instances_{}2017.json", "instances_{}2017.json"])
def test_the_parts_of_coco_are_no_classes(tmp_path: Path, file: str) -> None:
    for part in ("train", "val"):
        coco(tmp_path / file.format(part), tmp_path / f"{part}2017")
    assert prepared("Detector", tmp_path).facts["num_classes"] == 3
    with pytest.raises(LRFinderError, match=r"has a COCO file, .* of a detection model"):
        prepare(Settings(model="resnet18", data=str(tmp_path), **FEW))


def test_sequences_of_frames_are_named_as_single_images(tmp_path: Path) -> None:
    for name in ("a/0/0.png", "a/0/1.png", "b/1/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    frames = "For clips of frames, give `data` as module:function."
    assert any(note.endswith(frames) for note in prepared("segmenter", tmp_path).task.notes)
    Image.new("RGB", (40, 40)).save(tmp_path / "a" / "0.png")
    assert not any(note.endswith(frames) for note in prepared("segmenter", tmp_path).task.notes)


@pytest.mark.parametrize("content", ["{}", '{"classes": ["a", "b"]}', ""])
def test_a_json_file_without_images_is_taken_for_no_coco_file(tmp_path: Path, content: str) -> None:
    """Configurations and names of classes lie beside images and masks; what is missing is said as without them."""
    (tmp_path / "info.json").write_text(content)
    assert "Couldn't find any class folder" in refused("segmenter", tmp_path)
    assert prepared("segmenter", folder(tmp_path)).facts["num_classes"] == 3


def test_masks_beside_other_data_are_refused(tmp_path: Path) -> None:
    sentence = "`masks` says where the masks of a folder of images are"
    assert sentence in refused("segmenter", Path("own_nets:segmenter"), masks=str(tmp_path))
    assert sentence in refused("segmenter", Path("digits"), dataset="CIFAR10", masks=str(tmp_path))


def test_an_image_that_cannot_be_read_is_all_that_is_said(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(b"no image")
    assert refused("segmenter", tmp_path).endswith("Repair it or remove it from the folder.")
