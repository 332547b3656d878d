"""Losses read late: the same sweep as with losses read at once, however it ends."""

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
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor
from worlds import LateReader, World, loader, mlp, points, sgd, training

from lrfinder import LossCurve, LRFinder, StopReason, SweepConfig
from lrfinder.record.sweep import Sweep
from lrfinder.training.deferred import READ_EVERY, DeferredLosses
from lrfinder.training.driver import SweepDriver

CPU = torch.device("cpu")


def most_extra(read_every: int) -> int:
    """Iterations that may be run before the loss of one is known."""
    return read_every + read_every // 2 - 1 if read_every > 1 else 0


sizes = pytest.mark.parametrize("read_every", [2, 3, READ_EVERY, 9])


def test_losses_are_read_on_the_host_whatever_the_default_device() -> None:
    late = DeferredLosses(CPU, read_every=2)
    losses = [torch.tensor(loss) for loss in (3.0, 2.0)]
    with torch.device("meta"):  # on a GPU "cuda", where torch pins no memory
        assert [late.put(loss) for loss in losses] + [late.flush()] == [[], [], [3.0, 2.0]]


# --- the queue --------------------------------------------------------------------------------------------------------


@given(losses=st.lists(st.floats(width=32), max_size=30), read_every=st.integers(1, 7))
def test_every_loss_comes_back_once_in_order_at_a_fixed_step(losses: list[float], read_every: int) -> None:
    late = DeferredLosses(CPU, read_every=read_every)
    came: list[float] = []
    for count, loss in enumerate(losses, 1):
        came += late.put(torch.tensor(loss))
        assert len(came) == max(0, (count - read_every // 2) // read_every * read_every)
        assert late.pending == count - len(came) <= most_extra(read_every)
    came += late.flush()
    assert list(map(repr, came)) == list(map(repr, losses))
    assert late.pending == 0


def test_a_loss_changed_in_place_later_is_read_as_it_was() -> None:
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


def test_losses_on_several_gpus_are_read_from_that_of_the_training() -> None:
    with FakeTensorMode():
        late = DeferredLosses(CPU, read_every=2)
        for place in ("cuda:0", "cuda:1"):
            late.put(torch.empty((), device=place))
        assert late.pending == 2


def test_a_loss_of_a_type_that_cannot_be_listed_is_read() -> None:
    loss = TwoTensor(torch.tensor(1.5), torch.tensor(1.5))
    for read_every in (1, 2):
        late = DeferredLosses(CPU, read_every=read_every)
        assert late.put(loss) + late.flush() == [1.5]


# --- learning rates ahead of the losses -------------------------------------------------------------------------------


def test_a_sweep_gives_learning_rates_ahead_as_far_as_it_may_be_extended() -> None:
    sweep = Sweep(SweepConfig(start_lr=1.0, end_lr=1000.0, num_iter=4), extend=2)
    assert [sweep.lr_ahead(i) for i in range(4)] == pytest.approx([1, 10, 100, 1000])
    assert sweep.lr_ahead(5) == pytest.approx(1e5)
    assert sweep.lr_ahead(6) is None
    assert sweep.lr_ahead(0) == sweep.lr


@pytest.mark.parametrize(
    ("device", "options", "expected"),
    [
        ("cpu", {}, 1),
        ("cuda", {}, READ_EVERY),
        ("cuda", {"amp_dtype": torch.bfloat16}, READ_EVERY),
        ("cuda", {"amp_dtype": torch.float16, "grad_scaler": torch.amp.GradScaler("cpu")}, 1),
    ],
    ids=["CPU", "GPU", "GPU, bfloat16", "GPU with a GradScaler"],
)
def test_losses_are_read_late_on_a_gpu_without_a_scaler(device: str, options: Any, expected: int) -> None:
    setup = training(world(), **options)
    setup.device = torch.device(device)
    driver = SweepDriver(setup, Sweep(SweepConfig(start_lr=1e-3, end_lr=1.0, num_iter=10)))
    assert driver.read_every == expected


@pytest.mark.parametrize("last", [7.0, math.nan])
def test_what_the_report_of_a_loss_raises_ends_the_sweep_before_that_loss(last: float) -> None:
    def report(lr: float, loss: float) -> None:
        if loss == 3:
            raise KeyError("stop")

    sweep = Sweep(SweepConfig(start_lr=1e-3, end_lr=1.0, num_iter=20))
    driver = SweepDriver(training(world()), sweep, read_every=4, on_loss=report)
    with pytest.raises(KeyError, match="stop"):
        for loss in (1.0, 2.0, 3.0, 4.0, 5.0, last):
            driver.before_step()
            driver.after_step(torch.tensor(loss))
    driver.end(StopReason.INTERRUPTED)
    assert sweep.losses == [1.0, 2.0] and sweep.curve().stop is StopReason.INTERRUPTED


# --- the range test ---------------------------------------------------------------------------------------------------


def world() -> World:
    torch.manual_seed(5)
    model = mlp()
    return World(model, sgd(model), loader(points(), generator=torch.Generator().manual_seed(3)))


def curves(read_every: int, criterion: Any = None, **options: Any) -> tuple[LossCurve, LossCurve]:
    """Curves of the same range test, with losses read at once by ``LRFinder``, and late."""
    found: list[LossCurve] = []
    for late in (False, True):
        one = world()
        one.criterion = criterion or one.criterion
        before = one.state()
        if late:
            found.append(LateReader(one, read_every).range_test(one.loader, **options))
        else:
            finder = LRFinder(one.model, one.optimizer, one.criterion)
            found.append(finder.range_test(one.loader, progress=False, **options).curve)
        assert one.state() == before
    return found[0], found[1]


def assert_same(prompt: LossCurve, late: LossCurve, *, extra: int) -> None:
    assert dataclasses.replace(late, batches=prompt.batches) == prompt
    assert prompt.batches <= late.batches <= prompt.batches + extra


@sizes
def test_a_completed_sweep_is_the_same_and_draws_no_batch_more(read_every: int) -> None:
    prompt, late = curves(read_every, start_lr=1e-4, end_lr=1e-1, num_iter=25)
    assert prompt.stop is StopReason.COMPLETED
    assert_same(prompt, late, extra=0)


@sizes
def test_a_diverged_sweep_is_the_same_and_draws_few_batches_more(read_every: int) -> None:
    prompt, late = curves(read_every, start_lr=1e-2, end_lr=1e4, num_iter=120)
    assert prompt.stop is StopReason.DIVERGED
    assert_same(prompt, late, extra=most_extra(read_every))
    group_complete = math.ceil(prompt.batches / read_every) * read_every
    assert late.batches == group_complete + read_every // 2


@sizes
def test_a_sweep_that_chooses_and_extends_its_range_is_the_same(read_every: int) -> None:
    def flat(output: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output * 0, target)

    prompt, late = curves(read_every, flat)
    assert_same(prompt, late, extra=most_extra(read_every))
    assert len(prompt) == prompt.config.num_iter == 100


@sizes
def test_a_nan_ends_the_sweep_at_the_same_iteration(read_every: int) -> None:
    def criterion(output: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output, target) / (output.abs().max() < 20)

    prompt, late = curves(read_every, criterion, start_lr=1e-2, end_lr=1e6, num_iter=60, early_stop=False)
    assert prompt.stop is StopReason.NONFINITE
    assert_same(prompt, late, extra=most_extra(read_every))


@sizes
def test_data_that_runs_out_gives_all_its_losses_first(read_every: int) -> None:
    options: dict[str, Any] = {"start_lr": 1e-4, "end_lr": 1e-1, "num_iter": 25}
    one, other = world(), world()
    seven = [batch for _, batch in zip(range(7), [*one.loader, *one.loader], strict=False)]
    finder = LRFinder(one.model, one.optimizer, one.criterion)
    prompt = finder.range_test(iter(seven), progress=False, **options).curve
    assert prompt.stop is StopReason.DATA_EXHAUSTED
    assert len(prompt) == 7
    assert LateReader(other, read_every).range_test(iter(seven), **options) == prompt


@sizes
def test_validation_losses_are_read_late_too(read_every: int) -> None:
    prompt, late = curves(read_every, val_loader=loader(points(24)), start_lr=1e-2, end_lr=1e4, num_iter=80)
    assert prompt.stop is StopReason.DIVERGED
    assert_same(prompt, late, extra=most_extra(read_every))


# --- errors on the way ------------------------------------------------------------------------------------------------

WIDE: dict[str, Any] = {"start_lr": 1e-2, "end_lr": 1e30, "num_iter": 40, "early_stop": False}


def checked(output: Tensor) -> Tensor:
    """The output, unless the weights have blown up, as distributions check their parameters."""
    if not torch.isfinite(output).all():
        raise OSError("the parameters of the distribution are not finite")
    return output


def test_an_error_after_the_end_of_the_sweep_is_ignored() -> None:
    def criterion(output: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(checked(output), target) / (output.abs().max() < 20)

    prompt, late = curves(READ_EVERY, criterion, **WIDE)
    assert prompt.stop is StopReason.NONFINITE
    assert_same(prompt, late, extra=most_extra(READ_EVERY))


def test_an_error_before_the_end_of_the_sweep_is_raised() -> None:
    one = world()
    one.criterion = lambda output, target: nn.functional.cross_entropy(checked(output), target).clamp(max=50)
    with pytest.raises(OSError, match="not finite"):
        LateReader(one, READ_EVERY).range_test(one.loader, **WIDE)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("read_every", [1, READ_EVERY])
def test_a_sweep_cut_off_keeps_the_losses_of_all_its_iterations(failure: type[BaseException], read_every: int) -> None:
    one = world()
    calls: Iterator[int] = iter(range(100))

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        if next(calls) == 12:
            raise failure
        return nn.functional.cross_entropy(output, target)

    one.criterion = criterion
    reader = LateReader(one, read_every)
    before = one.state()
    with pytest.raises(failure):
        reader.range_test(one.loader, start_lr=1e-4, end_lr=1e-1, num_iter=25)
    assert one.state() == before
    assert reader.last_curve is not None
    assert reader.last_curve.stop is StopReason.INTERRUPTED
    assert len(reader.last_curve) == 12
