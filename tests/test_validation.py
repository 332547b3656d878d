"""Loss on validation batches: its weights, its mode, and the batches it is taken on."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from small import CLASSES, labelled, network, one_step, training, weights
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from worlds import Record

from lrfinder import LRFinder
from lrfinder.errors import BatchError, SetupError
from lrfinder.training.losses import criterion_loss
from lrfinder.training.validation import Validation


def validation(
    loader: Any, *, model: nn.Module | None = None, loss_fn: Any = None, count: int | None = None, **options: Any
) -> Validation:
    model = model or network()
    return Validation(training(model, torch.optim.SGD(model.parameters()), loss_fn, **options), loader, count)


def test_a_smaller_last_batch_counts_for_less() -> None:
    inputs, target = labelled(0, 10)
    loader = DataLoader(TensorDataset(inputs, target), batch_size=4)
    whole = nn.functional.cross_entropy(network()(inputs), target)
    torch.testing.assert_close(validation(loader).loss(), whole.detach())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inputs, target: {"x": inputs, "y": target},
        lambda inputs, target: {"id": ["a"] * len(inputs), "x": inputs, "y": target},
        lambda inputs, target: {"name": "train", "meta": {}, "nested": (None, [inputs]), "x": inputs, "y": target},
        lambda inputs, target: {"step": torch.tensor(3), "x": inputs, "y": target},
    ],
    ids=["tensors", "strings first", "nested", "number first"],
)
def test_the_size_of_a_batch_is_the_length_of_its_first_tensor(wrap: Callable[[Any, Any], Any]) -> None:
    inputs, target = labelled(0, 10)
    batches = [wrap(*part) for part in zip(inputs.split(4), target.split(4), strict=True)]
    measured = validation(batches, loss_fn=lambda model, b: nn.functional.cross_entropy(model(b["x"]), b["y"]))
    torch.testing.assert_close(measured.loss(), nn.functional.cross_entropy(network()(inputs), target).detach())


def test_the_mean_is_in_single_precision_whatever_the_default() -> None:
    measured = validation([(torch.full((1,), value),) for value in (1.0, 1.0, 1.01)], loss_fn=lambda _, b: b[0])
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert measured.loss().item() == pytest.approx(3.01 / 3)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_batch_without_samples_does_not_count() -> None:
    full, empty = labelled(0, 4), (torch.empty(0, 4), torch.empty(0, dtype=torch.long))
    assert validation([full, empty]).loss() == validation([full]).loss()


@pytest.mark.parametrize(("loss", "got"), [(1.0, "got a float"), ({}, "got a dict"), (torch.ones(4), "got shape")])
def test_what_is_no_loss_in_eval_mode_is_refused(loss: Any, got: str) -> None:
    measured = validation([labelled(0)], loss_fn=lambda model, batch: loss)
    with pytest.raises(BatchError, match=f"must return a scalar tensor in eval mode as well; {got}"):
        measured.loss()


def test_a_model_that_returns_predictions_in_eval_mode_is_named() -> None:
    """As torchvision's detection models do: the error of the user's own line says nothing of the mode."""

    def loss(model: nn.Module, batch: Any) -> Any:
        return ({"loss": torch.ones(())} if model.training else [batch[1]]).values()

    with pytest.raises(BatchError, match="in eval mode, could not be computed: AttributeError: 'list' object") as error:
        validation([labelled(0)], loss_fn=loss).loss()
    assert isinstance(error.value.__cause__, AttributeError)


def test_batches_without_a_tensor_count_alike() -> None:
    values = validation([Record(torch.tensor(1.0)), Record(torch.tensor(3.0))], loss_fn=lambda model, b: b.inputs)
    assert values.loss().item() == 2.0


def test_a_loss_of_one_element_is_as_good_as_a_scalar() -> None:
    inputs, target = labelled(0, 1)
    criterion = nn.CrossEntropyLoss(reduction="none")
    assert one_step(criterion_loss(criterion), (inputs, target)).numel() == 1
    assert validation([(inputs, target)], loss_fn=criterion_loss(criterion)).loss().shape == ()


def test_validation_runs_in_eval_mode_without_gradients() -> None:
    model = nn.Sequential(nn.Linear(4, CLASSES), nn.Dropout(0.5), nn.BatchNorm1d(CLASSES))
    model.train()
    model[2].eval()  # frozen, as for fine-tuning
    statistics = model[2].running_mean.clone()
    seen = []

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        seen.append(([module.training for module in model.modules()], torch.is_grad_enabled()))
        return model(batch[0]).mean()

    validation([labelled(0)], model=model, loss_fn=loss_fn).loss()
    assert seen == [([False] * 4, False)]
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert torch.equal(model[2].running_mean, statistics)
    assert torch.is_grad_enabled()


def residual(model: nn.Module, batch: Any) -> Tensor:
    """Loss of a physics-informed network: the derivative of its output by its input."""
    inputs = batch[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(inputs).sum(), inputs, create_graph=True)
    return (slope - 1).pow(2).mean()


def hooked(model: nn.Module, batch: Any) -> Tensor:
    inputs = batch[0].clone().requires_grad_()
    output = model(inputs)
    output.retain_grad()
    return output.mean()


def attacked(model: nn.Module, batch: Any) -> Tensor:
    """Loss at inputs moved along their own gradient."""
    inputs = batch[0].clone().requires_grad_()
    nn.functional.cross_entropy(model(inputs), batch[1]).backward()
    assert inputs.grad is not None
    return nn.functional.cross_entropy(model(inputs + 0.1 * inputs.grad.sign()), batch[1])


class Penalty(nn.Module):
    """A criterion that differentiates the output by itself."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(output.pow(2).sum(), output, create_graph=True)
        return slope.mean() + nn.functional.cross_entropy(output, target)


GRADIENTS: dict[str, Any] = {
    "derivative by the input": residual,
    "kept gradient": hooked,
    "adversarial": attacked,
    "criterion": criterion_loss(Penalty()),
}
differentiating = pytest.mark.parametrize("loss_fn", GRADIENTS.values(), ids=GRADIENTS)


@differentiating
def test_a_loss_that_needs_gradients_gets_them(loss_fn: Any) -> None:
    model = network()
    measured = validation([labelled(0), labelled(1)], model=model, loss_fn=loss_fn)
    expected = torch.stack([loss_fn(model, labelled(i)).detach() for i in range(2)]).mean()
    for _ in range(2):
        loss = measured.loss()
        torch.testing.assert_close(loss, expected)
        assert not loss.requires_grad
    assert torch.is_grad_enabled()


@differentiating
@pytest.mark.parametrize("count", [None, 2])
def test_a_sweep_and_a_search_validate_such_a_loss_without_a_trace(loss_fn: Any, count: int | None) -> None:
    model = network()
    before = weights(model)
    loader = [labelled(i) for i in range(8)]
    finder = LRFinder(model, torch.optim.SGD(model.parameters(), lr=0.1), loss_fn=loss_fn)
    swept = finder.range_test(loader, val_loader=loader[:3], val_batches=count, num_iter=30)
    assert len(swept.curve) > 10
    result = finder.range_test(loader, num_iter=60)
    if result.advice.grade != "none":
        finder.refine(result, loader, schedule="cosine", total_steps=200)
    assert torch.equal(weights(model), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_graph_of_a_batch_is_freed_before_the_next() -> None:
    alive = weakref.WeakSet[Any]()
    seen = []

    class Held(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, inputs: Tensor) -> Tensor:
            alive.add(ctx)
            return inputs.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        seen.append(len(alive))
        inputs = Held.apply(batch[0].clone().requires_grad_())
        return residual(model, (inputs.detach(),)) + model(inputs).sum()

    validation([labelled(i) for i in range(4)], loss_fn=loss_fn).loss()
    assert seen[-1] == 0


@pytest.mark.parametrize("error", [RuntimeError("boom"), ValueError("does not require grad")], ids=repr)
def test_another_error_of_a_validation_loss_is_raised_at_once(error: Exception) -> None:
    calls = []

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        calls.append(batch)
        raise error

    with pytest.raises(type(error)):
        validation([labelled(0)], loss_fn=loss_fn).loss()
    assert len(calls) == 1


def test_the_flags_come_back_also_when_validation_raises() -> None:
    model = network().train()
    model[1].eval()

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        validation([labelled(0)], model=model, loss_fn=loss_fn).loss()
    assert [module.training for module in model.modules()] == [True, True, False, True]


def test_a_probe_is_drawn_once_and_stays_the_same() -> None:
    stream = (labelled(i) for i in itertools.count())
    probe = validation(stream, count=3)
    expected = torch.stack([nn.functional.cross_entropy(network()(x), y).detach() for x, y in map(labelled, range(3))])
    torch.testing.assert_close(probe.loss(), expected.mean())
    assert torch.equal(probe.loss(), probe.loss())
    assert torch.equal(next(stream)[0], labelled(3)[0])


def test_without_a_probe_the_whole_loader_is_used_each_time() -> None:
    rounds = []

    class Loader:
        def __iter__(self) -> Iterator[Any]:
            rounds.append(True)
            return iter([labelled(0), labelled(1)])

    whole = validation(Loader())
    whole.loss()
    whole.loss()
    assert len(rounds) == 2


def test_a_probe_larger_than_the_loader_is_the_loader() -> None:
    assert torch.equal(validation([labelled(0)], count=100).loss(), validation([labelled(0)]).loss())


def test_validation_runs_under_the_autocast_of_training() -> None:
    types_seen = []

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        output = model(batch[0])
        types_seen.append(output.dtype)
        return output.mean()

    loss = validation([labelled(0)], loss_fn=loss_fn, amp_dtype=torch.bfloat16).loss()
    assert types_seen == [torch.bfloat16]
    assert loss.dtype == torch.float32


def test_an_iterator_for_validation_needs_a_probe() -> None:
    with pytest.raises(SetupError, match="Pass a DataLoader or a list, or set val_batches to keep"):
        validation(iter([labelled(0)]))
    assert validation(iter([labelled(0)]), count=1).loss().item() > 0


@pytest.mark.parametrize("count", [None, 2])
def test_an_empty_validation_loader_is_refused(count: int | None) -> None:
    with pytest.raises(SetupError, match="Check its data set, or leave val_loader out"):
        validation([], count=count).loss()
    validation([labelled(0)], count=count).loss()
