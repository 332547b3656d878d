"""One iteration of training: any batch and loss, and the same numbers as the loop a user would write."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder.batches import Batches
from lrfinder.errors import BatchError, ConfigError, SetupError
from lrfinder.losses import criterion_loss
from lrfinder.setup import TrainingSetup, resolve_device
from lrfinder.state import preserved
from lrfinder.step import TrainStep
from lrfinder.validation import Validation
from worlds import Encoding, Pair, Record

CPU = torch.device("cpu")
CLASSES = 3


def network(seed: int = 0, *, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, CLASSES)).to(dtype)


def labelled(seed: int, count: int = 8, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=generator, dtype=dtype)
    return inputs, torch.randint(CLASSES, (count,), generator=generator)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def training(model: nn.Module, optimizer: Any, loss_fn: Any = None, **options: Any) -> TrainingSetup:
    return TrainingSetup.of(model, optimizer, loss_fn=loss_fn or criterion_loss(nn.CrossEntropyLoss()), **options)


def train_step(model: nn.Module, optimizer: Any, loss_fn: Any = None, **options: Any) -> TrainStep:
    return TrainStep(training(model, optimizer, loss_fn, **options))


def one_step(loss_fn: Any, batch: Any, *, model: nn.Module | None = None) -> Tensor:
    """Loss of one iteration with that loss function and batch."""
    model = model or network()
    loss, _ = train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), loss_fn).run([batch])
    return loss


# --- any batch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "loss_fn"),
    [
        (torch.ones(2, 4), lambda model, batch: model(batch).square().mean()),
        ({"x": torch.ones(2, 4)}, lambda model, batch: model(batch["x"]).square().mean()),
        (Pair(torch.ones(2, 4), torch.ones(2, 3)), lambda model, b: (model(b.inputs) - b.target).abs().mean()),
        (Record(torch.ones(2, 4)), lambda model, batch: model(batch.inputs).square().mean()),
        (Encoding(x=torch.ones(2, 4)), lambda model, batch: model(batch["x"]).square().mean()),
    ],
    ids=["tensor", "dict", "namedtuple", "dataclass", "encoding"],
)
def test_a_loss_function_gets_the_batch_as_the_loader_made_it(batch: Any, loss_fn: Any) -> None:
    assert one_step(loss_fn, Batches([batch], CPU).draw(1)[0]).item() > 0


@pytest.mark.parametrize("kind", [tuple, list, lambda pair: Pair(*pair)], ids=["tuple", "list", "namedtuple"])
def test_a_criterion_takes_inputs_and_target_in_any_pair(kind: Callable[[Any], Any]) -> None:
    inputs, target = labelled(0)
    expected = nn.functional.cross_entropy(network()(inputs), target)
    assert one_step(None, kind((inputs, target))) == expected


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
    """As optimizers of old do: the decay is added to the gradient, through ``.data``, so that no version tells."""

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


def test_a_closure_and_a_grad_scaler_are_refused_together() -> None:
    model = network()
    scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(SetupError, match="Leave grad_scaler out, or use amp_dtype=torch.bfloat16"):
        train_step(model, torch.optim.LBFGS(model.parameters()), grad_scaler=scaler)
    train_step(model, torch.optim.LBFGS(model.parameters()))
    train_step(model, torch.optim.SGD(model.parameters()), grad_scaler=scaler)


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
    """As optimizers of old do: through ``.data``, so that no version of a tensor tells."""

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
    """As a model does that was compiled with CUDA graphs: its passes share their memory."""

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


@pytest.mark.parametrize("amp_dtype", [torch.float32, torch.float64, "bfloat16", True])
def test_a_type_that_autocast_cannot_use_is_refused_with_those_it_can(amp_dtype: Any) -> None:
    model = network()
    with pytest.raises(ConfigError, match="amp_dtype must be torch.bfloat16, torch.float16 or None; got"):
        train_step(model, torch.optim.SGD(model.parameters()), amp_dtype=amp_dtype)


@pytest.mark.parametrize("amp_dtype", [None, torch.float16, torch.bfloat16])
def test_the_two_types_and_none_are_accepted(amp_dtype: Any) -> None:
    model = network()
    train_step(model, torch.optim.SGD(model.parameters()), amp_dtype=amp_dtype)


# --- validation -------------------------------------------------------------------------------------------------------


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


# --- what cannot be trained with --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "what"),
    [
        ({"input_ids": torch.ones(2, 4), "labels": torch.ones(2)}, "a dict with keys 'input_ids', 'labels'"),
        (torch.ones(2, 4), r"a float32 tensor of shape \(2, 4\)"),
        ((torch.ones(2, 4),), "a tuple of 1: Tensor"),
        ([torch.ones(2, 4), torch.ones(2), 3], "a list of 3: Tensor, Tensor, int"),
        (Record(torch.ones(2, 4)), "a Record"),
    ],
    ids=["dict", "tensor", "one", "three", "object"],
)
def test_a_criterion_refuses_a_batch_that_is_no_pair(batch: Any, what: str) -> None:
    with pytest.raises(BatchError, match=rf"needs batches of \(inputs, target\); got {what}. Pass loss_fn instead"):
        one_step(None, batch)
    one_step(None, labelled(0))


@pytest.mark.parametrize(
    ("label", "message"),
    [(CLASSES, "labels run from 0 to 3, but the model has 3"), (-1, "labels run from -1 to 2, but the model has 3")],
)
@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), nn.NLLLoss()], ids=["cross entropy", "nll"])
def test_labels_outside_the_models_classes_are_refused(
    label: int, message: str, criterion: nn.Module
) -> None:
    inputs, _ = labelled(0, 3)
    with pytest.raises(BatchError, match=rf"{message} classes \(labels 0 to 2\). Give the model enough outputs, or"):
        one_step(criterion_loss(criterion), (inputs, torch.tensor([0, label, 2])))
    one_step(criterion_loss(criterion), (inputs, torch.tensor([0, 0, CLASSES - 1])))


def test_labels_to_be_ignored_may_be_any_number() -> None:
    inputs, _ = labelled(0, 3)
    one_step(None, (inputs, torch.tensor([0, -100, 2])))
    one_step(criterion_loss(nn.CrossEntropyLoss(ignore_index=255)), (inputs, torch.tensor([0, 255, 2])))
    with pytest.raises(BatchError, match="labels run from 0 to 255"):
        one_step(None, (inputs, torch.tensor([0, 255, 2])))


def test_class_probabilities_and_labels_of_every_pixel_are_targets_too() -> None:
    inputs, _ = labelled(0, 3)
    one_step(None, (inputs, torch.full((3, CLASSES), 1 / 3)))
    images = nn.Conv2d(1, CLASSES, 1)
    one_step(None, (torch.ones(2, 1, 4, 4), torch.full((2, 4, 4), CLASSES - 1)), model=images)
    with pytest.raises(BatchError, match="labels run from 3 to 3, but the model has 3 classes"):
        one_step(None, (torch.ones(2, 1, 4, 4), torch.full((2, 4, 4), CLASSES)), model=nn.Conv2d(1, CLASSES, 1))


@pytest.mark.parametrize(
    ("criterion", "wrong", "right"),
    [
        (nn.CrossEntropyLoss(), torch.zeros(8, dtype=torch.int32), torch.zeros(8, dtype=torch.int64)),
        (nn.CrossEntropyLoss(), torch.zeros(8), torch.zeros(8, dtype=torch.int64)),
        (nn.CrossEntropyLoss(), torch.zeros(7, dtype=torch.int64), torch.zeros(8, dtype=torch.int64)),
        (nn.BCEWithLogitsLoss(), torch.zeros(8, CLASSES, dtype=torch.int64), torch.zeros(8, CLASSES)),
        (nn.MSELoss(), None, torch.zeros(8, CLASSES)),
        (nn.MSELoss(), {"y": torch.zeros(8, CLASSES)}, torch.zeros(8, CLASSES)),
    ],
    ids=["int32", "float labels", "too few", "int probabilities", "none", "dict"],
)
def test_a_target_the_criterion_cannot_take_is_described_beside_the_output(
    criterion: nn.Module, wrong: Any, right: Tensor
) -> None:
    inputs, _ = labelled(0)
    with pytest.raises(BatchError, match=rf"{type(criterion).__name__} cannot take the model's output, a float32 "):
        one_step(criterion_loss(criterion), (inputs, wrong))
    with pytest.raises(BatchError, match="Pass loss_fn instead of criterion, for example LRFinder"):
        one_step(criterion_loss(criterion), (inputs, wrong))
    one_step(criterion_loss(criterion), (inputs, right))


def test_an_output_the_criterion_cannot_take_is_described() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, inputs: Tensor) -> dict[str, Tensor]:
            return {"logits": self.inner(inputs)}

    with pytest.raises(BatchError, match="output, a dict with keys 'logits', with the target, an int64 tensor"):
        one_step(None, labelled(0), model=Wrapped())
    one_step(lambda model, b: nn.functional.cross_entropy(model(b[0])["logits"], b[1]), labelled(0), model=Wrapped())


def test_an_error_of_the_model_itself_is_raised_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        one_step(None, (torch.ones(8, 5), torch.zeros(8, dtype=torch.int64)))
    assert not isinstance(caught.value, BatchError)


def test_a_loss_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(BatchError, match=r"got a float. Return the tensor itself, not loss.item\(\)"):
        one_step(lambda model, batch: model(batch[0]).mean().item(), labelled(0))
    with pytest.raises(BatchError, match="got a NoneType"):
        one_step(lambda model, batch: None, labelled(0))
    one_step(lambda model, batch: model(batch[0]).mean(), labelled(0))


def test_a_loss_of_many_numbers_is_refused_and_their_mean_accepted() -> None:
    with pytest.raises(BatchError, match=r"got shape \(8, 3\). Average it, e.g. with .mean\(\), before returning"):
        one_step(lambda model, batch: model(batch[0]), labelled(0))
    with pytest.raises(BatchError, match=r"got shape \(8,\). .*\(a criterion needs reduction='mean'"):
        one_step(criterion_loss(nn.CrossEntropyLoss(reduction="none")), labelled(0))
    one_step(criterion_loss(nn.CrossEntropyLoss(reduction="mean")), labelled(0))
    one_step(lambda model, batch: model(batch[0]).mean(), labelled(0))


def test_a_loss_without_a_gradient_is_refused() -> None:
    def without_grad(model: nn.Module, batch: Any) -> Tensor:
        with torch.no_grad():
            return model(batch[0]).mean()

    for loss_fn in (lambda model, batch: model(batch[0]).mean().detach(), without_grad):
        with pytest.raises(BatchError, match="the loss needs no gradient, so nothing can be trained with it"):
            one_step(loss_fn, labelled(0))


def test_a_loss_of_another_model_is_refused() -> None:
    other = network(1)
    with pytest.raises(BatchError, match=r"compute it from model\(...\) itself"):
        one_step(lambda model, batch: other(batch[0]).mean(), labelled(0))
    one_step(lambda model, batch: (model(batch[0]) + other(batch[0])).mean(), labelled(0))


# --- devices ----------------------------------------------------------------------------------------------------------


def test_a_device_object_is_as_good_as_its_name() -> None:
    assert resolve_device("cpu") == resolve_device(CPU) == CPU


def test_a_name_that_is_no_device_is_refused_with_those_that_are() -> None:
    with pytest.raises(SetupError, match="'gpu' is not a device. Use 'cpu', 'cuda', 'cuda:0' or 'mps'"):
        resolve_device("gpu")


def test_a_device_that_is_not_available_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SetupError, match="device cuda is not available here. Use 'cpu', or install a torch build"):
        resolve_device("cuda")


def test_a_device_number_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SetupError, match=r"device cuda:2 is not there: this machine has 2 CUDA device\(s\)"):
        resolve_device("cuda:2")
    assert resolve_device("cuda:1") == torch.device("cuda:1")


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
