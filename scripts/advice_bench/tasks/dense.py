"""Multilayer perceptrons, embeddings and networks on graphs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import MLP

from advice_bench.tasks.layers import Residual


def word_bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(2000, 32, mode="mean", padding_idx=0), MLP(32, [32, 8]))


def residual_mlp() -> nn.Module:
    def block() -> nn.Module:
        return Residual(nn.LayerNorm(48), MLP(48, [48, 48], activation_layer=nn.GELU))

    return nn.Sequential(nn.Linear(10, 48), *(block() for _ in range(4)), nn.Linear(48, 1))


def autoencoder() -> nn.Module:
    return nn.Sequential(*(MLP(ins, [48, outs], activation_layer=nn.Tanh) for ins, outs in ((64, 12), (12, 64))))


def dropout_mlp() -> nn.Module:
    def block(ins: int, outs: int) -> list[nn.Module]:
        return [nn.Linear(ins, outs), nn.BatchNorm1d(outs), nn.ReLU(), nn.Dropout(0.2)]

    return nn.Sequential(*block(30, 128), *block(128, 64), nn.Linear(64, 6))


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

    def __init__(self) -> None:
        super().__init__()
        self.embeds = nn.ModuleList(nn.Embedding(kinds, width) for kinds, width in ((100, 16), (100, 16), (2, 2)))
        self.norm = nn.BatchNorm1d(3)
        first = [nn.Linear(37, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Dropout(0.1)]
        self.body = nn.Sequential(*first, nn.Linear(64, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 5))

    def forward(self, x: Tensor) -> Tensor:
        kinds = [embed(x[:, i].long()) for i, embed in enumerate(self.embeds)]
        return self.body(torch.cat([*kinds, self.norm(x[:, 3:])], 1))  # type: ignore[no-any-return]


class Factors(nn.Module):
    """Matrix factorisation with biases."""

    def __init__(self) -> None:
        super().__init__()
        self.row, self.column = nn.Embedding(150, 16), nn.Embedding(400, 16)
        self.row_bias, self.column_bias = nn.Embedding(150, 1), nn.Embedding(400, 1)
        for embed in (self.row, self.column, self.row_bias, self.column_bias):
            nn.init.normal_(embed.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        row, column = x.unbind(1)
        biases = self.row_bias(row) + self.column_bias(column)
        return (self.row(row) * self.column(column)).sum(1) + biases[:, 0]  # type: ignore[no-any-return]


class GatedMLP(nn.Module):
    """Gated linear units (SwiGLU) with residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.norms = nn.ModuleList(nn.LayerNorm(64) for _ in range(2))
        self.rises = nn.ModuleList(nn.Linear(64, 256) for _ in range(2))
        self.falls = nn.ModuleList(nn.Linear(128, 64) for _ in range(2))
        self.head = nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        for norm, rise, fall in zip(self.norms, self.rises, self.falls):
            value, gate = rise(norm(hidden)).chunk(2, dim=1)
            hidden = hidden + fall(value * functional.silu(gate))
        return self.head(hidden)  # type: ignore[no-any-return]
