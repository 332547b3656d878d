"""Tasks for the nets of packaged.py and shipped.py, such as lines of text, formulas, calls, skies and genes."""

from __future__ import annotations

import functools
import random
import re
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import torch
from situations.packaged import rxnmapper_folder
from situations.sentences import sst2
from situations.sounds import COUNT, HELD, Task, contours
from torch.nn import functional as F
from trained_packages import folder

__all__ = ["calls", "faces", "files", "formulas", "genes", "letters", "reviews", "skies"]

FONTS = ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral", "cmr10", "cmb10", "cmtt10")
GROUPS = ("C(=O)N", "C(=O)O", "S(=O)(=O)N", "NC(=O)N", "OC(=O)N", "C(=O)NC(=O)", "S(=O)(=O)", "OC(=O)O")
LIBRARIES = ("asyncio", "email", "encodings", "unittest", "tkinter", "json", "http", "multiprocessing")
PIECES = ("C", "CC", "COC", "CNC", "C(C)C", "C(=O)C", "C=C", "CSC", "C(F)C", "C(N)C", "C(O)C", "c1ccccc1", "C1CC1")


@functools.cache
def faces(data: Path) -> Task:
    """Names of Python's modules on noisy paper (48 by 96 pixels), and which of 8 typefaces each is set in."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    fonts, draw = Path(matplotlib.get_data_path()) / "fonts" / "ttf", random.Random(0)
    classes = [draw.randrange(len(FONTS)) for _ in range(COUNT)]
    lines = torch.empty(COUNT, 48, 96)
    for number, name in enumerate(classes):
        image = Image.new("L", (96, 48), draw.randrange(160, 256))
        font = ImageFont.truetype(str(fonts / f"{FONTS[name]}.ttf"), draw.randrange(14, 24))
        text = draw.choice(sorted(sys.stdlib_module_names)).strip("_")
        place = (draw.randrange(8), draw.randrange(20))
        ImageDraw.Draw(image).text(place, text, fill=draw.randrange(100), font=font)
        lines[number] = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(48, 96)
    noise = torch.randn(lines.shape, generator=torch.Generator().manual_seed(0))
    return (lines + 20 * noise).clamp(0, 255), torch.tensor(classes)


@functools.cache
def formulas(data: Path, vocabulary: Callable[[], Path] = rxnmapper_folder) -> Task:
    """Molecules as 24 tokens of a vocabulary, and which of 8 functional groups each has between what hides it."""
    names = (vocabulary() / "vocab.txt").read_text(encoding="utf-8").split("\n")
    places = {name: place for place, name in enumerate(names)}
    draw, rows, classes = random.Random(0), list[list[int]](), list[int]()
    while len(rows) < COUNT:
        name = draw.randrange(len(GROUPS))
        before, after = ("".join(draw.choices(PIECES, k=draw.randrange(1, 3))) for _ in range(2))
        tokens = ["[CLS]", *re.findall(".", f"{before}{GROUPS[name]}{after}"), "[SEP]"]
        if len(tokens) <= 24:
            rows.append([places[token] for token in tokens] + [0] * (24 - len(tokens)))
            classes.append(name)
    return torch.tensor(rows), torch.tensor(classes)


@functools.cache
def calls(data: Path) -> Task:
    """The sounds of contours, as logarithms of 128 bands in 32 frames."""
    waves, classes = contours(data)
    spectra = torch.stft(waves, 512, 128, window=torch.hann_window(512), return_complex=True).abs()
    return spectra[:, :128, :32].log1p(), classes


@functools.cache
def skies(data: Path) -> Task:
    """Images of 32 by 32 pixels, and whether each is sky (0), of a star (1), of a galaxy (2) or of a cosmic ray (3)."""
    generator = torch.Generator().manual_seed(0)
    images = 50 + 7 * torch.randn(COUNT, 32, 32, generator=generator)
    classes = torch.zeros(COUNT, 32, 32, dtype=torch.long)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    for kind, (most, length, width) in enumerate(((4, 1.3, 1.3), (2, 5.0, 2.0), (4, 6.0, 0.5)), 1):
        for _ in range(most):
            down, right, angle, level, size = torch.rand(5, COUNT, 1, 1, generator=generator)
            y, x, turn = rows - 32 * down, columns - 32 * right, 3.14 * angle
            along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
            distance = (along / (length * (0.5 + size))) ** 2 + (across / width) ** 2
            light = 20 * 30**level * torch.exp(-distance / 2) * (size > 0.3)
            images, classes = images + light, torch.where(light > 20, kind, classes)
    return images, classes


@functools.cache
def letters(data: Path) -> Task:
    """Windows of 32 letters of film reviews, as numbered by g2p_en with its end of a word, and the next letter each."""
    text = re.sub("[^a-z]+", "/", " ".join(sst2(data)[0][0]))[: 32 * COUNT + 1]
    ids = torch.tensor([2 if letter == "/" else 3 + ord(letter) - ord("a") for letter in text])
    return ids[:-1].view(COUNT, 32), ids[1:].view(COUNT, 32)


@functools.cache
def reviews(data: Path) -> Task:
    """Film reviews as 32 tokens of WordLlama, and whether they praise."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder("wordllama") / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    tokenizer.enable_truncation(32)
    tokenizer.enable_padding(length=32)
    (texts, classes), (held, held_classes) = sst2(data, held=HELD)
    rows = tokenizer.encode_batch(held + texts)
    return torch.tensor([row.ids for row in rows]), torch.tensor(held_classes + classes)


@functools.cache
def files(data: Path) -> Task:
    """Pieces of 2048 bytes of Python's own sources, and which of 8 of its packages each is from."""
    library, draw = Path(sysconfig.get_paths()["stdlib"]), random.Random(0)
    texts = [b"".join(path.read_bytes() for path in sorted((library / name).glob("*.py"))) for name in LIBRARIES]
    classes = [draw.randrange(len(texts)) for _ in range(COUNT)]
    starts = [draw.randrange(len(texts[name]) - 2048) for name in classes]
    rows = [list(texts[name][start : start + 2048]) for name, start in zip(classes, starts, strict=True)]
    return torch.tensor(rows), torch.tensor(classes)


@functools.cache
def genes(data: Path) -> Task:
    """200 random bases, and which of 8 words of 12 bases is in them, with 2 of its bases drawn again."""
    generator = torch.Generator().manual_seed(0)
    words, bases = (torch.randint(4, shape, generator=generator) for shape in ((8, 12), (COUNT, 200)))
    classes = torch.randint(8, (COUNT,), generator=generator)
    for row, name in zip(bases, classes, strict=True):
        place = int(torch.randint(188, (), generator=generator))
        row[place : place + 12] = words[name]
        for _ in range(2):
            base, where = (int(torch.randint(most, (), generator=generator)) for most in (4, 12))
            row[place + where] = base
    return F.one_hot(bases, 4).float(), classes
