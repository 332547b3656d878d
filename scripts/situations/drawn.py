"""Tasks for the nets of packaged.py: lines of text, formulas, calls, skies, letters and reviews, with their classes."""

from __future__ import annotations

import functools
import random
import re
import sys
from pathlib import Path

import torch
from situations.packaged import rxnmapper_folder
from situations.sentences import sst2
from situations.sounds import COUNT, HELD, Task, contours
from trained_packages import folder

__all__ = ["calls", "faces", "formulas", "letters", "reviews", "skies"]

FONTS = ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral", "cmr10", "cmb10", "cmtt10")
GROUPS = ("C(=O)N", "C(=O)O", "S(=O)(=O)N", "NC(=O)N", "OC(=O)N", "C(=O)NC(=O)", "S(=O)(=O)", "OC(=O)O")
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
def formulas(data: Path) -> Task:
    """Molecules as 24 tokens of rxnmapper, and which of 8 functional groups each has between what hides it."""
    names = Path(rxnmapper_folder(), "vocab.txt").read_text(encoding="utf-8").split("\n")
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
