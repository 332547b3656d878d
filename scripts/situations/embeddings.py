"""Cells of embeddings of norm 1 whose loss is bounded: contrastive, of triplets, of angles, and of a teacher.

The loss cannot grow without limit, so a range test ends on a plateau instead of a divergence.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from situations.cell import Training
from situations.heads import OPTIMIZERS
from situations.linear import DATA
from situations.scratch import training
from torch import nn
from torch.nn import functional as F
from torchvision.ops import MLP, Conv2dNormActivation

__all__ = ["embeddings"]

WIDTH, BATCH = 32, 64


class Embedder(nn.Module):
    """A network for flat inputs, the centres of the classes, a tower for names of classes, and a teacher."""

    def __init__(self, net: nn.Module, inputs: int, classes: int) -> None:
        super().__init__()
        self.net, self.classes = net, classes
        self.centres = nn.Parameter(0.1 * torch.randn(classes, WIDTH))
        self.names = MLP(classes, [64, WIDTH])
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        teacher = nn.Sequential(nn.Linear(inputs, 128), nn.Tanh(), nn.Linear(128, WIDTH))
        self.teacher = teacher.requires_grad_(False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.net(inputs), dim=1)


Pairs = tuple[torch.Tensor, torch.Tensor]


def simclr(model: Any, batch: Pairs) -> torch.Tensor:
    """Two noisy views of each sample, one of them of another strength, among those of all others."""
    inputs, _ = batch
    count, noise = len(inputs), 0.15 * inputs.std()
    strength = 0.7 + 0.6 * torch.rand(count, 1)
    views = torch.cat([inputs, inputs * strength])
    ours = model(views + noise * torch.randn_like(views))
    alike = (ours @ ours.T / 0.2).fill_diagonal_(-1e9)
    return F.cross_entropy(alike, (torch.arange(2 * count) + count) % (2 * count))


def supcon(model: Any, batch: Pairs) -> torch.Tensor:
    """All samples of the same class among those of all."""
    ours = model(batch[0])
    same = (batch[1][:, None] == batch[1]).float().fill_diagonal_(0)
    logs = F.log_softmax((ours @ ours.T / 0.1).fill_diagonal_(-1e9), 1)
    return -((logs * same).sum(1) / same.sum(1).clamp(min=1)).mean()


def cosface(model: Any, batch: Pairs) -> torch.Tensor:
    """The centre of the class, by a margin of 0.2, among all centres."""
    cosines = model(batch[0]) @ F.normalize(model.centres, dim=1).T
    return F.cross_entropy(16 * (cosines - 0.2 * F.one_hot(batch[1], model.classes)), batch[1])


def triplet(model: Any, batch: Pairs) -> torch.Tensor:
    """The furthest sample of the same class against the nearest of another, by a margin of 0.3."""
    ours = model(batch[0])
    distances = (2 - 2 * ours @ ours.T).clamp(min=1e-6)
    same = (batch[1][:, None] == batch[1]).float()
    return F.relu((distances * same).amax(1) - (distances + 10 * same).amin(1) + 0.3).mean()


def cosine(model: Any, batch: Pairs) -> torch.Tensor:
    """What a teacher makes of the sample, a network with random weights."""
    return (1 - F.cosine_similarity(model(batch[0]), model.teacher(batch[0]))).mean()


def clip(model: Any, batch: Pairs) -> torch.Tensor:
    """The noisy name of the class among those of the batch, and the reverse."""
    inputs, classes = batch
    names = F.one_hot(classes, model.classes) + 0.3 * torch.randn(len(classes), model.classes)
    alike = model.scale.exp() * model(inputs) @ F.normalize(model.names(names), dim=1).T
    places = torch.arange(len(inputs))
    return (F.cross_entropy(alike, places) + F.cross_entropy(alike.T, places)) / 2


LOSSES = {each.__name__: each for each in (simclr, supcon, cosface, triplet, cosine, clip)}


def network(source: str, inputs: int) -> nn.Module:
    if source not in ("digits", "pixels"):
        dense: nn.Module = MLP(inputs, [128, 128, WIDTH])
        return dense
    first, side = (nn.Identity(), 8) if source == "digits" else (nn.AvgPool2d(2), 32)
    channels = inputs // side**2
    layers = [first, Conv2dNormActivation(channels, 32), nn.MaxPool2d(2), Conv2dNormActivation(32, 64)]
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), MLP(64, [64, WIDTH])]
    return nn.Sequential(nn.Unflatten(1, (channels, side, side)), *layers, *pooled)


def embeddings(data: Path, seed: int, *, loss: str, source: str, optimizer: str) -> Training:
    """A small network for the data of :mod:`situations.linear` of that name, in batches of 64."""
    ours, held = DATA[source](data)
    torch.manual_seed(seed)
    inputs, classes = ours[0].shape[1], int(ours[1].max()) + 1
    model = Embedder(network(source, inputs), inputs, classes)
    trained = [each for each in model.parameters() if each.requires_grad]
    return training(model, OPTIMIZERS[optimizer](trained), ours, held, BATCH, seed, LOSSES[loss])
