"""Recurrent networks, transformers and mixers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import MLP

from advice_bench.tasks.layers import Apply


def char_gru() -> nn.Module:
    gru = nn.Embedding(97, 32), nn.GRU(32, 48, batch_first=True)
    return nn.Sequential(*gru, Apply(lambda outputs: outputs[0]), nn.Linear(48, 97))


def name_lstm() -> nn.Module:
    lstm = nn.Embedding(65, 24), nn.LSTM(24, 40, batch_first=True)
    return nn.Sequential(*lstm, Apply(lambda outputs: outputs[0].mean(1)), nn.Linear(40, 5))


def forecast_gru() -> nn.Module:
    gru = nn.GRU(1, 32, batch_first=True)
    return nn.Sequential(gru, Apply(lambda outputs: outputs[0][:, -1]), nn.Linear(32, 8))


def opcode_lstm() -> nn.Module:
    """Two layers with dropout around them, as in language models of words."""
    embed = nn.Embedding(256, 48), nn.Dropout(0.1)
    lstm = nn.LSTM(48, 48, num_layers=2, dropout=0.1, batch_first=True), Apply(lambda outputs: outputs[0])
    return nn.Sequential(*embed, *lstm, nn.Dropout(0.1), nn.Linear(48, 256))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, *, heads: int = 4, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = MLP(width, [2 * width, width], activation_layer=nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        parts = self.qkv(self.norm1(x)).chunk(3, dim=2)
        q, k, v = (part.view(n, length, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Patches(nn.Conv2d):
    """Patches of a picture, embedded: a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(2).transpose(1, 2)


class Placed(nn.Module):
    """An embedding of every element of a sequence, and a learnt one of its place."""

    def __init__(self, embed: nn.Module, length: int, width: int) -> None:
        super().__init__()
        self.embed, self.place = embed, nn.Parameter(0.02 * torch.randn(length, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x) + self.place  # type: ignore[no-any-return]


class AttentionPool(nn.Module):
    """The mean of a sequence, with weights that a score of every element decides."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.score(x).softmax(1) * x).sum(1)  # type: ignore[no-any-return]


def mean_pool() -> nn.Module:
    return Apply(lambda x: x.mean(1))


def char_transformer() -> nn.Module:
    embed = Placed(nn.Embedding(97, 48), 24, 48)
    return nn.Sequential(embed, Block(48, causal=True), Block(48, causal=True), nn.LayerNorm(48), nn.Linear(48, 97))


def vit(outputs: int) -> nn.Module:
    """A small vision transformer on 32x32 pictures: 16 patches of 8x8."""
    body = Placed(Patches(3, 48, 8, 8), 16, 48), Block(48), Block(48), nn.LayerNorm(48)
    return nn.Sequential(*body, mean_pool(), nn.Linear(48, outputs))


def line_encoder() -> nn.Module:
    """PyTorch's own transformer layers at their defaults: norm after the sum, ReLU, dropout."""

    def layer() -> nn.Module:
        return nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)

    return nn.Sequential(Placed(nn.Embedding(97, 32), 24, 32), layer(), layer(), mean_pool(), nn.Linear(32, 7))


def set_encoder() -> nn.Module:
    """Attention between the points of a set, whose order does not matter, and attention pooling."""
    body = MLP(3, [32, 32], activation_layer=nn.GELU), Block(32), Block(32), nn.LayerNorm(32)
    return nn.Sequential(*body, AttentionPool(32), nn.Linear(32, 5))


class Mixer(nn.Module):
    """An MLP-mixer on 32x32 pictures: 64 patches of 4x4, mixed over places and over channels in turn."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.cut = Patches(3, 32, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(4))
        self.places, self.channels = (
            nn.ModuleList(MLP(size, [2 * size, size], activation_layer=nn.GELU) for _ in range(2)) for size in (64, 32)
        )
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.cut(x)
        for i, (places, channels) in enumerate(zip(self.places, self.channels)):
            hidden = hidden + places(self.norms[2 * i](hidden).transpose(1, 2)).transpose(1, 2)
            hidden = hidden + channels(self.norms[2 * i + 1](hidden))
        return self.head(self.norm(hidden).mean(1))  # type: ignore[no-any-return]
