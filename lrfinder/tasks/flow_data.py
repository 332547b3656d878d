"""Pairs of images with the flow between them: .flo files as in FlyingChairs and Sintel, or made up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from lrfinder.errors import SetupError
from lrfinder.tasks.fake import fake_pair, made_up
from lrfinder.tasks.folders import files_below, find_parts
from lrfinder.tasks.image_files import read_image, typical_size
from lrfinder.tasks.samples import Mapped, Samples, folder_name, open_folder

__all__ = ["open_flow", "read_flo"]

LAYOUT = (
    "Expected .flo files with their images: NAME_flow.flo with NAME_img1.ppm and NAME_img2.ppm as in FlyingChairs, or "
    "flow/SCENE/frame_0001.flo with clean/SCENE/frame_0001.png and frame_0002.png as in Sintel."
)

_FAKE_SIZE = 128
_SPLIT = "FlyingChairs_train_val.txt"  # a 1 for each pair to train on, a 2 for each to validate on
_PASSES = ("clean", "final", "images", "image_2")  # folders of images beside the folder "flow"
_NUMBER = re.compile(r"(\d+)$")
_MOST_PIXELS = 10**9

Triple = tuple[str, str, str]  # paths of both images and of the flow


def open_flow(data: str, *, val: bool = False) -> Samples:
    """Pairs of a folder, or made-up ones.

    Args:
        data: ``"fake"`` or a folder.
        val: open the validation part too, where there is one.

    Raises:
        SetupError: there is no such folder, no flow in it, or no images beside the flow.
    """
    if data == "fake":
        return Samples(name="fake", train=made_up(fake_pair, size=_FAKE_SIZE), size=_FAKE_SIZE)
    folder = open_folder(data, "have no flow", LAYOUT)
    if not folder.is_dir():
        raise SetupError(f"{folder} is a file. {LAYOUT}")
    train_folder, val_folder = find_parts(folder, LAYOUT)
    train = _triples(train_folder)
    val_part = _triples(val_folder) if val_folder is not None and val else None
    split = folder / _SPLIT
    if split.is_file():
        train, val_part = _split(split, train)
    return Samples(
        name=folder_name(folder),
        train=Mapped(train, _read_pair),
        val=None if val_part is None else Mapped(val_part, _read_pair),
        size=typical_size([first for first, _, _ in train]),
    )


def _read_pair(paths: Triple) -> tuple[Image.Image, Image.Image, np.ndarray]:
    """First image, second image, and the flow as an array of shape (2, height, width)."""
    first, second, flow = read_image(paths[0]), read_image(paths[1]), read_flo(paths[2])
    if not first.size == second.size == (flow.shape[2], flow.shape[1]):
        raise SetupError(
            f"{paths[0]}, {paths[1]} and {paths[2]} must have one size; they have {first.width}x{first.height}, "
            f"{second.width}x{second.height} and {flow.shape[2]}x{flow.shape[1]} pixels."
        )
    return first, second, flow


def read_flo(path: str) -> np.ndarray:
    """Flow of a .flo file (Middlebury), shape (2, height, width): pixels to the right and down.

    Raises:
        SetupError: it is no such file, or cut off.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}.") from error
    width, height = np.frombuffer(content[4:12], "<i4").tolist() if len(content) >= 12 else (0, 0)
    fits = content[:4] == b"PIEH" and width > 0 and height > 0 and len(content) - 12 == 8 * width * height
    if not fits or width * height > _MOST_PIXELS:
        raise SetupError(f"{path} is no .flo file, or is cut off. Write it again, or remove it from the folder.")
    values = np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2)
    flow: np.ndarray = values.transpose(2, 0, 1).astype(np.float32)
    return flow


def _triples(folder: Path) -> list[Triple]:
    flows = sorted(files_below(folder, (".flo",)))
    if not flows:
        found = files_below(folder, (".pfm", ".flo5", ".npy", ".png"))
        # The flow of KITTI and HD1K is .png, in folders such as flow_occ.
        other = next((path for path in found if path[-4:].lower() != ".png" or "flow" in Path(path).parent.name), None)
        convert = f" {other} is in another format; convert it to .flo." if other else ""
        raise SetupError(f"{folder} has no .flo file.{convert} {LAYOUT}")
    return [(*_images_of(Path(path)), path) for path in flows]


def _images_of(flow: Path) -> tuple[str, str]:
    """The two images that a flow belongs to.

    Raises:
        SetupError: they are not there.
    """
    stem = flow.stem
    if stem.lower().endswith("_flow"):
        names = [flow.with_name(f"{stem[:-5]}_img{number}") for number in (1, 2)]
        return _existing(flow, names)
    number = _NUMBER.search(stem)
    if number is None:
        raise SetupError(f"the name of {flow} does not tell which images it belongs to. {LAYOUT}")
    after = f"{stem[: number.start()]}{int(number[1]) + 1:0{len(number[1])}d}"
    above = next((each for each in flow.parents if each.name == "flow"), None)
    folders = [flow.parent]
    if above is not None:
        folders = [above.parent / name / flow.parent.relative_to(above) for name in _PASSES]
    folder = next((each for each in folders if each.is_dir()), folders[0])
    return _existing(flow, [folder / stem, folder / after])


def _existing(flow: Path, names: Sequence[Path]) -> tuple[str, str]:
    found = []
    for name in names:
        paths = [name.with_name(name.name + end) for end in IMG_EXTENSIONS]
        path = next((each for each in paths if each.is_file()), None)
        if path is None:
            raise SetupError(f"the flow {flow} has no image {name}.* to go with it. {LAYOUT}")
        found.append(str(path))
    return found[0], found[1]


def _split(path: Path, triples: list[Triple]) -> tuple[list[Triple], list[Triple] | None]:
    marks = path.read_text(encoding="utf-8", errors="replace").split()
    if len(marks) != len(triples) or not set(marks) <= {"1", "2"}:
        raise SetupError(f"{path} must have a 1 or a 2 for each of the {len(triples)} .flo files; it has {len(marks)}.")
    parts = {mark: [each for each, its in zip(triples, marks, strict=True) if its == mark] for mark in "12"}
    if not parts["1"]:
        raise SetupError(f"{path} marks no pair with 1, so there is nothing to train on.")
    return parts["1"], parts["2"] or None
