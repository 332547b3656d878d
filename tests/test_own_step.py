"""Trainings that make their own updates: the curve of the same training, nothing left behind, clear refusals."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from own_steps import SWEEP, FakeScaler, net, shuffled, state_of, step_of
from torch import Tensor, nn
from worlds import points

from lrfinder import LRFinder, RangeTestResult, StopReason
from lrfinder.errors import BatchError, ConfigError, LRFinderError, SetupError
from lrfinder.training.own_step import OwnStep
from lrfinder.training.setup import TrainingSetup

OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3),
    "AdamW": lambda model: torch.optim.AdamW(model.parameters(), lr=0.1),
    "groups": lambda model: torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[4].parameters()}], lr=0.1, momentum=0.9
    ),
    "frozen group first": lambda model: torch.optim.Adam(
        [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[4].parameters()}], lr=0.1
    ),
    "LR in a tensor": lambda model: torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1)),
}
RANGES = {"given range": SWEEP, "chosen range": {}}


def finder_of(
    model: nn.Module, optimizer: Any, *, own: bool, pair: bool = False, accumulation_steps: int = 1, **options: Any
) -> LRFinder:
    """The same training by our step or by one of the user's own."""
    clip, dtype, scaler = options.get("clip"), options.get("dtype"), options.get("scaler")
    if not own:
        return LRFinder(
            model,
            optimizer,
            nn.CrossEntropyLoss(),
            accumulation_steps=accumulation_steps,
            clip_grad_norm=clip,
            amp_dtype=dtype,
            grad_scaler=scaler,
        )
    step = step_of(model, [optimizer], autocast=dtype, scaler=scaler, clip=clip, pair=pair)
    return LRFinder(model, optimizer, step_fn=step, accumulation_steps=accumulation_steps, grad_scaler=scaler)


def twins(build: Callable[[nn.Module], Any], sweep: dict[str, Any], **options: Any) -> tuple[Any, Any]:
    """Results of both."""
    results = []
    for own in (False, True):
        model = net()
        given = {key: copy.deepcopy(value) for key, value in options.items()}
        results.append(finder_of(model, build(model), own=own, **given).range_test(shuffled(), **sweep))
    return results[0], results[1]


def same(plain: RangeTestResult, own: RangeTestResult) -> None:
    assert own.curve.lrs == plain.curve.lrs
    assert own.curve.losses == plain.curve.losses
    assert (own.curve.stop, own.curve.skipped) == (plain.curve.stop, plain.curve.skipped)
    assert own.advice == plain.advice


# --- the same training ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [False, True], ids=["one function", "a pair"])
@pytest.mark.parametrize("sweep", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_same_step_gives_the_same_curve_and_advice(build: Any, sweep: dict[str, Any], pair: bool) -> None:
    plain, own = twins(build, sweep, pair=pair)
    same(plain, own)
    assert own.curve.facts is not None and own.curve.facts.form == ("two-part step" if pair else "step")


UPDATES: dict[str, dict[str, Any]] = {
    "two batches": {"accumulation_steps": 2},
    "bfloat16": {"dtype": torch.bfloat16},
    "scaler switched off": {"scaler": torch.amp.GradScaler("cpu", enabled=False)},
    "scaler that skips three": {"scaler": FakeScaler(3)},
}


@pytest.mark.parametrize("sweep", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("options", UPDATES.values(), ids=UPDATES)
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_the_same_updates_give_the_same_curve(name: str, options: dict[str, Any], sweep: dict[str, Any]) -> None:
    same(*twins(OPTIMIZERS[name], sweep, **options))
    if sweep or not isinstance(options.get("scaler"), FakeScaler):  # its first gradients move the search by a rounding
        same(*twins(OPTIMIZERS[name], sweep, pair=True, **options))


@pytest.mark.parametrize("sweep", RANGES.values(), ids=RANGES)
def test_the_same_clipping_gives_the_same_losses(sweep: dict[str, Any]) -> None:
    # How many gradients were clipped is not known of a step of one's own.
    plain, own = twins(OPTIMIZERS["AdamW"], sweep, clip=0.5)
    assert own.curve.losses == plain.curve.losses
    assert plain.curve.clipped_part is not None and own.curve.clipped_part is None


def test_updates_that_a_named_scaler_skips_are_counted() -> None:
    _, own = twins(OPTIMIZERS["SGD"], SWEEP, scaler=FakeScaler(3))
    assert own.curve.skipped == 3


def test_a_validation_loss_is_measured_by_loss_fn() -> None:
    results = []
    for own in (False, True):
        model = net()
        optimizer = OPTIMIZERS["SGD"](model)
        step_fn = step_of(model, [optimizer]) if own else None
        finder = LRFinder(model, optimizer, nn.CrossEntropyLoss(), step_fn=step_fn)
        results.append(finder.range_test(shuffled(), val_loader=shuffled(), val_batches=2, **SWEEP))
    same(*results)
    assert results[1].curve.measured == "after"
    assert results[1].curve.train_losses == results[0].curve.train_losses != ()


@pytest.mark.parametrize("val", [True, False], ids=["val_loader", "held out"])
def test_refine_tries_the_same_trials(val: bool) -> None:
    results = []
    for own in (False, True):
        model = net()
        optimizer = OPTIMIZERS["AdamW"](model)
        step_fn = step_of(model, [optimizer]) if own else None
        finder, loader = LRFinder(model, optimizer, nn.CrossEntropyLoss(), step_fn=step_fn), shuffled()
        before = state_of(model, optimizer, loader)
        result = finder.range_test(loader, start_lr=1e-4, end_lr=10.0, num_iter=60)
        result = finder.refine(result, loader, shuffled() if val else None, schedule="cosine", total_steps=200)
        assert state_of(model, optimizer, loader) == before
        results.append(result)
    assert results[0].trials == results[1].trials is not None
    assert results[0].advice == results[1].advice


# --- what it returns --------------------------------------------------------------------------------------------------


def curve_by(returned: Callable[[Tensor], Any], **options: Any) -> Any:
    model = net()
    optimizer = OPTIMIZERS["SGD"](model)
    step = step_of(model, [optimizer], returned=returned)
    return LRFinder(model, optimizer, step_fn=step, **options).range_test(shuffled(), **SWEEP).curve


ACCEPTED: dict[str, Callable[[Tensor], Any]] = {
    "a number": lambda loss: loss.item(),
    "a NumPy number": lambda loss: np.float32(loss.item()),
    "shape (1,)": lambda loss: loss.reshape(1),
    "a loss that needs a gradient": lambda loss: loss.clone().requires_grad_() * 1,
    "that it updated": lambda loss: (loss, True),
    "the same as a NumPy flag": lambda loss: (loss.item(), np.True_),
    "the same as a tensor": lambda loss: (loss, torch.tensor(True)),
}


@pytest.mark.parametrize("returned", ACCEPTED.values(), ids=ACCEPTED)
def test_each_form_of_the_loss_is_the_same_loss(returned: Callable[[Tensor], Any]) -> None:
    assert curve_by(returned).losses == curve_by(lambda loss: loss).losses


def test_a_number_is_a_loss_on_the_device_of_the_training() -> None:
    model = net()
    optimizer = OPTIMIZERS["SGD"](model)
    step = OwnStep(TrainingSetup(model, optimizer, step_fn=lambda batch: (0.5, True)))
    with torch.device("meta"):  # as a default
        assert step.run([None])[0].item() == 0.5


def test_a_number_keeps_all_its_digits() -> None:
    first = 2.345678901234567
    assert curve_by(lambda loss: first).losses[0] == first


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "nothing": (lambda loss: None, "got NoneType"),
    "a vector": (lambda loss: loss.repeat(2), "got shape (2,)"),
    "a text": (lambda loss: "0.5", "got str"),
    "a flag": (lambda loss: True, "got bool"),
    "a complex number": (lambda loss: loss + 1j, "complex"),
    "a dictionary": (lambda loss: {"loss": loss}, "got dict"),
    "two losses": (lambda loss: (loss, loss), "a tuple of Tensor, Tensor"),
    "two numbers": (lambda loss: (0.5, 1), "a tuple of float, int"),
    "three values": (lambda loss: (loss, True, None), "a tuple of Tensor, bool, NoneType"),
    "an empty tuple": (lambda loss: (), "a tuple of nothing"),
    "no loss beside the flag": (lambda loss: (None, True), "got NoneType"),
}


@pytest.mark.parametrize(("returned", "got"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("sweep", RANGES.values(), ids=RANGES)
def test_anything_else_is_refused_and_leaves_no_trace(returned: Any, got: str, sweep: dict[str, Any]) -> None:
    model, loader = net(), shuffled()
    optimizer = OPTIMIZERS["SGD"](model)
    before = state_of(model, optimizer, loader)
    with pytest.raises(BatchError) as refusal:
        step = step_of(model, [optimizer], returned=returned)
        LRFinder(model, optimizer, step_fn=step).range_test(loader, **sweep)
    assert got in str(refusal.value) and "step_fn must return the loss before its update" in str(refusal.value)
    assert state_of(model, optimizer, loader) == before


def test_a_step_without_an_update_is_repeated_with_its_learning_rate() -> None:
    model = net()
    optimizer = OPTIMIZERS["SGD"](model)
    inner, calls, seen = step_of(model, [optimizer]), iter(range(1000)), []

    def step(batch: Any) -> Any:
        seen.append(optimizer.param_groups[0]["lr"])
        loss = inner(batch)
        return loss, next(calls) % 3 > 0

    result = LRFinder(model, optimizer, step_fn=step).range_test(shuffled(), early_stop=False, **SWEEP)
    assert result.curve.skipped > 0
    assert tuple(dict.fromkeys(seen)) == result.curve.lrs
    assert len(seen) == len(result.curve) + result.curve.skipped


@pytest.mark.parametrize("sweep", RANGES.values(), ids=RANGES)
def test_a_step_that_never_updates_is_refused(sweep: dict[str, Any]) -> None:
    with pytest.raises(BatchError, match=r"no update in its first 20 calls.*accumulation_steps"):
        model = net()
        optimizer = OPTIMIZERS["SGD"](model)
        step = step_of(model, [optimizer], returned=lambda loss: (loss, False))
        LRFinder(model, optimizer, step_fn=step).range_test(shuffled(), **sweep)


def test_a_step_that_updates_every_nineteenth_time_is_swept() -> None:
    model = net()
    optimizer, calls = OPTIMIZERS["SGD"](model), iter(range(1000))
    step = step_of(model, [optimizer], returned=lambda loss: (loss, next(calls) % 19 == 18))
    sweep = {"start_lr": 1e-3, "end_lr": 1e-2, "num_iter": 5}
    curve = LRFinder(model, optimizer, step_fn=step).range_test(shuffled(), **sweep).curve
    assert (len(curve), curve.skipped) == (5, 5 * 18)


@pytest.mark.parametrize("every", (2, 4))
@pytest.mark.parametrize("at", (0, 1), ids=("first", "last"))
@pytest.mark.parametrize("sweep", RANGES.values(), ids=RANGES)
def test_a_step_that_counts_and_updates_in_some_calls_is_refused(every: int, at: int, sweep: dict[str, Any]) -> None:
    model = net()
    optimizer, calls = OPTIMIZERS["AdamW"](model), iter(range(1000))

    def step(batch: Any) -> Any:
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1]) / every
        loss.backward()
        if next(calls) % every == at * (every - 1):
            optimizer.step()
            optimizer.zero_grad()
        return loss

    with pytest.raises(BatchError, match=r"left the weights as they were in 4 of.*set accumulation_steps"):
        LRFinder(model, optimizer, step_fn=step).range_test(shuffled(), **sweep)


@pytest.mark.parametrize("skipped", (lambda call: call % 3 == 0, lambda call: call < 10), ids=("third", "scaler"))
def test_a_step_that_skips_some_batches_is_swept(skipped: Callable[[int], bool]) -> None:
    model = net()
    optimizer, calls = OPTIMIZERS["SGD"](model), iter(range(1000))
    update = step_of(model, [optimizer])
    skipping = LRFinder(model, optimizer, step_fn=lambda batch: 0.0 if skipped(next(calls)) else update(batch))
    assert len(skipping.range_test(shuffled(), early_stop=False, **SWEEP).curve) == SWEEP["num_iter"]


# --- learning rates ---------------------------------------------------------------------------------------------------


def scheduled(kind: str, at_call: int = 0) -> tuple[LRFinder, list[Any]]:
    model = net()
    optimizer = OPTIMIZERS["groups"](model)
    schedulers = {
        "exponential": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99),
        "cosine over 100,000 steps": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100_000),
        "constant": torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
    }
    inner, calls = step_of(model, [optimizer]), []

    def step(batch: Any) -> Any:
        loss = inner(batch)
        calls.append(1)
        if len(calls) > at_call:
            schedulers[kind].step()
        return loss

    return LRFinder(model, optimizer, step_fn=step), [model, optimizer, schedulers["constant"]]


@pytest.mark.parametrize("sweep", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("at_call", [0, 7])
@pytest.mark.parametrize("kind", ["exponential", "cosine over 100,000 steps"])
def test_a_step_that_changes_its_learning_rate_is_refused(kind: str, at_call: int, sweep: dict[str, Any]) -> None:
    finder, parts = scheduled(kind, at_call)
    before = state_of(*parts)
    with pytest.raises(SetupError, match=r"step_fn changed the learning rate of parameter group \d from .*scheduler"):
        finder.range_test(shuffled(), **sweep)
    assert state_of(*parts) == before


def test_a_scheduler_that_changes_nothing_is_put_back() -> None:
    finder, parts = scheduled("constant")
    before = state_of(*parts)
    assert len(finder.range_test(shuffled(), **SWEEP).curve) > 10
    assert state_of(*parts) == before


def test_the_loss_of_a_batch_is_measured_without_training_on_it() -> None:
    model = net()
    optimizer = OPTIMIZERS["LR in a tensor"](model)
    held = optimizer.param_groups[0]["lr"]
    step = OwnStep(TrainingSetup(model, optimizer, step_fn=step_of(model, [optimizer])))
    before = [parameter.clone() for parameter in model.parameters()]
    batch = next(iter(shuffled()))
    step.loss([batch])
    # A weight of 0 is moved by less than 1e-29, which no sum of a forward pass shows.
    torch.testing.assert_close(list(model.parameters()), before, rtol=0.0, atol=1e-29)
    assert optimizer.param_groups[0]["lr"] is held and held.item() == pytest.approx(0.1)
    step.update([batch])
    assert not all(map(torch.equal, before, model.parameters()))


# --- refusals ---------------------------------------------------------------------------------------------------------


def own_finder(**options: Any) -> LRFinder:
    model = net()
    optimizer = OPTIMIZERS["AdamW"](model)
    return LRFinder(model, optimizer, step_fn=step_of(model, [optimizer]), **options)


def test_a_validation_loss_needs_a_loss_fn() -> None:
    with pytest.raises(SetupError, match=r"step_fn trains, .* Pass loss_fn \(or criterion\) beside it"):
        own_finder().range_test(shuffled(), val_loader=shuffled(), **SWEEP)


@pytest.mark.parametrize("val", [True, False], ids=["val_loader", "held out"])
def test_refining_needs_a_loss_fn(val: bool) -> None:
    finder = own_finder()
    before = state_of(finder.model, finder.optimizer)
    result = finder.range_test(shuffled(), start_lr=1e-4, end_lr=10.0, num_iter=60)
    with pytest.raises(SetupError, match=r"step_fn trains, .* Pass loss_fn \(or criterion\) beside it"):
        finder.refine(result, shuffled(), shuffled() if val else None, schedule="cosine", total_steps=200)
    assert state_of(finder.model, finder.optimizer) == before


def test_a_step_that_is_no_function_is_refused() -> None:
    model = net()
    with pytest.raises(ConfigError, match=r"step_fn must be a function, called as step_fn\(batch\); got a Tensor"):
        LRFinder(model, OPTIMIZERS["SGD"](model), step_fn=torch.zeros(()))  # type: ignore[arg-type]


def test_one_of_criterion_and_loss_fn_may_stand_beside_it() -> None:
    own_finder(loss_fn=lambda model, batch: model(batch[0]).sum())
    with pytest.raises(LRFinderError, match="give either criterion or loss_fn; got both"):
        own_finder(criterion=nn.MSELoss(), loss_fn=lambda model, batch: model(batch[0]).sum())


# --- no trace ---------------------------------------------------------------------------------------------------------


class Interruption(BaseException):
    """As Ctrl-C."""


FAULTS: dict[str, tuple[Any, Any]] = {
    "an exception": (KeyError("missing"), KeyError),
    "Ctrl-C": (KeyboardInterrupt(), KeyboardInterrupt),
    "another BaseException": (Interruption(), Interruption),
}


@pytest.mark.parametrize(("error", "kind"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("at_call", [1, 5, 12])
@pytest.mark.parametrize("sweep", RANGES.values(), ids=RANGES)
def test_an_exception_leaves_no_trace(error: Any, kind: Any, at_call: int, sweep: dict[str, Any]) -> None:
    model, loader = net(), shuffled()
    optimizer = OPTIMIZERS["AdamW"](model)
    inner, calls = step_of(model, [optimizer]), []

    def step(batch: Any) -> Any:
        calls.append(1)
        if len(calls) == at_call:
            optimizer.zero_grad()
            raise error
        return inner(batch)

    before = state_of(model, optimizer, loader)
    with pytest.raises(kind):
        LRFinder(model, optimizer, step_fn=step).range_test(loader, **sweep)
    assert state_of(model, optimizer, loader) == before


def test_a_loss_of_nan_ends_the_sweep_and_leaves_no_trace() -> None:
    model, loader = net(), shuffled()
    optimizer, calls = OPTIMIZERS["SGD"](model), iter(range(100))
    step = step_of(model, [optimizer], returned=lambda loss: loss if next(calls) < 12 else loss * math.nan)
    before = state_of(model, optimizer, loader)
    curve = LRFinder(model, optimizer, step_fn=step).range_test(loader, **SWEEP).curve
    assert curve.stop is StopReason.NONFINITE and len(curve) == 12
    assert state_of(model, optimizer, loader) == before


class Beside:
    """What a training keeps beside its model, reached through closures, attributes and containers."""

    def __init__(self) -> None:
        self.model = net()
        self.optimizer = OPTIMIZERS["AdamW"](self.model)
        self.ema = {"net": copy.deepcopy(self.model)}
        self.teacher = [copy.deepcopy(self.model)]
        torch.manual_seed(3)
        self.critic = nn.Linear(3, 1)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=1e-3)
        self.generator = torch.Generator().manual_seed(5)
        self.replay: list[Tensor] = [torch.zeros(3)]
        self.steps = 0

    def step(self, batch: Any) -> Tensor:
        inputs, target = batch
        noise = torch.randn(inputs.shape, generator=self.generator)
        logits = self.model(inputs + 0.01 * noise)
        realism = self.critic(logits.detach()).pow(2).mean()
        loss = nn.functional.cross_entropy(logits, target)
        loss = loss + nn.functional.mse_loss(logits, self.teacher[0](inputs).detach())
        self.optimizer.zero_grad(), self.critic_optimizer.zero_grad()
        (loss + realism).backward()
        self.optimizer.step(), self.critic_optimizer.step()
        with torch.no_grad():
            for mean, parameter in zip(self.ema["net"].parameters(), self.model.parameters(), strict=True):
                mean.lerp_(parameter, 0.1)
            self.teacher[0][0].weight.mul_(0.999)
        self.replay.append(logits[0].detach())
        del self.replay[:-4]
        self.steps += 1
        return loss.detach()

    def parts(self) -> list[Any]:
        return [
            *(self.model, self.optimizer, self.ema["net"], self.teacher[0], self.critic, self.critic_optimizer),
            *(self.generator, self.replay, self.steps),
        ]


def through_a_closure(world: Beside) -> tuple[Callable[[Any], Any], list[Any]]:
    return lambda batch: world.step(batch), []


class Trainer:
    def __init__(self, world: Beside) -> None:
        self.world = {"here": world}

    def __call__(self, batch: Any) -> Tensor:
        return self.world["here"].step(batch)


def through_an_object(world: Beside) -> tuple[Callable[[Any], Any], list[Any]]:
    return Trainer(world), []


def through_a_partial(world: Beside) -> tuple[Callable[[Any], Any], list[Any]]:
    return functools.partial(Beside.step, world), []


def through_a_bound_method(world: Beside) -> tuple[Callable[[Any], Any], list[Any]]:
    return world.step, []


def hidden_but_named(world: Beside) -> tuple[Callable[[Any], Any], list[Any]]:
    hidden = running(world)
    next(hidden)
    return lambda batch: hidden.send(batch), [world]


def running(world: Beside) -> Any:
    """A generator, whose local variables cannot be reached."""
    loss: Any = None
    while True:
        loss = world.step((yield loss))


REACHES = [through_a_closure, through_a_bound_method, through_an_object, through_a_partial, hidden_but_named]


@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("sweep", RANGES.values(), ids=RANGES)
def test_what_a_step_keeps_beside_the_model_is_put_back(reach: Any, sweep: dict[str, Any]) -> None:
    world, twin = Beside(), Beside()
    for each in (world, twin):
        torch.manual_seed(9)
        for batch in list(shuffled())[:3]:
            each.step(batch)
    before = state_of(*world.parts())
    step, also = reach(world)
    result = LRFinder(world.model, world.optimizer, step_fn=step, also=also).range_test(shuffled(), **sweep)
    assert len(result.curve) >= 10
    assert state_of(*world.parts()) == before
    losses = [[each.step(batch).item() for batch in shuffled()] for each in seeded(world, twin)]
    assert losses[0] == losses[1]


def seeded(*worlds: Beside) -> Any:
    for each in worlds:
        torch.manual_seed(11)
        yield each


def test_what_is_hidden_and_not_named_keeps_its_changes() -> None:
    world = Beside()
    step, _ = hidden_but_named(world)
    LRFinder(world.model, world.optimizer, step_fn=step).range_test(shuffled(), **SWEEP)
    assert world.steps > 0


class OldScaler(torch.amp.GradScaler):
    """As torch.cuda.amp.GradScaler, in a package of torch with more objects that are no state of a training."""

    __module__ = "torch.cuda.amp.grad_scaler"


@pytest.mark.parametrize("kind", [torch.amp.GradScaler, OldScaler])
def test_a_scaler_and_an_average_that_are_not_named_are_put_back(kind: Any) -> None:
    model = net()
    optimizer, scaler = OPTIMIZERS["SGD"](model), kind("cpu", init_scale=8.0, growth_interval=2)
    mean = torch.optim.swa_utils.AveragedModel(model)
    inner = step_of(model, [optimizer], scaler=scaler)

    def step(batch: Any) -> Any:
        loss = inner(batch)
        mean.update_parameters(model)
        return loss

    step(next(iter(shuffled())))
    before = state_of(model, optimizer, mean), scaler.state_dict()
    LRFinder(model, optimizer, step_fn=step).range_test(shuffled(), **SWEEP)
    assert (state_of(model, optimizer, mean), scaler.state_dict()) == before


def test_an_exception_that_divergence_causes_ends_the_sweep() -> None:
    model, loader = net(), shuffled()
    optimizer = OPTIMIZERS["SGD"](model)
    inner = step_of(model, [optimizer])

    def step(batch: Any) -> Any:
        loss = inner(batch)
        if not loss.isfinite():
            raise ValueError("the loss is not finite")
        return loss

    before = state_of(model, optimizer, loader)
    wide = {"start_lr": 1e-3, "end_lr": 1e30, "num_iter": 30, "early_stop": False}
    result = LRFinder(model, optimizer, step_fn=step).range_test(loader, **wide)
    assert (result.curve.stop, result.curve.error) == (StopReason.ERROR, "ValueError")
    assert state_of(model, optimizer, loader) == before


def test_a_compiled_update_sweeps_as_the_plain_one() -> None:
    curves = []
    for compiled in (False, True):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        if compiled:
            optimizer.step = torch.compile(optimizer.step, backend="eager")  # type: ignore[method-assign]
        step = step_of(model, [optimizer])
        curves.append(LRFinder(model, optimizer, step_fn=step).range_test(shuffled(), **SWEEP).curve)
        assert isinstance(optimizer.param_groups[0]["lr"], float)
    assert curves[0].losses == pytest.approx(curves[1].losses, rel=1e-4)


def test_a_model_that_was_evaluated_is_put_into_train_mode_and_back() -> None:
    model = net().eval()
    optimizer, modes = OPTIMIZERS["SGD"](model), []
    inner = step_of(model, [optimizer])

    def step(batch: Any) -> Any:
        modes.append(model.training)
        return inner(batch)

    LRFinder(model, optimizer, step_fn=step).range_test(shuffled(), **SWEEP)
    assert set(modes) == {True} and not model.training


# --- advice and lines -------------------------------------------------------------------------------------------------


def test_clipping_that_is_named_is_recorded_and_gives_no_advice_of_its_own() -> None:
    with_norm, without = own_finder(clip_grad_norm=1e-3), own_finder()
    results = [finder.range_test(shuffled(), **SWEEP) for finder in (with_norm, without)]
    facts = results[0].curve.facts
    assert facts is not None and facts.clip_grad_norm == 1e-3
    assert results[0].advice == results[1].advice


@pytest.mark.parametrize("accumulation_steps", [1, 2])
@pytest.mark.parametrize("kind", ["cosine", "plateau", "onecycle", "constant"])
def test_the_lines_to_paste_call_the_step(kind: str, accumulation_steps: int) -> None:
    model = net()
    optimizer, loader, calls = OPTIMIZERS["SGD"](model), shuffled(), []
    inner = step_of(model, [optimizer])

    def step_fn(batch: Any) -> Any:
        calls.append((optimizer.param_groups[0]["lr"], len(batch) if isinstance(batch[0], list) else 1))
        return inner(batch)

    finder = LRFinder(model, optimizer, step_fn=step_fn, accumulation_steps=accumulation_steps)
    result = finder.range_test(loader, **SWEEP)
    calls.clear()
    per_epoch = len(loader) // accumulation_steps
    plan = result.recipe(kind, peak_lr=0.1, epochs=2, steps_per_epoch=per_epoch)
    space = {"optimizer": optimizer, "step_fn": step_fn, "train_loader": loader}
    code = plan.code().replace("range(10)", "range(2)")
    exec(compile(code, "pasted", "exec"), space)
    assert [size for _, size in calls] == [accumulation_steps] * (2 * per_epoch)
    if kind != "plateau":
        assert [lr for lr, _ in calls] == pytest.approx([plan.lr_at(t) for t in range(2 * per_epoch)])


def test_lbfgs_may_be_stepped_by_a_step_of_its_own() -> None:
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)

    def step(batch: Any) -> Any:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            return loss

        return optimizer.step(closure)

    before = state_of(model, optimizer)
    assert len(LRFinder(model, optimizer, step_fn=step).range_test(shuffled(), **SWEEP).curve) > 5
    assert state_of(model, optimizer) == before


def test_batches_of_any_kind_reach_the_step() -> None:
    model = net()
    optimizer, seen = OPTIMIZERS["SGD"](model), []
    inner = step_of(model, [optimizer])

    def step(batch: Any) -> Any:
        seen.append(batch)
        return inner((batch.inputs, batch.target))

    inputs, target = points().tensors
    loader = [SimpleNamespace(inputs=inputs[:16], target=target[:16])]
    LRFinder(model, optimizer, step_fn=step).range_test(loader, **SWEEP)
    assert all(isinstance(batch, SimpleNamespace) for batch in seen)
