"""The lines to paste train as the library does: the same learning rates and weights at every update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from own_steps import FakeScaler, step_of
from rank_worlds import batches, plain_model, start_ranks, wrapped
from test_optimizer_modes import ScheduleFree
from torch import Tensor, nn

from lrfinder import LRFinder
from lrfinder.param_groups import optimizer_parameters
from lrfinder.recipes import Recipe
from lrfinder.schedules import KINDS
from lrfinder.training.joint import parts_of
from lrfinder.training.own_step import training_step

BATCHES, PASSES = 4, 3
SWEEP: dict[str, Any] = {"start_lr": 1e-4, "end_lr": 1.0, "num_iter": 12, "progress": False}


@dataclass
class World:
    """A training: what a finder gets, and the names that the lines use besides."""

    model: nn.Module
    optimizer: Any
    loss: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    batch: Callable[[Tensor, Tensor], Any] = lambda inputs, target: (inputs, target)

    @property
    def loader(self) -> list[Any]:
        generator = torch.Generator().manual_seed(1)
        drawn = [torch.randn(8, 4, generator=generator) for _ in range(BATCHES)]
        return [self.batch(inputs, (inputs.sum(1) > 0).long()) for inputs in drawn]

    @property
    def weights(self) -> list[Tensor]:
        return optimizer_parameters(self.finder.optimizer)

    def __post_init__(self) -> None:
        self.finder = LRFinder(self.model, self.optimizer, **self.loss, **self.options)
        self.several = isinstance(self.optimizer, list)


def net(*, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 2))


def sgd(model: nn.Module, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, **options)


def plain(**options: Any) -> World:
    model = net()
    return World(model, sgd(model), {"criterion": nn.CrossEntropyLoss()}, options)


def by_name(model: Any, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch["inputs"]), batch["target"])


def named(inputs: Tensor, target: Tensor) -> dict[str, Tensor]:
    return {"inputs": inputs, "target": target}


def own_loss(**options: Any) -> World:
    model = net()
    return World(model, sgd(model), {"loss_fn": by_name}, options, {"loss_fn": by_name}, named)


def prompted(**options: Any) -> World:
    """A network and, beside it, a tensor that is trained with it."""
    model = net()
    prompt = nn.Parameter(torch.full((4,), 0.1))
    optimizer = torch.optim.SGD([*model.parameters(), prompt], lr=0.1)

    def loss_fn(model: Any, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0] + 30 * prompt), batch[1])

    return World(model, optimizer, {"loss_fn": loss_fn}, options, {"loss_fn": loss_fn})


def head_alone(**options: Any) -> World:
    """The optimizer has the head alone, and the layers below get gradients that nobody clears."""
    model = net()
    optimizer = torch.optim.SGD(model[-1].parameters(), lr=0.1)
    return World(model, optimizer, {"criterion": nn.CrossEntropyLoss()}, options)


def several(**options: Any) -> World:
    model = net()
    pair = [torch.optim.SGD(model[0].parameters(), lr=0.1), torch.optim.AdamW(model[3].parameters(), lr=0.01)]
    return World(model, pair, {"criterion": nn.CrossEntropyLoss()}, options)


def lbfgs(**options: Any) -> World:
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    return World(model, optimizer, {"criterion": nn.CrossEntropyLoss()}, options)


class Twice(torch.optim.SGD):
    """Needs a closure, as L-BFGS, and has another name."""

    def step(self, closure: Any) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            closure()
            loss = closure()
        super().step()
        return loss


def closed(**options: Any) -> World:
    model = net()
    return World(model, Twice(model.parameters(), lr=0.1), {"criterion": nn.CrossEntropyLoss()}, options)


def schedule_free(**options: Any) -> World:
    model = net()
    return World(model, ScheduleFree(model.parameters()), {"criterion": nn.CrossEntropyLoss()}, options)


def schedule_free_beside(**options: Any) -> World:
    model = net()
    pair = [torch.optim.SGD(model[0].parameters(), lr=0.1), ScheduleFree(model[3].parameters())]
    return World(model, pair, {"criterion": nn.CrossEntropyLoss()}, options)


def loaded(**options: Any) -> World:
    """A model in eval mode, as Hugging Face loads one."""
    model = net(dropout=0.5).eval()
    return World(model, sgd(model), {"criterion": nn.CrossEntropyLoss()}, options)


def own_step(*, returned: Any = lambda loss: loss, skips: int = 0, pair: bool = False, **options: Any) -> World:
    model = net()
    optimizer = sgd(model)
    scaler = FakeScaler(skips) if skips else None
    step_fn = step_of(model, [optimizer], returned=returned, scaler=scaler, pair=pair)
    backward, update = step_fn if pair else (None, None)
    names = {"step_fn": step_fn, "backward": backward, "update": update, "scaler": scaler}
    return World(model, optimizer, {"step_fn": step_fn}, {"grad_scaler": scaler, **options}, names)


def every_third(pair: bool = False, made: bool | None = True) -> World:
    """Makes no update in every third call, and says so."""
    model = net()
    optimizer = sgd(model)
    counter = Counter(optimizer, model, made)
    step_fn: Any = (counter.backward, counter.update) if pair else counter.step
    names = {"step_fn": step_fn, "backward": counter.backward, "update": counter.update}
    return World(model, optimizer, {"step_fn": step_fn}, {"also": [counter]}, names)


class Counter:
    """A step, as one function or as two, that counts its calls and leaves out every third update."""

    def __init__(self, optimizer: Any, model: nn.Module, made: bool | None) -> None:
        self.calls = 0
        self.model, self.optimizer, self.made = model, optimizer, made

    def backward(self, batch: Any) -> Tensor:
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        loss.backward()
        return loss

    def update(self) -> bool | None:
        self.calls += 1
        if self.calls % 3 == 0:
            return False
        self.optimizer.step()
        return self.made

    def step(self, batch: Any) -> Any:
        loss = self.backward(batch)
        return (loss, False) if self.update() is False else loss


WORLDS: dict[str, Callable[[], World]] = {
    "criterion": plain,
    "criterion, accumulated": lambda: plain(accumulation_steps=2),
    "criterion, bfloat16": lambda: plain(amp_dtype=torch.bfloat16),
    "criterion, float16, clipped": lambda: plain(amp_dtype=torch.float16, clip_grad_norm=0.1),
    "criterion, scaled, accumulated": lambda: plain(grad_scaler=torch.amp.GradScaler("cpu"), accumulation_steps=2),
    "criterion, scaler switched off": lambda: plain(grad_scaler=torch.amp.GradScaler("cpu", enabled=False)),
    "criterion, norm measured": lambda: plain(clip_grad_norm=float("inf")),
    "loss_fn": own_loss,
    "loss_fn, accumulated, clipped": lambda: own_loss(accumulation_steps=2, clip_grad_norm=0.1),
    "prompt beside the model, clipped": lambda: prompted(clip_grad_norm=0.1),
    "head alone, clipped": lambda: head_alone(clip_grad_norm=0.1),
    "several": several,
    "several, scaled, clipped": lambda: several(amp_dtype=torch.float16, clip_grad_norm=0.1),
    "several, accumulated, clipped": lambda: several(accumulation_steps=2, clip_grad_norm=0.1),
    "L-BFGS": lambda: lbfgs(clip_grad_norm=0.5),
    "L-BFGS, accumulated": lambda: lbfgs(accumulation_steps=2, clip_grad_norm=0.5),
    "L-BFGS, bfloat16": lambda: lbfgs(amp_dtype=torch.bfloat16),
    "another closure": closed,
    "another closure, accumulated": lambda: closed(accumulation_steps=2),
    "schedule-free": schedule_free,
    "schedule-free, accumulated": lambda: schedule_free(accumulation_steps=2),
    "schedule-free beside SGD": schedule_free_beside,
    "model in eval mode": loaded,
    "step": own_step,
    "step, accumulated": lambda: own_step(accumulation_steps=2),
    "step, loss as a number": lambda: own_step(returned=float),
    "step, scaled": lambda: own_step(skips=2),
    "step, flag": lambda: own_step(returned=lambda loss: (loss, True)),
    "step, flag, accumulated": lambda: own_step(returned=lambda loss: (loss, True), accumulation_steps=2),
    "step, every third left out": every_third,
    "pair": lambda: own_step(pair=True),
    "pair, accumulated": lambda: own_step(pair=True, accumulation_steps=2),
    "pair, scaled": lambda: own_step(pair=True, skips=2),
    "pair, every third left out": lambda: every_third(pair=True),
    "pair, every third left out, else None": lambda: every_third(pair=True, made=None),
}
LENGTHS: dict[str, Callable[[int], dict[str, int]]] = {
    "onecycle": lambda per_pass: {"total_steps": PASSES * per_pass},
    "cosine": lambda per_pass: {"epochs": PASSES, "steps_per_epoch": per_pass},
    "step": lambda per_pass: {"epochs": PASSES},
    "plateau": lambda per_pass: {"epochs": PASSES},
}


class Trace:
    """Learning rates and weights at each update of the optimizers."""

    def __init__(self, world: World) -> None:
        self.rates: list[list[float]] = []
        self.weights: list[Tensor] = []
        self._parts = parts_of(world.finder.optimizer)
        self._world = world
        self._hooks = [self._parts[0].register_step_pre_hook(self._before)]
        self._hooks.append(self._parts[-1].register_step_post_hook(self._after))

    def _before(self, *_: Any) -> None:
        self.rates.append([float(group["lr"]) for part in self._parts for group in part.param_groups])

    def _after(self, *_: Any) -> None:
        self.weights.append(torch.cat([each.detach().clone().reshape(-1) for each in self._world.weights]))

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()


def by_lines(world: World, plan: Recipe) -> Trace:
    trace = Trace(world)
    names = {"model": world.model, "criterion": nn.CrossEntropyLoss(), "train_loader": world.loader}
    names |= {"optimizers": world.optimizer} if world.several else {"optimizer": world.optimizer}
    torch.manual_seed(2)
    exec(compile(plan.code(), "pasted", "exec"), {**names, **world.names})
    trace.close()
    return trace


def by_library(world: World, plan: Recipe) -> Trace:
    trace, loader = Trace(world), world.loader
    count, step = world.finder.setup.accumulation_steps, training_step(world.finder.setup)
    step.enter_training()
    built = plan.build(world.optimizer)
    schedulers = built if isinstance(built, list) else [built]
    torch.manual_seed(2)
    for _ in range(PASSES):
        losses = []
        for start in range(0, BATCHES, count):
            loss, made = step.run(loader[start : start + count])
            losses.append(loss.item())
            if made and plan.interval == "step":
                for scheduler in schedulers:
                    scheduler.step()
        if plan.interval == "epoch":
            for scheduler in schedulers:
                scheduler.step(*([sum(losses) / len(losses)] if plan.kind == "plateau" else []))
    trace.close()
    return trace


def plan_of(world: World, kind: str, length: dict[str, int], **options: Any) -> Recipe:
    return world.finder.range_test(world.loader, **SWEEP).recipe(kind, peak_lr=0.05, **length, **options)


def check_alike(make: Callable[[], World], kind: str, length: dict[str, int], **options: Any) -> None:
    one, other = make(), make()
    lines = by_lines(one, plan_of(one, kind, length, **options))
    library = by_library(other, plan_of(other, kind, length, **options))
    assert len(lines.rates) == len(library.rates) == len(library.weights) > 0
    assert lines.rates == [pytest.approx(rates, rel=1e-9) for rates in library.rates]
    for found, expected in zip(lines.weights, library.weights, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize("world", WORLDS)
def test_the_lines_train_as_the_library_does(world: str, kind: str) -> None:
    per_pass = BATCHES // WORLDS[world]().finder.setup.accumulation_steps
    check_alike(WORLDS[world], kind, LENGTHS[kind](per_pass))


def test_a_scaler_that_is_switched_off_is_not_printed() -> None:
    assert "scaler" not in plan_of(WORLDS["criterion, scaler switched off"](), "constant", {"epochs": 1}).code()


def on_ranks(rank: int, world: int) -> list[Any]:
    """Sums of the weights, and the learning rate, after the lines of a schedule that follows the loss."""
    model = wrapped("replicas", plain_model())
    optimizer, loader = torch.optim.SGD(model.parameters(), lr=0.1), batches(rank, world)
    result = LRFinder(model, optimizer, nn.CrossEntropyLoss()).range_test(loader, **SWEEP)
    assert result.curve.facts is not None and result.curve.facts.ranks == world
    code = result.recipe("plateau", peak_lr=5.0, epochs=20, patience=1).code()
    names = {"model": model, "optimizer": optimizer, "criterion": nn.CrossEntropyLoss(), "train_loader": loader}
    exec(compile(code, "pasted", "exec"), names)
    return [optimizer.param_groups[0]["lr"], *(each.detach().sum().item() for each in model.parameters())]


def test_a_schedule_that_follows_the_loss_is_the_same_on_all_ranks(tmp_path: Path) -> None:
    first, second = start_ranks(2, on_ranks, tmp_path)
    assert first == second and first[0] < 5.0


@pytest.mark.parametrize("kind", KINDS)
def test_so_they_do_with_every_kind_of_schedule(kind: str) -> None:
    check_alike(plain, kind, {"epochs": PASSES, "steps_per_epoch": BATCHES})
