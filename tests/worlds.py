"""Small training set-ups, and all of their state that a range test must restore."""

from __future__ import annotations

import collections
import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lrfinder import LossCurve, LRFinder
from lrfinder.record.sweep import Sweep
from lrfinder.training.batches import Batches
from lrfinder.training.driver import SweepDriver
from lrfinder.training.loop import run_sweep
from lrfinder.training.model_facts import take_facts
from lrfinder.training.range_search import SweepRequest, find_range
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state import preserved
from lrfinder.training.step import TrainStep
from lrfinder.training.validation import Validation

devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


@dataclass
class World:
    """A model, its optimizer and its loader, with the loop a user would write."""

    model: nn.Module
    optimizer: Any
    loader: Any
    criterion: Callable[[Any, Any], torch.Tensor] = field(default_factory=nn.CrossEntropyLoss)
    scaler: Any = None
    device: str = "cpu"

    def train(self, steps: int) -> list[float]:
        """The bare loop; returns the losses."""
        losses: list[float] = []
        iterator = iter(self.loader)
        for _ in range(steps):
            try:
                inputs, target = next(iterator)
            except StopIteration:
                iterator = iter(self.loader)
                inputs, target = next(iterator)
            inputs, target = inputs.to(self.device), target.to(self.device)

            def closure() -> torch.Tensor:
                self.optimizer.zero_grad()
                with torch.autocast(self.device, torch.float16, enabled=self.scaler is not None):
                    loss = self.criterion(self.model(inputs), target)
                (self.scaler.scale(loss) if self.scaler is not None else loss).backward()
                return loss

            if isinstance(self.optimizer, torch.optim.LBFGS):
                loss = self.optimizer.step(closure)
            else:
                loss = closure()
                if self.scaler is not None:
                    self.scaler.step(self.optimizer)
                    self.scaler.update()
                else:
                    self.optimizer.step()
            losses.append(loss.item())
        return losses

    def state(self) -> dict[str, Any]:
        """Everything that decides how training goes on, as plain comparable values."""
        generator = getattr(self.loader, "generator", None)
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return {
            "parameters": [plain(parameter) for parameter in self.model.parameters()],
            "identities": [id(parameter) for parameter in self.model.parameters()],
            "buffers": {name: plain(buffer) for name, buffer in self.model.named_buffers()},
            "grads": [plain(parameter.grad) for parameter in self.model.parameters()],
            "training": [module.training for module in self.model.modules()],
            "attributes": sorted(vars(self.model)),
            "optimizer": plain(self.optimizer.state_dict()),
            "optimizer attributes": sorted(vars(self.optimizer)),
            "group entries": [sorted(group) for group in self.optimizer.param_groups],
            "scaler": plain(self.scaler.state_dict()) if self.scaler is not None else None,
            "python": random.getstate(),
            "numpy": plain(np.random.get_state()),
            "torch": plain(torch.get_rng_state()),
            "cuda": [plain(state) for state in cuda],
            "loader": plain(generator.get_state()) if generator is not None else None,
        }


def plain(value: Any) -> Any:
    """Tensors and arrays as lists (nan as text, so that nan equals nan), containers walked."""
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), tuple(value.shape), *map(repr, value.detach().cpu().flatten().tolist())]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def points(samples: int = 48, features: int = 6, classes: int = 3) -> TensorDataset:
    """A learnable classification problem, the same every time."""
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(samples, features, generator=generator)
    target = (inputs[:, :classes] * 2 + torch.randn(samples, classes, generator=generator)).argmax(1)
    return TensorDataset(inputs, target)


class Augmented(Dataset[Any]):
    """Adds noise from Python's and NumPy's global random state, as many data sets do."""

    def __init__(self) -> None:
        self.base = points()

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> Any:
        inputs, target = self.base[index]
        return inputs + 0.1 * random.random() + 0.1 * float(np.random.rand()), target


def loader(data: Any = None, **options: Any) -> DataLoader[Any]:
    return DataLoader(points() if data is None else data, batch_size=8, shuffle=True, **options)


def mlp(*extra: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 16), *extra, nn.ReLU(), nn.Linear(16, 3))


class Counting(nn.Module):
    """Keeps a non-persistent buffer, a number, a tensor and a list about itself, and changes them all in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()
        self.register_buffer("running", torch.zeros(3), persistent=False)
        self.register_buffer("later", None)
        self.calls = 0
        self.hidden = torch.zeros(2)
        self.history: list[float] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output = self.body(inputs) + self.running
        self.running = 0.9 * self.running + 0.01 * output.detach().mean(0)  # another tensor object each time
        self.later = self.running * 2
        self.hidden += 1
        self.calls += 1
        self.history.append(float(self.hidden[0]))
        self.cache = inputs  # an attribute that was not there before
        return output / (1 + 0.01 * self.calls)


def sgd(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), **{"lr": 0.05, "momentum": 0.9, **options})


def with_sgd(model: nn.Module, **options: Any) -> World:
    return World(model, sgd(model), loader(), **options)


def frozen_batchnorm() -> World:
    model = mlp(nn.BatchNorm1d(16))
    model[1].eval()
    for parameter in model[1].parameters():
        parameter.requires_grad_(False)
    return with_sgd(model)


def groups() -> World:
    model = mlp()
    optimizer = torch.optim.AdamW(
        [
            {"params": model[0].parameters(), "lr": 1e-4, "name": "body"},
            {"params": model[-1].parameters(), "lr": 1e-3, "weight_decay": 0.0, "name": "head"},
        ],
        lr=1e-3,
    )
    return World(model, optimizer, loader())


def tensor_lr() -> World:
    model = mlp()
    return World(model, torch.optim.Adam(model.parameters(), lr=torch.tensor(1e-3), foreach=False), loader())


def attached_scheduler() -> World:
    world = with_sgd(mlp())
    world.model.scheduler = torch.optim.lr_scheduler.StepLR(world.optimizer, 2)  # kept alive, as by a user's variable
    return world


def compiled() -> World:
    if torch.cuda.is_available():
        torch.cuda.init()  # as compiling does, which would then pass for a trace of ours
    model = mlp()
    return World(torch.compile(model, backend="aot_eager"), sgd(model), loader())


def adam(kind: type[torch.optim.Optimizer], **options: Any) -> World:
    model = mlp()
    return World(model, kind(model.parameters(), lr=1e-3, **options), loader())


WORLDS: dict[str, Callable[[], World]] = {
    "SGD with momentum": lambda: with_sgd(mlp()),
    "plain SGD": lambda: World(model := mlp(), sgd(model, momentum=0.0), loader()),
    "Adam": lambda: adam(torch.optim.Adam),
    "AMSGrad": lambda: adam(torch.optim.Adam, amsgrad=True),
    "AdamW, foreach": lambda: adam(torch.optim.AdamW, foreach=True),
    "AdamW, fused": lambda: adam(torch.optim.AdamW, fused=True),
    "RMSprop": lambda: adam(torch.optim.RMSprop, centered=True, momentum=0.5),
    "L-BFGS": lambda: adam(torch.optim.LBFGS, max_iter=3, history_size=2),
    "dropout": lambda: with_sgd(mlp(nn.Dropout(0.5))),
    "BatchNorm": lambda: with_sgd(mlp(nn.BatchNorm1d(16))),
    "frozen BatchNorm": frozen_batchnorm,
    "own loader generator": lambda: World(
        model := mlp(), sgd(model), loader(generator=torch.Generator().manual_seed(3))
    ),
    "persistent workers": lambda: World(
        model := mlp(), sgd(model), loader(num_workers=1, persistent_workers=True, multiprocessing_context="fork")
    ),
    "non-persistent buffer and own attributes": lambda: with_sgd(Counting()),
    "numpy and python randomness": lambda: World(model := mlp(), sgd(model), loader(Augmented())),
    "parameter groups": groups,
    "LR held in a tensor": tensor_lr,
    "scheduler attached before": attached_scheduler,
    "GradScaler": lambda: with_sgd(mlp(), scaler=torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)),
    "model in eval mode": lambda: with_sgd(mlp(nn.BatchNorm1d(16)).eval()),
    "torch.compile": compiled,
    "tied weights": lambda: with_sgd(tied()),
}


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    model[2].weight = model[0].weight
    return model


def seeded(build: Callable[[], World], warm_up: int = 0) -> World:
    """The world after ``warm_up`` steps from fixed seeds."""
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    world = build()
    world.train(warm_up)
    return world


def half_precision(world: World) -> dict[str, Any]:
    return {} if world.scaler is None else {"grad_scaler": world.scaler, "amp_dtype": torch.float16}


def finder(world: World, **options: Any) -> LRFinder:
    """Of the world's own objects, in half precision where it has a scaler."""
    return LRFinder(world.model, world.optimizer, world.criterion, **half_precision(world), **options)


def training(world: World, **options: Any) -> TrainingSetup:
    """How the world trains, in half precision where it has a scaler."""
    return TrainingSetup(world.model, world.optimizer, world.criterion, **half_precision(world), **options)


class LateReader:
    """Range test composed of the public parts, in which that many losses are read at once, as on a GPU."""

    def __init__(self, world: World, read_every: int) -> None:
        self.world, self.read_every = world, read_every
        self.last_curve: LossCurve | None = None

    def range_test(self, loader: Any, *, val_loader: Any = None, **given: Any) -> LossCurve:
        setup = training(self.world)
        with preserved(setup, (loader, val_loader)) as state:
            facts = take_facts(setup)
            step = TrainStep(setup)
            step.enter_training()
            validation = Validation(setup, val_loader) if val_loader is not None else None
            batches = Batches(loader, setup.device)
            config, extend = find_range(setup, step, batches, state, SweepRequest(**given))
            sweep = Sweep(config, measured="after" if validation else "before", extend=extend)
            driver = SweepDriver(setup, sweep, read_every=self.read_every)
            try:
                run_sweep(driver, step.run, batches, validation)
            finally:
                seen = {"batch_size": batches.size, "loader_batches": batches.length}
                known = dataclasses.replace(facts, **seen)
                self.last_curve = driver.curve(batches=batches.drawn, facts=known)
                batches.close()
        return self.last_curve


class Pair(NamedTuple):
    inputs: torch.Tensor
    target: torch.Tensor


class Encoding(collections.UserDict[str, Any]):
    """A mapping with a plain ``.to(device)``, like the output of tokenizers."""

    def to(self, device: torch.device) -> Encoding:
        return Encoding({key: value.to(device) for key, value in self.items()})


class Graph:
    """A batch like those of graph libraries: no container, but with a ``to`` method."""

    def __init__(self, nodes: torch.Tensor) -> None:
        self.nodes = nodes

    def to(self, device: torch.device, non_blocking: bool = False) -> Graph:
        assert non_blocking
        return Graph(self.nodes.to(device))


@dataclass
class Record:
    inputs: torch.Tensor
