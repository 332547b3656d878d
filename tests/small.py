"""A small classification network, batches for it, one iteration of its training, and a small model of each family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.tasks import Task, family_of
from lrfinder.tasks.samples import Samples
from lrfinder.tasks.settings import Settings
from lrfinder.training.losses import criterion_loss
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.step import TrainStep

CLASSES = 3

SMALLEST: dict[str, dict[str, Any]] = {
    "classification": {"model": "squeezenet1_1", "image_size": 32},
    "segmentation": {"model": "lraspp_mobilenet_v3_large", "image_size": 32},
    "detection": {"model": "fasterrcnn_mobilenet_v3_large_320_fpn", "image_size": 32},
    "video": {"model": "mc3_18", "image_size": 16},
    "optical_flow": {"model": "raft_small"},
}


def build_task(model: str, data: Any = "fake", **settings: Any) -> Task:
    """The task of one of torchvision's models."""
    data = data if isinstance(data, Samples) else str(data)
    return family_of(model).build(Settings(model=model, data=data, **settings))


def network(seed: int = 0, *, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, CLASSES)).to(dtype)


def labelled(seed: int, count: int = 8, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=generator, dtype=dtype)
    return inputs, torch.randint(CLASSES, (count,), generator=generator)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def training(model: nn.Module, optimizer: Any, loss_fn: Any = None, **options: Any) -> TrainingSetup:
    return TrainingSetup(model, optimizer, loss_fn=loss_fn or criterion_loss(nn.CrossEntropyLoss()), **options)


def train_step(model: nn.Module, optimizer: Any, loss_fn: Any = None, **options: Any) -> TrainStep:
    return TrainStep(training(model, optimizer, loss_fn, **options))


def one_step(loss_fn: Any, batch: Any, *, model: nn.Module | None = None) -> Tensor:
    """Loss of one iteration with that loss function and batch."""
    model = model or network()
    loss, _ = train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), loss_fn).run([batch])
    return loss
