"""Exceptions that divergence causes end a sweep or a trial with what was measured; all others are raised."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from small import weights
from torch import Tensor, nn
from worlds import World, mlp, seeded, with_sgd

from lrfinder import LossCurve, LRFinder, RangeTestResult, StopReason, SweepConfig
from lrfinder.errors import BatchError
from lrfinder.training.failures import can_be_divergence, failure_name, infinite_where_it_diverges

WIDE: dict[str, Any] = {"start_lr": 1e-4, "end_lr": 1e5, "num_iter": 100, "early_stop": False}
LossFn = Callable[[nn.Module, Any], Tensor]

# --- losses that refuse what diverged weights give --------------------------------------------------------------------


def gaussian(model: nn.Module, batch: Any) -> Tensor:
    mean = model(batch[0])[:, 0]
    # Asked for, as torch.compile in an earlier test switches the default off.
    normal = torch.distributions.Normal(mean, 1 - 1e-3 * mean.detach().abs(), validate_args=True)
    return -normal.log_prob(batch[1].float()).mean()


def process(model: nn.Module, batch: Any) -> Tensor:
    features, target = model(batch[0]), batch[1].float()[:, None]
    factor = torch.linalg.cholesky(torch.eye(len(features)) + features @ features.T)
    return (torch.cholesky_solve(target, factor) * target).mean() + factor.diagonal().log().mean()


def squared(model: nn.Module, batch: Any) -> Tensor:
    return ((model(batch[0])[:, 0] - batch[1]) ** 2).mean()


def checked(model: nn.Module, batch: Any) -> Tensor:
    loss = squared(model, batch)
    if not torch.isfinite(loss):
        raise ValueError("bad loss")
    return loss


def asserting(model: nn.Module, batch: Any) -> Tensor:
    loss = squared(model, batch)
    assert loss < 1e6
    return loss


def overflowing(model: nn.Module, batch: Any) -> Tensor:
    loss = squared(model, batch)
    math.exp(loss.item())
    return loss


def sampling(model: nn.Module, batch: Any) -> Tensor:
    logits = model(batch[0])
    torch.multinomial((1e35 * logits).softmax(1), 1)
    return nn.functional.cross_entropy(logits * logits.abs(), batch[1])


REFUSING: dict[str, tuple[LossFn, str]] = {
    "distribution": (gaussian, "ValueError"),
    "factorisation": (process, "LinAlgError"),
    "check of the loss": (checked, "ValueError"),
    "assertion": (asserting, "AssertionError"),
    "overflow": (overflowing, "OverflowError"),
    "sampling": (sampling, "RuntimeError"),
}
refusing = pytest.mark.parametrize(("loss_fn", "name"), REFUSING.values(), ids=REFUSING)


def world() -> World:
    return seeded(lambda: with_sgd(mlp(), criterion=lambda output, target: output.pow(2).mean()), 1)


@refusing
@pytest.mark.parametrize("validated", [False, True], ids=["training loss", "validation loss"])
def test_an_exception_of_divergence_ends_the_sweep_with_its_name(loss_fn: LossFn, name: str, validated: bool) -> None:
    one = world()
    before = one.state()
    val_loader = list(one.loader)[:2] if validated else None
    before["torch"] = one.state()["torch"]  # drawn by the line above
    result = LRFinder(one.model, one.optimizer, loss_fn=loss_fn).range_test(one.loader, val_loader=val_loader, **WIDE)
    assert (result.curve.stop, result.curve.error) == (StopReason.ERROR, name)
    assert len(result.curve) > 20
    assert result.curve.nonfinite_lr is not None
    assert result.advice.grade != "none"
    assert name in str(result)
    assert one.state() == before


@refusing
def test_with_no_range_given_an_exception_of_divergence_is_a_bad_loss(loss_fn: LossFn, name: str) -> None:
    one = world()
    result = LRFinder(one.model, one.optimizer, loss_fn=loss_fn).range_test(one.loader)
    assert len(result.curve) > 20
    assert result.curve.config.end_lr < 1e7


@refusing
def test_a_trial_that_raises_for_divergence_has_diverged(loss_fn: LossFn, name: str) -> None:
    one = world()
    before = weights(one.model)
    finder = LRFinder(one.model, one.optimizer, loss_fn=loss_fn)
    curve = finder.range_test(one.loader, **WIDE).curve
    high = RangeTestResult(curve=curve)
    object.__setattr__(high, "lr_for", lambda *_: 3e4)
    refined = finder.refine(high, one.loader, schedule="constant", total_steps=200)
    assert refined.trials is not None
    assert any(trial.loss is None for trial in refined.trials.trials)
    assert torch.equal(weights(one.model), before)


def test_a_criterion_that_refuses_nan_is_named_by_its_own_exception() -> None:
    class Strict(nn.Module):
        def forward(self, output: Tensor, target: Tensor) -> Tensor:
            if not torch.isfinite(output).all():
                raise ValueError("nan")
            return nn.functional.cross_entropy(output * output.abs(), target)

    one = world()
    curve = LRFinder(one.model, one.optimizer, Strict()).range_test(one.loader, **WIDE).curve
    assert (curve.stop, curve.error) == (StopReason.ERROR, "ValueError")


def test_an_optimizer_that_refuses_gradients_of_nan_ends_the_sweep() -> None:
    class Strict(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 1e9, error_if_nonfinite=True)
            return super().step(closure)

    model = mlp()
    loss_fn = lambda model, batch: model(batch[0]).pow(4).mean().clamp(max=1e30)  # noqa: E731
    one = World(model, Strict(model.parameters(), lr=0.1), with_sgd(model).loader)
    curve = LRFinder(model, one.optimizer, loss_fn=loss_fn).range_test(one.loader, **WIDE).curve
    assert (curve.stop, curve.error) == (StopReason.ERROR, "RuntimeError")


# --- errors that are not divergence -----------------------------------------------------------------------------------


class Broken:
    """A loss that raises in its calls of the numbers given."""

    def __init__(self, error: Exception, calls: Any) -> None:
        self.error, self.calls, self.count = error, calls, 0

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        self.count += 1
        if self.count in self.calls:
            raise self.error
        return squared(model, batch)


def swept(loss_fn: Any, loader: Any = None, **options: Any) -> LossCurve:
    one = world()
    finder = LRFinder(one.model, one.optimizer, loss_fn=loss_fn)
    before = one.state()
    try:
        return finder.range_test(loader or one.loader, **{**WIDE, "end_lr": 1e-2, **options}).curve
    finally:
        assert {**one.state(), "torch": None} == {**before, "torch": None}


@pytest.mark.parametrize("call", [1, 2, 5, 6, 30, 99, 100])
@pytest.mark.parametrize("error", [RuntimeError("boom"), ValueError("nan")], ids=repr)
def test_an_exception_that_does_not_come_again_is_raised(error: Exception, call: int) -> None:
    with pytest.raises(type(error), match=str(error)):
        swept(Broken(error, [call]))
    assert swept(Broken(error, [101])).stop is StopReason.COMPLETED


@pytest.mark.parametrize("call", [1, 3, 6, 30, 100])
def test_an_exception_that_the_weights_of_the_start_raise_too_is_raised(call: int) -> None:
    broken = Broken(RuntimeError("boom"), range(call, 1000))
    counted = [0]

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        counted.append(0)
        broken.count = len(counted)
        return broken(model, batch)

    with pytest.raises(RuntimeError, match="boom"):
        swept(loss_fn)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
        FileNotFoundError("gone"),
        KeyError("key"),
        AttributeError("name"),
        TypeError("type"),
        NotImplementedError(),
    ],
    ids=repr,
)
def test_errors_of_the_machine_and_of_the_program_are_raised(error: Exception) -> None:
    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        loss = squared(model, batch)
        if loss > 1e4:
            raise error
        return loss

    assert not can_be_divergence(error)
    with pytest.raises(type(error)):
        swept(loss_fn, end_lr=1e5)


def test_an_exception_within_the_first_steps_is_raised() -> None:
    with pytest.raises(ValueError, match="bad loss"):
        swept(checked, start_lr=1e4, end_lr=1e6)


def test_an_error_of_the_loader_is_raised() -> None:
    class Loader:
        def __iter__(self) -> Iterator[Any]:
            yield from list(world().loader) * 3
            raise ValueError("nan in the data")

    with pytest.raises(ValueError, match="nan in the data"):
        swept(squared, Loader())


def test_an_interrupt_while_a_step_is_repeated_is_an_interrupt() -> None:
    calls = [0]

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        calls[0] += 1
        if calls[0] == 20:
            raise ValueError("nan")
        if calls[0] == 21:
            raise KeyboardInterrupt
        return squared(model, batch)

    with pytest.raises(KeyboardInterrupt):
        swept(loss_fn)


# --- the range search -------------------------------------------------------------------------------------------------


def test_a_loss_that_raises_again_is_infinite() -> None:
    def loss_at(lr: float) -> float:
        if lr > 1:
            raise ValueError("nan")
        return lr

    loss = infinite_where_it_diverges(loss_at)
    assert [loss(0.5), loss(2.0), loss(1.0)] == [0.5, math.inf, 1.0]


def test_an_exception_at_the_smallest_learning_rate_is_raised() -> None:
    def loss_at(lr: float) -> float:
        raise ValueError("nan")

    with pytest.raises(ValueError, match="nan"):
        infinite_where_it_diverges(loss_at)(1e-10)


# --- the record -------------------------------------------------------------------------------------------------------


def test_the_name_is_that_of_the_exception_that_was_wrapped() -> None:
    def raised() -> Exception:
        try:
            raise BatchError("refused") from torch.linalg.LinAlgError("singular")
        except BatchError as error:
            return error

    assert failure_name(raised()) == "LinAlgError"
    assert failure_name(type("not a name", (Exception,), {})()) == "Exception"


def test_the_name_comes_back_from_a_file_and_is_empty_in_an_older_one() -> None:
    curve = swept(checked, end_lr=1e5)
    content = json.loads(json.dumps(curve.to_dict()))
    assert LossCurve.from_dict(content) == curve
    del content["error"]
    assert LossCurve.from_dict(content).error == ""


def test_an_error_that_is_no_name_is_refused() -> None:
    config = SweepConfig(start_lr=0.1, end_lr=1.0, num_iter=2)
    with pytest.raises(ValueError, match="error must be the name of an exception, or empty"):
        LossCurve(lrs=(), losses=(), stop=StopReason.ERROR, config=config, error="\x1b[2J")
    LossCurve(lrs=(), losses=(), stop=StopReason.ERROR, config=config, error="ValueError")


class Unlabelled:
    """Batches that a step draws by itself, and does not start again."""

    def __init__(self) -> None:
        self.given = 0

    def __next__(self) -> Tensor:
        if self.given == 20:
            raise StopIteration
        self.given += 1
        return torch.ones(())


def test_data_of_the_step_that_ends_is_no_divergence() -> None:
    unlabelled = Unlabelled()
    with pytest.raises(StopIteration):
        swept(lambda model, batch: squared(model, batch) * next(unlabelled))
