"""Losses read late: the same sweep as with losses read at once, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lrfinder import LossCurve, LRFinder, StopReason, SweepConfig
from lrfinder.deferred import READ_EVERY, DeferredLosses
from lrfinder.sweep import Sweep
from worlds import World, loader, mlp, points, sgd

CPU = torch.device("cpu")


def most_extra(read_every: int) -> int:
    """Iterations that may be run before the loss of one is known."""
    return read_every + read_every // 2 - 1 if read_every > 1 else 0


GROUPS = pytest.mark.parametrize("read_every", [2, 3, READ_EVERY, 9])


# --- the queue --------------------------------------------------------------------------------------------------------


@given(losses=st.lists(st.floats(width=32), max_size=30), read_every=st.integers(1, 7))
def test_every_loss_comes_back_once_in_order_and_exactly_so_much_later(losses: list[float], read_every: int) -> None:
    late = DeferredLosses(CPU, read_every=read_every)
    came: list[float] = []
    for count, loss in enumerate(losses, 1):
        came += late.put(torch.tensor(loss))
        assert len(came) == max(0, (count - read_every // 2) // read_every * read_every)
        assert late.pending == count - len(came) <= most_extra(read_every)
    came += late.flush()
    assert list(map(repr, came)) == list(map(repr, losses))
    assert late.pending == 0


def test_what_becomes_of_the_tensor_afterwards_changes_nothing() -> None:
    late = DeferredLosses(CPU, read_every=4)
    loss = torch.tensor(1.0)
    late.put(loss)
    loss += 1
    assert late.flush() == [1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_loss_of_any_dtype_and_of_one_element_is_read_exactly(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    loss = torch.full(shape, 1 / 3, dtype=dtype, requires_grad=True)
    late = DeferredLosses(CPU, read_every=4)
    late.put(loss)
    assert late.flush() == DeferredLosses(CPU, read_every=1).put(loss) == [loss.item()]


# --- the sweep that is ahead of its losses ----------------------------------------------------------------------------


def test_a_sweep_looks_ahead_as_far_as_it_may_go() -> None:
    sweep = Sweep(SweepConfig(start_lr=1.0, end_lr=1000.0, num_iter=4), extend=2)
    assert [sweep.lr_ahead(i) for i in range(4)] == pytest.approx([1, 10, 100, 1000])
    assert sweep.lr_ahead(5) == pytest.approx(1e5)
    assert sweep.lr_ahead(6) is None
    assert sweep.lr_ahead(0) == sweep.lr


# --- the range test ---------------------------------------------------------------------------------------------------


class Late(LRFinder):
    """Reads its losses late, as on a GPU."""

    read_every = READ_EVERY

    def _readback(self) -> DeferredLosses:
        return DeferredLosses(self.device, read_every=self.read_every)


def world() -> World:
    torch.manual_seed(5)
    model = mlp()
    return World(model, sgd(model), loader(points(), generator=torch.Generator().manual_seed(3)))


def curves(read_every: int, criterion: Any = None, change: Any = None, **options: Any) -> tuple[LossCurve, LossCurve]:
    """Of the same range test, with losses read at once and late."""
    found = []
    for kind in (LRFinder, Late):
        one = world()
        one.criterion = criterion or one.criterion
        if change is not None:
            change(one)
        before = one.state()
        finder = kind(one.model, one.optimizer, one.criterion)
        if isinstance(finder, Late):
            finder.read_every = read_every
        found.append(finder.range_test(one.loader, progress=False, **options).curve)
        assert one.state() == before
    return found[0], found[1]


def assert_same(prompt: LossCurve, late: LossCurve, *, extra: int) -> None:
    assert dataclasses.replace(late, batches=prompt.batches) == prompt
    assert prompt.batches <= late.batches <= prompt.batches + extra


@GROUPS
def test_a_sweep_that_is_completed_is_the_same_and_draws_no_batch_more(read_every: int) -> None:
    prompt, late = curves(read_every, start_lr=1e-4, end_lr=1e-1, num_iter=25)
    assert prompt.stop is StopReason.COMPLETED
    assert_same(prompt, late, extra=0)


@GROUPS
def test_a_sweep_that_diverges_is_the_same_and_draws_no_more_batches_than_it_is_late(read_every: int) -> None:
    prompt, late = curves(read_every, start_lr=1e-2, end_lr=1e4, num_iter=120)
    assert prompt.stop is StopReason.DIVERGED
    assert_same(prompt, late, extra=most_extra(read_every))
    group_complete = math.ceil(prompt.batches / read_every) * read_every
    assert late.batches == group_complete + read_every // 2


@GROUPS
def test_a_sweep_that_chooses_and_extends_its_range_is_the_same(read_every: int) -> None:
    def flat(one: World) -> None:
        one.criterion = lambda output, target: nn.functional.cross_entropy(output * 0, target)

    prompt, late = curves(read_every, change=flat)
    assert_same(prompt, late, extra=most_extra(read_every))
    assert len(prompt) == prompt.config.num_iter == 100


@GROUPS
def test_a_nan_ends_the_sweep_at_the_same_iteration(read_every: int) -> None:
    def criterion(output: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output, target) / (output.abs().max() < 20)

    prompt, late = curves(read_every, criterion, start_lr=1e-2, end_lr=1e6, num_iter=60, early_stop=False)
    assert prompt.stop is StopReason.NONFINITE
    assert_same(prompt, late, extra=most_extra(read_every))


@GROUPS
def test_data_that_runs_out_gives_all_its_losses_first(read_every: int) -> None:
    def only_seven(one: World) -> None:
        one.loader = [batch for _, batch in zip(range(7), [*one.loader, *one.loader], strict=False)]

    found = []
    for kind in (LRFinder, Late):
        one = world()
        only_seven(one)
        finder = kind(one.model, one.optimizer, one.criterion)
        if isinstance(finder, Late):
            finder.read_every = read_every
        options: dict[str, Any] = {"start_lr": 1e-4, "end_lr": 1e-1, "num_iter": 25}
        found.append(finder.range_test(iter(one.loader), progress=False, **options).curve)
    assert found[0].stop is StopReason.DATA_EXHAUSTED
    assert len(found[0]) == 7
    assert found[1] == found[0]


@GROUPS
def test_validation_losses_are_read_late_too(read_every: int) -> None:
    prompt, late = curves(read_every, val_loader=loader(points(24)), start_lr=1e-2, end_lr=1e4, num_iter=80)
    assert prompt.stop is StopReason.DIVERGED
    assert_same(prompt, late, extra=most_extra(read_every))


class _Refusing(nn.Module):
    """A criterion that cannot stand what blew up, as distributions that check their parameters."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        if not torch.isfinite(output).all():
            raise OSError("the parameters of the distribution are not finite")
        return nn.functional.cross_entropy(output, target) / (output.abs().max() < 20)


def test_what_fails_past_the_end_of_the_sweep_concerns_nobody_and_before_it_is_raised() -> None:
    options: dict[str, Any] = {"start_lr": 1e-2, "end_lr": 1e30, "num_iter": 40, "early_stop": False}
    prompt, late = curves(READ_EVERY, _Refusing(), **options)
    assert prompt.stop is StopReason.NONFINITE
    assert_same(prompt, late, extra=most_extra(READ_EVERY))

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        if not torch.isfinite(output).all():
            raise OSError("the parameters of the distribution are not finite")
        return nn.functional.cross_entropy(output, target).clamp(max=50)

    with pytest.raises(OSError, match="not finite"):
        curves(READ_EVERY, criterion, **options)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_an_interrupted_sweep_keeps_all_losses_of_the_iterations_it_made(failure: type[BaseException]) -> None:
    lengths = []
    for kind in (LRFinder, Late):
        one = world()
        calls: Iterator[int] = iter(range(100))

        def criterion(output: Tensor, target: Tensor, calls: Iterator[int] = calls) -> Tensor:
            if next(calls) == 12:
                raise failure
            return nn.functional.cross_entropy(output, target)

        finder = kind(one.model, one.optimizer, criterion)
        before = one.state()
        with pytest.raises(failure):
            finder.range_test(one.loader, start_lr=1e-4, end_lr=1e-1, num_iter=25, progress=False)
        assert one.state() == before
        assert finder.last_curve is not None
        assert finder.last_curve.stop is StopReason.INTERRUPTED
        lengths.append(len(finder.last_curve))
    assert lengths == [12, 12]


def test_where_the_losses_are_read_late() -> None:
    """On a GPU without a GradScaler, whose every update has to be asked for; on the CPU nobody waits anyway."""

    def read_every(device: str, **options: Any) -> int:
        one = world()
        finder = LRFinder(one.model, one.optimizer, one.criterion, **options)
        finder.device = torch.device(device)
        return finder._readback()._read_every

    assert read_every("cpu") == 1
    assert read_every("cuda") == READ_EVERY
    assert read_every("cuda", amp_dtype=torch.bfloat16) == READ_EVERY
    assert read_every("cuda", amp_dtype=torch.float16, grad_scaler=torch.amp.GradScaler("cpu")) == 1
