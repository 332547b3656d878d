"""What is trained in the benchmark of cost: models, optimizers, data and loaders, on the CPU and on a GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

__all__ = [
    "CASES",
    "START_LR",
    "Case",
    "Task",
    "build_task",
    "cnn",
    "gpt",
    "mlp",
    "resnet18",
    "state_bytes",
    "wide_mlp",
]

START_LR = 1e-5


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def wide_mlp(width: int) -> nn.Module:
    """About ``width**2`` parameters."""
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def cnn() -> nn.Module:
    def block(inputs: int, outputs: int) -> nn.Module:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))

    return nn.Sequential(block(3, 16), block(16, 32), block(32, 64), nn.Flatten(), nn.Linear(64 * 4 * 4, 10))


def resnet18() -> nn.Module:
    from torchvision.models import resnet18 as build

    model: nn.Module = build(num_classes=10)
    return model


def resnet50() -> nn.Module:
    from torchvision.models import resnet50 as build

    model: nn.Module = build(num_classes=1000)
    return model


class Block(nn.Module):
    """A pre-norm transformer block with causal attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """A decoder of GPT-2's shape, its output tied to its embedding."""

    def __init__(self, *, layers: int, width: int, heads: int, vocabulary: int, length: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for embedding in (self.tokens, self.places):
            nn.init.normal_(embedding.weight, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits


def gpt() -> nn.Module:
    """124 million parameters."""
    return GPT(layers=12, width=768, heads=12, vocabulary=50257, length=512)


def small_gpt() -> nn.Module:
    return GPT(layers=4, width=256, heads=4, vocabulary=2000, length=128)


class TokenLoss(nn.CrossEntropyLoss):
    """Cross-entropy of every token."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return super().forward(output.flatten(0, 1), target.flatten())


# Data that are learnt fast, or no curve would fall in a hundred steps.


def vectors(count: int, *shape: int) -> tuple[Tensor, Tensor]:
    """A pattern for each of ten classes, under noise."""
    target = torch.randint(0, 10, (count,))
    return torch.randn(count, *shape).add_(torch.randn(10, *shape)[target], alpha=0.5), target


def bytes_of_images(count: int, *shape: int) -> tuple[Tensor, Tensor]:
    """A colour for each of ten classes, under noise: it outlives shifts and flips."""
    target = torch.randint(0, 10, (count,))
    images = 128 + 50 * torch.randn(count, *shape) + 50 * torch.randn(10, shape[0], 1, 1)[target]
    return images.clamp_(0, 255).to(torch.uint8), target


def tokens(vocabulary: int) -> Callable[..., tuple[Tensor, Tensor]]:
    def make(count: int, length: int) -> tuple[Tensor, Tensor]:
        text = torch.randint(0, vocabulary, (count, length))
        return text, torch.randperm(vocabulary)[text]  # the next token follows from this one

    return make


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Images as bytes, which every worker turns into floats, shifts and flips, as loaders do. The same each time."""

    def __init__(self, images: Tensor, target: Tensor) -> None:
        self.images, self.target = images, target

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = F.pad(self.images[index].float().div_(255).sub_(0.5), (4, 4, 4, 4))
        top, left, (height, width) = index % 9, index // 9 % 9, self.images.shape[-2:]
        image = image[:, top : top + height, left : left + width]
        return image.flip(-1) if index % 2 else image, self.target[index]


class Ready(Dataset[tuple[Tensor, Tensor]]):
    """Whole batches, collated (and pinned, for a GPU) beforehand: the loop waits for nothing but the device."""

    def __init__(self, inputs: Tensor, target: Tensor, batch_size: int) -> None:
        pinned = torch.cuda.is_available()
        self.batches = [
            tuple(part.pin_memory() if pinned else part for part in batch)
            for batch in zip(inputs.split(batch_size), target.split(batch_size), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.batches[index]  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model and an optimizer to sweep.

    Args:
        title: of the tables.
        model: makes it.
        inputs: shape of one sample.
        end_lr: far enough to give a curve, near enough that no stopping rule fires: everybody goes to the end.
        limit: what the whole call may cost, as a ratio to the bare loop; a promise of the README.
        amp: autocast to this type.
        batches: in the loader: where fewer than steps, it starts again on the way.
        repeat: times as many rounds, as far as time allows: each tells a little more.
        loading: ``"plain"`` (the process itself collates), ``"ready"`` or ``"workers"``.
        default: part of a run in which no cases are named.
    """

    title: str
    model: Callable[[], nn.Module]
    inputs: tuple[int, ...]
    optimizer: type[torch.optim.Optimizer]
    options: dict[str, Any]
    end_lr: float
    limit: float
    data: Callable[..., tuple[Tensor, Tensor]] = vectors
    criterion: Callable[[], nn.Module] = nn.CrossEntropyLoss
    amp: torch.dtype | None = None
    batch_size: int = 32
    batches: int = 64
    repeat: int = 1
    loading: str = "plain"
    default: bool = True

    def changes_over_after(self, device: torch.device) -> str:
        """What a contestant does in one go before the next has its turn: an ``"update"`` or the whole ``"call"``.

        Workers and a GPU would go on with the work of one while another is on the clock.
        """
        return "call" if device.type != "cpu" or self.loading == "workers" else "update"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A case built afresh, the same each time: what a user has before training."""

    case: Case
    device: torch.device
    model: nn.Module
    optimizer: torch.optim.Optimizer
    criterion: nn.Module
    loader: DataLoader[Any]
    steps: int
    folder: str
    first: tuple[Tensor, Tensor] = field(repr=False)
    """A batch on the device, to warm up with: it costs the loader nothing."""


_SGD: dict[str, Any] = {"optimizer": torch.optim.SGD, "options": {"lr": 0.01, "momentum": 0.9}, "end_lr": 0.03}
_ADAMW: dict[str, Any] = {"optimizer": torch.optim.AdamW, "options": {"lr": 1e-3}, "end_lr": 0.01}
_FUSED: dict[str, Any] = {**_ADAMW, "options": {"lr": 1e-3, "fused": True}, "end_lr": 1e-3}
_LOADER: dict[str, Any] = {
    "title": "CNN, loader with 2 workers",
    "model": cnn,
    "inputs": (3, 32, 32),
    "data": bytes_of_images,
    "batch_size": 64,
    "batches": 128,
    "loading": "workers",
    **_SGD,
}
_SMALL_GPT: dict[str, Any] = {"inputs": (128,), "data": tokens(2000), "criterion": TokenLoss, "batch_size": 4}
_GPT: dict[str, Any] = {
    "model": gpt,
    "inputs": (512,),
    "data": tokens(50257),
    "criterion": TokenLoss,
    "batch_size": 8,
    **_FUSED,
}
_RESNET50: dict[str, Any] = {"model": resnet50, "inputs": (3, 224, 224), "batch_size": 64, "batches": 16, **_SGD}
_CPU: dict[str, Any] = {"limit": 1.03}
_EXTRA: dict[str, Any] = {"limit": 1.03, "default": False}
_GPU: dict[str, Any] = {"limit": 1.05, "loading": "ready"}
_BIG_GPU: dict[str, Any] = {"limit": 1.02, "loading": "ready"}

CASES: dict[str, dict[str, Case]] = {
    "cpu": {
        "mlp": Case(title="MLP 64-32-10, SGD", model=mlp, inputs=(64,), repeat=20, **_SGD, **_CPU),
        "cnn": Case(title="CNN with BatchNorm, SGD", model=cnn, inputs=(3, 32, 32), repeat=3, **_SGD, **_CPU),
        "cnn-adamw": Case(title="CNN with BatchNorm, AdamW", model=cnn, inputs=(3, 32, 32), repeat=3, **_ADAMW, **_CPU),
        "resnet18": Case(
            title="ResNet-18 on 32x32, SGD",
            model=resnet18,
            inputs=(3, 32, 32),
            batch_size=8,
            repeat=4,
            **_SGD,
            **_CPU,
        ),
        "loader": Case(**_LOADER, **_CPU),
        "resnet50": Case(
            title="ResNet-50 on 64x64, SGD", model=resnet50, inputs=(3, 64, 64), batch_size=8, **_SGD, **_EXTRA
        ),
        "gpt": Case(title="GPT of 3.7 million parameters, AdamW", model=small_gpt, **_SMALL_GPT, **_ADAMW, **_EXTRA),
    },
    # The cases that matter most come first, so that a run which is cut short has them.
    "cuda": {
        "mlp": Case(title="MLP 64-32-10, SGD", model=mlp, inputs=(64,), repeat=10, **_SGD, **_GPU),
        "gpt-bf16": Case(title="GPT of 124 million parameters, AdamW, bf16", amp=torch.bfloat16, **_GPT, **_BIG_GPU),
        "resnet50-bf16": Case(title="ResNet-50 on 224x224, SGD, bf16", amp=torch.bfloat16, **_RESNET50, **_BIG_GPU),
        "cnn": Case(title="CNN with BatchNorm, SGD", model=cnn, inputs=(3, 32, 32), **_SGD, **_GPU),
        "resnet18": Case(
            title="ResNet-18 on 32x32, SGD", model=resnet18, inputs=(3, 32, 32), batch_size=128, **_SGD, **_GPU
        ),
        "loader": Case(**_LOADER, limit=1.05),
        "gpt": Case(title="GPT of 124 million parameters, AdamW", **_GPT, **_BIG_GPU),
        "resnet50": Case(title="ResNet-50 on 224x224, SGD", **_RESNET50, **_BIG_GPU),
    },
}


@functools.lru_cache(maxsize=1)  # rounds go through one case at a time, and the data of a big one take seconds to make
def _data(make: Callable[..., tuple[Tensor, Tensor]], count: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return make(count, *shape)


@functools.lru_cache(maxsize=1)
def _ready(make: Callable[..., tuple[Tensor, Tensor]], count: int, shape: tuple[int, ...], batch_size: int) -> Ready:
    return Ready(*_data(make, count, shape), batch_size)


def _loader(case: Case, device: torch.device) -> DataLoader[Any]:
    """Not shuffled: the same batches for everybody, by construction."""
    count = case.batch_size * case.batches
    if case.loading == "ready":
        return DataLoader(_ready(case.data, count, case.inputs, case.batch_size), batch_size=None)
    data = _data(case.data, count, case.inputs)
    if case.loading == "workers":
        return DataLoader(
            Augmented(*data),
            batch_size=case.batch_size,
            num_workers=2,
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
    return DataLoader(TensorDataset(*data), batch_size=case.batch_size)


def build_task(case: Case, device: torch.device, steps: int, folder: str) -> Task:
    loader = _loader(case, device)
    first = (
        loader.dataset[0]
        if case.loading == "ready"
        else [torch.stack(part) for part in zip(*(loader.dataset[i] for i in range(case.batch_size)), strict=True)]
    )
    torch.manual_seed(0)
    with device:  # initialised there, which for a large model on a GPU is much faster
        model = case.model()
    return Task(
        case=case,
        device=device,
        model=model,
        optimizer=case.optimizer(model.parameters(), **case.options),
        criterion=case.criterion(),
        loader=loader,
        steps=steps,
        folder=folder,
        first=(first[0].to(device), first[1].to(device)),
    )


def state_bytes(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Size of what training changes: parameters, buffers, and the tensors of the optimizer."""
    moments = (value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor))
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers(), *moments))
