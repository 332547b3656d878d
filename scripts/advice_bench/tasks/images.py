"""Data sets of pictures, and of patches of pictures."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.ft2font import FT2Font
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor
from torch.nn import functional

from advice_bench.tasks.data import Data, data_folder, sample_folder, scaled, split, terrain


def digits(classes: range = range(10), *, flat: bool = False, raw: bool = False) -> Data:
    """Scanned digits of 8x8 pixels, -0.3 to 0.7; if ``raw`` the grey levels of the file, 0 to 16."""
    inputs, target = load_digits(return_X_y=True)
    keep = np.isin(target, classes)
    images = torch.tensor(inputs[keep], dtype=torch.float32)
    images = images if raw else images / 16 - 0.3
    return split(images if flat else images.view(-1, 1, 8, 8), target[keep] - min(classes))


def _photographs() -> list[Tensor]:
    """The two photographs of scikit-learn in colour, 0 to 255."""
    return [torch.tensor(image, dtype=torch.float32) for image in load_sample_images().images]


def _windows(image: Tensor, size: int, step: int) -> Tensor:
    """Square windows of a picture, row after row; its last dimension is the colour."""
    return image.unfold(0, size, step).unfold(1, size, step).reshape(-1, image.shape[2], size, size)


def _grey_windows(size: int) -> Tensor:
    """Windows of the photographs in grey, side by side, 0 to 1."""
    return torch.cat([_windows(image.mean(2, keepdim=True) / 255, size, size) for image in _photographs()])


def _colour_windows() -> list[Tensor]:
    """Overlapping windows of 16x16 of each photograph, 0 to 1."""
    return [_windows(image / 255, 16, 12) for image in _photographs()]


def patches(*, raw: bool = False) -> Data:
    """8x8 patches of the two photographs of scikit-learn, in grey, to be reproduced; 0 to 255 if ``raw``."""
    windows = _grey_windows(8).flatten(1)
    if raw:
        return split(255 * windows, 255 * windows)
    windows = windows - windows.mean()
    return split(windows / windows.std(), windows / windows.std())


def noisy_patches() -> Data:
    """16x16 patches of them with noise, to be cleaned."""
    windows = scaled(_grey_windows(16))
    noise = 0.5 * torch.randn(windows.shape, generator=torch.Generator().manual_seed(5))
    return split(windows + noise, windows)


def altered_patches() -> Data:
    """As they were, blurred, noisy, with colours exchanged, or coarse; which it was is to be guessed."""
    generator = torch.Generator().manual_seed(10)
    images = torch.cat(_colour_windows())
    target = torch.randint(5, (len(images),), generator=generator)
    changes: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: x,
        lambda x: functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
        lambda x: x + 0.05 * torch.randn(x.shape, generator=generator),
        lambda x: x.flip(1),
        lambda x: (4 * x).round() / 4,
    )
    for label, change in enumerate(changes):
        images[target == label] = change(images[target == label])
    return split(scaled(images), target)


def places_of_patches() -> Data:
    """Where a patch was: in one of three strips of the first photograph or of two of the second."""
    parts = [part for image, count in zip(_colour_windows(), (3, 2)) for part in image.chunk(count)]
    return split(scaled(torch.cat(parts)), np.repeat(np.arange(5), [len(part) for part in parts]))


def pictures(*classes: str) -> Data:
    """Those classes of CIFAR-10, from the folder of ``--data``."""

    def part(name: str) -> tuple[Tensor, Tensor]:
        folders = [data_folder() / "cifar10-small" / name / kind for kind in classes]
        paths = [(label, path) for label, folder in enumerate(folders) for path in sorted(folder.glob("*.jpg"))]
        images = torch.tensor(np.stack([np.asarray(Image.open(path).convert("RGB")) for _, path in paths]))
        return (images.permute(0, 3, 1, 2).float() / 255 - 0.47) / 0.25, torch.tensor([label for label, _ in paths])

    return Data(train=part("train"), val=part("val"))


def _glyphs(alphabet: str) -> tuple[Tensor, Tensor]:
    """Letters in the text fonts that ship with matplotlib, four sizes each, somewhere on 16x16 pixels from 0 to 1."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    text = ("DejaVu", "STIXGeneral", "cmb10", "cmr10", "cmss10", "cmti10", "cmtt10")
    paths = [path for path in sorted(folder.glob("*.ttf")) if path.name.startswith(text) and "Display" not in path.name]
    random = np.random.default_rng(0)
    kinds = [(path, size, letter) for path in paths for size in (9, 10, 12, 13) for letter in alphabet]
    images = torch.zeros(len(kinds), 16, 16)
    for image, (path, size, letter) in zip(images, kinds):
        font = FT2Font(str(path))
        font.set_size(size, 72)
        font.set_text(letter)
        font.draw_glyphs_to_bitmap()
        glyph = torch.tensor(np.asarray(font.get_image())[:16, :16]) / 255
        height, width = glyph.shape
        top, left = random.integers(17 - height), random.integers(17 - width)
        image[top : top + height, left : left + width] = glyph
    return images, torch.arange(len(alphabet)).repeat(len(kinds) // len(alphabet))


def letters(alphabet: str) -> Data:
    """Printed letters with noise."""
    images, labels = _glyphs(alphabet)
    noise = 0.2 * torch.randn(images.shape, generator=torch.Generator().manual_seed(4))
    return split((images + noise - 0.2)[:, None] / 0.35, labels)


def written_over() -> Data:
    """Pieces of a portrait in grey with two letters over each, lighter or darker than it; their pixels are wanted."""
    with Image.open(sample_folder() / "grace_hopper.jpg") as file:
        portrait = torch.tensor(np.asarray(file.convert("L"), dtype=np.float32)) / 255
    glyphs, _ = _glyphs("ABDEFGHKMNPRSTWXZ")
    generator = torch.Generator().manual_seed(6)

    def draw(limit: int) -> int:
        return int(torch.randint(limit, (1,), generator=generator))

    inputs, masks = [], []
    for _ in range(1800):
        top, left = draw(portrait.shape[0] - 23), draw(portrait.shape[1] - 23)
        mask = torch.zeros(24, 24)
        for _ in range(2):
            row, column = draw(9), draw(9)
            place = mask[row : row + 16, column : column + 16]
            place.copy_(torch.maximum(place, glyphs[draw(len(glyphs))]))
        contrast = (0.15 + 0.25 * float(torch.rand(1, generator=generator))) * (1 - 2 * draw(2))
        inputs.append(portrait[top : top + 24, left : left + 24] + contrast * mask)
        masks.append((mask > 0.5).float())
    return split(scaled(torch.stack(inputs)[:, None]), torch.stack(masks)[:, None])


def terrain_patches() -> Data:
    """Patches of 16x16 heights from their averages over 4x4."""
    windows = _windows(terrain()[:, :, None], 16, 8)
    windows = windows - windows.mean((2, 3), keepdim=True)
    windows = windows / windows.std()
    return split(functional.avg_pool2d(windows, 4), windows)


def head_patches() -> Data:
    """Patches of a scan of a head; a pixel's brightness from its surroundings, the middle blanked out."""
    with gzip.open(sample_folder() / "s1045.ima.gz") as file:
        scan = np.frombuffer(file.read(), np.uint16).astype(np.float32).reshape(256, 256, 1)
    windows = _windows(scaled(torch.tensor(scan)), 12, 4)
    hidden = windows.clone()
    hidden[:, :, 4:8, 4:8] = 0
    return split(hidden, windows[:, :, 4:8, 4:8].flatten(1))
