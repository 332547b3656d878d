"""What the cost benchmark trains: models, optimizers, data and loaders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18, resnet50

__all__ = ["CASES", "START_LR", "Case", "Task", "build", "make_samples"]

START_LR = 1e-5


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def cnn() -> nn.Module:
    def block(inputs: int, outputs: int) -> nn.Module:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))

    return nn.Sequential(block(3, 16), block(16, 32), block(32, 64), nn.Flatten(), nn.Linear(64 * 4 * 4, 10))


class GPT(nn.Module):
    """A decoder of the shape of GPT-2, with 124 million parameters; the output shares the weights of the embedding."""

    vocabulary, length, width = 50257, 512, 768

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(self.vocabulary, self.width), nn.Embedding(self.length, self.width)
        layer = nn.TransformerEncoderLayer(
            self.width, 12, 4 * self.width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 12, nn.LayerNorm(self.width), enable_nested_tensor=False)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        return nn.functional.linear(self.layers(x, mask=mask, is_causal=True), self.tokens.weight)


def token_loss(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())


# Data that are learnt fast: otherwise no curve would fall in so few steps.


def patterns(count: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A pattern for each of ten classes, under noise."""
    target = torch.randint(0, 10, (count,))
    return torch.randn(count, *shape).add_(torch.randn(10, *shape)[target], alpha=0.5), target


def text(count: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Tokens, each of which determines the next."""
    tokens = torch.randint(0, GPT.vocabulary, (count, *shape))
    return tokens, torch.randperm(GPT.vocabulary)[tokens]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, an optimizer and a loader; measured on the devices that have a batch size."""

    title: str
    model: Callable[[], nn.Module]
    shape: tuple[int, ...]  # of one sample
    batch_size: dict[str, int]  # by device
    optimizer: Callable[..., torch.optim.Optimizer] = partial(torch.optim.SGD, momentum=0.9)
    end_lr: float = 0.03  # gives a curve, and is too low for any stopping rule: each sweep has all its steps
    criterion: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy
    data: Callable[[int, tuple[int, ...]], tuple[Tensor, Tensor]] = patterns  # takes the number and shape of samples
    batches: int = 64  # in the loader, which starts again where a sweep is longer
    bfloat16: bool = False
    steps: int = 100
    rounds: int = 10  # enough to tell a ratio of 1.03 from 1.0 on an idle machine


_CNN: dict[str, Any] = {"model": cnn, "shape": (3, 32, 32), "batch_size": {"cpu": 16, "cuda": 32}, "rounds": 12}
_LARGE: dict[str, Any] = {"bfloat16": True, "steps": 50, "batches": 16}
CASES: dict[str, Case] = {
    "mlp": Case(title="MLP 64-32-10, SGD", model=mlp, shape=(64,), batch_size={"cpu": 32, "cuda": 32}, rounds=60),
    "cnn-sgd": Case(title="CNN with BatchNorm, SGD", **_CNN),
    "cnn-adamw": Case(title="CNN with BatchNorm, AdamW", **_CNN, optimizer=torch.optim.AdamW, end_lr=0.01),
    "resnet18": Case(
        title="ResNet-18 on 32x32, SGD",
        model=partial(resnet18, num_classes=10),
        shape=(3, 32, 32),
        batch_size={"cpu": 8, "cuda": 128},
        steps=25,  # on a CPU each takes a tenth of a second
    ),
    "resnet50-bf16": Case(
        title="ResNet-50 on 224x224, SGD, bfloat16",
        model=resnet50,
        shape=(3, 224, 224),
        batch_size={"cuda": 64},
        **_LARGE,
    ),
    "gpt-bf16": Case(
        title="GPT of 124 million parameters, AdamW, bfloat16",
        model=GPT,
        shape=(GPT.length,),
        batch_size={"cuda": 8},
        optimizer=partial(torch.optim.AdamW, fused=True),
        end_lr=1e-3,
        criterion=token_loss,
        data=text,
        **_LARGE,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A case built afresh, the same each time: what a user has before training."""

    case: Case
    device: torch.device
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loader: DataLoader[Any]


def make_samples(case: Case, device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs and targets of all batches, in pinned memory for a GPU."""
    torch.manual_seed(0)
    inputs, target = case.data(case.batches * case.batch_size[device.type], case.shape)
    return (inputs.pin_memory(), target.pin_memory()) if device.type == "cuda" else (inputs, target)


def build(case: Case, device: torch.device, samples: tuple[Tensor, Tensor], *, lr: float = START_LR) -> Task:
    """A fresh task on samples that are made once for all tasks of a case."""
    torch.manual_seed(0)
    with device:  # initialised there, which for a large model on a GPU is much faster
        model = case.model()
    optimizer = case.optimizer(model.parameters(), lr=lr)
    return Task(case=case, device=device, model=model, optimizer=optimizer, loader=_loader(case, device, samples))


def _loader(case: Case, device: torch.device, samples: tuple[Tensor, Tensor]) -> DataLoader[Any]:
    """Not shuffled, so that all get the same batches."""
    batch_size = case.batch_size[device.type]
    if device.type == "cuda":  # whole batches, so that the loop waits for nothing but the device
        batches: Any = list(zip(*(torch.split(part, batch_size) for part in samples), strict=True))
        return DataLoader(batches, batch_size=None)
    return DataLoader(TensorDataset(*samples), batch_size)
