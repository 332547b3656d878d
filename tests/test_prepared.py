"""Optimizers in the wrapper of a trainer, without any trainer: what is read from it, and that it never steps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small import labelled, network
from torch import nn

from lrfinder import LRFinder
from lrfinder.errors import ConfigError, SetupError

BATCHES = [labelled(seed) for seed in range(8)]
SWEEP = {"start_lr": 1e-3, "end_lr": 1.0, "num_iter": 10, "progress": False}


class Wrapper:
    """As a trainer's: its own step is not for us."""

    def __init__(self, optimizer: Any, batches: int = 1, scaler: Any = None) -> None:
        self.optimizer, self.scaler = optimizer, scaler
        self.gradient_state = SimpleNamespace(num_steps=batches, sync_gradients=True)

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    def step(self) -> None:
        raise AssertionError("the wrapper was stepped")

    zero_grad = step


def wrapped(**options: Any) -> tuple[nn.Module, Wrapper]:
    model = network()
    return model, Wrapper(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), **options)


def test_the_curve_is_that_of_the_optimizer_inside_with_as_many_batches() -> None:
    model, wrapper = wrapped(batches=4)
    curve = LRFinder(model, wrapper, nn.CrossEntropyLoss()).range_test(BATCHES, **SWEEP).curve
    model = network()
    inside = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    expected = LRFinder(model, inside, nn.CrossEntropyLoss(), accumulation_steps=4).range_test(BATCHES, **SWEEP).curve
    assert curve == expected
    assert curve.batches == 40


def test_the_scaler_of_the_wrapper_is_used_unless_another_is_given() -> None:
    scaler, other = torch.amp.GradScaler("cpu"), torch.amp.GradScaler("cpu")
    model, wrapper = wrapped(scaler=scaler)
    assert LRFinder(model, wrapper, nn.MSELoss()).setup.grad_scaler is scaler
    assert LRFinder(model, wrapper, nn.MSELoss(), amp_dtype=torch.float16).setup.grad_scaler is scaler
    assert LRFinder(model, wrapper, nn.MSELoss(), grad_scaler=other).setup.grad_scaler is other


def test_a_wrapper_in_a_wrapper_and_a_list_of_them_are_opened() -> None:
    model, wrapper = wrapped(batches=2)
    outer = Wrapper(wrapper, batches=2)
    assert LRFinder(model, outer, nn.MSELoss()).setup.optimizer is wrapper.optimizer
    assert LRFinder(model, [outer], nn.MSELoss()).setup.optimizer is wrapper.optimizer
    with pytest.raises(SetupError, match="the same object"):
        LRFinder(model, [outer, wrapper], nn.MSELoss())


def test_with_a_step_of_ones_own_the_wrapper_stays_as_it_is() -> None:
    model, wrapper = wrapped(batches=4)
    setup = LRFinder(model, wrapper, step_fn=lambda batch: 1.0).setup
    assert setup.optimizer is wrapper
    assert setup.accumulation_steps == 1


def test_another_number_of_batches_is_refused() -> None:
    model, wrapper = wrapped(batches=4)
    with pytest.raises(ConfigError, match="accumulation_steps is 2, but .* for 4 batches per update"):
        LRFinder(model, wrapper, nn.MSELoss(), accumulation_steps=2)


def test_between_the_batches_of_an_update_a_sweep_is_refused() -> None:
    model, wrapper = wrapped(batches=4)
    finder = LRFinder(model, wrapper, nn.CrossEntropyLoss())
    wrapper.gradient_state.sync_gradients = False
    with pytest.raises(SetupError, match="between two of the 4 batches of one update"):
        finder.range_test(BATCHES, **SWEEP)
    wrapper.gradient_state.sync_gradients = True
    assert len(finder.range_test(BATCHES, **SWEEP).curve) == 10
