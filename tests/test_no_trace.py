"""Training after a range test is bit-identical to training without it."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from worlds import WORLDS, World, finder, loader, mlp, seeded, sgd, with_sgd

from lrfinder import LRFinder, StopReason

SWEEP = {"start_lr": 1e-4, "end_lr": 10.0, "num_iter": 15}

worlds = pytest.mark.parametrize("build", WORLDS.values(), ids=WORLDS)


@worlds
@pytest.mark.parametrize("warm_up", [0, 4], ids=["fresh", "warm"])
def test_the_state_is_the_same_before_and_after(build: Callable[[], World], warm_up: int) -> None:
    world = seeded(build, warm_up)
    before = world.state()
    finder(world).range_test(world.loader, **SWEEP)
    assert world.state() == before


@worlds
@pytest.mark.parametrize("warm_up", [0, 4], ids=["fresh", "warm"])
def test_training_continues_bit_for_bit(build: Callable[[], World], warm_up: int) -> None:
    without = seeded(build, warm_up)
    expected = without.train(8)
    with_finder = seeded(build, warm_up)
    finder(with_finder).range_test(with_finder.loader, **SWEEP)
    assert with_finder.train(8) == expected
    after, expected = with_finder.state(), without.state()
    after.pop("identities"), expected.pop("identities")
    assert after == expected


@worlds
def test_two_sweeps_in_a_row_record_the_same_curve_and_leave_no_trace(build: Callable[[], World]) -> None:
    world = seeded(build, 2)
    before = world.state()
    first = finder(world).range_test(world.loader, **SWEEP)
    second = finder(world).range_test(world.loader, **SWEEP)
    assert first.curve == second.curve
    assert world.state() == before


@worlds
def test_a_chosen_range_leaves_no_trace(build: Callable[[], World]) -> None:
    world = seeded(build, 2)
    before = world.state()
    result = finder(world).range_test(world.loader)
    assert len(result.curve) >= 10
    assert world.state() == before


@pytest.mark.parametrize("storage", ["auto", "device", "cpu", "disk"])
def test_every_storage_restores_the_same(storage: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    world = seeded(WORLDS["AMSGrad"], 3)
    before = world.state()
    finder(world).range_test(world.loader, **SWEEP, snapshot=storage)
    assert world.state() == before
    assert not list(tmp_path.iterdir()), "a file was left behind"


@pytest.mark.parametrize("val_batches", [None, 2])
def test_validation_leaves_no_trace(val_batches: int | None) -> None:
    world = seeded(WORLDS["BatchNorm"], 2)
    before = world.state()
    validation = loader(generator=torch.Generator().manual_seed(5))
    drawn_from = validation.generator.get_state()
    finder(world).range_test(world.loader, val_loader=validation, val_batches=val_batches, **SWEEP)
    assert world.state() == before
    assert torch.equal(validation.generator.get_state(), drawn_from)


def test_accumulation_and_clipping_leave_no_trace() -> None:
    world = seeded(WORLDS["Adam"], 2)
    before = world.state()
    finder(world, accumulation_steps=3, clip_grad_norm=0.1).range_test(world.loader, **SWEEP)
    assert world.state() == before


def test_a_sweep_into_nan_leaves_no_trace() -> None:
    world = seeded(WORLDS["BatchNorm"], 2)
    before = world.state()
    result = finder(world).range_test(world.loader, start_lr=1e-3, end_lr=1e30, num_iter=30, early_stop=False)
    assert result.curve.stop is StopReason.NONFINITE
    assert result.curve.nonfinite_lr is not None
    assert world.state() == before


def test_pending_gradients_come_back_as_the_same_tensors() -> None:
    world = seeded(WORLDS["SGD with momentum"])
    inputs, target = next(iter(world.loader))
    world.criterion(world.model(inputs), target).backward()
    pending = [parameter.grad for parameter in world.model.parameters()]
    before = world.state()
    finder(world).range_test(world.loader, **SWEEP)
    assert world.state() == before
    assert all(parameter.grad is grad for parameter, grad in zip(world.model.parameters(), pending, strict=True))


def test_pending_gradients_do_not_leak_into_the_sweep() -> None:
    clean = seeded(WORLDS["SGD with momentum"])
    expected = finder(clean).range_test(clean.loader, **SWEEP).curve
    world = seeded(WORLDS["SGD with momentum"])
    for parameter in world.model.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    assert finder(world).range_test(world.loader, **SWEEP).curve == expected


class Failing:
    """Raises, or presses Ctrl-C, when the batch of that number is asked for."""

    def __init__(self, world: World, number: int, how: str) -> None:
        self.world, self.number, self.how = world, number, how

    def __iter__(self) -> Iterator[Any]:
        for index, batch in enumerate(batch for _ in range(10) for batch in self.world.loader):
            if index == self.number:
                if self.how == "exception":
                    raise OSError("the disk is gone")
                os.kill(os.getpid(), signal.SIGINT)
            yield batch


@worlds
@pytest.mark.parametrize(
    "how, error", [("exception", OSError), ("interrupt", KeyboardInterrupt)], ids=["exception", "Ctrl-C"]
)
def test_a_sweep_cut_off_leaves_no_trace_and_its_curve_within_reach(
    build: Callable[[], World], how: str, error: type[BaseException]
) -> None:
    world = seeded(build, 2)
    before = world.state()
    lr_finder = finder(world)
    with pytest.raises(error):
        lr_finder.range_test(Failing(world, 7, how), **SWEEP)
    # A fresh loader generator is the caller's when the caller wraps the loader; all else must be back.
    after = world.state()
    if world.loader.generator is not None:
        before.pop("loader"), after.pop("loader")
    assert after == before
    assert lr_finder.last_curve is not None
    assert lr_finder.last_curve.stop is StopReason.INTERRUPTED
    assert len(lr_finder.last_curve) == 7


def test_an_exception_inside_the_step_leaves_no_trace() -> None:
    world = seeded(WORLDS["GradScaler"], 2)
    before = world.state()
    calls = 0

    def breaking(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise KeyError("in the middle of an iteration")
        return nn.functional.cross_entropy(output, target)

    with pytest.raises(KeyError):
        LRFinder(world.model, world.optimizer, breaking, grad_scaler=world.scaler, amp_dtype=torch.float16).range_test(
            world.loader, **SWEEP
        )
    assert world.state() == before


def test_optimizer_step_stays_what_it_was_and_no_group_gains_an_entry() -> None:
    world = with_sgd(mlp())
    names, entries = set(vars(world.optimizer)), set(world.optimizer.param_groups[0])
    finder(world).range_test(world.loader, **SWEEP)
    assert "step" not in vars(world.optimizer)
    assert "initial_lr" not in world.optimizer.param_groups[0]
    assert set(vars(world.optimizer)) == names and set(world.optimizer.param_groups[0]) == entries


def test_a_tensor_that_holds_the_lr_stays_that_tensor() -> None:
    world = seeded(WORLDS["LR held in a tensor"])
    held = world.optimizer.param_groups[0]["lr"]
    finder(world).range_test(world.loader, **SWEEP)
    assert world.optimizer.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(1e-3)


def test_an_alias_of_a_parameter_stays_an_alias() -> None:
    model = mlp()
    alias = model[0].weight.data
    world = World(model, sgd(model), loader())
    values = alias.clone()
    finder(world).range_test(world.loader, **SWEEP)
    assert model[0].weight.data.data_ptr() == alias.data_ptr()
    assert torch.equal(alias, values)


def test_a_persistent_iterator_in_use_continues_where_it_was() -> None:
    def remaining(sweep: bool) -> list[Any]:
        world = seeded(WORLDS["persistent workers"])
        iterator = iter(world.loader)
        next(iterator)
        if sweep:
            finder(world).range_test(world.loader, **SWEEP)
        return [target.tolist() for _, target in iterator]

    assert remaining(sweep=True) == remaining(sweep=False)


def test_a_criterion_with_state_and_parameters_is_restored() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_scale = nn.Parameter(torch.zeros(()))
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            self.seen += 1
            return nn.functional.cross_entropy(output, target) * self.log_scale.exp() + self.log_scale**2

    criterion, model = Weighted(), mlp()
    optimizer = torch.optim.Adam([*model.parameters(), *criterion.parameters()], lr=1e-3)
    LRFinder(model, optimizer, criterion).range_test(loader(), **SWEEP)
    assert criterion.log_scale.item() == 0 and criterion.seen.item() == 0
    assert not optimizer.state


@pytest.mark.parametrize("options", [{}, SWEEP], ids=["chosen range", "given range"])
def test_the_model_is_freed_without_garbage_collection(options: dict[str, Any]) -> None:
    """Its memory on a GPU is free as soon as the user has let go of it."""

    def swept() -> weakref.ref[nn.Parameter]:
        model = mlp(nn.BatchNorm1d(16))
        LRFinder(model, sgd(model), nn.CrossEntropyLoss()).range_test(loader(), progress=False, **options)
        return weakref.ref(next(model.parameters()))

    swept()  # what torch imports at the first call keeps the frames it was called from
    gc.disable()
    try:
        assert swept()() is None
    finally:
        gc.enable()
