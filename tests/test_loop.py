"""The driver of a range test, in our loop and in a training loop of the user."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from worlds import WORLDS, World, finder, mlp, seeded, training, with_sgd

from lrfinder import LossCurve, StopReason, SweepConfig
from lrfinder.record.sweep import Sweep
from lrfinder.training.driver import SweepDriver
from lrfinder.training.model_facts import take_facts
from lrfinder.training.state import preserved
from lrfinder.training.step import MAX_SCALER_SKIPS

SWEEP: dict[str, Any] = {"start_lr": 1e-4, "end_lr": 10.0, "num_iter": 40}


def driver(world: World, *, read_every: int | None = None, **config: Any) -> SweepDriver:
    return SweepDriver(training(world), Sweep(SweepConfig(**{**SWEEP, **config})), read_every=read_every)


def trained(world: World, driver: SweepDriver) -> int:
    """A loop that is not ours: forward, backward and update in plain torch. Returns the batches it drew."""
    drawn = 0
    for inputs, target in itertools.chain.from_iterable(itertools.repeat(world.loader)):
        driver.before_step()
        world.optimizer.zero_grad()
        loss = world.criterion(world.model(inputs), target)
        loss.backward()
        world.optimizer.step()
        driver.after_step(loss)
        drawn += 1
        if driver.done:
            return drawn
    raise AssertionError("the loader is repeated without end")


# --- a loop of the user -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["SGD with momentum", "AdamW, fused", "dropout", "BatchNorm", "parameter groups", "LR held in a tensor"]
    + ["own loader generator", "numpy and python randomness", "scheduler attached before"],
)
@pytest.mark.parametrize("options", [{}, {"early_stop": False}, {"mode": "linear"}], ids=str)
def test_a_plain_torch_loop_gets_the_curve_of_the_finder_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    ours, theirs = seeded(WORLDS[name], 3), seeded(WORLDS[name], 3)
    expected = finder(ours).range_test(ours.loader, **SWEEP, **options).curve
    before = theirs.state()
    sweeping = driver(theirs, **options)
    with preserved(training(theirs), [theirs.loader]):
        facts = take_facts(training(theirs))
        drawn = trained(theirs, sweeping)
    known = dataclasses.replace(facts, batch_size=8, loader_batches=len(theirs.loader))
    assert sweeping.curve(batches=drawn, facts=known) == expected
    assert theirs.state() == before


@pytest.mark.parametrize("read_every", [1, 2, 4])
def test_the_plain_loop_may_read_its_losses_late(read_every: int) -> None:
    def swept(read_every: int) -> LossCurve:
        world = seeded(WORLDS["SGD with momentum"])
        sweeping = driver(world, read_every=read_every)
        with preserved(training(world), [world.loader]):
            trained(world, sweeping)
        return sweeping.curve()

    assert swept(read_every) == swept(1)


def test_a_loop_that_ends_by_itself_gives_its_reason() -> None:
    world = seeded(WORLDS["SGD with momentum"])
    sweeping = driver(world, read_every=4)
    for _ in range(7):
        sweeping.before_step()
        sweeping.after_step(torch.tensor(1.0))
    assert sweeping.curve().stop is StopReason.INTERRUPTED
    sweeping.end(StopReason.DATA_EXHAUSTED)
    assert sweeping.done
    assert (sweeping.curve().stop, len(sweeping.curve())) == (StopReason.DATA_EXHAUSTED, 7)


def test_a_pending_loss_that_ends_the_sweep_takes_precedence() -> None:
    sweeping = driver(seeded(WORLDS["SGD with momentum"]), read_every=4)
    for loss in (1.0, math.nan):
        sweeping.before_step()
        sweeping.after_step(torch.tensor(loss))
    assert not sweeping.done
    sweeping.end(StopReason.INTERRUPTED)
    assert sweeping.curve().stop is StopReason.NONFINITE


def test_no_step_can_be_made_after_the_end() -> None:
    sweeping = driver(seeded(WORLDS["SGD with momentum"]))
    sweeping.before_step()
    sweeping.after_step(torch.tensor(math.nan))
    assert sweeping.done
    with pytest.raises(RuntimeError, match="check driver.done before each step"):
        sweeping.before_step()


def test_each_loss_is_reported_with_its_learning_rate() -> None:
    world = seeded(WORLDS["SGD with momentum"])
    seen: list[tuple[float, float]] = []
    sweep = Sweep(SweepConfig(**SWEEP, early_stop=False))
    sweeping = SweepDriver(training(world), sweep, read_every=4, on_loss=lambda lr, loss: seen.append((lr, loss)))
    with preserved(training(world)):
        trained(world, sweeping)
    assert seen == list(zip(sweeping.curve().lrs, sweeping.curve().losses, strict=True))


# --- updates that a GradScaler skipped --------------------------------------------------------------------------------


@pytest.mark.parametrize("read_every", [1, 4])
def test_a_skipped_update_is_counted_and_its_learning_rate_repeated(read_every: int) -> None:
    world = with_sgd(mlp())
    sweeping = driver(world, read_every=read_every)
    lrs = []
    for updated in (True, True, False, False, True):
        sweeping.before_step()
        lrs.append(world.optimizer.param_groups[0]["lr"])
        sweeping.after_step(torch.tensor(1.0), updated)
    sweeping.end(StopReason.INTERRUPTED)
    assert lrs[2] == lrs[3] == lrs[4] > lrs[1] > lrs[0]
    assert sweeping.curve().lrs == tuple(lrs[i] for i in (0, 1, 4))
    assert sweeping.curve().skipped == 2


@pytest.mark.parametrize(
    ("losses", "skipped"),
    [(lambda: itertools.repeat(1.0), MAX_SCALER_SKIPS), (lambda: itertools.repeat(math.nan), 0)],
    ids=["finite losses", "nan"],
)
def test_updates_skipped_without_end_stop_the_sweep(losses: Callable[[], Any], skipped: int) -> None:
    sweeping = driver(with_sgd(mlp()))
    for loss in losses():
        sweeping.before_step()
        sweeping.after_step(torch.tensor(loss), updated=False)
        if sweeping.done:
            break
    curve = sweeping.curve()
    assert (curve.stop, len(curve), curve.skipped) == (StopReason.NONFINITE, 0, skipped)


def test_an_update_between_skipped_ones_starts_their_count_afresh() -> None:
    sweeping = driver(with_sgd(mlp()))
    for updated in ([False] * (MAX_SCALER_SKIPS - 1) + [True]) * 2:
        sweeping.before_step()
        sweeping.after_step(torch.tensor(1.0), updated)
    assert not sweeping.done
    assert sweeping.curve().skipped == 2 * (MAX_SCALER_SKIPS - 1)
