"""Folders and files that ``lrfind`` must refuse, small and all below one folder."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lrfinder import LossCurve, RangeTestResult, StopReason, SweepConfig

__all__ = ["COCO", "build_all"]


def image(path: Path, *, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)
    return path


def text(path: Path, content: str | bytes = "no image") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def classes(root: Path, *names: str, count: int = 8) -> Path:
    for name in names:
        for i in range(count):
            image(root / name / f"{i}.png")
    return root


def build_all(root: Path) -> None:
    for build in (_class_folders, _odd_images, _mask_folders, _coco_files, _frames, _flows, _weights, _results):
        build(root)
    text(root / "file")
    text(root / "file.png")
    (root / "folder.csv").mkdir()
    (root / "folder.html").mkdir()
    (root / "empty").mkdir()


def _class_folders(root: Path) -> None:
    classes(root / "good", "cat", "dog")
    classes(root / "one", "cat")
    classes(root / "line\nbreak é", "cat")
    classes(root / "val_test", "Val", "Test")
    classes(root / "train_only", "train")
    classes(root / "train_val_flat", "Train", "Val")
    classes(root / "training_validation", "training", "validation")
    classes(root / "train_test", "train", "test")
    classes(root / "images_masks", "images", "masks")
    classes(root / "images_labels", "images", "labels")
    classes(root / "train_images_masks", "train/images", "train/masks")
    classes(root / "checkpoints", "cat", ".ipynb_checkpoints", "__MACOSX")
    classes(root / "own_output", "cat", "lrfind-out")
    text(classes(root / "system_files", "cat") / "dog" / ".DS_Store")
    text(root / "system_files" / "dog" / "Thumbs.db")
    (classes(root / "cycle", "cat") / "all").symlink_to("..", target_is_directory=True)
    (classes(root / "dangling", "cat") / "dog").symlink_to("gone")
    classes(root / "empty_class", "cat").joinpath("dog").mkdir()
    text(classes(root / "text_class", "cat") / "dog" / "notes.txt")
    classes(root / "mixed", "train/cat", "train/dog", "val/cat", "val/cow")
    for i in range(3):
        image(root / "flat" / f"{i}.png")


def _odd_images(root: Path) -> None:
    def one_bad(name: str, content: Callable[[Path], Any], ending: str = ".png") -> None:
        for i in range(2):
            image(root / name / "cat" / f"{i}.png")
            path = root / name / "dog" / f"{i}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            content(path)

    def cut(path: Path) -> None:
        Image.effect_noise((32, 32), 50).save(path)
        path.write_bytes(path.read_bytes()[:300])

    one_bad("truncated", cut)
    one_bad("html_images", lambda path: text(path, "<html>404</html>"), ".jpg")
    one_bad("empty_images", lambda path: text(path, b""))
    one_bad("links_to_nothing", lambda path: path.symlink_to("nowhere"))
    one_bad("nan_images", lambda path: Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(path), ".tif")
    one_bad("negative", lambda path: Image.fromarray(np.full((8, 8), -5, np.int32)).save(path), ".tif")
    one_bad("huge_values", lambda path: Image.fromarray(np.full((8, 8), 1e9, np.float32)).save(path), ".tif")


def masked(root: Path, make: Callable[[Path], Any], *, ending: str = ".png", images: str = "images") -> None:
    for i in range(9):
        image(root / images / f"{i}.png")
        path = root / "masks" / f"{i}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)


def _mask(values: Any, dtype: Any = np.uint8) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(np.array(values, dtype).repeat(4, 0).repeat(4, 1)).save(path)


def _mask_folders(root: Path) -> None:
    good = _mask([[0, 1], [0, 1]])
    masked(root / "masks_good", good)
    masked(root / "masks_other_size", _mask([[0, 1, 1], [0, 1, 1]]))
    masked(root / "masks_zero", _mask([[0, 0], [0, 0]]))
    masked(root / "masks_void", _mask([[255, 255], [255, 255]]))
    masked(root / "masks_range", _mask([[0, 300], [0, 1]], np.int32), ending=".tif")
    masked(root / "masks_negative", _mask([[0, -1], [0, 1]], np.int32), ending=".tif")
    masked(root / "masks_float", _mask([[0, 0.5], [0, 1]], np.float32), ending=".tif")
    masked(root / "masks_nan", _mask([[0, np.nan], [0, 1]], np.float32), ending=".tif")
    masked(root / "masks_coloured", _mask([[[0, 0, 0], [255, 0, 0]]]))
    masked(root / "masks_jpeg", good, ending=".jpg")
    masked(root / "masks_text", text)
    masked(root / "masks_empty", good)
    for path in (root / "masks_empty" / "masks").iterdir():
        path.unlink()
    masked(root / "masks_names", good)
    for path in (root / "masks_names" / "masks").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    masked(root / "masks_twice", good)
    _mask([[0, 1], [0, 1]])(root / "masks_twice" / "masks" / "0_mask.png")
    for i in range(3):
        image(root / "images_only" / "images" / f"{i}.png")


def _coco() -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in range(4)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 3, "bbox": [2, 2, 30, 30], "area": 900, "iscrowd": 0}
            for i in range(4)
        ],
        "categories": [{"id": 3, "name": "cat"}],
    }


def _first(part: str, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[part][0].update(changes)


COCO: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no images": lambda content: content.pop("images"),
    "empty images": lambda content: content["images"].clear(),
    "no annotations": lambda content: content.pop("annotations"),
    "empty annotations": lambda content: content["annotations"].clear(),
    "no categories": lambda content: content.pop("categories"),
    "empty categories": lambda content: content["categories"].clear(),
    "images a dict": lambda content: content.update(images={"0": {}}),
    "image null": lambda content: content["images"].append(None),
    "image id text": _first("images", id="zero"),
    "image id float": _first("images", id=0.5),
    "file name null": _first("images", file_name=None),
    "file name missing": lambda content: content["images"][0].pop("file_name"),
    "file name elsewhere": _first("images", file_name="gone.png"),
    "file name with nul": _first("images", file_name="\0.png"),
    "file name empty": _first("images", file_name=""),
    "bbox short": _first("annotations", bbox=[1, 2, 3]),
    "bbox text": _first("annotations", bbox="1,2,3,4"),
    "bbox null": _first("annotations", bbox=None),
    "bbox nan": _first("annotations", bbox=[1, 2, float("nan"), 4]),
    "bbox infinite": _first("annotations", bbox=[1, 2, float("inf"), 4]),
    "bbox huge": _first("annotations", bbox=[1, 2, 10**400, 4]),
    "bbox true": _first("annotations", bbox=[True, 2, 3, 4]),
    "category unknown": _first("annotations", category_id=99),
    "category null": _first("annotations", category_id=None),
    "category list": _first("annotations", category_id=[3]),
    "category id text": _first("categories", id="cat"),
    "image_id text": _first("annotations", image_id="0"),
    "all without area": lambda content: [each.update(bbox=[1, 1, 0, 0]) for each in content["annotations"]],
    "all crowds": lambda content: [each.update(iscrowd=1) for each in content["annotations"]],
    "all elsewhere": lambda content: [each.update(image_id=77) for each in content["annotations"]],
    "all outside": lambda content: [each.update(bbox=[900, 900, 5, 5]) for each in content["annotations"]],
    "id twice": _first("images", id=1),
}
"""Damages of a COCO file, by name."""


def _coco_files(root: Path) -> None:
    def write(name: str, content: str | bytes) -> Path:
        for i in range(4):
            image(root / name / "images" / f"{i}.png", size=(64, 64))
        return text(root / name / "annotations.json", content)

    for name, damage in COCO.items():
        content = _coco()
        damage(content)
        write(f"coco {name}", json.dumps(content))
    write("coco good", json.dumps(_coco()))
    write("coco cut", json.dumps(_coco())[:-20])
    write("coco nothing", "")
    write("coco list", "[]")
    write("coco deep", "[" * 100_000)
    write("coco latin", json.dumps(_coco()).encode() + b"\xff")
    write("coco two", json.dumps(_coco()))
    text(root / "coco two" / "other.json", json.dumps(_coco()))
    for i, keypoints in enumerate(([1, 2], "points", [None] * 3, [[1, 2, 3]])):
        content = _coco()
        _each(content, keypoints=keypoints)
        write(f"coco keypoints {i}", json.dumps(content))


def _each(content: dict[str, Any], **changes: Any) -> None:
    for each in content["annotations"]:
        each.update(changes)


def _frames(root: Path) -> None:
    classes(root / "frames_no_sequence", "run", "jump")
    classes(root / "frames_one", "run/1", "run/2")
    text(root / "frames_encoded" / "run" / "1.mp4")
    text(root / "frames_encoded" / "jump" / "1.mp4")
    text(root / "film.mp4")
    classes(root / "frames_empty", "run/1").joinpath("jump", "1").mkdir(parents=True)
    for name in ("run", "jump"):
        for i in range(12):
            for frame in range(2):
                image(root / "frames_bad" / name / str(i) / f"{frame}.png")
            text(root / "frames_bad" / name / str(i) / "1.png")


def _flow(width: int = 8, height: int = 8, *, magic: bytes = b"PIEH", cut: int = 0) -> bytes:
    content = magic + struct.pack("<ii", width, height) + bytes(8 * 8 * 8)
    return content[: len(content) - cut]


def _flows(root: Path) -> None:
    def pairs(name: str, content: bytes, *, second: bool = True, size: tuple[int, int] = (8, 8)) -> None:
        for i in range(4):
            text(root / name / f"{i}_flow.flo", content)
            image(root / name / f"{i}_img1.ppm", size=size)
            if second:
                image(root / name / f"{i}_img2.ppm", size=size)

    pairs("flow_magic", _flow(magic=b"HEIP"))
    pairs("flow_cut", _flow(cut=4))
    pairs("flow_negative", _flow(-8, -8))
    pairs("flow_huge", _flow(2**31 - 1, 2**31 - 1))
    pairs("flow_nothing", b"")
    pairs("flow_size", _flow(), size=(9, 8))
    pairs("flow_no_second", _flow(), second=False)
    pairs("flow_split", _flow())
    text(root / "flow_split" / "FlyingChairs_train_val.txt", "1 2")
    pairs("flow_no_train", _flow())
    text(root / "flow_no_train" / "FlyingChairs_train_val.txt", "2 2 2 2")
    text(root / "flow_name" / "flow.flo", _flow())
    text(root / "flow_other" / "1.pfm", "x")


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code ran",)


def _weights(root: Path) -> None:
    folder = root / "weights"
    text(folder / "text.pth", "weights")
    text(folder / "page.pth", "<!DOCTYPE html><html>404</html>")
    text(folder / "empty.pth", "")
    text(folder / "code.pth", pickle.dumps(_Code()))
    text(folder / "empty.safetensors", "")
    text(folder / "damaged.safetensors", struct.pack("<Q", 2**60) + b"{}")
    text(folder / "header.safetensors", struct.pack("<Q", 2) + b"[]")
    text(folder / "offsets.safetensors", _safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]}}))
    text(folder / "dtype.safetensors", _safetensors({"a": {"dtype": "F3", "shape": [2], "data_offsets": [0, 8]}}))
    torch.save({}, folder / "nothing.pth")
    torch.save([torch.ones(2)], folder / "list.pth")
    torch.save({"other": torch.ones(2)}, folder / "other.pth")
    torch.save({"classifier.1.weight": torch.ones(3)}, folder / "shape.pth")
    torch.save({"code": _Code()}, folder / "object.pth")
    torch.save({"a": torch.ones(1000)}, folder / "cut.pth")
    (folder / "cut.pth").write_bytes((folder / "cut.pth").read_bytes()[:900])


def _safetensors(header: dict[str, Any]) -> bytes:
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + bytes(8)


def _results(root: Path) -> None:
    lrs = tuple(10 ** (-5 + i / 10) for i in range(50))
    losses = tuple(2.0 - 1.5 / (1 + (0.01 / lr) ** 2) for lr in lrs)
    config = SweepConfig(start_lr=lrs[0], end_lr=lrs[-1], num_iter=50)
    curve = LossCurve(lrs=lrs, losses=losses, stop=StopReason.COMPLETED, config=config)
    good = RangeTestResult(curve=curve)
    good.save(root / "good.json")
    content = json.loads((root / "good.json").read_text())
    text(root / "cut.json", json.dumps(content)[:200])
    text(root / "empty.json", "")
    text(root / "number.json", "1")
    text(root / "null.json", "null")
    text(root / "deep.json", "[" * 100_000)
    text(root / "binary.json", bytes(range(256)))
    text(root / "newer.json", json.dumps({**content, "version": 10**6, "format_version": 10**6}))
    text(root / "no_curve.json", json.dumps({key: value for key, value in content.items() if key != "curve"}))
    text(root / "curve_text.json", json.dumps({**content, "curve": "curve"}))
    for name, changes in {
        "lrs_text": {"lrs": ["a"] * 50},
        "lrs_short": {"lrs": [1.0]},
        "lrs_negative": {"lrs": [-1.0] * 50},
        "losses_null": {"losses": None},
        "losses_text": {"losses": ["x"] * 50},
        "stop_unknown": {"stop": "tired"},
        "config_null": {"config": None},
    }.items():
        text(root / f"{name}.json", json.dumps({**content, "curve": {**content["curve"], **changes}}))
    text(root / "notebook.ipynb", json.dumps({"cells": [], "nbformat": 4}))
