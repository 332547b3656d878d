"""Multilayer perceptrons, embeddings and networks on graphs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


def mlp(
    inputs: int,
    hidden: int,
    outputs: int,
    *,
    depth: int = 1,
    norm: type[nn.Module] | None = None,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(inputs if i == 0 else hidden, hidden)]
        layers += [norm(hidden)] if norm else []
        layers += [activation()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


class WordBag(nn.Module):
    def __init__(self, words: int = 2000, width: int = 32, outputs: int = 8) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(words, width, mode="mean", padding_idx=0)
        self.body = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.embed(x))  # type: ignore[no-any-return]


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


class InteractionNet(nn.Module):
    """A graph of bodies: a message along every edge, the sum of a body's messages, and an update."""

    def __init__(self, features: int = 5, width: int = 48) -> None:
        super().__init__()
        self.message = nn.Sequential(nn.Linear(2 * features, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.update = nn.Sequential(nn.Linear(features + width, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, x: Tensor) -> Tensor:
        here, there = x[:, :, None].expand(-1, -1, x.shape[1], -1), x[:, None].expand(-1, x.shape[1], -1, -1)
        messages = self.message(torch.cat([here, there], 3)).sum(2)
        return self.update(torch.cat([x, messages], 2))  # type: ignore[no-any-return]


class Tabular(nn.Module):
    """Embeddings of three categorical columns beside three numbers."""

    def __init__(self, outputs: int = 5) -> None:
        super().__init__()
        self.embeds = nn.ModuleList(nn.Embedding(kinds, width) for kinds, width in ((100, 16), (100, 16), (2, 2)))
        self.norm = nn.BatchNorm1d(3)
        first = [nn.Linear(37, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Dropout(0.1)]
        self.body = nn.Sequential(*first, nn.Linear(64, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, outputs))

    def forward(self, x: Tensor) -> Tensor:
        kinds = [embed(x[:, i].long()) for i, embed in enumerate(self.embeds)]
        return self.body(torch.cat([*kinds, self.norm(x[:, 3:])], 1))  # type: ignore[no-any-return]


class Factors(nn.Module):
    """Matrix factorisation with biases."""

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


def dropout_mlp() -> nn.Module:
    def block(ins: int, outs: int) -> list[nn.Module]:
        return [nn.Linear(ins, outs), nn.BatchNorm1d(outs), nn.ReLU(), nn.Dropout(0.2)]

    return nn.Sequential(*block(30, 128), *block(128, 64), nn.Linear(64, 6))


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


def autoencoder() -> nn.Module:
    down, up = [nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 12)], [nn.Linear(12, 48), nn.Tanh(), nn.Linear(48, 64)]
    return nn.Sequential(*down, *up)
