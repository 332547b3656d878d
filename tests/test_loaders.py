"""Data after a range test: the next epochs have the same order and content as without it."""

from __future__ import annotations

import functools
import random
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    StackDataset,
    Subset,
    TensorDataset,
)
from worlds import mlp, plain, points, seeded, with_sgd

from lrfinder import LRFinder
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state import preserved
from lrfinder.training.state.loaders import LoaderState

SWEEP = {"start_lr": 1e-4, "end_lr": 1.0, "num_iter": 15}


class Counting(Dataset[Any]):
    """Counts how often it was asked, and gives another sample each time."""

    def __init__(self) -> None:
        self.base, self.asked = points(), 0

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> Any:
        self.asked += 1
        inputs, target = self.base[index]
        return inputs + 0.001 * self.asked, target


class Mining(Counting):
    """Keeps an array and a tensor about its samples."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.mean = np.zeros(48), torch.zeros(6)

    def __getitem__(self, index: int) -> Any:
        inputs, target = self.base[index]
        self.seen[index] += 1
        self.mean += 0.01 * inputs
        return inputs * float(self.seen[index]) - self.mean, target


class Shuffling(Counting):
    """Shuffles its own list of indices when the first sample is asked for, and drops one."""

    def __init__(self) -> None:
        super().__init__()
        self.order, self.cache = list(range(48)), {}

    def __getitem__(self, index: int) -> Any:
        self.order[0], self.order[index] = self.order[index], self.order[0]
        self.cache[index] = self.base[self.order[index]]
        return self.cache[index][0] + 0.01 * len(self.cache), self.cache[index][1]


class Augmenting(Dataset[Any]):
    """Transforms its samples."""

    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        self.base, self.transform = points(), transform

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> Any:
        inputs, target = self.base[index]
        return self.transform(inputs), target


class Slotted:
    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return inputs + 0.01 * self.calls


class Noise:
    """Transform with a generator of its own."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator

    def __call__(self, inputs: Tensor) -> Tensor:
        if isinstance(self.generator, torch.Generator):
            return inputs + torch.rand((), generator=self.generator)
        return inputs + float(self.generator.normal() if hasattr(self.generator, "normal") else self.generator.random())


class Drift(nn.Module):
    """Transform that is a module, with a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.zeros(6))
        self.steps = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.steps += 1
        self.offset += 0.01 * inputs
        return inputs + self.offset * self.steps


SHARED = np.random.default_rng(5)


def shared_noise(inputs: Tensor) -> Tensor:
    return inputs + float(SHARED.normal())


def collate_with(generator: torch.Generator, samples: list[Any]) -> Any:
    inputs, target = torch.utils.data.default_collate(samples)
    return inputs + torch.rand(inputs.shape, generator=generator), target


class Passes(IterableDataset[Any]):
    """Stream in another order with each pass, which it counts."""

    def __init__(self) -> None:
        self.base, self.passes = points(), 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        order = torch.randperm(len(self.base), generator=torch.Generator().manual_seed(self.passes))
        yield from (self.base[int(index)] for index in order)


class Epochs(Sampler[int]):
    """Sampler whose order follows from its epoch, counted by itself."""

    def __init__(self) -> None:
        self.epoch = 0

    def __len__(self) -> int:
        return 48

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        yield from torch.randperm(48, generator=torch.Generator().manual_seed(self.epoch)).tolist()


class Wrapping:
    """Loader that holds another, and sets the epoch of its sampler."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.epoch = inner, 0

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Iterator[Any]:
        if hasattr(self.inner.sampler, "set_epoch"):
            self.inner.sampler.set_epoch(self.epoch)
        self.epoch += 1
        yield from self.inner


class Passing:
    """No DataLoader: batches in another order with each pass."""

    def __init__(self) -> None:
        self.rng, self.passes = np.random.default_rng(3), 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        for index in self.rng.permutation(6):
            inputs, target = points()[8 * int(index) : 8 * int(index) + 8]
            yield inputs + self.passes, target


def batched(data: Any, **options: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=8, **options)


def stacked() -> DataLoader[Any]:
    def collate(samples: list[Any]) -> Any:
        return torch.utils.data.default_collate([sample["both"] for sample in samples])

    return batched(StackDataset(both=Counting()), collate_fn=collate)


def own_sampler(sampler: Any) -> DataLoader[Any]:
    return batched(points(), sampler=sampler)


def distributed() -> Any:
    return Wrapping(own_sampler(DistributedSampler(points(), num_replicas=1, rank=0, shuffle=True)))


def noisy(generator: Any) -> Callable[[], Any]:
    return lambda: batched(Augmenting(Noise(generator())))


def closure() -> Any:
    calls = 0

    def transform(inputs: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return inputs + 0.01 * calls

    return batched(Augmenting(transform))


LOADERS: dict[str, Callable[[], Any]] = {
    "a data set that counts": lambda: batched(Counting()),
    "behind Subset": lambda: batched(Subset(Counting(), range(40))),
    "behind ConcatDataset": lambda: batched(ConcatDataset([points(), Counting()])),
    "behind StackDataset": stacked,
    "behind two of them": lambda: batched(Subset(ConcatDataset([Counting(), Mining()]), range(0, 90, 2))),
    "a data set with an array and a tensor": lambda: batched(Mining()),
    "a data set that changes its list and its cache": lambda: batched(Shuffling()),
    "a stream that counts its passes": lambda: batched(Passes()),
    "behind ChainDataset": lambda: batched(ChainDataset([Passes(), Passes()])),
    "a sampler that counts its epochs": lambda: own_sampler(Epochs()),
    "inside a BatchSampler": lambda: DataLoader(points(), batch_sampler=BatchSampler(Epochs(), 8, drop_last=False)),
    "a sampler with a generator": lambda: own_sampler(
        RandomSampler(points(), generator=torch.Generator().manual_seed(2))
    ),
    "a DistributedSampler, its epoch set by a wrapping loader": distributed,
    "a loader in a loader": lambda: Wrapping(batched(Counting())),
    "a transform with a torch generator": noisy(lambda: torch.Generator().manual_seed(1)),
    "a transform with a NumPy generator": noisy(lambda: np.random.default_rng(1)),
    "a transform with an old NumPy generator": noisy(lambda: np.random.RandomState(1)),
    "a transform with a Python generator": noisy(lambda: random.Random(1)),
    "a transform that is a module": lambda: batched(Augmenting(Drift())),
    "a transform with slots": lambda: batched(Augmenting(Slotted())),
    "a transform that counts in a closure": closure,
    "a transform that is a bound method": lambda: batched(Augmenting(Slotted().__call__)),
    "a list of transforms": lambda: batched(Augmenting(nn.Sequential(Drift(), Drift()))),
    "a generator that a function names": lambda: batched(Augmenting(shared_noise)),
    "a collate_fn with a generator": lambda: batched(
        points(), collate_fn=functools.partial(collate_with, torch.Generator().manual_seed(4))
    ),
    "a plain iterable of the user": lambda: Passing(),
}


def epochs(loader: Any, count: int = 2) -> Any:
    return [plain(list(batch)) for _ in range(count) for batch in loader]


def following(build: Callable[[], Any], *, tested: bool, before: int = 1, **given: Any) -> Any:
    """Epochs after one epoch, with or without a range test between them."""
    SHARED.bit_generator.state = np.random.default_rng(5).bit_generator.state
    world = seeded(lambda: with_sgd(mlp()))
    loader = build()
    epochs(loader, before)
    if tested:
        LRFinder(world.model, world.optimizer, world.criterion).range_test(loader, progress=False, **given)
    return epochs(loader)


@pytest.mark.parametrize("build", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("before", [0, 1], ids=["fresh", "used"])
def test_the_next_epochs_are_those_without_a_range_test(build: Callable[[], Any], before: int) -> None:
    expected = following(build, tested=False, before=before)
    assert following(build, tested=True, before=before, **SWEEP) == expected


@pytest.mark.parametrize(
    "name", ["a data set that counts", "a stream that counts its passes", "a transform with slots"]
)
def test_the_next_epochs_are_the_same_after_a_chosen_range(name: str) -> None:
    assert following(LOADERS[name], tested=True) == following(LOADERS[name], tested=False)


@pytest.mark.parametrize("name", ["a data set that counts", "a stream that counts its passes"])
def test_the_validation_loader_is_put_back_as_well(name: str) -> None:
    def after(tested: bool) -> Any:
        world, validation = seeded(lambda: with_sgd(mlp())), LOADERS[name]()
        if tested:
            LRFinder(world.model, world.optimizer, world.criterion).range_test(
                world.loader, val_loader=validation, val_batches=2, progress=False, **SWEEP
            )
        return epochs(validation)

    assert after(tested=True) == after(tested=False)


def test_refine_puts_the_data_back() -> None:
    def after(tested: bool) -> Any:
        world, loader = seeded(lambda: with_sgd(mlp())), batched(Passes())
        if tested:
            finder = LRFinder(world.model, world.optimizer, world.criterion)
            result = finder.range_test(world.loader, progress=False)
            finder.refine(result, loader, schedule="cosine", total_steps=200, progress=False)
        return epochs(loader)

    assert after(tested=True) == after(tested=False)


def test_a_data_set_in_worker_processes_is_the_same_afterwards() -> None:
    def build() -> Any:
        return Wrapping(batched(Counting(), num_workers=1, persistent_workers=True, multiprocessing_context="fork"))

    assert following(build, tested=True, **SWEEP) == following(build, tested=False)


# --- loaders with a position ------------------------------------------------------------------------------------------


class Stateful:
    """Loader that can be asked for its position and started from one, as torchdata's StatefulDataLoader."""

    def __init__(self) -> None:
        self.loader = batched(points(), shuffle=True, generator=torch.Generator().manual_seed(6))
        self.resumed: dict[str, Any] | None = None
        self.position = 0

    def __iter__(self) -> Iterator[Any]:
        first = 0
        if self.resumed is not None:
            first, self.resumed = self.resumed["position"], None
        for index, batch in enumerate(self.loader):
            if index >= first:
                self.position = index + 1
                yield batch
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.resumed = state


class Live(Stateful):
    """Its own iterator: the position is inside a running generator, and load_state_dict alone puts it back."""

    def __init__(self) -> None:
        self.position, self.stream = 0, self.from_position()

    def from_position(self) -> Iterator[Any]:
        inputs, target = points()[:]
        while self.position < 600:
            self.position += 1
            yield inputs[:8] * self.position, target[:8]

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self.stream)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position, self.stream = state["position"], self.from_position()


def test_a_resumed_loader_starts_where_it_was_resumed() -> None:
    def build() -> Any:
        loader = Stateful()
        loader.load_state_dict({"position": 4})
        return loader

    assert following(build, tested=True, before=0, **SWEEP) == following(build, tested=False, before=0)


def test_a_loader_asked_in_mid_epoch_reports_its_own_position() -> None:
    world, loader = seeded(lambda: with_sgd(mlp())), Stateful()
    iterator = iter(loader)
    next(iterator), next(iterator)
    LRFinder(world.model, world.optimizer, world.criterion).range_test(loader, progress=False, **SWEEP)
    assert loader.state_dict() == {"position": 2}


def test_an_iterator_in_the_loader_is_put_back_by_its_state_dict() -> None:
    def after(tested: bool) -> Any:
        world, loader = seeded(lambda: with_sgd(mlp())), Live()
        drawn = [plain(next(loader)) for _ in range(3)]
        if tested:
            LRFinder(world.model, world.optimizer, world.criterion).range_test(loader, progress=False, **SWEEP)
        return drawn + [plain(next(loader)) for _ in range(5)]

    assert after(tested=True) == after(tested=False)


class Later(Stateful):
    """Holds an iterator, and takes a loaded position for its next pass, as the loader of torchdata.nodes."""

    def __iter__(self) -> Iterator[Any]:
        self.running = super().__iter__()
        return self.running

    def state_dict(self) -> dict[str, Any]:
        self.__iter__()
        return {"position": 3}


def test_a_loader_that_is_no_iterator_is_not_asked_for_its_state() -> None:
    assert following(Later, tested=True, **SWEEP) == following(Later, tested=False)


class Refused(Live):
    """Cannot be asked for its position."""

    def state_dict(self) -> dict[str, Any]:
        raise NotImplementedError("not before the first batch")


def test_a_position_that_cannot_be_had_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    world = seeded(lambda: with_sgd(mlp()))
    LRFinder(world.model, world.optimizer, world.criterion).range_test(Refused(), progress=False, **SWEEP)
    assert "the position of Refused is not restored: its state_dict() raised NotImplementedError" in caplog.text


def test_a_failure_to_restore_one_part_does_not_keep_the_others() -> None:
    class Broken(Live):
        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise OSError("gone")

    broken, data = Broken(), Counting()
    data.stream = broken  # type: ignore[attr-defined]
    loader = batched(data, num_workers=1, persistent_workers=True)
    loader._iterator = marker = object()  # type: ignore[assignment]
    state = LoaderState(loader)
    data.asked = 7
    with pytest.raises(OSError, match="gone"):
        state.restore()
    assert data.asked == 0 and loader._iterator is marker


def test_the_iterator_in_use_of_a_loader_that_the_loss_refers_to_is_kept() -> None:
    # The loader is met twice: as the training loader, and beside the model.
    loader = batched(Counting(), num_workers=1, persistent_workers=True)
    loader._iterator = marker = object()  # type: ignore[assignment]
    world = with_sgd(mlp())
    loss_fn = lambda model, batch: model(batch).sum() / len(loader)  # noqa: E731
    setup = TrainingSetup(world.model, world.optimizer, loss_fn=loss_fn)
    with preserved(setup, [loader]):
        assert loader._iterator is None
    assert loader._iterator is marker


# --- bounds -----------------------------------------------------------------------------------------------------------


class Refusing:
    """Runs code when it is looked at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was looked up")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AssertionError(f"{name} was set")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("it was compared")

    __hash__ = None  # type: ignore[assignment]

    @property
    def __class__(self) -> Any:
        raise AssertionError("its class was asked for")


class Words(dict[str, int]):
    def __iter__(self) -> Any:
        raise AssertionError("it was walked")

    def __len__(self) -> int:
        raise AssertionError("its length was taken")

    def __getitem__(self, key: str) -> int:
        raise AssertionError("an entry was looked up")


def test_no_code_of_the_objects_is_run() -> None:
    data = Counting()
    data.other, data.words, data.circle = Refusing(), Words(a=1), data  # type: ignore[attr-defined]
    state = LoaderState(batched(data))
    data.asked = 5
    dict.__setitem__(data.words, "a", 3)  # type: ignore[attr-defined]
    state.restore()
    assert data.asked == 0 and dict.items(data.words) == {("a", 1)}  # type: ignore[attr-defined]


def test_large_data_are_neither_copied_nor_walked(tmp_path: Path) -> None:
    data = Counting()
    np.save(tmp_path / "small.npy", np.zeros(10))
    data.words = [f"word {index}" for index in range(300_000)]  # type: ignore[attr-defined]
    data.samples = [(index, index) for index in range(1_000_000)]  # type: ignore[attr-defined]
    data.file = np.memmap(tmp_path / "large", mode="w+", shape=(2**31,), dtype=np.uint8)  # type: ignore[attr-defined]
    data.view = np.load(tmp_path / "small.npy", mmap_mode="r")[2:]  # type: ignore[attr-defined]
    started = time.perf_counter()
    LoaderState(batched(data)).restore()
    assert time.perf_counter() - started < 0.05


def test_an_ordinary_loader_takes_less_than_a_millisecond() -> None:
    loader = batched(TensorDataset(torch.randn(2000, 30), torch.zeros(2000)), shuffle=True)

    def taken() -> float:
        started = time.perf_counter()
        LoaderState(loader).restore()
        return time.perf_counter() - started

    assert min(taken() for _ in range(20)) < 1e-3


def test_a_tensor_in_read_only_memory_is_not_written(tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", np.ones((48, 6), dtype=np.float32))
    memory = np.load(tmp_path / "inputs.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says once in a process that the memory is not writable
        inputs = torch.from_numpy(memory)
    LoaderState(batched(TensorDataset(inputs, torch.zeros(48)))).restore()
