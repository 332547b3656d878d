"""Compiled models and optimizers: no compilation but the first, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import nn
from torch._dynamo.utils import counters
from worlds import World, devices, loader, mlp, points

from lrfinder import LRFinder
from lrfinder.training.compiled import eager_step, tensor_lrs

SWEEPS: dict[str, dict[str, Any]] = {
    "given": {"start_lr": 1e-4, "end_lr": 1e-1, "num_iter": 20},
    "chosen": {},
}
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.01),
    "SGD with momentum": lambda p: torch.optim.SGD(p, 0.01, 0.9),
    "SGD, fused": lambda p: torch.optim.SGD(p, 0.01, 0.9, fused=True),
    "SGD, foreach": lambda p: torch.optim.SGD(p, 0.01, 0.9, foreach=True),
    "Adam": lambda p: torch.optim.Adam(p, 0.01),
    "Adam, fused": lambda p: torch.optim.Adam(p, 0.01, fused=True),
    "Adam, foreach": lambda p: torch.optim.Adam(p, 0.01, foreach=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.01),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, 0.01, fused=True),
    "AdamW, foreach": lambda p: torch.optim.AdamW(p, 0.01, foreach=True),
    "Adam, LR in a tensor": lambda p: torch.optim.Adam(p, torch.tensor(0.01)),
}

builds = pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


# The backend that compiles nothing: what is counted is how often it is asked to.
def world(build: Callable[[Any], torch.optim.Optimizer], *, step: bool, device: str = "cpu") -> World:
    torch.manual_seed(5)
    model = mlp(nn.BatchNorm1d(16)).to(device)
    optimizer = build(model.parameters())
    if step:
        optimizer.step = torch.compile(optimizer.step, backend="eager")  # type: ignore[method-assign]
    compiled: Any = torch.compile(model, backend="eager")
    return World(compiled, optimizer, loader(points(48)), device=device)


def test_rates_in_tensors_are_on_the_cpu_whatever_the_default_device() -> None:
    one = world(OPTIMIZERS["Adam"], step=True)
    with torch.device("meta"), tensor_lrs(one.optimizer):
        assert one.optimizer.param_groups[0]["lr"].device.type == "cpu"


def compilations(one: World, **options: Any) -> list[int]:
    """How many graphs there are after each forward pass of the sweep, and at its end."""
    found = []

    def noted(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        found.append(counters["stats"]["unique_graphs"])
        loss: torch.Tensor = one.criterion(output, target)
        return loss

    LRFinder(one.model, one.optimizer, noted).range_test(one.loader, progress=False, **options)
    return found + [counters["stats"]["unique_graphs"]]


@devices
@builds
@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_compiled_model_is_compiled_once(build: Any, sweep: str, device: str) -> None:
    found = compilations(world(build, step=False, device=device), **SWEEPS[sweep])
    assert len(found) > 20
    assert set(found) == {1}


@devices
@builds
@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.filterwarnings("ignore:.*Profiler function.*will be ignored.*")
def test_a_compiled_step_is_compiled_once(
    build: Any, sweep: str, device: str
) -> None:
    one = world(build, step=True, device=device)
    entries = [dict(group) for group in one.optimizer.param_groups]
    found = compilations(one, **SWEEPS[sweep])
    first = found.index(found[-1])
    assert found[-1] <= 2  # the model, and the step where it is one graph
    assert first <= len(found) - 18  # from the second iteration of the sweep on: nothing new
    assert [dict(group) for group in one.optimizer.param_groups] == entries
    assert [type(group["lr"]) for group in one.optimizer.param_groups] == [type(entry["lr"]) for entry in entries]


@devices
@pytest.mark.filterwarnings("ignore:.*Profiler function.*will be ignored.*")
def test_a_compiled_step_gives_the_curve_of_the_plain_one(device: str) -> None:
    curves = []
    for step in (False, True):
        one = world(OPTIMIZERS["AdamW"], step=step, device=device)
        before = one.state()
        finder = LRFinder(one.model, one.optimizer, one.criterion)
        curves.append(finder.range_test(one.loader, progress=False, **SWEEPS["given"]).curve)
        assert one.state() == before
    assert curves[1].lrs == curves[0].lrs
    assert curves[1].losses == pytest.approx(curves[0].losses, rel=1e-4)


def test_the_learning_rates_of_a_step_that_is_not_compiled_stay_numbers() -> None:
    one = world(OPTIMIZERS["Adam"], step=False)
    with tensor_lrs(one.optimizer):
        assert one.optimizer.param_groups[0]["lr"] == 0.01
        assert isinstance(one.optimizer.param_groups[0]["lr"], float)


def test_the_compiled_step_comes_back_also_after_an_error() -> None:
    one = world(OPTIMIZERS["SGD"], step=True)
    step = one.optimizer.step
    with pytest.raises(KeyError), eager_step(one.optimizer), tensor_lrs(one.optimizer):
        assert not hasattr(one.optimizer.step, "_torchdynamo_orig_callable")
        raise KeyError
    assert one.optimizer.step is step
    plain = world(OPTIMIZERS["SGD"], step=False).optimizer
    with eager_step(plain):
        assert "step" not in vars(plain)
    assert "step" not in vars(plain)


def test_a_step_marked_as_not_to_be_compiled_is_left_alone() -> None:
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters())
    with eager_step(optimizer):
        assert "step" not in vars(optimizer)


@pytest.mark.filterwarnings("ignore:.*Profiler function.*will be ignored.*")
def test_a_function_of_a_step_fn_that_is_compiled_is_not_used_up() -> None:
    one = world(OPTIMIZERS["Adam, LR in a tensor"], step=False)
    update = torch.compile(lambda: one.optimizer.step(), backend="eager")

    def step_fn(batch: Any) -> torch.Tensor:
        one.optimizer.zero_grad()
        loss: torch.Tensor = one.criterion(one.model(batch[0]), batch[1])
        loss.backward()
        update()
        return loss

    # Torch compiles a function a limited number of times, and leaves it uncompiled after that.
    with torch._dynamo.config.patch(recompile_limit=3, fail_on_recompile_limit_hit=True):
        LRFinder(one.model, one.optimizer, step_fn=step_fn).range_test(one.loader, progress=False)
        step_fn(next(iter(one.loader)))
