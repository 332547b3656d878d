"""The loaders of the fuzz: what people iterate over, with everything that may change while they do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from fuzz_faults import strike
from fuzz_models import CLASSES, INPUTS
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, RandomSampler, Sampler, Subset
from torch.utils.data import default_collate

__all__ = ["LOADERS", "PERSISTENT"]

PERSISTENT = "persistent workers"

SAMPLES, BATCH = 20, 4


@functools.cache
def samples() -> tuple[Tensor, Tensor]:
    """Inputs and labels of a learnable problem, the same every time."""
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(SAMPLES, INPUTS, generator=generator)
    return inputs, inputs[:, :CLASSES].argmax(1)


class Points(Dataset[Any]):
    """The samples; a fault may strike where one is fetched."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Any:
        strike("loader")
        inputs, target = samples()
        return self.transform(inputs[index]), target[index]

    def transform(self, inputs: Tensor) -> Tensor:
        """The inputs as the model gets them."""
        return inputs


class GlobalNoise(Points):
    """Noise from NumPy's global generator."""

    def transform(self, inputs: Tensor) -> Tensor:
        return inputs + 0.1 * float(np.random.rand())


class OwnNoise(Points):
    """Noise from a generator of the data set."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(3)

    def transform(self, inputs: Tensor) -> Tensor:
        return inputs + 0.1 * float(self.generator.random())


class CountingPoints(Points):
    """Counts what is fetched, and gives less and less of it."""

    def __init__(self) -> None:
        self.fetched = 0
        self.order: list[float] = []

    def transform(self, inputs: Tensor) -> Tensor:
        self.fetched += 1
        self.order.append(float(inputs[0]))
        return inputs / (1 + 0.001 * self.fetched)


class Stream(IterableDataset[Any]):
    """An iterable data set, in which each pass starts one sample later if it counts them."""

    def __init__(self, counting: bool) -> None:
        self.counting, self.passes = counting, 0

    def __iter__(self) -> Iterator[Any]:
        start, self.passes = self.passes, self.passes + self.counting
        inputs, target = samples()
        for index in range(SAMPLES):
            strike("loader")
            at = (start + index) % SAMPLES
            yield inputs[at], target[at]


class Epochs(Sampler[int]):
    """A sampler that shuffles by its own count of epochs."""

    def __init__(self) -> None:
        self.epoch = 0

    def __len__(self) -> int:
        return SAMPLES

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(self.epoch))
        self.epoch += 1
        yield from order.tolist()


class Collate:
    """Adds noise from a generator of its own to a batch."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(4)

    def __call__(self, items: list[Any]) -> Any:
        inputs, target = default_collate(items)
        return inputs + 0.1 * torch.rand((), generator=self.generator), target


class Plain:
    """An iterable that is no DataLoader, with its length."""

    def __len__(self) -> int:
        return SAMPLES // BATCH

    def __iter__(self) -> Iterator[Any]:
        inputs, target = samples()
        for start in range(0, SAMPLES, BATCH):
            strike("loader")
            yield inputs[start : start + BATCH], target[start : start + BATCH]


class Wrapping:
    """A loader around another."""

    def __init__(self, loader: Any) -> None:
        self.inner = loader

    def __iter__(self) -> Iterator[Any]:
        yield from self.inner


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loader(data: Any = None, **options: Any) -> DataLoader[Any]:
    return DataLoader(Points() if data is None else data, batch_size=BATCH, **options)


def by_sampler(data: Any, **options: Any) -> DataLoader[Any]:
    return loader(data, sampler=RandomSampler(data, generator=seeded()), **options)


LOADERS: dict[str, Callable[[], Any]] = {
    "list": lambda: list(Plain()),
    "iterable": Plain,
    "in order": loader,
    "shuffled": lambda: loader(shuffle=True),
    "shuffled, last batch dropped": lambda: DataLoader(Points(), batch_size=6, shuffle=True, drop_last=True),
    "shuffled by a generator": lambda: loader(shuffle=True, generator=seeded()),
    "sampler with a generator": lambda: by_sampler(Points()),
    "global noise": lambda: loader(GlobalNoise(), shuffle=True),
    "noise of the data set": lambda: loader(OwnNoise(), shuffle=True),
    "noise of a subset's data set": lambda: loader(Subset(OwnNoise(), range(12))),
    "noise of the collate function": lambda: loader(collate_fn=Collate()),
    "data set that counts": lambda: loader(CountingPoints(), shuffle=True),
    "concatenated data sets that count": lambda: by_sampler(ConcatDataset([CountingPoints(), OwnNoise()])),
    "sampler with an epoch": lambda: loader(sampler=Epochs()),
    "iterable data set": lambda: loader(Stream(counting=False)),
    "iterable data set that counts its passes": lambda: loader(Stream(counting=True)),
    "loader around a loader": lambda: Wrapping(loader(shuffle=True, generator=seeded())),
    PERSISTENT: lambda: loader(shuffle=True, num_workers=1, persistent_workers=True, multiprocessing_context="fork"),
}
"""A loader of each kind."""
