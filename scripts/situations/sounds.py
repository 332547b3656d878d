"""Tasks whose samples are synthesised, and the kinds of token in Python's own sources: inputs and classes of each."""

from __future__ import annotations

import functools
import io
import json
import math
import string
import sysconfig
import tokenize
from pathlib import Path

import torch
from trained_packages import folder

__all__ = ["COUNT", "HELD", "Task", "code", "contours", "metres", "mel_contours", "pitches", "powers", "timbres"]

RATE, COUNT, HELD = 16_000, 3_500, 512  # samples of a second, sounds, and the first of them for validation
HARMONICS = torch.arange(1, 9)
TOKENS = (tokenize.NAME, tokenize.NUMBER, tokenize.OP, tokenize.STRING, tokenize.COMMENT)  # classes from 1
Task = tuple[torch.Tensor, torch.Tensor]


def draws(classes: int) -> tuple[torch.Tensor, torch.Generator]:
    """Classes of all sounds, and what the rest is drawn from."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(classes, (COUNT,), generator=generator), generator


def tones(semitones: torch.Tensor, levels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Sounds of mean 0 and deviation 1 whose pitch is so far above 110 Hz at each sample, in noise of half their power.

    ``levels`` are those of the harmonics (n, 8).
    """
    phases = 2 * math.pi * torch.cumsum(110 / RATE * 2 ** (semitones / 12), 1)
    starts = 2 * math.pi * torch.rand(levels.shape, generator=generator)
    parts = [levels[:, k, None] * torch.sin((k + 1) * phases + starts[:, k, None]) for k in range(len(HARMONICS))]
    clean = torch.stack(parts).sum(0)
    clean = clean / clean.std(1, keepdim=True)
    noisy = clean + 0.7 * torch.randn(clean.shape, generator=generator)
    return (noisy - noisy.mean(1, keepdim=True)) / noisy.std(1, keepdim=True)


def natural(generator: torch.Generator) -> torch.Tensor:
    """Levels of harmonics that fall as 1/k, each varied by its own factor."""
    return torch.exp(torch.randn(COUNT, len(HARMONICS), generator=generator)) / HARMONICS


@functools.cache
def timbres(data: Path, length: int = 1024) -> Task:
    """Sounds of any pitch, and which of 8 spectra is theirs but for a factor at each harmonic."""
    classes, generator = draws(8)
    spectra = torch.exp(torch.randn(8, len(HARMONICS), generator=generator))
    varied = spectra[classes] * torch.exp(0.3 * torch.randn(COUNT, len(HARMONICS), generator=generator))
    pitch = 33 * torch.rand(COUNT, 1, generator=generator)
    return tones(pitch.expand(-1, length), varied, generator), classes


@functools.cache
def powers(data: Path) -> Task:
    """The same sounds as 24 spectra of power in 161 bands, in logarithms to the base 10."""
    waves, classes = timbres(data, 4_000)
    spectra = torch.stft(waves, 320, 160, window=torch.ones(320), center=False, return_complex=True).abs() ** 2
    return spectra.clamp(min=1e-12).log10().transpose(1, 2), classes


@functools.cache
def pitches(data: Path) -> Task:
    """Constant-Q spectra in decibels (264 bins, three a semitone from 27.5 Hz), and which of 12 notes it is."""
    classes, generator = draws(12)
    octave = torch.randint(3, (COUNT,), generator=generator)
    pitch = classes + 12 * octave + 0.6 * torch.rand(COUNT, generator=generator) - 0.3
    waves = tones(pitch[:, None].expand(-1, 4096), natural(generator), generator)
    frequencies = 27.5 * 2 ** (torch.arange(264)[:, None] / 36)
    times = (torch.arange(4096) - 2048) / RATE
    width = (50 / frequencies).clamp(max=4096 / RATE)
    window = torch.cos(math.pi * times / width) ** 2 * (times.abs() < width / 2)
    kernels = window / window.sum(1, keepdim=True) * torch.exp(-2j * math.pi * frequencies * times)
    return 20 * torch.log10((waves + 0j).matmul(kernels.T).abs() + 1e-7), classes


@functools.cache
def contours(data: Path) -> Task:
    """Sounds of 4160 samples whose pitch is steady, rises, falls, vibrates or leaps."""
    classes, generator = draws(5)
    times = torch.linspace(-1, 1, 4160)
    rates, depth, base = torch.rand(3, COUNT, 1, generator=generator)
    slopes = (1 + depth) * times
    vibrato = (0.5 + depth) * torch.sin(2 * math.pi * ((1 + rates) * times + base))
    leaps = (1 + depth) * torch.sign(times + rates - 0.5)
    bends = torch.stack([torch.zeros_like(slopes), slopes, -slopes, vibrato, leaps])[classes, torch.arange(COUNT)]
    return tones(3 + 27 * base + bends, natural(generator), generator), classes


@functools.cache
def mel_contours(data: Path) -> Task:
    """The same as logarithms of 128 mels in 16 frames."""
    from transformers.audio_utils import mel_filter_bank

    waves, classes = contours(data)
    window = torch.hann_window(1024)
    spectra = torch.stft(waves, 1024, 208, window=window, center=False, return_complex=True).abs()
    bank = mel_filter_bank(513, 128, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    return (spectra.transpose(1, 2) @ torch.tensor(bank, dtype=torch.float32)).clamp(min=1e-5).log(), classes


@functools.cache
def metres(data: Path) -> Task:
    """80 spectra of drums in 136 bands, with what each is above that before it; every 2nd to 5th beat is a low drum."""
    classes, generator = draws(4)
    period, start = (torch.randint(*ends, (COUNT, 1), generator=generator) for ends in ((4, 8), (0, 50)))
    times, bands = torch.arange(80) + start, torch.linspace(0, 1, 136)
    accents = (times // period) % (classes[:, None] + 2) == 0
    pitch = torch.where(accents, 0.2, 0.6)[..., None] + 0.1 * torch.randn(COUNT, 1, 1, generator=generator)
    energy = torch.exp(-(times % period) / 2)[..., None] * torch.exp(-(((bands - pitch) / 0.2) ** 2))
    spectra = torch.log10(1 + 4 * energy + torch.rand(COUNT, 80, 136, generator=generator))
    rises = torch.diff(spectra, dim=1, prepend=spectra[:, :1]).clamp(min=0)
    return torch.cat([spectra, rises], 2), classes


@functools.cache
def code(data: Path) -> Task:
    """Windows of 64 characters of Python's sources, as numbered by attacut, and the kind of token of each character."""
    names = json.loads((folder("attacut") / "artifacts" / "attacut-c" / "characters.json").read_text(encoding="utf-8"))
    ids: list[int] = []
    kinds: list[int] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-b]*.py")):
        text = path.read_text(encoding="utf-8")
        ids += [names["<PUNC>" if each in string.punctuation else each if each in names else "<UNK>"] for each in text]
        kinds += kinds_of(text)
    count = min(len(ids) // 64, COUNT)
    return torch.tensor(ids[: 64 * count]).view(-1, 64), torch.tensor(kinds[: 64 * count]).view(-1, 64)


def kinds_of(text: str) -> list[int]:
    """Kind of token of each character: its place in TOKENS from 1, 0 for others."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    kinds = [0] * len(text)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in TOKENS:
            begin, end = (starts[row - 1] + column for row, column in (token.start, token.end))
            kinds[begin:end] = [TOKENS.index(token.type) + 1] * (end - begin)
    return kinds
