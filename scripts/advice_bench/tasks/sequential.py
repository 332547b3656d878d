"""Recurrent networks, transformers and mixers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class Recurrent(nn.Module):
    """Recurrent layers on embedded inputs, and a head on all of their outputs or on a summary of them."""

    def __init__(
        self, embed: nn.Module, layers: nn.Module, head: nn.Module, pool: Callable[[Tensor], Tensor] = lambda x: x
    ) -> None:
        super().__init__()
        self.embed, self.layers, self.head, self.pool = embed, layers, head, pool

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.layers(self.embed(x))[0]))  # type: ignore[no-any-return]


def char_gru() -> nn.Module:
    return Recurrent(nn.Embedding(97, 32), nn.GRU(32, 48, batch_first=True), nn.Linear(48, 97))


def name_lstm() -> nn.Module:
    layers = nn.Embedding(65, 24), nn.LSTM(24, 40, batch_first=True), nn.Linear(40, 5)
    return Recurrent(*layers, pool=lambda x: x.mean(1))


def forecast_gru() -> nn.Module:
    return Recurrent(nn.Identity(), nn.GRU(1, 32, batch_first=True), nn.Linear(32, 8), pool=lambda x: x[:, -1])


def opcode_lstm() -> nn.Module:
    """Two layers with dropout around them, as in language models of words."""
    embed = nn.Sequential(nn.Embedding(256, 48), nn.Dropout(0.1))
    lstm = nn.LSTM(48, 48, num_layers=2, dropout=0.1, batch_first=True)
    return Recurrent(embed, lstm, nn.Sequential(nn.Dropout(0.1), nn.Linear(48, 256)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        n, length, width = x.shape
        q, k, v = (
            part.view(n, length, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, dim=2)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Patches(nn.Conv2d):
    """Patches of a picture, embedded: a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(2).transpose(1, 2)


class Transformer(nn.Module):
    """Two blocks; a causal one has an output for every place, another one for their mean."""

    def __init__(self, embed: nn.Module, length: int, outputs: int, *, causal: bool, width: int = 48) -> None:
        super().__init__()
        self.embed, self.place = embed, nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embed(x) + self.place
        for block in self.blocks:
            hidden = block(hidden, causal=self.causal)
        hidden = self.norm(hidden)
        return self.head(hidden if self.causal else hidden.mean(1))  # type: ignore[no-any-return]


def char_transformer() -> nn.Module:
    return Transformer(nn.Embedding(97, 48), 24, 97, causal=True)


def vit(outputs: int) -> nn.Module:
    """A small vision transformer on 32x32 pictures: 16 patches of 8x8."""
    return Transformer(Patches(3, 48, 8, 8), 16, outputs, causal=False)


class SetEncoder(nn.Module):
    """Attention between the points of a set, whose order does not matter, and attention pooling."""

    def __init__(self, outputs: int, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.lift = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(depth))
        self.norm, self.score, self.head = nn.LayerNorm(width), nn.Linear(width, 1), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.lift(x)
        for block in self.blocks:
            hidden = block(hidden, causal=False)
        hidden = self.norm(hidden)
        return self.head((self.score(hidden).softmax(1) * hidden).sum(1))  # type: ignore[no-any-return]


class Mixer(nn.Module):
    """An MLP-mixer on 32x32 pictures: 64 patches of 4x4, mixed over places and over channels in turn."""

    def __init__(self, outputs: int, width: int = 32, depth: int = 2) -> None:
        super().__init__()

        def mix(size: int) -> nn.Module:
            return nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))

        self.cut = Patches(3, width, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.places, self.channels = (nn.ModuleList(mix(size) for _ in range(depth)) for size in (64, width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.cut(x)
        for i, (places, channels) in enumerate(zip(self.places, self.channels)):
            hidden = hidden + places(self.norms[2 * i](hidden).transpose(1, 2)).transpose(1, 2)
            hidden = hidden + channels(self.norms[2 * i + 1](hidden))
        return self.head(self.norm(hidden).mean(1))  # type: ignore[no-any-return]


class LineEncoder(nn.Module):
    """PyTorch's own transformer layers at their defaults: norm after the sum, ReLU, dropout."""

    def __init__(self, outputs: int = 7, length: int = 24, width: int = 32) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(97, width), nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embed(x) + self.place
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden.mean(1))  # type: ignore[no-any-return]
