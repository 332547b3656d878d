"""One iteration of training gives the same numbers as the loop a user would write."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small import labelled, network, train_step, training, weights
from torch import Tensor, nn

from lrfinder.training.state import preserved

# --- the same numbers as the loop a user writes -----------------------------------------------------------------------


def test_a_step_is_the_step_of_the_plain_loop() -> None:
    ours, plain = network(), network()
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.05) for model in (ours, plain)]
    step = train_step(ours, optimizers[0])
    for i in range(5):
        inputs, target = labelled(i)
        loss, updated = step.run([(inputs, target)])
        optimizers[1].zero_grad()
        expected = nn.functional.cross_entropy(plain(inputs), target)
        expected.backward()
        optimizers[1].step()
        assert updated
        assert torch.equal(loss, expected.detach())
        assert torch.equal(weights(ours), weights(plain))


def written_by_a_hook(loss: Tensor) -> Tensor:
    loss.register_hook(lambda gradient: gradient.mul_(0.5))
    return loss


def decaying(parameters: Any) -> torch.optim.Optimizer:
    """Optimizer that adds the decay to the gradient through ``.data``, which changes no version counter."""

    class Decaying(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.grad.data.add_(parameter.data, alpha=0.5)
            return super().step(closure)

    return Decaying(parameters, lr=0.1)


class Tempered(nn.Module):
    """Its loss ends in a parameter of one element, whose gradient is the one the backward pass starts with."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()
        self.temperature = nn.Parameter(torch.ones(1))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs)

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1]) * 0.5 + self.temperature.squeeze()


@pytest.mark.parametrize(
    ("build", "loss_fn", "optimizer"),
    [
        (network, lambda model, batch: written_by_a_hook(model(batch[0]).square().mean()), torch.optim.SGD),
        (
            network,
            lambda model, batch: model(batch[0]).square().mean().reshape([1] * int(batch[1][0])),
            torch.optim.SGD,
        ),
        (network, lambda model, batch: model(batch[0]).double().square().mean(), torch.optim.SGD),
        (Tempered, lambda model, batch: model.loss(batch), decaying),
        (Tempered, lambda model, batch: model.loss(batch), torch.optim.SGD),
    ],
    ids=["hook", "other shapes", "float64", "decay through data", "parameter of one element"],
)
def test_a_gradient_written_in_place_does_not_reach_the_next_step(
    build: Callable[[], nn.Module], loss_fn: Any, optimizer: Callable[[Any], Any]
) -> None:
    ours, plain = build(), build()
    ours_optimizer, plain_optimizer = optimizer(ours.parameters()), optimizer(plain.parameters())
    step = train_step(ours, ours_optimizer, loss_fn)
    for i in range(5):
        loss, _ = step.run([labelled(i)])
        plain_optimizer.zero_grad()
        expected = loss_fn(plain, labelled(i))
        expected.backward()
        plain_optimizer.step()
        assert torch.equal(loss.detach(), expected.detach())
        assert torch.equal(weights(ours), weights(plain))


def test_an_optimizer_that_skips_the_init_of_torch_is_stepped() -> None:
    class Around(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            self.param_groups, self.state, self.step = inner.param_groups, inner.state, inner.step

    model = network()
    before = weights(model)
    train_step(model, Around(torch.optim.SGD(model.parameters(), lr=0.1))).run([labelled(0)])
    assert not torch.equal(weights(model), before)


def test_the_optimizers_own_zero_grad_is_called() -> None:
    class Counting(torch.optim.SGD):
        cleared = 0

        def zero_grad(self, set_to_none: bool = True) -> None:
            self.cleared += 1
            super().zero_grad(set_to_none=set_to_none)

    model = network()
    optimizer = Counting(model.parameters(), lr=0.1)
    step = train_step(model, optimizer)
    for seed in range(3):
        step.run([labelled(seed)])
    assert optimizer.cleared == 3


def test_no_gradient_is_left_from_the_batch_before() -> None:
    # Zeros would do as well as none for plain SGD; with momentum or weight decay the update would go on.
    two = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])
    optimizer = torch.optim.SGD(two.parameters(), lr=0.1, weight_decay=0.5)
    step = train_step(two, optimizer, lambda model, batch: model[int(batch[0, 0])](batch).square().mean())
    for which in (0, 0, 1):
        before = weights(two[1 - which])
        step.run([torch.full((3, 2), float(which))])
        assert torch.equal(weights(two[1 - which]), before)
        assert two[1 - which].weight.grad is None


def test_accumulated_micro_batches_are_one_big_batch() -> None:
    small, big = network(dtype=torch.float64), network(dtype=torch.float64)
    steps = [train_step(model, torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)) for model in (small, big)]
    for i in range(3):
        inputs, target = labelled(i, 12, dtype=torch.float64)
        parts = list(zip(inputs.chunk(3), target.chunk(3), strict=True))
        small_loss, _ = steps[0].run(parts)
        big_loss, _ = steps[1].run([(inputs, target)])
        torch.testing.assert_close(small_loss, big_loss)
        torch.testing.assert_close(weights(small), weights(big))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_are_clipped_once_per_step_over_all_micro_batches(accumulate: int) -> None:
    ours, plain = network(), network()
    optimizers = [torch.optim.SGD(model.parameters(), lr=10.0) for model in (ours, plain)]
    step = train_step(ours, optimizers[0], clip_grad_norm=0.05)
    batches = [labelled(i) for i in range(accumulate)]
    step.run(batches)
    optimizers[1].zero_grad()
    for inputs, target in batches:
        (nn.functional.cross_entropy(plain(inputs), target) / accumulate).backward()
    assert nn.utils.clip_grad_norm_(plain.parameters(), 0.05) > 0.05
    optimizers[1].step()
    assert torch.equal(weights(ours), weights(plain))
    assert torch.linalg.vector_norm(weights(ours) - weights(network())).item() == pytest.approx(0.5, rel=1e-4)


def test_gradients_below_the_limit_are_left_alone() -> None:
    clipped, free = network(), network()
    for model, limit in ((clipped, 100.0), (free, None)):
        train_step(model, torch.optim.SGD(model.parameters(), lr=1.0), clip_grad_norm=limit).run([labelled(0)])
    assert torch.equal(weights(clipped), weights(free))


@pytest.mark.parametrize("clip", [None, 0.1])
def test_an_optimizer_that_needs_a_closure_gets_one(clip: float | None) -> None:
    ours, plain = network(), network()
    optimizers = [torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4) for model in (ours, plain)]
    step = train_step(ours, optimizers[0], clip_grad_norm=clip)
    for i in range(3):
        inputs, target = labelled(i)
        loss, updated = step.run([(inputs, target)])

        def closure() -> Tensor:
            optimizers[1].zero_grad()
            value = nn.functional.cross_entropy(plain(inputs), target)
            value.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(plain.parameters(), clip)
            return value

        expected = optimizers[1].step(closure)
        assert updated
        assert torch.equal(loss, expected.detach())
        assert torch.equal(weights(ours), weights(plain))


def test_a_closure_is_recognised_behind_an_attached_scheduler() -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 10)
    before = weights(model)
    train_step(model, optimizer).run([labelled(0)])
    assert not torch.equal(weights(model), before)


def test_the_loss_alone_changes_no_weight_and_equals_that_of_a_step() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = train_step(model, optimizer)
    before, batches = weights(model), [labelled(0), labelled(1)]
    loss = step.loss(batches)
    assert not loss.requires_grad
    assert torch.equal(weights(model), before)
    torch.testing.assert_close(loss, step.run(batches)[0])


def overwriting(parameters: Any) -> torch.optim.Optimizer:
    """Optimizer that overwrites gradients through ``.data``, which changes no version counter."""

    class Overwriting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.grad.data.mul_(1 - 1e-3)
            return super().step(closure)

    return Overwriting(parameters, lr=0.1)


def backward_passes(model: nn.Module) -> list[int]:
    """A list that grows by one entry with every backward pass through the model."""
    passes: list[int] = []
    next(model.parameters()).register_hook(lambda gradient: passes.append(1))
    return passes


@pytest.mark.parametrize(
    ("make", "backwards"),
    [
        (lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True, foreach=True), 4),
        (overwriting, 4),
        (lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True, foreach=False), 1),
        (lambda parameters: torch.optim.Rprop(parameters, lr=0.1), 1),
        (lambda parameters: torch.optim.AdamW(parameters, lr=0.1, foreach=True), 1),
    ],
    ids=["SGD nesterov foreach", "through data", "SGD nesterov", "Rprop", "AdamW foreach"],
)
def test_updates_use_equal_gradients_computed_again_only_when_changed(
    make: Callable[[Any], Any], backwards: int
) -> None:
    # torch's foreach Nesterov SGD, the default on a GPU, adds the momentum into .grad itself.
    model = network()
    passes = backward_passes(model)
    optimizer = make(model.parameters())
    step = train_step(model, optimizer)
    found = []
    with preserved(training(model, optimizer)) as state:
        step.plain_backward([labelled(0)])
        for _ in range(4):
            state.rewind()
            step.update([labelled(0)])
            found.append(weights(model))
    assert all(torch.equal(each, found[0]) for each in found)
    assert len(passes) == backwards


def test_gradients_whose_norm_hides_a_change_are_computed_again() -> None:
    model = network(dtype=torch.float16)
    step = train_step(model, overwriting(model.parameters()), lambda model, batch: model(batch).sum() * 60000)
    batches = [torch.ones(8, 4, dtype=torch.float16)]
    passes = backward_passes(model)
    step.plain_backward(batches)
    step.update(batches)
    assert len(passes) == 2


def test_gradients_overwritten_by_a_forward_pass_are_computed_again() -> None:
    """Model whose passes share their memory, like one compiled with CUDA graphs."""

    class Sharing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, inputs: Tensor) -> Tensor:
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(7.0)
            return self.inner(inputs)

    found = []
    for model in (Sharing(), network()):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        step = train_step(model, optimizer)
        with preserved(training(model, optimizer)) as state:
            step.plain_backward([labelled(0)])
            for _ in range(2):
                state.rewind()
                step.update([labelled(0)])
                step.loss([labelled(0)])
                found.append(weights(model))
    assert all(torch.equal(each, found[0]) for each in found)


def test_what_hooks_of_the_backward_pass_left_is_made_again() -> None:
    """An optimizer that reads the gradients of single samples from its parameters, as for differential privacy."""

    class OfSamples(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for parameter in self.param_groups[0]["params"]:
                parameter.grad = parameter.of_samples.mean(0, keepdim=True)
            return super().step(closure)

    model = nn.Linear(4, 1, bias=False)
    inputs = torch.arange(12.0).reshape(3, 4).requires_grad_()

    def keep(module: nn.Module, given: Any, outcome: Any) -> None:
        module.weight.of_samples = outcome[0] * inputs.detach()  # type: ignore[union-attr]

    model.register_full_backward_hook(keep)
    optimizer = OfSamples(model.parameters(), lr=0.1)
    step = train_step(model, optimizer, lambda model, batch: model(batch).mean())
    with preserved(training(model, optimizer)) as state:
        step.plain_backward([inputs])
        state.rewind()
        step.update([inputs])
        first = weights(model)
        state.rewind()
        step.run([inputs])
        assert torch.equal(weights(model), first)


def test_unchanged_sparse_gradients_are_not_computed_again() -> None:
    torch.manual_seed(0)
    model = nn.Embedding(10, 3, sparse=True)
    step = train_step(model, torch.optim.SparseAdam(model.parameters()), lambda model, ids: model(ids).square().mean())
    passes = backward_passes(model)
    step.plain_backward([torch.tensor([1, 2, 2])])
    step.update([torch.tensor([1, 2, 2])])
    assert len(passes) == 1


# --- mixed precision --------------------------------------------------------------------------------------------------


def test_under_bfloat16_forward_and_loss_run_as_in_a_loop_with_autocast() -> None:
    ours, plain = network(), network()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.5) for model in (ours, plain)]
    seen = []
    ours.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    step = train_step(ours, optimizers[0], amp_dtype=torch.bfloat16)
    for i in range(3):
        inputs, target = labelled(i)
        loss, _ = step.run([(inputs, target)])
        optimizers[1].zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            expected = nn.functional.cross_entropy(plain(inputs), target)
        expected.backward()
        optimizers[1].step()
        assert torch.equal(loss, expected.detach())
        assert torch.equal(weights(ours), weights(plain))
    assert seen == [torch.bfloat16] * 3
    assert all(parameter.dtype == torch.float32 for parameter in ours.parameters())


@pytest.mark.parametrize("init_scale", [2.0**10, 2.0**40], ids=["fits", "overflows at first"])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_under_float16_the_scaler_works_as_in_the_usual_loop(
    init_scale: float, clip: float | None
) -> None:
    ours, plain = network(), network()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9) for model in (ours, plain)]
    scalers = [torch.amp.GradScaler("cpu", init_scale=init_scale) for _ in range(2)]
    step = train_step(ours, optimizers[0], amp_dtype=torch.float16, grad_scaler=scalers[0], clip_grad_norm=clip)
    made = []
    for i in range(40):
        inputs, target = labelled(i)
        before = weights(ours)
        loss, updated = step.run([(inputs, target)])
        optimizers[1].zero_grad()
        with torch.autocast("cpu", torch.float16):
            expected = nn.functional.cross_entropy(plain(inputs), target)
        scalers[1].scale(expected).backward()
        if clip is not None:
            scalers[1].unscale_(optimizers[1])
            nn.utils.clip_grad_norm_(plain.parameters(), clip)
        scalers[1].step(optimizers[1])
        scalers[1].update()
        assert torch.equal(loss, expected.detach())
        assert torch.equal(weights(ours), weights(plain))
        assert scalers[0].state_dict() == scalers[1].state_dict()
        assert updated == (not torch.equal(weights(ours), before))
        made.append(updated)
    assert made[-1]
    assert all(made) == (init_scale == 2.0**10)


def test_the_reported_loss_is_not_scaled() -> None:
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    step = train_step(model, torch.optim.SGD(model.parameters(), lr=0.0), grad_scaler=scaler)
    inputs, target = labelled(0)
    assert torch.equal(step.run([(inputs, target)])[0], nn.functional.cross_entropy(network()(inputs), target).detach())


@pytest.mark.parametrize("clip", [None, 0.05])
def test_gradients_can_be_made_plain_once_the_scale_fits(clip: float | None) -> None:
    scaled, plain = network(), network()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    steps = [
        train_step(
            scaled,
            torch.optim.SGD(scaled.parameters(), lr=1.0),
            amp_dtype=torch.float16,
            grad_scaler=scaler,
            clip_grad_norm=clip,
        ),
        train_step(plain, torch.optim.SGD(plain.parameters(), lr=1.0), clip_grad_norm=clip),
    ]
    for step in steps:
        step.plain_backward([labelled(0)])
    assert scaler.get_scale() < 2.0**30
    for ours, other in zip(scaled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, other.grad, rtol=2e-2, atol=1e-3)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_step_without_references_is_freed_at_once() -> None:
    """Not when garbage is collected next: it holds the model, and perhaps a graph with all its activations."""
    model = network()
    step = train_step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    step.run([labelled(0)])
    alive = weakref.ref(step)
    gc.disable()
    try:
        del step
        assert alive() is None
    finally:
        gc.enable()
