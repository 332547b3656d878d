"""The range that is chosen for losses that move by themselves, are bounded or have another unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrfinder import LRFinder
from lrfinder.result import RangeTestResult

Batch = tuple[Tensor, Tensor]
LossFn = Callable[[nn.Module, Batch], Tensor]
ENTROPY = nn.CrossEntropyLoss()
OPTIMIZERS: dict[str, Callable[[Iterator[nn.Parameter]], Any]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def batches(outputs: int = 10) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    inputs, answer = torch.randn(16, 32, 16, generator=generator), torch.randn(16, outputs, generator=generator)
    return [(part, (part @ answer).argmax(1)) for part in inputs]


def net(outputs: int = 10) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, outputs))


def range_test(
    loss_fn: LossFn, optimizer: Callable[[Iterator[nn.Parameter]], Any], model: nn.Module | None = None
) -> RangeTestResult:
    model = model or net()
    return LRFinder(model, optimizer(model.parameters()), loss_fn=loss_fn).range_test(batches(), progress=False)


def entropy(model: nn.Module, batch: Batch) -> Tensor:
    loss: Tensor = ENTROPY(model(batch[0]), batch[1])
    return loss


def moving(name: str) -> LossFn:
    """Cross-entropy that changes with each call by something that no snapshot reaches."""
    calls, generator, hidden = [0], torch.Generator().manual_seed(1), [torch.zeros(32, 10)]

    def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
        calls[0] += 1
        logits = model(batch[0])
        if name == "noise of its own":
            logits = logits + 0.2 * torch.randn(logits.shape, generator=generator)
        if name == "hidden state":
            logits = logits + 0.5 * hidden[0]
            hidden[0] = logits.detach()
        weight = min(calls[0] / 100, 1.0) if name == "a growing weight" else 0.0
        loss: Tensor = ENTROPY(logits, batch[1]) + weight * (1 + logits.square().mean())
        return loss

    return loss_fn


@every_optimizer
@pytest.mark.parametrize("name", ["noise of its own", "hidden state", "a growing weight"])
def test_a_loss_that_moves_by_itself_gets_about_the_usual_range(name: str, optimizer: Any) -> None:
    usual = range_test(entropy, optimizer)
    moved = range_test(moving(name), optimizer)
    assert 1 / 40 < moved.curve.config.start_lr / usual.curve.config.start_lr < 40
    assert usual.advice.base_lr is not None and moved.advice.base_lr is not None
    assert 1 / 5 < moved.advice.base_lr / usual.advice.base_lr < 5


BOUNDED: dict[str, LossFn] = {
    "cosine": lambda model, batch: 1 - nn.functional.cosine_similarity(
        model(batch[0]), nn.functional.one_hot(batch[1], 10).float()
    ).mean(),
    "saturating": lambda model, batch: (
        (model(batch[0]).tanh() - nn.functional.one_hot(batch[1], 10)).square().mean()
    ),
    "likelihood": lambda model, batch: nn.functional.gaussian_nll_loss(
        model(batch[0])[:, 0], batch[1].float(), nn.functional.softplus(model(batch[0])[:, 1]).square(), eps=1e-6
    ),
    "triplet": lambda model, batch: nn.functional.triplet_margin_loss(
        model(batch[0]), nn.functional.one_hot(batch[1], 10).float(), model(batch[0]).roll(1, 0)
    ),
}


@every_optimizer
@pytest.mark.parametrize("loss_fn", BOUNDED.values(), ids=BOUNDED)
def test_the_range_of_a_bounded_or_slowly_growing_loss_starts_low(loss_fn: LossFn, optimizer: Any) -> None:
    result = range_test(loss_fn, optimizer)
    assert 1e-6 < result.curve.config.start_lr < 0.3
    assert result.advice.base_lr is not None and 1e-4 < result.advice.base_lr < 3


@pytest.mark.parametrize("exponent", [-12, -8, -4, 4, 8, 12])
def test_with_sgd_the_sweep_follows_the_unit_of_the_loss(exponent: int) -> None:
    unit = 10.0**exponent
    usual = range_test(entropy, OPTIMIZERS["SGD"]).curve
    other = range_test(lambda model, batch: unit * entropy(model, batch), OPTIMIZERS["SGD"]).curve
    assert other.config.start_lr * unit == pytest.approx(usual.config.start_lr, rel=0.01)
    assert len(other) == len(usual)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.float8_e4m3fn])
def test_frozen_weights_without_a_norm_do_not_place_the_range(dtype: torch.dtype) -> None:
    quantised = net()
    quantised.register_parameter("packed", nn.Parameter(torch.ones(4, 4).to(dtype), requires_grad=False))
    usual, known = (range_test(entropy, OPTIMIZERS["SGD"], model) for model in (net(), quantised))
    assert known.curve.lrs == usual.curve.lrs


@pytest.mark.parametrize("exponent", [-60, -45, 45, 60])
def test_a_unit_beyond_single_precision_moves_the_range(exponent: int) -> None:
    def lowest(unit: float) -> float:
        batches_64 = [(inputs.double(), targets) for inputs, targets in batches()]
        model = net().double()
        finder = LRFinder(model, OPTIMIZERS["SGD"](model.parameters()), lambda *each: unit * ENTROPY(*each))
        return finder.range_test(batches_64, progress=False).curve.config.start_lr

    unit = 10.0**exponent
    assert lowest(unit) * unit == pytest.approx(lowest(1.0), rel=1e-6)
