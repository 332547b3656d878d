"""Cells of networks of well-known kinds, from random weights, on photographs and film reviews."""

from __future__ import annotations

from pathlib import Path

import torch
from advice_bench.tasks.layers import Residual
from situations import reviews
from situations.cell import Training
from situations.examples import squared_error
from situations.scratch import cifar, training
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, RMSprop
from torchvision.ops import Conv2dNormActivation as Convolution

__all__ = ["bag", "char_lstm", "conv_mixer", "denoiser", "keras", "resnet8", "text_cnn", "vgg"]

LAST = torch.channels_last


def vgg(data: Path, seed: int) -> Training:
    """Three convolutions with BatchNorm: SGD with Nesterov momentum, batch 128."""
    torch.manual_seed(seed)
    layers = [Convolution(3, 32), nn.MaxPool2d(2), Convolution(32, 64), nn.MaxPool2d(2), Convolution(64, 128)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)).to(memory_format=LAST)
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    return training(model, optimizer, *cifar(data, 20_000), 128, seed)


def resnet8(data: Path, seed: int) -> Training:
    """The ResNet for CIFAR-10 with one block of each width: SGD with momentum, batch 128."""
    torch.manual_seed(seed)
    layers = [Convolution(3, 16), Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    return training(model.to(memory_format=LAST), optimizer, *cifar(data, 20_000), 128, seed)


def keras(data: Path, seed: int) -> Training:
    """The CNN of Keras's example for CIFAR-10, with dropout and without normalisation: SGD with momentum, batch 64."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64)):
        layers += [Convolution(before, after, norm_layer=None), Convolution(after, after, norm_layer=None)]
        layers += [nn.MaxPool2d(2), nn.Dropout(0.25)]
    layers.append(nn.Flatten())
    dense = [nn.Linear(4096, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 10)]
    model = nn.Sequential(*layers, *dense).to(memory_format=LAST)
    return training(model, SGD(model.parameters(), 0.01, momentum=0.9), *cifar(data, 20_000), 64, seed)


def conv_mixer(data: Path, seed: int, width: int = 64) -> Training:
    """ConvMixer with four layers on patches of 4 pixels: AdamW, batch 64."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, width, 4, 4), nn.GELU(), nn.BatchNorm2d(width)]
    for _ in range(4):
        spatial = [nn.Conv2d(width, width, 5, groups=width, padding=2), nn.GELU(), nn.BatchNorm2d(width)]
        layers += [Residual(*spatial), nn.Conv2d(width, width, 1), nn.GELU(), nn.BatchNorm2d(width)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)).to(memory_format=LAST)
    return training(model, AdamW(model.parameters(), 1e-2, weight_decay=0.01), *cifar(data, 20_000), 64, seed)


def denoiser(data: Path, seed: int) -> Training:
    """A convolutional autoencoder that takes noise from images: squared error, Adam, batch 64."""
    torch.manual_seed(seed)
    down = [nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()]
    model = nn.Sequential(*down, nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 3, 4, 2, 1))
    generator = torch.Generator().manual_seed(0)
    ours, held = (
        (each + 0.5 * torch.randn(each.shape, generator=generator), each) for each, _ in cifar(data, 20_000)
    )
    return training(model, Adam(model.parameters(), 1e-3), ours, held, 64, seed, squared_error)


def text_cnn(data: Path, seed: int) -> Training:
    """Kim's CNN that classifies sentences: Adam, batch 64."""
    torch.manual_seed(seed)
    model = TextCNN()
    return training(model, Adam(model.parameters(), 1e-3), *reviews.words(data), 64, seed)


def bag(data: Path, seed: int) -> Training:
    """A dense net on the mean of the embeddings of a sentence: SGD without momentum, batch 64."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.EmbeddingBag(reviews.VOCABULARY, 64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    return training(model, SGD(model.parameters(), 0.5), *reviews.words(data), 64, seed)


def char_lstm(data: Path, seed: int) -> Training:
    """Karpathy's char-rnn, with two layers of an LSTM: RMSprop, batch 50."""
    torch.manual_seed(seed)
    model = reviews.Recurrent(nn.LSTM(64, 128, 2, batch_first=True, dropout=0.2), 128, 128, every=True)
    return training(model, RMSprop(model.parameters(), 2e-3, alpha=0.95), *reviews.windows(data), 50, seed)


class Block(nn.Module):
    """Two convolutions beside a projection, where the size changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        first = Convolution(before, after, stride=stride)
        self.layers = nn.Sequential(first, Convolution(after, after, activation_layer=None))
        self.project: nn.Module = nn.Identity()
        if before != after:
            self.project = Convolution(before, after, 1, stride, activation_layer=None)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.relu(self.layers(inputs) + self.project(inputs))


class TextCNN(nn.Module):
    """The largest of each convolution over the words, of 3, 4 and 5 of them, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(reviews.VOCABULARY, 64)
        self.layers = nn.ModuleList(nn.Conv1d(64, 64, words, padding=2) for words in (3, 4, 5))
        self.out, self.drop = nn.Linear(192, 2), nn.Dropout(0.5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states = self.embed(ids).transpose(1, 2)
        largest = [F.relu(layer(states)).amax(2) for layer in self.layers]
        return self.out(self.drop(torch.cat(largest, 1)))  # type: ignore[no-any-return]
