"""Cells of images and of a table whose networks start from random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from situations import images
from situations.cell import Loss, Training, loss_of
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torchvision.models import VisionTransformer
from torchvision.ops import MLP

from lrfinder.tasks.classification_models import build_classifier
from lrfinder.tasks.grouped import grouped_optimizer
from lrfinder.tasks.settings import Settings

__all__ = ["RECIPE_BATCH", "Rows", "census", "cifar", "convolutional", "dense", "digits", "hours", "parted", "recipe"]
__all__ += ["standardised", "training", "vit"]

RECIPE_BATCH = 64
Rows = tuple[torch.Tensor, torch.Tensor]


def training(
    model: nn.Module, optimizer: Optimizer, ours: Rows, held: Rows, size: int, seed: int, loss: Loss = loss_of
) -> Training:
    """Whole batches of ``ours`` in an order that depends on the seed alone, and ``held`` for validation."""
    loader, validation = images.Batches(*ours, size, seed), images.Batches(*held, 100)
    return Training(model=model, optimizer=optimizer, loader=loader, validation=validation, loss=loss)


def cifar(data: Path, most: int) -> tuple[Rows, Rows]:
    """So many images for training and 1,000 for validation, scaled as ImageNet's."""
    (ours, classes), (held, held_classes) = images.cifar(data, "train", most), images.cifar(data, "test", 1_000)
    return ((ours / 255 - images.MEAN) / images.STD, classes), ((held / 255 - images.MEAN) / images.STD, held_classes)


def parted(inputs: torch.Tensor, classes: torch.Tensor, held: int) -> tuple[Rows, Rows]:
    """All rows but ``held`` random ones for training, and these for validation."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(inputs)))
    ours, others = order[held:], order[:held]
    return (inputs[ours], classes[ours]), (inputs[others], classes[others])


def recipe(data: Path, seed: int, *, model: str) -> Training:
    """A model of torchvision and the optimizer of its recipe, as ``lrfind run`` builds them.

    With 5,000 images; channels last is up to twice as fast on a CPU.
    """
    torch.manual_seed(seed)
    net = build_classifier(model, num_classes=10, needed_size=32, batch_size=RECIPE_BATCH).model
    net.to(memory_format=torch.channels_last)
    optimizer = grouped_optimizer(Settings(model=model), model, net).optimizer
    return training(net, optimizer, *cifar(data, 5_000), RECIPE_BATCH, seed)


def census(data: Path) -> np.ndarray:
    """Six numbers and the income of each person of the UCI census, float32 (n, 7)."""
    return np.loadtxt(data / "adult" / "adult.csv", delimiter=",", skiprows=1, dtype=np.float32)


def standardised(inputs: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and deviation 1."""
    return (inputs - inputs.mean(0)) / inputs.std(0)  # type: ignore[no-any-return]


def hours(data: Path, seed: int) -> Training:
    """Whether people work less than 40 hours a week, 40 or more (UCI census): a dense net, Adam, batch 4."""
    table = census(data)
    classes = np.sign(table[:, 5] - 40).astype(np.int64) + 1
    inputs = np.delete(table, 5, axis=1)
    inputs[:, 3:5] = np.log1p(inputs[:, 3:5])  # capital gain and loss
    torch.manual_seed(seed)
    model = MLP(6, [128, 128, 3])
    rows = parted(torch.from_numpy(standardised(inputs)), torch.from_numpy(classes), 4_000)
    return training(model, torch.optim.Adam(model.parameters(), 1e-3), *rows, 4, seed)


def digits(data: Path, seed: int) -> Training:
    """A residual net with BatchNorm on the digits of scikit-learn: SGD with momentum, batch 4."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    rows = parted(torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16, torch.tensor(bunch.target), 500)
    torch.manual_seed(seed)
    model = residual(1, (32, 64), stride=1)
    return training(model, torch.optim.SGD(model.parameters(), 0.01, momentum=0.9), *rows, 4, seed)


def dense(data: Path, seed: int) -> Training:
    """A dense net on CIFAR-10: SGD without momentum, batch 8."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), MLP(3_072, [256, 128, 10]))
    return training(model, torch.optim.SGD(model.parameters(), 0.01), *cifar(data, 20_000), 8, seed)


def vit(data: Path, seed: int) -> Training:
    """A vision transformer of 1.2 million weights on patches of 4 pixels of CIFAR-10: AdamW, batch 32."""
    torch.manual_seed(seed)
    model = VisionTransformer(32, 4, num_layers=6, num_heads=4, hidden_dim=128, mlp_dim=512, num_classes=10)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    return training(model, optimizer, *cifar(data, 20_000), 32, seed)


def convolutional(data: Path, seed: int) -> Training:
    """A WideResNet-10-4, of 1.2 million weights, whose first convolution halves CIFAR-10: momentum, batch 32."""
    torch.manual_seed(seed)
    model = residual(3, (64, 128, 256), stride=2).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9, weight_decay=5e-4)
    return training(model, optimizer, *cifar(data, 20_000), 32, seed)


def residual(channels: int, widths: Sequence[int], stride: int) -> nn.Sequential:
    """A block of each width, each but the first on half of the pixels; ``stride`` is of the first convolution."""
    before = (16, *widths)
    first = nn.Conv2d(channels, 16, 3, stride, padding=1, bias=False)
    blocks = [Block(before[i], width, 2 if i else 1) for i, width in enumerate(widths)]
    pooled = [nn.BatchNorm2d(widths[-1]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(first, *blocks, *pooled, nn.Linear(widths[-1], 10))


class Block(nn.Module):
    """Two convolutions of WideResNet, each after its normalisation, beside a projection."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.project = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.norm1(inputs))
        added = self.conv2(F.relu(self.norm2(self.conv1(hidden))))
        return self.project(hidden) + added  # type: ignore[no-any-return]
