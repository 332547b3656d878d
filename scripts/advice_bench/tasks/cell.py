"""What is trained: a cell, and what a user has of it before training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from advice_bench.tasks.data import Data


NEW_CLASSES = ("fine-tune", "frozen")


@functools.cache
def _made(make: Callable[[], Data]) -> Data:
    """Each data set is made once in a process."""
    return make()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training whose best learning rate is looked for.

    Args:
        name: unique; family, optimizer, schedule and what is special.
        family: data set and architecture.
        split: calibration, validation, first to third held-out, or held-out.
        data: makes the data set.
        model: makes the model, at random.
        loss: ``loss(output, target) -> scalar``.
        optimizer: class in ``torch.optim``, with ``options``.
        schedule: onecycle, cosine, step, or constant, as in :mod:`lrfinder.schedules`.
        steps: optimizer steps of the whole training.
        batch: batch size.
        start: ``"scratch"``, or how the weights came about: ``"continue"`` (trained on the same data before),
            ``"fine-tune"`` (trained on other classes, new last layer), ``"frozen"`` (as that, and nothing else learns).
        before: data set of the first training for new classes; None for the same.
        before_steps: steps of that first training.
        needs_data: whether the data lie in the folder that ``--data`` names.
    """

    name: str
    family: str
    split: str
    data: Callable[[], Data]
    model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: str
    schedule: str
    steps: int
    batch: int
    options: Mapping[str, float] = field(default_factory=dict)
    start: str = "scratch"
    before: Callable[[], Data] | None = None
    before_steps: int = 300
    needs_data: bool = False


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a user has before training."""

    cell: Cell
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loader: DataLoader[Any]
    val: tuple[Tensor, ...]

    def val_loss(self) -> float:
        """Loss on the whole validation set, in eval mode."""
        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            losses = [float(self.cell.loss(self.model(x), y)) * len(x) for x, y in self.val_loader()]
        self.model.train(training)
        return sum(losses) / len(self.val[0])

    def val_loader(self) -> list[tuple[Tensor, Tensor]]:
        """The validation set in batches of 512."""
        inputs, target = self.val
        return list(zip(torch.split(inputs, 512), torch.split(target, 512)))


def build(cell: Cell, seed: int, *, lr: float = 1e-3, cache: Path | None = None) -> Task:
    """The cell's model, optimizer and loader; the seed decides the weights (from scratch) and the order of the data."""
    torch.manual_seed(1000 + seed)
    data = _made(cell.data)
    model = cell.model()
    if cell.start != "scratch":
        model.load_state_dict(_trained(cell, cache))
        *_, last = model.modules()
        if cell.start in NEW_CLASSES:
            last.reset_parameters()  # type: ignore[operator]
        if cell.start == "frozen":
            model.requires_grad_(False)
            last.requires_grad_(True)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = getattr(torch.optim, cell.optimizer)(parameters, lr=lr, **cell.options)
    return Task(cell=cell, model=model, optimizer=optimizer, loader=_loader(data, cell.batch, seed), val=data.val)


def _loader(data: Data, batch: int, seed: int) -> DataLoader[Any]:
    dataset = TensorDataset(*data.train)
    order = RandomSampler(dataset, generator=torch.Generator().manual_seed(seed))
    # Whole batches by index: collating single samples would take longer than training on them.
    return DataLoader(dataset, sampler=BatchSampler(order, batch, drop_last=True), batch_size=None)


def batches(loader: DataLoader[Any], count: int) -> Iterator[Any]:
    """So many batches, in as many passes as that takes."""
    return islice(chain.from_iterable(repeat(loader)), count)


def _trained(cell: Cell, cache: Path | None) -> dict[str, Tensor]:
    """Weights after a first training with Adam and cosine; a plain 3e-3, which trains all of these."""
    path = cache / f"{cell.family}-{cell.start}.pt" if cache is not None else None
    if path is not None and path.exists():
        return dict(torch.load(path))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = cell.model()
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, cell.before_steps)
        data = _made(cell.before or cell.data)
        for inputs, target in batches(_loader(data, 32, 7), cell.before_steps):
            optimizer.zero_grad()
            cell.loss(model(inputs), target).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
    if path is not None:
        partial = path.with_suffix(f".{id(model)}.part")
        torch.save(model.state_dict(), partial)
        partial.replace(path)
    return model.state_dict()
