"""Learning rates of parameter groups: one common factor moves, the ratios stay."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
import torch
from small import network, training

from lrfinder import LRFinder
from lrfinder.errors import SetupError
from lrfinder.param_groups import (
    group_scales,
    momentum,
    optimizer_name,
    optimizer_parameters,
    scales_of_initial_lrs,
    set_lr,
    set_momentum,
)


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(2))


def sgd(*lrs: float, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD([{"params": [parameter()], "lr": lr} for lr in lrs], lr=0.1, **options)


def test_parameters_come_in_the_order_of_the_groups() -> None:
    first, second, third = parameter(), parameter(), parameter()
    optimizer = torch.optim.SGD([{"params": [second, first]}, {"params": [third]}], lr=0.1)
    assert [id(p) for p in optimizer_parameters(optimizer)] == [id(second), id(first), id(third)]


@pytest.mark.parametrize(
    ("lrs", "scales"),
    [
        ((0.1,), (1.0,)),
        ((0.1, 0.1), (1.0, 1.0)),
        ((0.1, 0.01, 1.0), (1.0, 0.1, 10.0)),
        ((0.0, 0.2, 0.1), (0.0, 1.0, 0.5)),
        ((0.0, 0.0), (1.0, 1.0)),
    ],
)
def test_scales_are_relative_to_the_first_group_that_learns(lrs: tuple[float, ...], scales: tuple[float, ...]) -> None:
    assert group_scales(sgd(*lrs)) == pytest.approx(scales)


def started(*groups: tuple[float, float | None]) -> torch.optim.SGD:
    """Groups with an LR, and with the ``initial_lr`` that a scheduler left, where there is one."""
    optimizer = sgd(*(lr for lr, _ in groups))
    for group, (_, initial) in zip(optimizer.param_groups, groups, strict=True):
        if initial is not None:
            group["initial_lr"] = initial
    return optimizer


@pytest.mark.parametrize(
    ("groups", "scales"),
    [
        ([(0.0, 1e-3), (0.0, 0.1)], (1.0, 100.0)),
        ([(0.0, 0.0), (0.0, 0.1)], (0.0, 1.0)),
        ([(0.0, 1e-3), (0.0, 1e-4), (1e-2, None)], (1.0, 0.1, 10.0)),  # a group was added after the scheduler was made
        ([(0.0, 1e-3), (0.0, None)], (1.0, 0.0)),
        ([(0.0, 0.1), (0.2, 0.1)], (0.0, 1.0)),  # frozen on purpose
        ([(0.3, 0.1), (0.1, 0.1)], (1.0, 1 / 3)),  # set by hand since
        ([(0.0, 0.0), (0.0, 0.0)], (1.0, 1.0)),
        ([(0.0, 0.1), (0.0, 0.1)], (1.0, 1.0)),
    ],
)
def test_at_0_the_ratio_is_that_before_the_scheduler(
    groups: list[tuple[float, float | None]], scales: tuple[float, ...]
) -> None:
    assert group_scales(started(*groups)) == pytest.approx(scales)
    now = group_scales(sgd(*(lr for lr, _ in groups)))
    assert scales_of_initial_lrs(started(*groups)) == (now != pytest.approx(scales))


@pytest.mark.parametrize(
    ("lrs", "factors", "scales"),
    [
        ((0.1, 0.1), (0.25, 1.0), (1.0, 4.0)),  # as timm, BEiT and MAE make them, before their scheduler's first step
        ((0.025, 0.1), (0.25, 1.0), (1.0, 4.0)),  # after it
        ((0.1, 0.1), (0.5, 0.5), (1.0, 1.0)),
        ((0.1, 0.1), (0.0, 0.5), (0.0, 1.0)),
        ((0.1, 0.1), (None, 0.5), (1.0, 0.5)),
        ((0.1, 0.01), (0.5, 1.0), (1.0, 0.1)),  # learning rates of their own, set by hand
        ((0.1, 0.1), ("auto", 0.5), (1.0, 0.5)),
    ],
)
def test_a_factor_that_no_scheduler_has_applied_yet_counts(
    lrs: tuple[float, ...], factors: tuple[Any, ...], scales: tuple[float, ...]
) -> None:
    optimizer = sgd(*lrs)
    for group, factor in zip(optimizer.param_groups, factors, strict=True):
        group.update({} if factor is None else {"lr_scale": factor})
    assert group_scales(optimizer) == pytest.approx(scales)
    set_lr(optimizer, 0.3, group_scales(optimizer))
    assert group_scales(optimizer) == pytest.approx(scales)


WARMUPS: dict[str, Any] = {
    "from 0": lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: t / 10),
    "from a hundredth": lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 0.01),
    "one cycle": lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.01, 1.0], total_steps=9),
}


@pytest.mark.parametrize("warmup", WARMUPS)
def test_sweep_recipe_and_scheduler_keep_one_ratio_after_a_warmup(warmup: str) -> None:
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 1e-3}, {"params": model[2].parameters(), "lr": 0.1}]
    optimizer = torch.optim.SGD(groups)
    kept = WARMUPS[warmup](optimizer)
    generator = torch.Generator().manual_seed(0)
    loader = [(torch.randn(8, 4, generator=generator), torch.arange(8) % 3) for _ in range(4)]
    result = LRFinder(model, optimizer, torch.nn.CrossEntropyLoss()).range_test(loader, num_iter=30)
    assert result.curve.group_scales == pytest.approx((1.0, 100.0))
    assert ("those of their initial_lr, and not of their lr" in str(result)) == (warmup == "from 0")
    recipe = result.recipe("cosine", peak_lr=0.01, total_steps=20, warmup_steps=0)
    assert recipe.group_scales == pytest.approx((1.0, 100.0))
    recipe.build(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 1.0])
    del kept


@pytest.mark.parametrize("lr", [None, float("nan"), float("inf"), "fast", torch.ones(2)], ids=repr)
def test_a_group_without_a_learning_rate_is_refused_at_once(lr: Any) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.param_groups[0]["lr"] = lr
    with pytest.raises(SetupError, match="(Give it one; Adafactor|must be a finite number).*"):
        training(model, optimizer)
    optimizer.param_groups[0]["lr"] = 0.0
    training(model, optimizer)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.array, torch.tensor], ids=lambda k: k.__name__)
def test_an_lr_of_another_kind_of_number_has_the_ratio_of_a_plain_one(kind: Any) -> None:
    optimizer = sgd(0.5, 0.5, 1.0)
    optimizer.param_groups[0]["lr"] = kind(0.5)
    assert group_scales(optimizer) == (1.0, 1.0, 2.0)


@pytest.mark.parametrize("kind", [np.float32, torch.tensor], ids=lambda k: k.__name__)
def test_a_tenth_in_single_precision_is_a_tenth(kind: Any) -> None:
    optimizer = sgd(0.1, 0.1)
    optimizer.param_groups[0]["lr"] = kind(0.1)
    assert group_scales(optimizer) == (1.0, 1.0)


@pytest.mark.parametrize("betas", [np.array([0.8, 0.9]), (np.float32(0.8), 0.9), torch.tensor([0.8, 0.9])], ids=repr)
def test_betas_of_numpy_are_read_and_set(betas: Any) -> None:
    adam = torch.optim.Adam([parameter()])
    adam.param_groups[0]["betas"] = betas
    assert momentum(adam) == pytest.approx(0.8)
    set_momentum(adam, 0.7)
    assert [float(beta) for beta in adam.param_groups[0]["betas"]] == pytest.approx([0.7, 0.9])


def test_setting_a_learning_rate_keeps_the_ratios() -> None:
    optimizer = sgd(0.1, 0.01, 0.0)
    scales = group_scales(optimizer)
    set_lr(optimizer, 3.0, scales)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([3.0, 0.3, 0.0])
    assert group_scales(optimizer) == pytest.approx(scales)


def test_the_reference_group_gets_exactly_the_learning_rate_given() -> None:
    optimizer = sgd(0.3)
    set_lr(optimizer, 0.1 + 0.2, group_scales(optimizer))
    assert optimizer.param_groups[0]["lr"] == 0.1 + 0.2


def test_a_learning_rate_in_a_tensor_is_filled_in_place() -> None:
    lr = torch.tensor(0.1)
    optimizer = torch.optim.Adam([{"params": [parameter()], "lr": lr}, {"params": [parameter()], "lr": 0.01}])
    set_lr(optimizer, 0.5, group_scales(optimizer))
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == 0.5
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.05)


def test_a_wrong_number_of_scales_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter|longer"):
        set_lr(sgd(0.1, 0.2), 1.0, (1.0,))
    set_lr(sgd(0.1, 0.2), 1.0, (1.0, 2.0))


def test_the_name_of_a_wrapped_optimizer_is_that_of_its_class() -> None:
    optimizer = sgd(0.1)
    assert optimizer_name(optimizer) == "SGD"
    assert optimizer_name(types.SimpleNamespace(optimizer=optimizer)) == "SGD"


class Momentum(torch.optim.SGD):
    """A class of a user's own, whose name says nothing."""


class Lion(torch.optim.Adam):
    """A class whose own name is known."""


class Wrapper(torch.optim.Optimizer):
    """An optimizer around another, as SAM and Lookahead are."""

    def __init__(self, name: str, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, inner.defaults)
        setattr(self, name, inner)


@pytest.mark.parametrize("name", ["optimizer", "base_optimizer", "_base_optimizer", "original_optimizer", "optim"])
def test_an_optimizer_is_called_as_the_one_that_it_wraps(name: str) -> None:
    sgd = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
    assert optimizer_name(Wrapper(name, sgd)) == optimizer_name(Wrapper("optimizer", Wrapper(name, sgd))) == "SGD"
    itself = Wrapper(name, sgd)
    setattr(itself, name, itself)
    assert optimizer_name(itself) == "Wrapper"


def test_a_class_of_its_own_is_called_as_what_it_is_made_from() -> None:
    parameters = [torch.ones(1, requires_grad=True)]
    assert optimizer_name(Momentum(parameters, lr=0.1)) == "SGD"
    assert optimizer_name(Lion(parameters, lr=0.1)) == "Lion"
    assert optimizer_name(Wrapper("other", Momentum(parameters, lr=0.1))) == "Wrapper"


@pytest.mark.parametrize(
    ("optimizer_class", "options", "expected"),
    [
        (torch.optim.SGD, {}, 0.0),
        (torch.optim.SGD, {"momentum": 0.9}, 0.9),
        (torch.optim.RMSprop, {"momentum": 0.5}, 0.5),
        (torch.optim.Adam, {}, 0.9),
        (torch.optim.AdamW, {"betas": (0.8, 0.99)}, 0.8),
        (torch.optim.Adagrad, {}, 0.0),
        (torch.optim.Adam, {"betas": (torch.tensor(0.75), torch.tensor(0.99)), "capturable": True}, 0.75),
    ],
)
def test_momentum_is_momentum_or_beta1_or_none(optimizer_class: Any, options: dict[str, Any], expected: float) -> None:
    assert momentum(optimizer_class([parameter()], lr=0.1, **options)) == expected


def test_beta1_counts_where_a_group_has_a_momentum_as_well() -> None:
    adam = torch.optim.Adam([{"params": [parameter()], "momentum": 0.5}], betas=(0.0, 0.99))
    assert momentum(adam) == 0.0
    set_momentum(adam, 0.7)
    assert adam.param_groups[0]["betas"] == (0.0, 0.99)


def test_betas_of_none_leave_the_momentum_of_the_group() -> None:
    optimizer = sgd(0.1, momentum=0.9)
    optimizer.param_groups[0]["betas"] = None
    set_momentum(optimizer, 0.7)
    assert momentum(optimizer) == optimizer.param_groups[0]["momentum"] == 0.7


def test_momentum_is_set_where_there_is_one_and_the_other_beta_stays() -> None:
    plain, adam = sgd(0.1, 0.2, momentum=0.9), torch.optim.Adam([parameter()], betas=(0.9, 0.95))
    set_momentum(plain, 0.7)
    set_momentum(adam, 0.7)
    assert [group["momentum"] for group in plain.param_groups] == [0.7, 0.7]
    assert adam.param_groups[0]["betas"] == (0.7, 0.95)


@pytest.mark.parametrize("optimizer", [sgd(0.1), torch.optim.Adagrad([parameter()], lr=0.1)])
def test_a_momentum_that_is_off_stays_off(optimizer: Any) -> None:
    before = [dict(group) for group in optimizer.param_groups]
    set_momentum(optimizer, 0.7)
    assert [dict(group) for group in optimizer.param_groups] == before
