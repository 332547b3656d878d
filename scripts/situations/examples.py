"""Cells made after programs of PyTorch that give a learning rate (examples and tutorials), on data that is at hand."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from situations import images, language
from situations.cell import Training, shuffled
from situations.scratch import Rows, parted, training
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

__all__ = ["digits", "graph", "names", "rows_of_digits", "squared_error", "super_resolution", "transformer_lm", "vae"]

Update = type[torch.optim.Optimizer]
NEIGHBOURS = 5  # of a digit in the graph
MODULES = "ast asyncio ctypes curses decimal errno inspect locale os re signal socket ssl string sys time turtle typing"


def pixels(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The digits of scikit-learn at ``size`` pixels, from 0 to 1 (n, 1, size, size), and their classes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    return F.interpolate(small, size, mode="bilinear", align_corners=False), torch.tensor(bunch.target)


def mnist_like() -> tuple[Rows, Rows]:
    """28 pixels, scaled as MNIST's."""
    shades, classes = pixels(28)
    return parted((shades - 0.1307) / 0.3081, classes, 500)


def digits(data: Path, seed: int, *, optimizer: Update, **options: Any) -> Training:
    """The CNN of ``mnist`` and ``mnist_hogwild``, batch 64."""
    torch.manual_seed(seed)
    convolutions = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)]
    dense = [nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)]
    model = nn.Sequential(*convolutions, nn.Flatten(), *dense)
    return training(model, optimizer(model.parameters(), **options), *mnist_like(), 64, seed)


def rows_of_digits(data: Path, seed: int) -> Training:
    """The LSTM of ``mnist_rnn``, which reads an image row by row: Adadelta, batch 64."""
    torch.manual_seed(seed)
    model = RowReader()
    return training(model, torch.optim.Adadelta(model.parameters(), 0.1), *mnist_like(), 64, seed)


def vae(data: Path, seed: int) -> Training:
    """The autoencoder of ``vae``, whose loss is a sum over pixels and samples: Adam, batch 128."""
    shades, classes = pixels(28)
    ours, held = parted(shades.flatten(1), classes, 500)
    torch.manual_seed(seed)
    model = Autoencoder()
    return Training(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), 1e-3),
        loader=images.Batches(*ours, 128, seed),
        validation=images.Batches(*held, 128),
        loss=evidence_bound,
    )


def evidence_bound(model: nn.Module, batch: Rows) -> torch.Tensor:
    shades = batch[0]
    drawn, mean, log_variance = model(shades)
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
    return F.binary_cross_entropy(drawn, shades, reduction="sum") + divergence  # type: ignore[no-any-return]


def super_resolution(data: Path, seed: int) -> Training:
    """The sub-pixel net of ``super_resolution`` on shades of CIFAR-10, from 10 to 30 pixels: Adam, batch 4."""
    sets = (images.grey(data, "train", 5_000, cut=1)[0], images.grey(data, "test", 500, cut=1)[0])
    ours, held = ((F.avg_pool2d(shades, 3), shades) for shades in sets)
    torch.manual_seed(seed)
    widths = (1, 64, 64, 32, 9)
    layers = [nn.Conv2d(widths[i], widths[i + 1], 3 if i else 5, padding="same") for i in range(4)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, 1 if layer is layers[-1] else nn.init.calculate_gain("relu"))
    active = [each for layer in layers[:-1] for each in (layer, nn.ReLU())]
    model = nn.Sequential(*active, layers[-1], nn.PixelShuffle(3))
    return training(model, torch.optim.Adam(model.parameters(), 1e-3), ours, held, 4, seed, squared_error)


def squared_error(model: nn.Module, batch: Rows) -> torch.Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


def graph(data: Path, seed: int) -> Training:
    """The graph network of ``gcn`` on the digits, each an edge to its nearest ones: Adam, all nodes in every step."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import kneighbors_graph

    bunch = load_digits()
    near = kneighbors_graph(bunch.data, NEIGHBOURS).toarray()
    edges = torch.tensor(np.maximum(near, near.T) + np.eye(len(near)), dtype=torch.float32)
    degree = edges.sum(1).rsqrt()
    features = torch.tensor(bunch.data / bunch.data.sum(1, keepdims=True), dtype=torch.float32)
    torch.manual_seed(seed)
    model = GraphNet(features, (degree[:, None] * edges * degree).to_sparse())
    classes, order = torch.tensor(bunch.target), torch.from_numpy(np.random.default_rng(0).permutation(len(near)))
    return Training(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), 0.01, weight_decay=5e-4),
        loader=[(order[800:], classes[order[800:]])],
        validation=[(order[:800], classes[order[:800]])],
    )


def transformer_lm(data: Path, seed: int) -> Training:
    """The Transformer of ``word_language_model`` on the manual of Python: SGD, clipped, batch 20."""
    ours, held = language.manual()
    torch.manual_seed(seed)
    model = WordTransformer()
    return Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 5.0),
        loader=shuffled(language.Windows(ours, language.WORDS, step=7, last=True), 20, seed),
        validation=DataLoader(language.Windows(held, language.WORDS, step=language.WORDS, last=True), 50),
    )


def names(data: Path, seed: int) -> Training:
    """The recurrent net of PyTorch's tutorial: which of 18 modules a name is from, plain SGD, batch 1."""
    modules = MODULES.split()
    found = [(name, i) for i, module in enumerate(modules) for name in dir(importlib.import_module(module))]
    found = [each for each in found if not each[0].startswith("_")]
    coded = [torch.tensor([[min(ord(letter), 127) for letter in name]]) for name, _ in found]
    order = np.random.default_rng(0).permutation(len(found))
    rows: Any = [(coded[i], torch.tensor([found[i][1]])) for i in order]
    torch.manual_seed(seed)
    model = Elman(128, 128, len(modules))
    return Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.005),
        loader=DataLoader(rows[400:], None, shuffle=True, generator=torch.Generator().manual_seed(seed)),
        validation=rows[:400],
    )


class RowReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(28, 64, batch_first=True)
        dense = [nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10)]
        self.head = nn.Sequential(nn.BatchNorm1d(64), nn.Dropout(0.25), *dense)

    def forward(self, shades: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(shades.flatten(1, 2))[0][:, -1])  # type: ignore[no-any-return]


class Elman(nn.Module):
    """A recurrent net without an activation, as the tutorial has it, and a linear layer on its last state."""

    def __init__(self, symbols: int, width: int, classes: int) -> None:
        super().__init__()
        self.symbols, self.width = symbols, width
        self.hidden, self.out = nn.Linear(symbols + width, width), nn.Linear(symbols + width, classes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        state = torch.zeros(len(ids), self.width)
        for letter in F.one_hot(ids, self.symbols).float().unbind(1):
            both = torch.cat([letter, state], 1)
            state = self.hidden(both)
        return self.out(both)  # type: ignore[no-any-return]


class Autoencoder(nn.Module):
    """784 pixels to 20 hidden numbers and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.both = nn.Sequential(nn.Linear(784, 400), nn.ReLU()), nn.Linear(400, 40)
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid())

    def forward(self, shades: torch.Tensor) -> Sequence[torch.Tensor]:
        mean, log_variance = self.both(self.encoder(shades)).chunk(2, 1)
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.decoder(code), mean, log_variance


class GraphNet(nn.Module):
    """Two graph convolutions, 16 wide, on all nodes; its inputs are the numbers of the nodes that are asked for."""

    def __init__(self, features: torch.Tensor, edges: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("features", features)
        self.register_buffer("edges", edges)
        self.first, self.second = nn.Linear(features.shape[1], 16, bias=False), nn.Linear(16, 10, bias=False)
        for layer in (self.first, self.second):
            nn.init.xavier_normal_(layer.weight)

    def forward(self, nodes: torch.Tensor) -> torch.Tensor:
        hidden = F.dropout(F.relu(self.edges @ self.first(self.features)), 0.5, self.training)
        return (self.edges @ self.second(hidden))[nodes]  # type: ignore[no-any-return]


class WordTransformer(nn.Module):
    """Two encoder layers, 200 wide, with two heads and dropout, on words and fixed waves for their places."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(language.VOCABULARY, 200), nn.Linear(200, language.VOCABULARY)
        layer = nn.TransformerEncoderLayer(200, 2, 200, dropout=0.2, batch_first=True)
        self.layers, self.drop = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Dropout(0.2)
        angles = torch.arange(language.WORDS)[:, None] / 10_000 ** (torch.arange(0, 200, 2) / 200)
        self.register_buffer("places", torch.stack([angles.sin(), angles.cos()], -1).flatten(1))
        for weight in (self.embed.weight, self.out.weight):
            nn.init.uniform_(weight, -0.1, 0.1)
        nn.init.zeros_(self.out.bias)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1], device=ids.device)
        hidden = self.drop(self.embed(ids) * 200**0.5 + self.places)
        return self.out(self.layers(hidden, mask=mask, is_causal=True))  # type: ignore[no-any-return]
