"""Optimizers with a train and an eval mode, as schedule-free ones: each step and each validation in its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import labelled, network, training, weights
from torch import Tensor, nn

from lrfinder import LRFinder
from lrfinder.param_groups import mode_switches
from lrfinder.training.step import TrainStep
from lrfinder.training.validation import Validation


class ScheduleFree(torch.optim.Optimizer):
    """SGD that averages its weights, with the two modes of the package ``schedulefree``."""

    def __init__(self, params: Any, lr: float = 0.1, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "k": 0, "train_mode": False})

    @torch.no_grad()
    def _switch(self, to_train: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] == to_train:
                continue
            for p in group["params"]:
                if "z" in self.state[p]:
                    p.lerp_(self.state[p]["z"], 1 - group["beta"] if to_train else 1 - 1 / group["beta"])
            group["train_mode"] = to_train

    def train(self) -> None:
        self._switch(True)

    def eval(self) -> None:
        self._switch(False)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        if not self.param_groups[0]["train_mode"]:
            raise Exception("Optimizer was not in train mode when step is called.")
        for group in self.param_groups:
            group["k"] += 1
            part = 1 / group["k"]
            for p in group["params"]:
                z = self.state[p].setdefault("z", p.clone())
                p.lerp_(z, part)
                p.add_(p.grad, alpha=group["lr"] * (group["beta"] * (1 - part) - 1))
                z.sub_(p.grad, alpha=group["lr"])


class Averaging(torch.optim.SGD):
    """Keeps its mode in an attribute of its own, and refuses to switch twice."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self.training = False

    def train(self) -> None:
        self.training = True

    def eval(self) -> None:
        self.training = False

    def step(self, closure: Any = None) -> Any:
        assert self.training, "not in train mode"
        return super().step(closure)


optimizers = pytest.mark.parametrize("kind", [ScheduleFree, Averaging], ids=lambda kind: kind.__name__)
modes = pytest.mark.parametrize("in_training", [False, True], ids=["eval mode", "train mode"])


def trained(kind: Any, in_training: bool) -> tuple[nn.Module, Any]:
    """Model and optimizer after three steps, in the mode given."""
    model = network()
    optimizer = kind(model.parameters(), lr=0.05)
    optimizer.train()
    for i in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(labelled(i)[0]), labelled(i)[1]).backward()
        optimizer.step()
    if not in_training:
        optimizer.eval()
    return model, optimizer


def state(model: nn.Module, optimizer: Any) -> list[Any]:
    groups = [{**group, "params": None} for group in optimizer.param_groups]
    averages = [value.tolist() for each in optimizer.state.values() for value in each.values() if value is not None]
    return [weights(model).tolist(), averages, groups, getattr(optimizer, "training", None)]


@optimizers
@modes
@pytest.mark.parametrize("validated", [False, True], ids=["training loss", "validation loss"])
@pytest.mark.parametrize("given", [{}, {"start_lr": 1e-3, "end_lr": 10.0, "num_iter": 40}], ids=["searched", "given"])
def test_a_range_test_switches_modes_and_leaves_no_trace(
    kind: Any, in_training: bool, validated: bool, given: dict[str, Any]
) -> None:
    model, optimizer = trained(kind, in_training)
    before = state(model, optimizer)
    loader = [labelled(i) for i in range(8)]
    finder = LRFinder(model, optimizer, nn.CrossEntropyLoss())
    result = finder.range_test(loader, val_loader=loader[:2] if validated else None, **given)
    assert len(result.curve) > 20
    assert state(model, optimizer) == before


@optimizers
@modes
def test_trials_switch_modes_and_leave_no_trace(kind: Any, in_training: bool) -> None:
    model, optimizer = trained(kind, in_training)
    before = state(model, optimizer)
    loader = [labelled(i) for i in range(8)]
    finder = LRFinder(model, optimizer, nn.CrossEntropyLoss())
    result = finder.range_test(loader)
    assert result.advice.grade != "none"
    refined = finder.refine(result, loader, schedule="constant", total_steps=200)
    assert refined.trials is not None
    assert any(trial.loss is not None for trial in refined.trials.trials)
    assert state(model, optimizer) == before


@modes
def test_validation_measures_the_weights_of_eval_mode(in_training: bool) -> None:
    model, optimizer = trained(ScheduleFree, in_training)
    seen: list[bool] = []

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        seen.append(optimizer.param_groups[0]["train_mode"])
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    loss = Validation(training(model, optimizer, loss_fn), [labelled(9)]).loss()
    assert seen == [False]
    assert optimizer.param_groups[0]["train_mode"] == in_training
    optimizer.eval()
    expected = nn.functional.cross_entropy(model(labelled(9)[0]), labelled(9)[1])
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_is_that_of_a_loop_that_calls_train_first(accumulate: int) -> None:
    (model, optimizer), (ours, theirs) = trained(ScheduleFree, False), trained(ScheduleFree, False)
    step = TrainStep(training(ours, theirs, accumulation_steps=accumulate))
    batches = [labelled(i) for i in range(accumulate)]
    optimizer.train()
    optimizer.zero_grad()
    for inputs, target in batches:
        (nn.functional.cross_entropy(model(inputs), target) / accumulate).backward()
    optimizer.step()
    step.run(batches)
    assert torch.equal(weights(model), weights(ours))


def test_only_an_optimizer_with_both_methods_has_modes() -> None:
    model = network()
    assert mode_switches(torch.optim.SGD(model.parameters(), lr=0.1)) is None
    assert mode_switches(ScheduleFree(model.parameters())) is not None


class Merging(nn.Linear):
    """A frozen layer with a low-rank adapter, which is merged into the weight in eval mode, as by ``loralib``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(2, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, 2))
        self.merged = False

    def train(self, mode: bool = True) -> Merging:
        super().train(mode)
        if self.merged == mode:
            self.weight.data += (-1 if mode else 1) * (self.up @ self.down).detach()
            self.merged = not mode
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        merged = super().forward(inputs)
        return merged if self.merged else merged + inputs @ self.down.T @ self.up.T


def test_adapters_that_are_merged_for_a_validation_are_trained_after_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Merging(4, 8), nn.Tanh(), Merging(8, 3))
    model[2].eval()  # on purpose
    optimizer = torch.optim.SGD([model[0].down, model[0].up], lr=0.1)
    Validation(training(model, optimizer), [labelled(0)]).loss()
    assert [(each.merged, each.training) for each in (model[0], model[2])] == [(False, True), (True, False)]
    finder = LRFinder(model, optimizer, nn.CrossEntropyLoss())
    result = finder.range_test([labelled(0)], val_loader=[labelled(0)], start_lr=1e-2, end_lr=1.0, num_iter=20)
    assert result.curve.losses[-1] < 0.9 * result.curve.losses[0]
