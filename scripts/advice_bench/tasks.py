"""The tasks: data sets, models, and the cells (task, optimizer, schedule, length) that the benchmark trains.

Cells are split by family (a data set with an architecture). The split stands here and was fixed before any constant
was fitted to it. Methods are made on calibration cells and chosen between with the validation cells beside them; the
constants are then fitted to both. Held-out cells have no part in either and are looked at once for each released
calibration.

The first calibration was looked at on the cells called ``first held-out`` (results/advice-first.md) and did worse on
them than it should. So they joined those that are fitted to. The second was looked at on the cells called ``second
held-out`` (results/advice-second.md), and the third on those called ``third held-out`` (results/advice-third.md); both
then joined the fit likewise, and the fourth has new ``held-out`` cells.

The data come from scikit-learn (digits, breast cancer, diabetes, wine, two photographs) and from Python's standard
library (its sources and its help texts). With ``--data`` also: ``adult.csv`` (UCI census) and ``cifar10-small`` (an
image folder), of which vehicles are calibration and animals first held-out: other pictures, classes and models. The
second held-out cells are made from sample data that ships with matplotlib (a terrain, a scan of a head, an EEG), from
the names of Unicode characters, from iris, and from two generators of scikit-learn. The third held-out cells are made
from the letters of matplotlib's fonts, its portrait and its recording of a nerve cell, from the words that the modules
of the standard library use, from simulated charges and clouds of points, and, with ``--data``, from the census (another
target) and from all ten classes of pictures. The held-out cells are made from a third generator of scikit-learn, from
pieces of its photographs in colour (what was done to them), from the bytecode and the packages of the standard library,
and from simulated heartbeats, chirps and a Lorenz system; none needs ``--data``.
"""

from __future__ import annotations

import functools
import pkgutil
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

__all__ = ["CELLS", "Cell", "Task", "build", "use_data"]

_FOLDER: list[Path] = []  # what --data names


def use_data(folder: Path | None) -> None:
    """Where ``adult.csv`` and ``cifar10-small`` lie; cells that need them are left out without it."""
    _FOLDER[:] = [folder] if folder is not None else []


@dataclass(frozen=True, kw_only=True)
class Data:
    train: tuple[Tensor, ...]
    val: tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training whose best learning rate is looked for.

    Args:
        name: unique; family, optimizer, schedule and what is special.
        family: data set and architecture.
        split: ``"calibration"``, ``"validation"``, ``"first held-out"``, ``"second held-out"``, ``"third held-out"`` or
            ``"held-out"``.
        data: makes the data set.
        model: makes the model, at random.
        loss: ``loss(output, target) -> scalar``.
        optimizer: class in ``torch.optim``, with ``options``.
        schedule: onecycle, cosine, step, or constant, as in :mod:`lrfinder.schedules`.
        steps: optimizer steps of the whole training.
        batch: batch size.
        start: ``"scratch"``, or how the weights came about: ``"continue"`` (trained on the same data before),
            ``"fine-tune"`` (trained on other classes, new last layer), ``"frozen"`` (as that, and nothing else learns).
        before: data set of that first training; None for the same.
    """

    name: str
    family: str
    split: str
    data: Callable[[], Data]
    model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: str
    schedule: str
    steps: int
    batch: int
    options: tuple[tuple[str, float], ...] = ()
    start: str = "scratch"
    before: Callable[[], Data] | None = None
    before_steps: int = 300
    needs: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a user has before training."""

    cell: Cell
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loader: DataLoader[Any]
    val: tuple[Tensor, ...]

    def val_loss(self) -> float:
        """Loss on the whole validation set, in eval mode."""
        training = self.model.training
        self.model.eval()
        inputs, target = self.val
        with torch.no_grad():
            losses = [
                float(self.cell.loss(self.model(inputs[i : i + 512]), target[i : i + 512])) * len(inputs[i : i + 512])
                for i in range(0, len(inputs), 512)
            ]
        self.model.train(training)
        return sum(losses) / len(inputs)

    def val_loader(self) -> list[tuple[Tensor, Tensor]]:
        inputs, target = self.val
        return [(inputs[i : i + 512], target[i : i + 512]) for i in range(0, len(inputs), 512)]


def build(cell: Cell, seed: int, *, lr: float = 1e-3, cache: Path | None = None) -> Task:
    """The cell's model, optimizer and loader; the seed decides the weights (from scratch) and the order of the data."""
    torch.manual_seed(1000 + seed)
    data = cell.data()
    model = cell.model()
    if cell.start != "scratch":
        model.load_state_dict(_trained(cell, cache))
        if cell.start in ("fine-tune", "frozen"):
            list(model.modules())[-1].reset_parameters()  # type: ignore[operator]
        if cell.start == "frozen":
            for parameter in model.parameters():
                parameter.requires_grad_(False)
            for parameter in list(model.modules())[-1].parameters():
                parameter.requires_grad_(True)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = getattr(torch.optim, cell.optimizer)(parameters, lr=lr, **dict(cell.options))
    return Task(cell=cell, model=model, optimizer=optimizer, loader=_loader(data, cell.batch, seed), val=data.val)


def _loader(data: Data, batch: int, seed: int) -> DataLoader[Any]:
    dataset = TensorDataset(*data.train)
    order = RandomSampler(dataset, generator=torch.Generator().manual_seed(seed))
    # Whole batches by index: collating single samples would take longer than training on them.
    return DataLoader(dataset, sampler=BatchSampler(order, batch, drop_last=True), batch_size=None)


def batches(loader: DataLoader[Any], count: int) -> Iterator[Any]:
    done = 0
    while True:
        for batch in loader:
            if done == count:
                return
            done += 1
            yield batch


def _trained(cell: Cell, cache: Path | None) -> dict[str, Tensor]:
    """Weights after a first training with Adam and cosine; a plain 3e-3, which trains all of these."""
    path = cache / f"{cell.family}-{cell.start}.pt" if cache is not None else None
    if path is not None and path.exists():
        return dict(torch.load(path))
    state = torch.get_rng_state()
    torch.manual_seed(7)
    model = cell.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, cell.before_steps)
    data = (cell.before or cell.data)()
    for inputs, target in batches(_loader(data, 32, 7), cell.before_steps):
        optimizer.zero_grad()
        cell.loss(model(inputs), target).backward()
        optimizer.step()
        scheduler.step()
    torch.set_rng_state(state)
    if path is not None:
        partial = path.with_suffix(f".{id(model)}.part")
        torch.save(model.state_dict(), partial)
        partial.replace(path)
    return model.state_dict()


# Data. Each is made once a process and split at random, but always alike.


def _split(inputs: Any, target: Any, val: float = 0.2) -> Data:
    inputs, target = torch.as_tensor(inputs), torch.as_tensor(target)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(1))
    held = round(val * len(inputs))
    first, rest = order[:held], order[held:]
    return Data(train=(inputs[rest], target[rest]), val=(inputs[first], target[first]))


def _standard(data: Data) -> Data:
    mean, deviation = data.train[0].mean(0), data.train[0].std(0) + 1e-6
    return Data(
        train=((data.train[0] - mean) / deviation, data.train[1]), val=((data.val[0] - mean) / deviation, data.val[1])
    )


def _digits_of(classes: tuple[int, ...], flat: bool) -> Data:
    from sklearn.datasets import load_digits

    raw = load_digits()
    keep = np.isin(raw.target, classes)
    inputs = torch.tensor(raw.data[keep], dtype=torch.float32) / 16 - 0.3
    target = torch.tensor(raw.target[keep]) - min(classes)
    return _split(inputs if flat else inputs.view(-1, 1, 8, 8), target)


@functools.cache
def digits() -> Data:
    return _digits_of(tuple(range(10)), flat=True)


@functools.cache
def raw_digits() -> Data:
    """Grey levels from 0 to 16, as the file has them: inputs that nobody scaled."""
    data = digits()
    return Data(train=((data.train[0] + 0.3) * 16, data.train[1]), val=((data.val[0] + 0.3) * 16, data.val[1]))


@functools.cache
def digit_images() -> Data:
    return _digits_of(tuple(range(10)), flat=False)


@functools.cache
def low_digits() -> Data:
    return _digits_of(tuple(range(5)), flat=False)


@functools.cache
def high_digits() -> Data:
    return _digits_of(tuple(range(5, 10)), flat=False)


@functools.cache
def adult() -> Data:
    table = np.loadtxt(_FOLDER[0] / "adult.csv", delimiter=",", skiprows=1, dtype=np.float32)
    table[:, 3:5] = np.log1p(table[:, 3:5])  # capital gain and loss
    return _standard(_split(table[:, :-1], table[:, -1].astype(np.int64), val=0.1))


@functools.cache
def diabetes() -> Data:
    from sklearn.datasets import load_diabetes

    inputs, target = load_diabetes(return_X_y=True)
    scaled = (target - target.mean()) / target.std()
    return _standard(_split(inputs.astype(np.float32), scaled.astype(np.float32)[:, None]))


@functools.cache
def raw_diabetes() -> Data:
    """The target as the file has it, 25 to 346: a squared error in the ten thousands."""
    from sklearn.datasets import load_diabetes

    inputs, target = load_diabetes(return_X_y=True)
    return _standard(_split(inputs.astype(np.float32), target.astype(np.float32)[:, None]))


@functools.cache
def breast_cancer() -> Data:
    from sklearn.datasets import load_breast_cancer

    inputs, target = load_breast_cancer(return_X_y=True)
    return _standard(_split(inputs.astype(np.float32), target))


@functools.cache
def wine() -> Data:
    from sklearn.datasets import load_wine

    inputs, target = load_wine(return_X_y=True)
    return _standard(_split(inputs.astype(np.float32), target, val=0.3))


@functools.cache
def raw_wine() -> Data:
    """Features in their own units, from tenths to a thousand."""
    from sklearn.datasets import load_wine

    inputs, target = load_wine(return_X_y=True)
    return _split(inputs.astype(np.float32), target, val=0.3)


@functools.cache
def large_teacher() -> Data:
    """:func:`teacher` in units twenty times smaller: all gradients are larger, and nothing else has changed."""
    data = teacher()
    return Data(train=(data.train[0], 20 * data.train[1]), val=(data.val[0], 20 * data.val[1]))


@functools.cache
def teacher() -> Data:
    """A random two-layer net with strong noise on its output: a task whose best loss is far from zero."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(4000, 20, generator=generator)
    hidden = torch.relu(inputs @ torch.randn(20, 30, generator=generator) / 20**0.5)
    clean = hidden @ torch.randn(30, 1, generator=generator) / 30**0.5
    return _split(inputs, clean + 0.5 * torch.randn(4000, 1, generator=generator))


@functools.cache
def patches() -> Data:
    """8x8 patches of scikit-learn's two photographs, in grey, to be reproduced."""
    grey = _photographs()
    windows = torch.cat([image.unfold(0, 8, 8).unfold(1, 8, 8).reshape(-1, 64) for image in grey])
    windows = windows - windows.mean()
    return _split(windows / windows.std(), windows / windows.std())


@functools.cache
def raw_patches() -> Data:
    """Grey levels from 0 to 255."""
    windows = torch.cat([image.unfold(0, 8, 8).unfold(1, 8, 8).reshape(-1, 64) for image in _photographs()])
    return _split(255 * windows, 255 * windows)


@functools.cache
def noisy_patches() -> Data:
    """16x16 patches of them with noise, to be cleaned."""
    grey = _photographs()
    windows = torch.cat([image.unfold(0, 16, 16).unfold(1, 16, 16).reshape(-1, 1, 16, 16) for image in grey])
    windows = (windows - windows.mean()) / windows.std()
    noise = 0.5 * torch.randn(windows.shape, generator=torch.Generator().manual_seed(5))
    return _split(windows + noise, windows)


def _photographs() -> list[Tensor]:
    return [image.mean(2) / 255 for image in _in_colour()]


def _in_colour() -> list[Tensor]:
    """From 0 to 255."""
    from sklearn.datasets import load_sample_images

    return [torch.tensor(image, dtype=torch.float32) for image in load_sample_images().images]


def _windows(text: str, length: int, count: int) -> Data:
    letters = sorted(set(text))
    table = {letter: i for i, letter in enumerate(letters)}
    codes = torch.tensor([table[letter] for letter in text])
    starts = torch.linspace(0, len(codes) - length - 2, count).long()
    rows = torch.stack([codes[start : start + length + 1] for start in starts.tolist()])
    return _split(rows[:, :-1], rows[:, 1:], val=0.1)


def _ascii(text: str) -> str:
    return "".join(letter if letter == "\n" or " " <= letter <= "~" else "?" for letter in text)


@functools.cache
def source_code() -> Data:
    """Characters of some modules of the standard library."""
    names = ("argparse", "datetime", "decimal", "doctest", "inspect", "pickle", "tarfile", "typing", "_pydecimal")
    return _windows("".join(map(_ascii, _sources(names)))[:400_000], 24, 6000)


def _sources(names: tuple[str, ...]) -> list[str]:
    """Texts of those modules of the standard library; what this Python does not have is left out."""
    paths = [Path(sysconfig.get_path("stdlib")) / f"{name}.py" for name in names]
    return [path.read_text(encoding="utf-8") for path in paths if path.exists()]


@functools.cache
def help_text() -> Data:
    """Characters of Python's own help: English prose."""
    topics = _topics()
    return _windows(_ascii("".join(topics[key] for key in sorted(topics)))[:500_000], 24, 6000)


def _topics() -> dict[str, str]:
    spec = pkgutil.resolve_name("pydoc_data.topics:topics")
    return dict(spec)


@functools.cache
def help_topics() -> Data:
    """Lines of the eight longest help topics as bags of hashed words; the topic is to be guessed."""
    import zlib

    topics = _topics()
    longest = sorted(topics, key=lambda key: -len(topics[key]))[:8]
    rows, labels = [], []
    for label, key in enumerate(longest):
        for line in topics[key].splitlines():
            words = line.split()
            if len(words) >= 4:
                hashed = [1 + zlib.crc32(word.lower().encode()) % 1999 for word in words[:16]]
                rows.append(hashed + [0] * (16 - len(hashed)))
                labels.append(label)
    return _split(np.array(rows), np.array(labels))


def _sample(name: str) -> Any:
    from matplotlib import cbook

    return cbook.get_sample_data(name)


@functools.cache
def terrain_points() -> Data:
    """Height of a mountain range (USGS) from coordinates, given as sines of several wavelengths."""
    height = torch.tensor(np.asarray(_sample("jacksboro_fault_dem.npz")["elevation"], dtype=np.float32))
    height = (height - height.mean()) / height.std()
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, height.shape[0]), torch.linspace(-1, 1, height.shape[1]), indexing="ij"
    )
    places = torch.stack([rows.flatten(), columns.flatten()], 1)
    waves = torch.cat([wave(places * 3.14159 * 2**k) for k in range(5) for wave in (torch.sin, torch.cos)], 1)
    some = torch.randperm(len(waves), generator=torch.Generator().manual_seed(2))[:20_000]
    return _split(waves[some], height.flatten()[some, None])


@functools.cache
def terrain_patches() -> Data:
    """Patches of 16x16 heights from their averages over 4x4."""
    height = torch.tensor(np.asarray(_sample("jacksboro_fault_dem.npz")["elevation"], dtype=np.float32))
    windows = height.unfold(0, 16, 8).unfold(1, 16, 8).reshape(-1, 1, 16, 16)
    windows = windows - windows.mean((2, 3), keepdim=True)
    windows = windows / windows.std()
    return _split(functional.avg_pool2d(windows, 4), windows)


@functools.cache
def head_patches() -> Data:
    """Patches of a scan of a head; a pixel's brightness from its surroundings, the middle blanked out."""
    import gzip
    from pathlib import PurePath

    import matplotlib

    path = Path(matplotlib.get_data_path()) / PurePath("sample_data", "s1045.ima.gz")
    with gzip.open(path) as file:
        scan = torch.tensor(np.frombuffer(file.read(), np.uint16).astype(np.float32).reshape(256, 256))
    scan = (scan - scan.mean()) / scan.std()
    windows = scan.unfold(0, 12, 4).unfold(1, 12, 4).reshape(-1, 1, 12, 12)
    hidden = windows.clone()
    hidden[:, :, 4:8, 4:8] = 0
    return _split(hidden, windows[:, :, 4:8, 4:8].flatten(1))


@functools.cache
def eeg() -> Data:
    """The next sample of four EEG channels from the last 24."""
    path = Path(_sample_folder()) / "eeg.dat"
    waves = torch.tensor(np.fromfile(path, dtype=float).reshape(-1, 4).astype(np.float32))
    waves = (waves - waves.mean(0)) / waves.std(0)
    windows = waves.unfold(0, 25, 1).transpose(1, 2)
    return _split(windows[:, :-1].contiguous(), windows[:, -1].contiguous())


def _sample_folder() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "sample_data")


def _names_of(categories: tuple[str, ...]) -> Data:
    """Names of Unicode characters, letter by letter; the category of the character is to be guessed."""
    import unicodedata

    names, labels = [], []
    for label, category in enumerate(categories):
        found = []
        for code in range(0x20, 0x20000):
            name = unicodedata.name(chr(code), "")
            if name and unicodedata.category(chr(code)) == category and not name.startswith(("CJK", "HANGUL")):
                found.append(name)
        for name in found[:: max(1, len(found) // 800)][:800]:
            letters = [1 + ord(letter) % 64 for letter in name[:28]]
            names.append(letters + [0] * (28 - len(letters)))
            labels.append(label)
    return _split(np.array(names), np.array(labels))


@functools.cache
def names() -> Data:
    return _names_of(("Lo", "So", "Ll", "Lu", "Mn"))


@functools.cache
def other_names() -> Data:
    return _names_of(("Sm", "No", "Nd", "Po", "Mc"))


@functools.cache
def iris() -> Data:
    from sklearn.datasets import load_iris

    inputs, target = load_iris(return_X_y=True)
    return _standard(_split(inputs.astype(np.float32), target, val=0.3))


@functools.cache
def moons() -> Data:
    """Two interleaved half circles with a tenth of the labels wrong: a task with noise that can be learnt by heart."""
    from sklearn.datasets import make_moons

    inputs, target = make_moons(1500, noise=0.15, random_state=0)
    wrong = np.random.default_rng(0).random(1500) < 0.1
    return _split(inputs.astype(np.float32), np.where(wrong, 1 - target, target))


@functools.cache
def friedman() -> Data:
    from sklearn.datasets import make_friedman1

    inputs, target = make_friedman1(3000, n_features=10, noise=1.0, random_state=0)
    return _split(inputs.astype(np.float32), target.astype(np.float32)[:, None])


def _pictures(classes: tuple[str, ...]) -> Data:
    from PIL import Image

    def part(name: str) -> tuple[Tensor, Tensor]:
        inputs, target = [], []
        for label, kind in enumerate(classes):
            for path in sorted((_FOLDER[0] / "cifar10-small" / name / kind).glob("*.jpg")):
                inputs.append(torch.tensor(np.asarray(Image.open(path).convert("RGB"))))
                target.append(label)
        return (torch.stack(inputs).permute(0, 3, 1, 2).float() / 255 - 0.47) / 0.25, torch.tensor(target)

    return Data(train=part("train"), val=part("val"))


@functools.cache
def vehicles() -> Data:
    return _pictures(("airplane", "automobile", "ship", "truck"))


@functools.cache
def animals() -> Data:
    return _pictures(("bird", "cat", "deer", "dog", "frog", "horse"))


@functools.cache
def pictures() -> Data:
    return _pictures(("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"))


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


def _letters_of(alphabet: str) -> Data:
    images, labels = _glyphs(alphabet)
    noise = 0.2 * torch.randn(images.shape, generator=torch.Generator().manual_seed(4))
    return _split((images + noise - 0.2)[:, None] / 0.35, labels)


@functools.cache
def capitals() -> Data:
    return _letters_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@functools.cache
def small_letters() -> Data:
    return _letters_of("abcdefghijklmnopqrstuvwxyz")


@functools.cache
def written_over() -> Data:
    """Pieces of a portrait in grey with two letters over each, lighter or darker than it; their pixels are wanted."""
    from PIL import Image

    with Image.open(Path(_sample_folder()) / "grace_hopper.jpg") as file:
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
    return _split((images - images.mean()) / images.std(), torch.stack(masks)[:, None])


@functools.cache
def membrane() -> Data:
    """The next eight samples of the potential of a nerve cell from the last 32."""
    voltage = torch.tensor(np.fromfile(Path(_sample_folder()) / "membrane.dat", dtype=np.float32))
    windows = ((voltage - voltage.mean()) / voltage.std()).unfold(0, 40, 2)
    return _split(windows[:, :32, None].contiguous(), windows[:, 32:].contiguous())


@functools.cache
def charges() -> Data:
    """Five charged bodies with drag in a plane: how their velocities have changed a while later."""
    generator = torch.Generator().manual_seed(8)
    place, speed = torch.randn(3000, 5, 2, generator=generator), 0.5 * torch.randn(3000, 5, 2, generator=generator)
    charge = torch.randn(3000, 5, 1, generator=generator)
    inputs, before = torch.cat([place, speed, charge], 2), speed
    for _ in range(40):
        place = place + 0.0125 * speed
        apart = place[:, :, None] - place[:, None]
        force = charge[:, :, None] * charge[:, None] * apart / (apart.square().sum(3, keepdim=True) + 0.4) ** 1.5
        speed = speed + 0.025 * (force.sum(2) - 0.3 * speed)
        place = place + 0.0125 * speed
    change = speed - before
    return _split(inputs, change / change.std())


@functools.cache
def census() -> Data:
    """Five levels of education from age, hours and income as categories, and three numbers."""
    table = np.loadtxt(_FOLDER[0] / "adult.csv", delimiter=",", skiprows=1, dtype=np.float32)
    numbers = np.log1p(table[:, [1, 3, 4]])  # weight in the census, capital gain and loss
    numbers = (numbers - numbers.mean(0)) / numbers.std(0)
    return _split(
        np.hstack([table[:, [0, 5, 6]], numbers]), np.digitize(table[:, 2], (9, 10, 11, 13)).astype(np.int64), val=0.04
    )


@functools.cache
def word_counts() -> Data:
    """How often (logarithm) a module of the standard library uses a word, for pairs of the two that occur."""
    import re
    from collections import Counter

    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    counts = [Counter(re.findall("[a-z_]{3,}", path.read_text(encoding="utf-8").lower())) for path in paths]
    longest = sorted(counts, key=lambda count: -count.total())[:150]
    total = Counter[str]()
    for count in longest:
        total.update(count)
    words = sorted(total, key=lambda word: (-total[word], word))[:400]
    pairs = [(i, j) for i, count in enumerate(longest) for j, word in enumerate(words) if count[word]]
    times = np.log([longest[i][words[j]] for i, j in pairs]).astype(np.float32)
    return _split(np.array(pairs), (times - times.mean()) / times.std(), val=0.06)


def _clouds_of(profiles: tuple[Callable[[Tensor], tuple[Tensor, Tensor]], ...]) -> Data:
    """24 points each of surfaces of revolution, stretched and sheared; a profile gives radius and height."""
    generator = torch.Generator().manual_seed(9)
    clouds = []
    for profile in profiles:
        along, around = torch.rand(2, 600, 24, generator=generator)
        radius, height = profile(along)
        angle = 6.28319 * around
        points = torch.stack([radius * angle.cos(), radius * angle.sin(), height], 2)
        points = points @ (torch.eye(3) + 0.25 * torch.randn(600, 3, 3, generator=generator))
        clouds.append(points + 0.08 * torch.randn(points.shape, generator=generator))
    return _split(torch.cat(clouds), torch.arange(len(profiles)).repeat_interleave(600))


@functools.cache
def clouds() -> Data:
    """Spheres, cylinders, cones, rings and hyperboloids."""
    return _clouds_of(
        (
            lambda v: ((3.14159 * v).sin(), (3.14159 * v).cos()),
            lambda v: (torch.ones_like(v), 2 * v - 1),
            lambda v: (v, 2 * v - 1),
            lambda v: (0.7 + 0.3 * (6.28319 * v).cos(), 0.3 * (6.28319 * v).sin()),
            lambda v: (0.4 + 0.6 * (2 * v - 1) ** 2, 2 * v - 1),
        )
    )


@functools.cache
def other_clouds() -> Data:
    """Discs, double cones, bowls, vases and spindles."""
    return _clouds_of(
        (
            lambda v: (v.sqrt(), torch.zeros_like(v)),
            lambda v: ((2 * v - 1).abs(), 2 * v - 1),
            lambda v: (v.sqrt(), 2 * v - 1),
            lambda v: (0.6 + 0.3 * (6.28319 * v).sin(), 2 * v - 1),
            lambda v: (0.5 * (3.14159 * v).sin(), 2 * v - 1),
        )
    )


@functools.cache
def clusters() -> Data:
    """Six classes of two clusters each among 30 features, of which 10 tell something, and some wrong labels."""
    from sklearn.datasets import make_classification

    inputs, target = make_classification(
        4000,
        n_features=30,
        n_informative=10,
        n_redundant=6,
        n_classes=6,
        n_clusters_per_class=2,
        flip_y=0.05,
        random_state=0,
    )
    return _standard(_split(inputs.astype(np.float32), target.astype(np.int64)))


def _colour_patches() -> list[Tensor]:
    """Patches of 16x16 of scikit-learn's two photographs, in colour, from 0 to 1, row after row."""
    return [(image / 255).unfold(0, 16, 12).unfold(1, 16, 12).reshape(-1, 3, 16, 16) for image in _in_colour()]


@functools.cache
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
    return _split((images - images.mean()) / images.std(), target)


@functools.cache
def places_of_patches() -> Data:
    """Where a patch was: in one of three strips of the first photograph or of two of the second."""
    parts = [part for image, count in zip(_colour_patches(), (3, 2)) for part in image.chunk(count)]
    images = torch.cat(parts)
    target = torch.repeat_interleave(torch.tensor([len(part) for part in parts]))
    return _split((images - images.mean()) / images.std(), target)


@functools.cache
def opcodes() -> Data:
    """The next instruction of functions of the standard library, compiled, from those before it."""
    import types

    codes = []

    def collect(code: types.CodeType) -> None:
        codes.extend(opcode for opcode in code.co_code[::2] if opcode)  # 0 fills the caches between instructions
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                collect(constant)

    names = ("ast", "configparser", "difflib", "ftplib", "locale", "mailbox", "optparse", "pdb", "ssl", "zipfile")
    for text in _sources(names):
        collect(compile(text, "a module", "exec"))
    rows = torch.tensor(codes).unfold(0, 21, 10)
    return _split(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), val=0.1)


@functools.cache
def heartbeats() -> Data:
    """Simulated ECGs of five kinds: regular, irregular, with an early beat, with broad peaks, without a P wave."""
    random = np.random.default_rng(12)
    time = np.arange(160) / 50
    signals, labels = [], []
    for label in range(5):
        for _ in range(600):
            period = random.uniform(0.6, 1.0)
            gaps = period * (1 + random.normal(0, 0.2 if label == 1 else 0.03, 9))
            beats = gaps.cumsum() - random.uniform(1, 2)
            if label == 2:
                early = np.flatnonzero((beats > 0.6) & (beats < 2.8))
                beats[random.choice(early)] -= 0.3 * period
            signal = (
                0.2 * random.normal() + 0.15 * np.sin(2 * time + random.uniform(0, 6)) + random.normal(0, 0.08, 160)
            )
            broad = random.uniform(1.4, 2.2) if label == 3 else random.uniform(0.9, 1.2)
            p_wave = 0.0 if label == 4 else 0.2
            for beat in beats:
                for height, place, width in ((p_wave, -0.18, 0.03), (1.0, 0.0, 0.02 * broad), (0.35, 0.24, 0.05)):
                    signal = signal + height * np.exp(-(((time - beat - place) / width) ** 2) / 2)
            signals.append(random.uniform(0.7, 1.3) * signal)
            labels.append(label)
    inputs = np.stack(signals).astype(np.float32)[:, None]
    return _split((inputs - inputs.mean()) / inputs.std(), np.array(labels))


@functools.cache
def lorenz() -> Data:
    """The state of a Lorenz system a fifth of a second later, from a state on its attractor."""
    from scipy.integrate import solve_ivp

    def slope(_: float, state: Any) -> list[float]:
        x, y, z = state
        return [10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z]

    times = np.arange(10, 260, 0.05)
    states = solve_ivp(slope, (0, 260), [1.0, 1.0, 20.0], t_eval=times, rtol=1e-6).y.T.astype(np.float32)
    states = (states - states.mean(0)) / states.std(0)
    return _split(states[:-4], states[4:])


@functools.cache
def chirps() -> Data:
    """First and last frequency of noisy tones that rise or fall."""
    random = np.random.default_rng(13)
    ends = random.uniform(2, 14, (4000, 2))
    time = np.linspace(0, 1, 64)
    phases = ends[:, :1] * time + (ends[:, 1:] - ends[:, :1]) * time**2 / 2 + random.uniform(0, 1, (4000, 1))
    waves = np.sin(2 * np.pi * phases) + random.normal(0, 0.3, phases.shape)
    return _split(waves.astype(np.float32), ((ends - 8) / 3.5).astype(np.float32))


@functools.cache
def package_lines() -> Data:
    """Lines of code of seven packages of the standard library, letter by letter; the package is to be guessed."""
    library = Path(sysconfig.get_path("stdlib"))
    rows, labels = [], []
    for label, package in enumerate(
        ("asyncio", "email", "encodings", "importlib", "multiprocessing", "unittest", "xml")
    ):
        found = []
        for path in sorted((library / package).rglob("*.py")):
            lines = _ascii(path.read_text(encoding="utf-8")).splitlines()
            found += [line.strip() for line in lines if len(line.strip()) >= 12]
        for line in found[:: max(1, len(found) // 900)][:900]:
            letters = [ord(letter) - 31 for letter in line[:24]]
            rows.append(letters + [0] * (24 - len(letters)))
            labels.append(label)
    return _split(np.array(rows), np.array(labels))


# Models.


def mlp(inputs: int, hidden: int, outputs: int, *, norm: bool = False, depth: int = 1) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(inputs if i == 0 else hidden, hidden)]
        layers += [nn.BatchNorm1d(hidden)] if norm else []
        layers += [nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def small_cnn(outputs: int = 10, *, norm: bool = True) -> nn.Module:
    def block(ins: int, outs: int, stride: int) -> list[nn.Module]:
        conv = nn.Conv2d(ins, outs, 3, stride, 1, bias=not norm)
        return [conv, *([nn.BatchNorm2d(outs)] if norm else []), nn.ReLU()]

    return nn.Sequential(*block(1, 16, 1), *block(16, 32, 2), nn.Flatten(), nn.Linear(512, outputs))


def photo_cnn(outputs: int) -> nn.Module:
    def block(ins: int, outs: int) -> list[nn.Module]:
        return [nn.Conv2d(ins, outs, 3, 2, 1, bias=False), nn.BatchNorm2d(outs), nn.ReLU()]

    return nn.Sequential(
        *block(3, 16), *block(16, 32), *block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, outputs)
    )


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.body(x))


def resnet(outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Residual(16),
        nn.Conv2d(16, 32, 3, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        Residual(32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, outputs),
    )


class CharGRU(nn.Module):
    def __init__(self, letters: int = 97, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(letters, 32)
        self.gru = nn.GRU(32, width, batch_first=True)
        self.head = nn.Linear(width, letters)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.embed(x))[0])  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        n, length, width = x.shape
        q, k, v = (
            part.view(n, length, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, dim=2)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class CharTransformer(nn.Module):
    def __init__(self, letters: int = 97, length: int = 24, width: int = 48, depth: int = 2) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(letters, width), nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, letters)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embed(x) + self.place
        for block in self.blocks:
            hidden = block(hidden, causal=True)
        return self.head(self.norm(hidden))  # type: ignore[no-any-return]


class PatchTransformer(nn.Module):
    """A small vision transformer on 32x32 pictures: 16 patches of 8x8, mean pooling."""

    def __init__(self, outputs: int, width: int = 48, depth: int = 2) -> None:
        super().__init__()
        self.cut, self.place = nn.Conv2d(3, width, 8, 8), nn.Parameter(0.02 * torch.randn(16, width))
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.cut(x).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            hidden = block(hidden, causal=False)
        return self.head(self.norm(hidden).mean(1))  # type: ignore[no-any-return]


class WordBag(nn.Module):
    def __init__(self, words: int = 2000, width: int = 32, outputs: int = 8) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(words, width, mode="mean", padding_idx=0)
        self.body = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.embed(x))  # type: ignore[no-any-return]


def waves_mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1)
    )


def upsampler() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1),
        nn.GroupNorm(4, 16),
        nn.SiLU(),
        nn.Upsample(scale_factor=4),
        nn.Conv2d(16, 16, 3, 1, 1),
        nn.GroupNorm(4, 16),
        nn.SiLU(),
        nn.Conv2d(16, 1, 3, 1, 1),
    )


def inpainter() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, 2, 1),
        nn.BatchNorm2d(12),
        nn.ELU(),
        nn.Flatten(),
        nn.Linear(432, 48),
        nn.ELU(),
        nn.Linear(48, 16),
    )


class NameLSTM(nn.Module):
    def __init__(self, width: int = 40) -> None:
        super().__init__()
        self.embed = nn.Embedding(65, 24)
        self.lstm = nn.LSTM(24, width, batch_first=True)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(x))[0].mean(1))  # type: ignore[no-any-return]


class WaveConv(nn.Module):
    """Dilated convolutions over time, weight-normalised by RMS norm of their inputs."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(4 if i == 0 else width, width, 3, dilation=2**i) for i in range(3))
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.transpose(1, 2)
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
        return self.head(hidden[:, :, -1])  # type: ignore[no-any-return]


class ResidualMLP(nn.Module):
    def __init__(self, inputs: int = 10, width: int = 48, depth: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(hidden)  # type: ignore[no-any-return]


def iris_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 24), nn.LayerNorm(24), nn.Tanh(), nn.Linear(24, 3))


def mobile_net(outputs: int) -> nn.Module:
    """Depthwise and pointwise convolutions in turn, as phones run them, on 16x16 pictures."""

    def block(ins: int, outs: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(ins, ins, 3, stride, 1, groups=ins, bias=False),
            nn.BatchNorm2d(ins),
            nn.ReLU6(),
            nn.Conv2d(ins, outs, 1, bias=False),
            nn.BatchNorm2d(outs),
            nn.ReLU6(),
        ]

    return nn.Sequential(
        nn.Conv2d(1, 12, 3, 1, 1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU6(),
        *block(12, 24, 2),
        *block(24, 48, 2),
        *block(48, 64, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(64, outputs),
    )


class UNet(nn.Module):
    """Two levels down and up again, with bridges between them."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()

        def block(ins: int, outs: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(ins, outs, 3, 1, 1), nn.InstanceNorm2d(outs, affine=True), nn.LeakyReLU(0.1))

        self.down1, self.down2, self.bottom = block(1, width), block(width, 2 * width), block(2 * width, 4 * width)
        self.rise2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.up2 = block(4 * width, 2 * width)
        self.rise1 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.up1 = block(2 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        middle = self.down2(functional.max_pool2d(fine, 2))
        coarse = self.bottom(functional.max_pool2d(middle, 2))
        middle = self.up2(torch.cat([self.rise2(coarse), middle], 1))
        return self.head(self.up1(torch.cat([self.rise1(middle), fine], 1)))  # type: ignore[no-any-return]


class ForecastGRU(nn.Module):
    def __init__(self, width: int = 32, ahead: int = 8) -> None:
        super().__init__()
        self.gru = nn.GRU(1, width, batch_first=True)
        self.head = nn.Linear(width, ahead)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0][:, -1])  # type: ignore[no-any-return]


class InteractionNet(nn.Module):
    """A graph of bodies: a message along every edge, the sum of a body's messages, and what it makes of them."""

    def __init__(self, features: int = 5, width: int = 48) -> None:
        super().__init__()
        self.message = nn.Sequential(nn.Linear(2 * features, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.update = nn.Sequential(nn.Linear(features + width, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, x: Tensor) -> Tensor:
        here, there = x[:, :, None].expand(-1, -1, x.shape[1], -1), x[:, None].expand(-1, x.shape[1], -1, -1)
        messages = self.message(torch.cat([here, there], 3)).sum(2)
        return self.update(torch.cat([x, messages], 2))  # type: ignore[no-any-return]


class Tabular(nn.Module):
    """Embeddings of three categorical columns beside three numbers, as tabular nets have them."""

    def __init__(self, outputs: int = 5) -> None:
        super().__init__()
        self.embeds = nn.ModuleList(nn.Embedding(kinds, width) for kinds, width in ((100, 16), (100, 16), (2, 2)))
        self.norm = nn.BatchNorm1d(3)
        self.body = nn.Sequential(
            nn.Linear(37, 64),
            nn.ReLU(),
            nn.BatchNorm1d(64),
            nn.Dropout(0.1),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.BatchNorm1d(32),
            nn.Linear(32, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        kinds = [embed(x[:, i].long()) for i, embed in enumerate(self.embeds)]
        return self.body(torch.cat([*kinds, self.norm(x[:, 3:])], 1))  # type: ignore[no-any-return]


class Factors(nn.Module):
    """Matrix factorisation with biases, as recommenders have it."""

    def __init__(self, rows: int = 150, columns: int = 400, width: int = 16) -> None:
        super().__init__()
        self.row, self.column = nn.Embedding(rows, width), nn.Embedding(columns, width)
        self.row_bias, self.column_bias = nn.Embedding(rows, 1), nn.Embedding(columns, 1)
        for embed in (self.row, self.column, self.row_bias, self.column_bias):
            nn.init.normal_(embed.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        row, column = x.unbind(1)
        biases = self.row_bias(row) + self.column_bias(column)
        return (self.row(row) * self.column(column)).sum(1) + biases[:, 0]  # type: ignore[no-any-return]


class Mixer(nn.Module):
    """An MLP-mixer on 32x32 pictures: 64 patches of 4x4, mixed over places and over channels in turn."""

    def __init__(self, outputs: int, width: int = 32, depth: int = 2) -> None:
        super().__init__()

        def mix(size: int) -> nn.Module:
            return nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))

        self.cut = nn.Conv2d(3, width, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.places, self.channels = (nn.ModuleList(mix(size) for _ in range(depth)) for size in (64, width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.cut(x).flatten(2).transpose(1, 2)
        for i, (places, channels) in enumerate(zip(self.places, self.channels)):
            hidden = hidden + places(self.norms[2 * i](hidden).transpose(1, 2)).transpose(1, 2)
            hidden = hidden + channels(self.norms[2 * i + 1](hidden))
        return self.head(self.norm(hidden).mean(1))  # type: ignore[no-any-return]


class SetEncoder(nn.Module):
    """Attention between the points of a set, whose order does not matter, and attention pooling."""

    def __init__(self, outputs: int, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.lift = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(depth))
        self.norm, self.score, self.head = nn.LayerNorm(width), nn.Linear(width, 1), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.lift(x)
        for block in self.blocks:
            hidden = block(hidden, causal=False)
        hidden = self.norm(hidden)
        return self.head((self.score(hidden).softmax(1) * hidden).sum(1))  # type: ignore[no-any-return]


def dropout_mlp() -> nn.Module:
    def block(ins: int, outs: int) -> list[nn.Module]:
        return [nn.Linear(ins, outs), nn.BatchNorm1d(outs), nn.ReLU(), nn.Dropout(0.2)]

    return nn.Sequential(*block(30, 128), *block(128, 64), nn.Linear(64, 6))


def vgg(outputs: int) -> nn.Module:
    """Pairs of convolutions without norm, pooling, and two dense layers, on 16x16 pictures."""

    def pair(ins: int, outs: int) -> list[nn.Module]:
        return [
            nn.Conv2d(ins, outs, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(outs, outs, 3, 1, 1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]

    return nn.Sequential(
        *pair(3, 8),
        *pair(8, 16),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(64, outputs),
    )


class OpcodeLSTM(nn.Module):
    """Two layers with dropout around them, as language models of words had it."""

    def __init__(self, kinds: int = 256, width: int = 48) -> None:
        super().__init__()
        self.embed, self.drop = nn.Embedding(kinds, width), nn.Dropout(0.1)
        self.lstm = nn.LSTM(width, width, num_layers=2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(width, kinds)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.lstm(self.drop(self.embed(x)))[0]))  # type: ignore[no-any-return]


class PulseResNet(nn.Module):
    """A residual net of convolutions over time."""

    def __init__(self, outputs: int = 5, width: int = 12) -> None:
        super().__init__()

        def conv(ins: int, outs: int, size: int, stride: int) -> nn.Module:
            return nn.Sequential(nn.Conv1d(ins, outs, size, stride, size // 2, bias=False), nn.BatchNorm1d(outs))

        widths = (width, 2 * width, 2 * width)
        self.first = conv(1, width, 7, 2)
        self.bodies, self.shortcuts = nn.ModuleList(), nn.ModuleList()
        for ins, outs in zip((width, *widths), widths):
            stride = 1 if ins == outs else 2
            self.bodies.append(nn.Sequential(conv(ins, outs, 5, stride), nn.ReLU(), conv(outs, outs, 5, 1)))
            self.shortcuts.append(nn.Identity() if ins == outs else conv(ins, outs, 1, stride))
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.first(x))
        for body, shortcut in zip(self.bodies, self.shortcuts):
            hidden = functional.relu(shortcut(hidden) + body(hidden))
        return self.head(hidden.mean(2))  # type: ignore[no-any-return]


class GatedMLP(nn.Module):
    """Gated linear units (SwiGLU) with residuals."""

    def __init__(self, inputs: int = 64, width: int = 64, outputs: int = 2, depth: int = 2) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.rises = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(depth))
        self.falls = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        for norm, rise, fall in zip(self.norms, self.rises, self.falls):
            value, gate = rise(norm(hidden)).chunk(2, dim=1)
            hidden = hidden + fall(value * functional.silu(gate))
        return self.head(hidden)  # type: ignore[no-any-return]


class LineEncoder(nn.Module):
    """PyTorch's own transformer layers as they come: norm after the sum, ReLU, dropout."""

    def __init__(self, outputs: int = 7, length: int = 24, width: int = 32) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(97, width), nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embed(x) + self.place
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden.mean(1))  # type: ignore[no-any-return]


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 12), nn.Linear(12, 48), nn.Tanh(), nn.Linear(48, 64)
    )


def denoiser() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 1, 3, 1, 1)
    )


def _next_letter(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output.flatten(0, 1), target.flatten())


_CE, _MSE = functional.cross_entropy, functional.mse_loss
_BCE, _HUBER = functional.binary_cross_entropy_with_logits, functional.smooth_l1_loss
_M = (("momentum", 0.9),)
_NESTEROV = (("momentum", 0.9), ("nesterov", True), ("weight_decay", 5e-4))

_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "digits-mlp": ("calibration", {"data": digits, "model": lambda: mlp(64, 64, 10), "loss": _CE}),
    "digits-cnn-bn": ("calibration", {"data": digit_images, "model": small_cnn, "loss": _CE}),
    "digits-cnn": ("calibration", {"data": digit_images, "model": lambda: small_cnn(norm=False), "loss": _CE}),
    "high-digits-cnn": (
        "calibration",
        {"data": high_digits, "before": low_digits, "model": lambda: small_cnn(5), "loss": _CE},
    ),
    "adult-mlp": (
        "calibration",
        {"data": adult, "model": lambda: mlp(6, 64, 2, depth=2), "loss": _CE, "needs": "data"},
    ),
    "code-gru": ("calibration", {"data": source_code, "model": CharGRU, "loss": _next_letter}),
    "vehicles-cnn-bn": ("calibration", {"data": vehicles, "model": lambda: photo_cnn(4), "loss": _CE, "needs": "data"}),
    "teacher-mlp": ("calibration", {"data": teacher, "model": lambda: mlp(20, 64, 1, depth=2), "loss": _MSE}),
    "raw-digits-mlp": ("calibration", {"data": raw_digits, "model": lambda: mlp(64, 48, 10, depth=3), "loss": _CE}),
    "large-teacher-mlp": ("calibration", {"data": large_teacher, "model": lambda: mlp(20, 64, 1), "loss": _MSE}),
    "raw-diabetes-mlp": ("validation", {"data": raw_diabetes, "model": lambda: mlp(10, 32, 1), "loss": _MSE}),
    "diabetes-mlp": ("validation", {"data": diabetes, "model": lambda: mlp(10, 32, 1), "loss": _MSE}),
    "cancer-mlp-bn": ("validation", {"data": breast_cancer, "model": lambda: mlp(30, 32, 2, norm=True), "loss": _CE}),
    "topics-bag": ("validation", {"data": help_topics, "model": WordBag, "loss": _CE}),
    "patches-autoencoder": ("first held-out", {"data": patches, "model": autoencoder, "loss": _MSE}),
    "patches-denoiser": ("first held-out", {"data": noisy_patches, "model": denoiser, "loss": _MSE}),
    "animals-resnet": ("first held-out", {"data": animals, "model": lambda: resnet(6), "loss": _CE, "needs": "data"}),
    "animals-vit": (
        "first held-out",
        {"data": animals, "model": lambda: PatchTransformer(6), "loss": _CE, "needs": "data"},
    ),
    "help-transformer": ("first held-out", {"data": help_text, "model": CharTransformer, "loss": _next_letter}),
    "raw-patches-autoencoder": ("first held-out", {"data": raw_patches, "model": autoencoder, "loss": _MSE}),
    "raw-wine-mlp": ("first held-out", {"data": raw_wine, "model": lambda: mlp(13, 24, 3, norm=True), "loss": _CE}),
    "terrain-waves": ("second held-out", {"data": terrain_points, "model": waves_mlp, "loss": _MSE}),
    "terrain-upsampler": ("second held-out", {"data": terrain_patches, "model": upsampler, "loss": _MSE}),
    "head-inpainter": ("second held-out", {"data": head_patches, "model": inpainter, "loss": _MSE}),
    "eeg-conv": ("second held-out", {"data": eeg, "model": WaveConv, "loss": _MSE}),
    "names-lstm": ("second held-out", {"data": names, "model": NameLSTM, "loss": _CE}),
    "iris-mlp": ("second held-out", {"data": iris, "model": iris_mlp, "loss": _CE}),
    "moons-mlp": ("second held-out", {"data": moons, "model": lambda: mlp(2, 32, 2, norm=True, depth=2), "loss": _CE}),
    "friedman-residual": ("second held-out", {"data": friedman, "model": ResidualMLP, "loss": _MSE}),
    "letters-mobile": (
        "third held-out",
        {"data": capitals, "before": small_letters, "model": lambda: mobile_net(26), "loss": _CE},
    ),
    "portrait-unet": ("third held-out", {"data": written_over, "model": UNet, "loss": _BCE}),
    "membrane-gru": ("third held-out", {"data": membrane, "model": ForecastGRU, "loss": _HUBER}),
    "charges-graph": ("third held-out", {"data": charges, "model": InteractionNet, "loss": _MSE}),
    "census-tabular": ("third held-out", {"data": census, "model": Tabular, "loss": _CE, "needs": "data"}),
    "words-factors": ("third held-out", {"data": word_counts, "model": Factors, "loss": _MSE}),
    "pictures-mixer": ("third held-out", {"data": pictures, "model": lambda: Mixer(10), "loss": _CE, "needs": "data"}),
    "clouds-set": (
        "third held-out",
        {"data": clouds, "before": other_clouds, "model": lambda: SetEncoder(5), "loss": _CE},
    ),
    "clusters-dropout": ("held-out", {"data": clusters, "model": dropout_mlp, "loss": _CE}),
    "altered-vgg": (
        "held-out",
        {"data": altered_patches, "before": places_of_patches, "model": lambda: vgg(5), "loss": _CE},
    ),
    "opcodes-lstm": ("held-out", {"data": opcodes, "model": OpcodeLSTM, "loss": _next_letter}),
    "heartbeats-resnet": ("held-out", {"data": heartbeats, "model": PulseResNet, "loss": _CE}),
    "lorenz-deep": ("held-out", {"data": lorenz, "model": lambda: mlp(3, 48, 3, depth=6), "loss": _MSE}),
    "chirps-gated": ("held-out", {"data": chirps, "model": GatedMLP, "loss": _MSE}),
    "lines-encoder": ("held-out", {"data": package_lines, "model": LineEncoder, "loss": _CE}),
    "wine-mlp": ("first held-out", {"data": wine, "model": lambda: mlp(13, 32, 3, depth=3), "loss": _CE}),
}


def _cell(family: str, optimizer: str, schedule: str, steps: int, batch: int, options: Any = (), **more: Any) -> Cell:
    split, parts = _FAMILIES[family]
    start = more.get("start", "scratch")
    plain = optimizer if optimizer != "SGD" or options else "plain SGD"
    words = [family, plain, schedule, *([start] if start != "scratch" else [])]
    return Cell(
        name=" ".join(words),
        family=family,
        split=split,
        optimizer=optimizer,
        schedule=schedule,
        steps=steps,
        batch=batch,
        options=options,
        **{**parts, **more},
    )


_DECAY = (("weight_decay", 0.05),)
CELLS: tuple[Cell, ...] = (
    _cell("digits-mlp", "SGD", "onecycle", 400, 32, _M),
    _cell("digits-mlp", "SGD", "step", 600, 16),
    _cell("digits-mlp", "Adam", "constant", 300, 64),
    _cell("digits-mlp", "Adagrad", "cosine", 400, 32),
    _cell("digits-cnn-bn", "SGD", "cosine", 250, 32, _NESTEROV),
    _cell("digits-cnn-bn", "AdamW", "onecycle", 200, 64, _DECAY),
    _cell("digits-cnn-bn", "RMSprop", "step", 300, 32),
    _cell("digits-cnn", "Adam", "cosine", 400, 32, start="continue", before_steps=150),
    _cell("digits-cnn", "SGD", "onecycle", 400, 32, _M, start="continue", before_steps=150),
    _cell("high-digits-cnn", "AdamW", "cosine", 150, 32, start="fine-tune"),
    _cell("high-digits-cnn", "SGD", "constant", 150, 32, _M, start="fine-tune"),
    _cell("high-digits-cnn", "Adam", "onecycle", 150, 32, start="frozen"),
    _cell("adult-mlp", "Adam", "onecycle", 1000, 128),
    _cell("adult-mlp", "SGD", "cosine", 2000, 64, _M),
    _cell("adult-mlp", "AdamW", "cosine", 1000, 128, start="continue", before_steps=500),
    _cell("code-gru", "Adam", "cosine", 400, 16),
    _cell("code-gru", "RMSprop", "constant", 300, 16),
    _cell("code-gru", "SGD", "step", 400, 16, _M),
    _cell("vehicles-cnn-bn", "SGD", "onecycle", 300, 32, _M),
    _cell("vehicles-cnn-bn", "AdamW", "step", 300, 32, _DECAY),
    _cell("vehicles-cnn-bn", "Adam", "onecycle", 300, 32, start="continue", before_steps=150),
    _cell("vehicles-cnn-bn", "SGD", "constant", 250, 64),
    _cell("teacher-mlp", "SGD", "cosine", 600, 32, _M),
    _cell("teacher-mlp", "Adagrad", "constant", 600, 32),
    _cell("raw-digits-mlp", "SGD", "cosine", 500, 32, _M),
    _cell("raw-digits-mlp", "Adam", "step", 400, 32),
    _cell("raw-digits-mlp", "RMSprop", "onecycle", 400, 32),
    _cell("large-teacher-mlp", "SGD", "onecycle", 600, 32, _M),
    _cell("large-teacher-mlp", "SGD", "constant", 600, 16),
    _cell("large-teacher-mlp", "AdamW", "constant", 600, 32),
    _cell("large-teacher-mlp", "Adagrad", "step", 600, 32),
    _cell("raw-diabetes-mlp", "SGD", "cosine", 300, 32, _M),
    _cell("raw-diabetes-mlp", "Adam", "onecycle", 300, 32),
    _cell("diabetes-mlp", "Adam", "step", 300, 32),
    _cell("diabetes-mlp", "SGD", "onecycle", 300, 32, _M),
    _cell("cancer-mlp-bn", "RMSprop", "onecycle", 300, 32),
    _cell("cancer-mlp-bn", "SGD", "constant", 200, 32),
    _cell("topics-bag", "AdamW", "cosine", 500, 32),
    _cell("topics-bag", "Adagrad", "onecycle", 500, 32),
    _cell("topics-bag", "Adam", "cosine", 400, 32, start="continue", before_steps=200),
    _cell("patches-autoencoder", "Adam", "cosine", 600, 64),
    _cell("patches-autoencoder", "SGD", "onecycle", 600, 64, _M),
    _cell("patches-autoencoder", "RMSprop", "constant", 500, 64),
    _cell("patches-denoiser", "AdamW", "step", 250, 32),
    _cell("patches-denoiser", "Adagrad", "cosine", 250, 32),
    _cell("animals-resnet", "SGD", "cosine", 300, 16, _NESTEROV),
    _cell("animals-resnet", "Adam", "onecycle", 300, 16),
    _cell("animals-resnet", "SGD", "step", 200, 16, _M, start="fine-tune", before=vehicles),
    _cell("animals-resnet", "SGD", "cosine", 200, 16, _M, start="frozen", before=vehicles),
    _cell("animals-resnet", "AdamW", "cosine", 300, 16, start="continue", before_steps=150),
    _cell("animals-vit", "AdamW", "onecycle", 300, 32, _DECAY),
    _cell("animals-vit", "SGD", "cosine", 300, 32, _M),
    _cell("help-transformer", "AdamW", "cosine", 300, 16),
    _cell("help-transformer", "Adam", "constant", 300, 16),
    _cell("help-transformer", "SGD", "onecycle", 300, 16, _M),
    _cell("raw-patches-autoencoder", "SGD", "step", 500, 64, _M),
    _cell("raw-patches-autoencoder", "AdamW", "onecycle", 500, 64),
    _cell("raw-wine-mlp", "SGD", "cosine", 200, 16, _M),
    _cell("raw-wine-mlp", "RMSprop", "onecycle", 200, 16),
    _cell("wine-mlp", "Adam", "step", 200, 16),
    _cell("wine-mlp", "SGD", "cosine", 200, 16, _M),
    _cell("terrain-waves", "Adam", "cosine", 500, 128),
    _cell("terrain-waves", "SGD", "onecycle", 500, 128, _M),
    _cell("terrain-waves", "RMSprop", "step", 400, 64),
    _cell("terrain-upsampler", "AdamW", "step", 250, 32, _DECAY),
    _cell("terrain-upsampler", "SGD", "cosine", 250, 32, _NESTEROV),
    _cell("head-inpainter", "Adam", "constant", 300, 32),
    _cell("head-inpainter", "SGD", "step", 300, 32, _M),
    _cell("head-inpainter", "AdamW", "cosine", 300, 32, start="continue", before_steps=150),
    _cell("eeg-conv", "Adam", "onecycle", 300, 32),
    _cell("eeg-conv", "SGD", "constant", 300, 32),
    _cell("names-lstm", "AdamW", "cosine", 300, 32),
    _cell("names-lstm", "SGD", "onecycle", 400, 32, _M),
    _cell("names-lstm", "Adagrad", "constant", 300, 32),
    _cell("names-lstm", "Adam", "step", 200, 32, start="fine-tune", before=other_names),
    _cell("names-lstm", "SGD", "cosine", 200, 32, _M, start="continue", before_steps=200),
    _cell("iris-mlp", "Adam", "cosine", 150, 16),
    _cell("iris-mlp", "SGD", "step", 150, 16, _M),
    _cell("moons-mlp", "AdamW", "constant", 300, 32, _DECAY),
    _cell("moons-mlp", "SGD", "cosine", 300, 32, _M),
    _cell("friedman-residual", "AdamW", "onecycle", 400, 64),
    _cell("friedman-residual", "SGD", "step", 400, 64, _M),
    _cell("friedman-residual", "Adam", "cosine", 300, 64, start="continue", before_steps=300),
    _cell("friedman-residual", "Adam", "cosine", 200, 64, start="frozen", before_steps=300, before=friedman),
    _cell("letters-mobile", "SGD", "cosine", 300, 64, _NESTEROV),
    _cell("letters-mobile", "AdamW", "onecycle", 300, 32, _DECAY),
    _cell("letters-mobile", "SGD", "constant", 200, 32, _M, start="fine-tune"),
    _cell("letters-mobile", "Adam", "cosine", 150, 32, start="frozen"),
    _cell("portrait-unet", "Adam", "onecycle", 200, 16),
    _cell("portrait-unet", "SGD", "cosine", 200, 16, _M),
    _cell("portrait-unet", "RMSprop", "constant", 250, 8),
    _cell("membrane-gru", "Adam", "step", 300, 64),
    _cell("membrane-gru", "SGD", "onecycle", 300, 32, _M),
    _cell("membrane-gru", "AdamW", "constant", 200, 32, start="continue", before_steps=200),
    _cell("charges-graph", "NAdam", "cosine", 400, 32),
    _cell("charges-graph", "SGD", "step", 400, 32, _M),
    _cell("census-tabular", "Adam", "onecycle", 500, 128),
    _cell("census-tabular", "SGD", "constant", 500, 64),
    _cell("census-tabular", "Adagrad", "step", 500, 128),
    _cell("words-factors", "Adagrad", "constant", 600, 128),
    _cell("words-factors", "Adam", "cosine", 600, 128),
    _cell("words-factors", "SGD", "step", 600, 128, _M),
    _cell("pictures-mixer", "AdamW", "cosine", 300, 16, _DECAY),
    _cell("pictures-mixer", "SGD", "onecycle", 300, 16, _M, start="continue", before_steps=150),
    _cell("clouds-set", "AdamW", "step", 200, 16, start="fine-tune"),
    _cell("clouds-set", "SGD", "onecycle", 400, 32, _NESTEROV),
    _cell("clusters-dropout", "SGD", "onecycle", 400, 64, _M),
    _cell("clusters-dropout", "AdamW", "cosine", 400, 64),
    _cell("clusters-dropout", "Adagrad", "step", 400, 32),
    _cell("altered-vgg", "SGD", "cosine", 400, 32, _NESTEROV),
    _cell("altered-vgg", "SGD", "constant", 250, 32, _M, start="fine-tune"),
    _cell("altered-vgg", "Adam", "onecycle", 200, 32, start="frozen"),
    _cell("opcodes-lstm", "Adam", "constant", 300, 16),
    _cell("opcodes-lstm", "SGD", "step", 400, 16, _M),
    _cell("heartbeats-resnet", "SGD", "onecycle", 300, 32, _M),
    _cell("heartbeats-resnet", "RMSprop", "cosine", 300, 32),
    _cell("lorenz-deep", "Adam", "step", 500, 64),
    _cell("lorenz-deep", "SGD", "constant", 500, 32),
    _cell("chirps-gated", "AdamW", "constant", 400, 128, _DECAY),
    _cell("chirps-gated", "SGD", "cosine", 500, 64, _M),
    _cell("lines-encoder", "AdamW", "onecycle", 400, 16, _DECAY),
    _cell("lines-encoder", "Adam", "step", 300, 16, start="continue", before_steps=200),
)
