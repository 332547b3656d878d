"""Data sets of pictures, and of patches of pictures."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from advice_bench.tasks.data import Data, data_folder, sample_folder, split, terrain


def digits(classes: range = range(10), *, flat: bool = False) -> Data:
    """Scanned digits of 8x8 pixels, -0.3 to 0.7."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    keep = np.isin(raw.target, classes)
    inputs = torch.tensor(raw.data[keep], dtype=torch.float32) / 16 - 0.3
    target = torch.tensor(raw.target[keep]) - min(classes)
    return split(inputs if flat else inputs.view(-1, 1, 8, 8), target)


def raw_digits() -> Data:
    """Grey levels from 0 to 16, as the file has them: unscaled inputs."""
    data = digits(flat=True)
    return Data(train=((data.train[0] + 0.3) * 16, data.train[1]), val=((data.val[0] + 0.3) * 16, data.val[1]))


def _in_colour() -> list[Tensor]:
    """The two photographs of scikit-learn, 0 to 255."""
    from sklearn.datasets import load_sample_images

    return [torch.tensor(image, dtype=torch.float32) for image in load_sample_images().images]


def _photographs() -> list[Tensor]:
    return [image.mean(2) / 255 for image in _in_colour()]


def patches(*, raw: bool = False) -> Data:
    """8x8 patches of the two photographs of scikit-learn, in grey, to be reproduced; 0 to 255 if ``raw``."""
    windows = torch.cat([image.unfold(0, 8, 8).unfold(1, 8, 8).reshape(-1, 64) for image in _photographs()])
    if raw:
        return split(255 * windows, 255 * windows)
    windows = windows - windows.mean()
    return split(windows / windows.std(), windows / windows.std())


def noisy_patches() -> Data:
    """16x16 patches of them with noise, to be cleaned."""
    grey = _photographs()
    windows = torch.cat([image.unfold(0, 16, 16).unfold(1, 16, 16).reshape(-1, 1, 16, 16) for image in grey])
    windows = (windows - windows.mean()) / windows.std()
    noise = 0.5 * torch.randn(windows.shape, generator=torch.Generator().manual_seed(5))
    return split(windows + noise, windows)


def _colour_patches() -> list[Tensor]:
    """Patches of 16x16 of scikit-learn's two photographs, in colour, from 0 to 1, row after row."""
    return [(image / 255).unfold(0, 16, 12).unfold(1, 16, 12).reshape(-1, 3, 16, 16) for image in _in_colour()]


def altered_patches() -> Data:
    """As they were, blurred, noisy, with colours exchanged, or coarse; which it was is to be guessed."""
    generator = torch.Generator().manual_seed(10)
    images = torch.cat(_colour_patches())
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
    return split((images - images.mean()) / images.std(), target)


def places_of_patches() -> Data:
    """Where a patch was: in one of three strips of the first photograph or of two of the second."""
    parts = [part for image, count in zip(_colour_patches(), (3, 2)) for part in image.chunk(count)]
    images = torch.cat(parts)
    target = torch.repeat_interleave(torch.tensor([len(part) for part in parts]))
    return split((images - images.mean()) / images.std(), target)


def pictures(*classes: str) -> Data:
    """Those classes of CIFAR-10, from the folder of ``--data``."""
    from PIL import Image

    def part(name: str) -> tuple[Tensor, Tensor]:
        inputs, target = [], []
        for label, kind in enumerate(classes):
            for path in sorted((data_folder() / "cifar10-small" / name / kind).glob("*.jpg")):
                inputs.append(torch.tensor(np.asarray(Image.open(path).convert("RGB"))))
                target.append(label)
        return (torch.stack(inputs).permute(0, 3, 1, 2).float() / 255 - 0.47) / 0.25, torch.tensor(target)

    return Data(train=part("train"), val=part("val"))


def _glyphs(alphabet: str) -> tuple[Tensor, Tensor]:
    """Letters in the text fonts that ship with matplotlib, four sizes each, somewhere on 16x16 pixels from 0 to 1."""
    import matplotlib
    from matplotlib.ft2font import FT2Font

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    text = ("DejaVu", "STIXGeneral", "cmb10", "cmr10", "cmss10", "cmti10", "cmtt10")
    paths = [path for path in sorted(folder.glob("*.ttf")) if path.name.startswith(text) and "Display" not in path.name]
    random = np.random.default_rng(0)
    images, labels = [], []
    for path in paths:
        font = FT2Font(str(path))
        for size in (9, 10, 12, 13):
            font.set_size(size, 72)
            for label, letter in enumerate(alphabet):
                font.set_text(letter)
                font.draw_glyphs_to_bitmap()
                glyph = np.asarray(font.get_image())[:16, :16]
                top, left = (random.integers(17 - extent) for extent in glyph.shape)
                image = np.zeros((16, 16), np.float32)
                image[top : top + glyph.shape[0], left : left + glyph.shape[1]] = glyph / 255
                images.append(image)
                labels.append(label)
    return torch.tensor(np.stack(images)), torch.tensor(labels)


def letters(alphabet: str) -> Data:
    """Printed letters with noise."""
    images, labels = _glyphs(alphabet)
    noise = 0.2 * torch.randn(images.shape, generator=torch.Generator().manual_seed(4))
    return split((images + noise - 0.2)[:, None] / 0.35, labels)


def written_over() -> Data:
    """Pieces of a portrait in grey with two letters over each, lighter or darker than it; their pixels are wanted."""
    from PIL import Image

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
    images = torch.stack(inputs)[:, None]
    return split((images - images.mean()) / images.std(), torch.stack(masks)[:, None])


def terrain_patches() -> Data:
    """Patches of 16x16 heights from their averages over 4x4."""
    windows = terrain().unfold(0, 16, 8).unfold(1, 16, 8).reshape(-1, 1, 16, 16)
    windows = windows - windows.mean((2, 3), keepdim=True)
    windows = windows / windows.std()
    return split(functional.avg_pool2d(windows, 4), windows)


def head_patches() -> Data:
    """Patches of a scan of a head; a pixel's brightness from its surroundings, the middle blanked out."""
    with gzip.open(sample_folder() / "s1045.ima.gz") as file:
        scan = torch.tensor(np.frombuffer(file.read(), np.uint16).astype(np.float32).reshape(256, 256))
    scan = (scan - scan.mean()) / scan.std()
    windows = scan.unfold(0, 12, 4).unfold(1, 12, 4).reshape(-1, 1, 12, 12)
    hidden = windows.clone()
    hidden[:, :, 4:8, 4:8] = 0
    return split(hidden, windows[:, :, 4:8, 4:8].flatten(1))
