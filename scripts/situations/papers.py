"""Cells made after papers, courses and libraries that give a learning rate, on data that is at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from situations import images
from situations.cell import Training, shuffled
from situations.examples import pixels, squared_error
from situations.scratch import Rows, census, cifar, parted, standardised, training
from situations.sentences import cut, docstring_pairs, mean_state, tokenized
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.ops import Conv2dNormActivation
from trained_packages import minilm_encoder

__all__ = ["diffusion", "lenet", "pairs", "perceptron", "resnet20", "siren", "unet"]


def lenet(data: Path, seed: int) -> Training:
    """The sigmoid LeNet of Dive into Deep Learning, on shades of CIFAR-10 at 28 pixels: plain SGD, batch 256."""
    ours, held = images.grey(data, "train", 20_000, cut=2), images.grey(data, "test", 2_000, cut=2)
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Sigmoid()),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.Sigmoid()),
        *(nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10)),
    )
    for layer in model:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
    return training(model, torch.optim.SGD(model.parameters(), 0.9), ours, held, 256, seed)


def resnet20(data: Path, seed: int) -> Training:
    """The ResNet-20 of He et al. on CIFAR-10: SGD with momentum, batch 128."""
    torch.manual_seed(seed)
    blocks = [Residual(max(16, width // (1 if i else 2)), width) for width in (16, 32, 64) for i in range(3)]
    first = Conv2dNormActivation(3, 16)
    model = nn.Sequential(first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    return training(model, optimizer, *cifar(data, 20_000), 128, seed)


class Residual(nn.Module):
    """Two convolutions; where the width grows, the sum starts from half of the pixels, padded with zeros."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.stride, self.pad = stride, (after - before) // 2
        second = Conv2dNormActivation(after, after, activation_layer=None)
        self.body = nn.Sequential(Conv2dNormActivation(before, after, stride=stride), second)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        kept = F.pad(inputs[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(self.body(inputs) + kept)


def siren(data: Path, seed: int) -> Training:
    """The sine network of Sitzmann et al. on a photograph, 128 pixels wide: Adam, all pixels in every step."""
    from sklearn.datasets import load_sample_image

    photo = torch.tensor(load_sample_image("china.jpg"), dtype=torch.float32).mean(2)[None, None, :420, :420]
    shades = F.interpolate(photo / 127.5 - 1, 128, mode="area").view(1, -1, 1)
    line = torch.linspace(-1, 1, 128)
    places = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(1, -1, 2)
    torch.manual_seed(seed)
    limit = (6 / 256) ** 0.5 / 30
    last = nn.Linear(256, 1)
    nn.init.uniform_(last.weight, -limit, limit)
    model = nn.Sequential(Sine(2, 256, 1 / 2), *[Sine(256, 256, limit) for _ in range(3)], last)
    batch = [(places, shades)]
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    return Training(model=model, optimizer=optimizer, loader=batch, validation=batch, loss=squared_error)


class Sine(nn.Module):
    def __init__(self, before: int, after: int, limit: float) -> None:
        super().__init__()
        self.linear = nn.Linear(before, after)
        nn.init.uniform_(self.linear.weight, -limit, limit)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.sin(30 * self.linear(inputs))


def diffusion(data: Path, seed: int) -> Training:
    """A denoiser of digits at 16 pixels as in DDPM, with the optimizer and batch of diffusers: AdamW, batch 16."""
    shades, classes = pixels(16)
    torch.manual_seed(seed)
    model = Denoiser()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    return training(model, optimizer, *parted(shades * 2 - 1, classes, 500), 16, seed, noise_error)


def noise_error(model: nn.Module, batch: Rows) -> torch.Tensor:
    """Mean squared error of the noise that is in the images; in evaluation always the same noise."""
    shades = batch[0]
    generator = None if model.training else torch.Generator().manual_seed(0)
    times = torch.randint(1000, (len(shades),), generator=generator)
    noise = torch.randn(shades.shape, generator=generator)
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)[times].view(-1, 1, 1, 1)
    return F.mse_loss(model(kept.sqrt() * shades + (1 - kept).sqrt() * noise, times), noise)


class Denoiser(nn.Module):
    """A U-Net of two sizes with group normalisation, whose hidden maps are shifted by the time."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(32, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width))
        self.inwards, self.down = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 2 * width, 3, 2, padding=1)
        self.middle = nn.Sequential(*[normed(2 * width, 2 * width) for _ in range(3)])
        self.up, self.outwards = normed(3 * width, width), nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, shades: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        angles = times[:, None] * torch.exp(-torch.arange(16) / 16 * np.log(1e4))
        shift = self.time(torch.cat([angles.sin(), angles.cos()], 1))[:, :, None, None]
        first = self.inwards(shades)
        hidden = self.middle(self.down(first) + shift)
        hidden = self.up(torch.cat([F.interpolate(hidden, scale_factor=2), first], 1))
        return self.outwards(F.silu(hidden))  # type: ignore[no-any-return]


def normed(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.GroupNorm(8, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))


def unet(data: Path, seed: int) -> Training:
    """A small U-Net with the Dice loss of a brain segmentation: digits on photographs, Adam, batch 16."""
    digits = F.pad(pixels(20)[0], (6, 6, 6, 6))
    photos = images.cifar(data, "train", len(digits))[0] / 255
    colours = torch.rand(len(digits), 3, 1, 1, generator=torch.Generator().manual_seed(0))
    ours, held = parted(0.7 * photos + 0.5 * colours * digits, (digits > 0.3).float(), 300)
    torch.manual_seed(seed)
    model = Segmenter()
    return training(model, torch.optim.Adam(model.parameters(), 1e-4), ours, held, 16, seed, dice_loss)


def dice_loss(model: nn.Module, batch: Rows) -> torch.Tensor:
    seen, mask = model(batch[0]).sigmoid().flatten(), batch[1].flatten()
    return 1 - (2 * (seen * mask).sum() + 1) / (seen.sum() + mask.sum() + 1)  # type: ignore[no-any-return]


class Segmenter(nn.Module):
    """Three sizes, two convolutions with BatchNorm at each, on the way down and up."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        befores = (3, *widths[:-1])
        self.down = nn.ModuleList([double(before, after) for before, after in zip(befores, widths)])
        self.rise = nn.ModuleList([nn.ConvTranspose2d(2 * width, width, 2, 2) for width in widths[-2::-1]])
        self.up = nn.ModuleList([double(2 * width, width) for width in widths[-2::-1]])
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        for number, block in enumerate(self.down):
            photos = block(F.max_pool2d(photos, 2) if number else photos)
            kept.append(photos)
        for rise, block, beside in zip(self.rise, self.up, kept[-2::-1]):
            photos = block(torch.cat([rise(photos), beside], 1))
        return self.out(photos)  # type: ignore[no-any-return]


def double(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(Conv2dNormActivation(before, after), Conv2dNormActivation(after, after))


def perceptron(data: Path, seed: int) -> Training:
    """Income from the UCI census with what scikit-learn's MLPClassifier has by default: Adam, batch 200."""
    table = census(data)
    rows = parted(torch.from_numpy(standardised(table[:, :-1])), torch.from_numpy(table[:, -1].astype(np.int64)), 4_000)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 100), nn.ReLU(), nn.Linear(100, 2))
    return training(model, torch.optim.Adam(model.parameters(), 1e-3), *rows, 200, seed)


def pairs(data: Path, seed: int) -> Training:
    """MiniLM tuned to match sentences of the same docstring, as sentence-transformers does: AdamW, batch 16."""
    texts = docstring_pairs()
    left, right = (tokenized([pair[side] for pair in texts]) for side in (0, 1))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(left)))
    ours, held = (TensorDataset(left[part], right[part]) for part in (order[512:], order[:512]))
    torch.manual_seed(seed)
    model = SentenceEncoder()
    return Training(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), 2e-5, weight_decay=0.01),
        loader=shuffled(ours, 16, seed),
        validation=DataLoader(held, 64),
        loss=ranking_loss,
    )


def ranking_loss(model: nn.Module, batch: Rows) -> torch.Tensor:
    """Cross-entropy of each left sentence over all right ones of the batch: 20 times the cosine."""
    left, right = model(batch[0]), model(batch[1])
    return F.cross_entropy(20 * left @ right.T, torch.arange(len(left)))


class SentenceEncoder(nn.Module):
    """Mean of the states over the tokens of a sentence, of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = minilm_encoder()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.normalize(mean_state(self.encoder, cut([(row, row) for row in tokens])[0]))
