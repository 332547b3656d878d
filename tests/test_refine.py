"""``LRFinder.refine`` on the objects of a user: no trace, its budget, the same batches, better advice."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, IterableDataset
from worlds import WORLDS, Augmented, World, finder, loader, mlp, points, seeded, sgd, with_sgd

from lrfinder import Advice, LRFinder, NoAdviceError, RangeTestResult
from lrfinder.advice.search import plan_search
from lrfinder.advice.trial_reading import best_trial_lr
from lrfinder.errors import ConfigError, SetupError
from lrfinder.record.facts import ModelFacts
from lrfinder.record.run import RunRecord
from lrfinder.tables.constants import FITTED
from lrfinder.tables.kinds import KINDS
from lrfinder.training.trials import DivergenceMonitor

SWEEP = {"start_lr": 1e-4, "end_lr": 10.0, "num_iter": 15}


def training(shortest: int, confirming: int) -> dict[str, Any]:
    """Length of a training and a budget for four screening trials and, where given, two confirmation trials.

    Args:
        shortest: steps of a screening trial.
        confirming: steps of a confirmation trial, or fewer than it gets; 0 for none.
    """
    total_steps = math.ceil((shortest + 0.01) / FITTED.search.screening_part)
    final = max(confirming, math.ceil(FITTED.search.confirmation_part * total_steps)) if confirming else 0
    count = max(4, FITTED.search.trials) if confirming else 4
    budget_steps = count * shortest + 2 * final
    return {"schedule": "cosine", "total_steps": total_steps, "budget": (budget_steps + 0.5) / total_steps}


SHORT = training(10, 0)  # about 160 steps, of which 40 are in trials
LONG = training(12, 26)  # about 200, of which 100 are

worlds = pytest.mark.parametrize("build", WORLDS.values(), ids=WORLDS)
lengths = pytest.mark.parametrize("length", [SHORT, LONG], ids=["screening", "with confirmation"])


def advice(base_lr: float, **fields: Any) -> Advice:
    """Advice by hand: the same for cosine and every other schedule up to its factor."""
    given = {
        "max_lr": FITTED.peak_factor("onecycle") * base_lr,
        "base_lr": base_lr,
        "min_lr": base_lr / 100,
        "interval": (base_lr / FITTED.spread.low, base_lr * FITTED.spread.low),
        "grade": "low",
        "reasons": ("By hand.",),
    }
    return Advice(**{**given, **fields})


NO_ADVICE = Advice(max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", reasons=("Nothing to see.",))


def swept(world: World, base_lr: float | None = None) -> RangeTestResult:
    """Result of a short range test; with the advice made by hand where the curve carries none, or an LR is given."""
    result = finder(world).range_test(world.loader, **SWEEP)
    if base_lr is not None or result.advice.grade == "none":
        return dataclasses.replace(result, advice=advice(base_lr or 0.01))
    return result


class Cut:
    """Loader that raises an error or sends Ctrl-C when the batch of the given number is requested."""

    def __init__(self, batches: Iterable[Any], number: int, how: str) -> None:
        self.batches, self.number, self.how = batches, number, how
        self.asked = itertools.count(1)  # a plain number would be put back before each trial

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            if next(self.asked) == self.number:
                if self.how == "exception":
                    raise OSError("the disk is gone")
                os.kill(os.getpid(), signal.SIGINT)
            yield batch


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    """A list that grows by one entry for every optimizer step that is really made."""
    made: list[int] = []
    handle = register_optimizer_step_post_hook(lambda optimizer, arguments, options: made.append(1))
    try:
        yield made
    finally:
        handle.remove()


def same(world: World, before: dict[str, Any]) -> bool:
    """The state is the one before, but for the generator of a loader that was hidden behind :class:`Cut`."""
    after = world.state()
    return {**after, "loader": None} == {**before, "loader": None}


# --- no trace ---------------------------------------------------------------------------------------------------------


@worlds
@pytest.mark.parametrize("warm_up", [0, 4], ids=["fresh", "warm"])
def test_the_state_is_the_same_before_and_after(build: Callable[[], World], warm_up: int) -> None:
    world = seeded(build, warm_up)
    result = swept(world)
    before = world.state()
    refined = finder(world).refine(result, world.loader, **LONG)
    assert world.state() == before
    assert refined.trials is not None
    assert {trial.stage for trial in refined.trials.trials} == {"screening", "confirmation"}


@pytest.mark.parametrize(
    "name",
    [
        "SGD with momentum",
        "AdamW, fused",
        "L-BFGS",
        "dropout",
        "BatchNorm",
        "own loader generator",
        "persistent workers",
        "non-persistent buffer and own attributes",
        "numpy and python randomness",
        "scheduler attached before",
        "GradScaler",
        "model in eval mode",
    ],
)
def test_training_continues_bit_for_bit(name: str) -> None:
    without = seeded(WORLDS[name], 4)
    expected = without.train(8)
    world = seeded(WORLDS[name], 4)
    finder(world).refine(swept(world), world.loader, **LONG)
    assert world.train(8) == expected
    after, expected = world.state(), without.state()
    after.pop("identities"), expected.pop("identities")
    assert after == expected


@pytest.mark.parametrize("schedule", KINDS)
@pytest.mark.parametrize("name", ["SGD with momentum", "parameter groups", "LR held in a tensor"])
def test_a_trial_search_for_every_schedule_leaves_no_trace(schedule: str, name: str) -> None:
    # onecycle and cyclic move the momentum as well, and every scheduler writes entries into the groups.
    world = seeded(WORLDS[name], 2)
    result = swept(world)
    before = world.state()
    refined = finder(world).refine(result, world.loader, **{**LONG, "schedule": schedule})
    assert world.state() == before
    assert "step" not in vars(world.optimizer)
    assert refined.trials is not None and refined.trials.schedule == schedule
    assert len(refined.trials.in_stage("confirmation")) == 2


@worlds
def test_an_exception_in_the_loader_leaves_no_trace(build: Callable[[], World]) -> None:
    world = seeded(build, 2)
    result = swept(world)
    before = world.state()
    with pytest.raises(OSError, match="the disk is gone"):
        finder(world).refine(result, Cut(world.loader, 20, "exception"), **SHORT)
    assert same(world, before)


@worlds
def test_ctrl_c_returns_the_trials_so_far_and_leaves_no_trace(build: Callable[[], World]) -> None:
    world = seeded(build, 2)
    result = swept(world, 0.001)
    before = world.state()
    # Five or six batches a pass: the second or third trial is running.
    refined = finder(world).refine(result, Cut(world.loader, 30, "interrupt"), **SHORT)
    assert same(world, before)
    record = refined.trials
    assert record is not None and record.interrupted
    assert 1 <= len(record.trials) <= 3 and record.trials[0].lr == record.initial_lr == 0.001
    assert "until it was interrupted" in " ".join(refined.advice.reasons)


def test_ctrl_c_in_the_first_trial_leaves_the_old_advice_and_a_reason() -> None:
    world = seeded(WORLDS["SGD with momentum"])
    result = swept(world)
    before = world.state()
    refined = finder(world).refine(result, Cut(world.loader, 5, "interrupt"), **SHORT)
    assert same(world, before)
    assert refined.trials is not None and refined.trials.interrupted and refined.trials.trials == ()
    reasons = {"reasons": result.advice.reasons, "findings": result.advice.findings}
    assert dataclasses.replace(refined.advice, **reasons) == result.advice
    assert refined.advice.reasons[1:] == result.advice.reasons
    assert "interrupted" in refined.advice.reasons[0]


@pytest.mark.parametrize("number", [1, 2, 3], ids=["held out", "first", "second"])
def test_ctrl_c_is_never_raised_by_a_trial_search(number: int) -> None:
    world = seeded(WORLDS["SGD with momentum"])
    result = swept(world)
    before = world.state()
    try:
        refined = finder(world).refine(result, Cut(world.loader, number, "interrupt"), **SHORT)
    except KeyboardInterrupt:
        pytest.fail("Ctrl-C came through")
    finally:
        assert same(world, before)
    assert refined.trials is None or refined.trials.interrupted


def test_an_exception_inside_the_step_leaves_no_trace() -> None:
    world = seeded(WORLDS["GradScaler"], 2)
    result = swept(world)
    before = world.state()
    calls = itertools.count(1)

    def breaking(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if next(calls) == 17:
            raise KeyError("in the middle of a trial")
        return nn.functional.cross_entropy(output, target)

    broken = LRFinder(world.model, world.optimizer, breaking, grad_scaler=world.scaler, amp_dtype=torch.float16)
    with pytest.raises(KeyError):
        broken.refine(result, world.loader, **SHORT)
    assert world.state() == before


def test_trials_that_diverge_leave_no_trace() -> None:
    world = seeded(WORLDS["BatchNorm"], 2)
    result = swept(world, 1e30)
    before = world.state()
    refined = finder(world).refine(result, world.loader, **SHORT)
    assert world.state() == before
    assert refined.trials is not None and any(trial.loss is None for trial in refined.trials.trials)


@pytest.mark.parametrize("val_batches", [None, 2])
def test_validation_leaves_no_trace(val_batches: int | None) -> None:
    world = seeded(WORLDS["BatchNorm"], 2)
    validation = loader(generator=torch.Generator().manual_seed(5))
    drawn_from = validation.generator.get_state()
    result = swept(world)
    before = world.state()
    finder(world).refine(result, world.loader, validation, val_batches=val_batches, **LONG)
    assert world.state() == before
    assert torch.equal(validation.generator.get_state(), drawn_from)


def test_accumulation_and_clipping_leave_no_trace() -> None:
    world = seeded(WORLDS["Adam"], 2)
    result = swept(world)
    before = world.state()
    finder(world, accumulation_steps=3, clip_grad_norm=0.1).refine(result, world.loader, **LONG)
    assert world.state() == before


@pytest.mark.parametrize("storage", ["auto", "device", "cpu", "disk"])
def test_every_storage_restores_the_same(storage: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    world = seeded(WORLDS["AMSGrad"], 3)
    result = swept(world)
    before = world.state()
    finder(world).refine(result, world.loader, **SHORT, snapshot=storage)
    assert world.state() == before
    assert not list(tmp_path.iterdir()), "a file was left behind"


def test_pending_gradients_come_back_as_the_same_tensors() -> None:
    world = seeded(WORLDS["SGD with momentum"])
    result = swept(world)
    inputs, target = next(iter(world.loader))
    world.criterion(world.model(inputs), target).backward()
    pending = [parameter.grad for parameter in world.model.parameters()]
    before = world.state()
    finder(world).refine(result, world.loader, **SHORT)
    assert world.state() == before
    assert all(parameter.grad is grad for parameter, grad in zip(world.model.parameters(), pending, strict=True))


def test_a_persistent_iterator_in_use_continues_where_it_was() -> None:
    def remaining(refined: bool) -> list[Any]:
        world = seeded(WORLDS["persistent workers"])
        result = swept(world)
        iterator = iter(world.loader)
        next(iterator)
        if refined:
            finder(world).refine(result, world.loader, **SHORT)
        return [target.tolist() for _, target in iterator]

    assert remaining(refined=True) == remaining(refined=False)


@worlds
def test_two_trial_searches_in_a_row_are_the_same(build: Callable[[], World]) -> None:
    world = seeded(build, 2)
    result = swept(world)
    first, second = (finder(world).refine(result, world.loader, **SHORT) for _ in range(2))
    assert first == second


# --- the budget -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total_steps", [300, 417])
@pytest.mark.parametrize("budget", [0.1, 0.25, 0.5, 1.0, 2.0])
def test_every_step_is_counted_and_the_budget_never_exceeded(
    total_steps: int, budget: float
) -> None:
    world = seeded(WORLDS["SGD with momentum"])
    result = swept(world, 0.05)
    with counted_steps() as made:
        refined = finder(world).refine(
            result, world.loader, schedule="onecycle", total_steps=total_steps, budget=budget
        )
    record = refined.trials
    assert record is not None
    assert len(made) == record.spent <= record.budget_steps <= budget * total_steps
    assert (record.schedule, record.total_steps) == ("onecycle", total_steps)
    assert record.initial_lr == result.lr_for("onecycle")
    assert bool(record.in_stage("confirmation")) == ("confirmation" in plan_search(record.budget_steps, total_steps))


def test_steps_of_diverged_trials_are_counted() -> None:
    world = seeded(WORLDS["SGD with momentum"])
    result = swept(world, 1e4)
    with counted_steps() as made:
        refined = finder(world).refine(result, world.loader, schedule="cosine", total_steps=800, budget=0.5)
    assert refined.trials is not None
    assert any(trial.loss is None for trial in refined.trials.trials)
    assert len(made) == refined.trials.spent <= 400


def test_accumulated_batches_count_as_one_step() -> None:
    world = seeded(WORLDS["Adam"])
    result = swept(world)
    recorded = Recorded(world, accumulation_steps=3)
    with counted_steps() as made:
        refined = recorded.finder.refine(result, world.loader, **SHORT)
    assert refined.trials is not None
    assert len(made) == refined.trials.spent <= 40
    assert len(recorded.trained) == 3 * refined.trials.spent


@pytest.mark.parametrize("budget", [1e-9, 0.01, 0.18])
def test_a_budget_too_small_for_trials_runs_nothing_and_is_reported(budget: float) -> None:
    world = seeded(WORLDS["SGD with momentum"])
    result = swept(world)
    before = world.state()
    drawn: list[int] = []

    class Watched:
        def __iter__(self) -> Iterator[Any]:
            drawn.append(1)
            return iter(world.loader)

    with counted_steps() as made:
        refined = finder(world).refine(result, Watched(), schedule="linear", total_steps=160, budget=budget)
    assert refined.trials is None and not made and not drawn
    assert world.state() == before
    assert [refined.lr_for(kind) for kind in KINDS] == [result.lr_for(kind) for kind in KINDS]
    assert refined.advice.reasons[1:] == result.advice.reasons
    assert "No trial search for linear" in refined.advice.reasons[0] and "larger budget" in refined.advice.reasons[0]
    assert refined.curve == result.curve


@pytest.mark.parametrize("budget", [0.01, 0.25], ids=["no trials", "trials"])
def test_what_the_shell_recorded_of_a_run_is_kept(budget: float) -> None:
    world = seeded(WORLDS["SGD with momentum"])
    setup = {"model": "resnet18", "data": "digits", "optimizer": "SGD", "optimizer_options": {}, "batch_size": 8}
    setup |= {"weights": None, "accumulation_steps": 1, "steps_per_epoch": 16}
    run = RunRecord(setup=setup, schedule="linear", epochs=10)
    result = dataclasses.replace(swept(world), run=run)
    refined = finder(world).refine(result, world.loader, schedule="linear", total_steps=160, budget=budget)
    assert refined.run == run and (refined.trials is None) == (budget == 0.01)


def test_the_smallest_budget_has_three_trials_of_ten_steps() -> None:
    world = seeded(WORLDS["SGD with momentum"])
    refined = finder(world).refine(swept(world), world.loader, schedule="linear", total_steps=1000, budget=0.03)
    assert refined.trials is not None
    assert [trial.steps for trial in refined.trials.trials] == [10, 10, 10]


def test_for_a_training_too_short_no_larger_budget_is_suggested() -> None:
    # A sixteenth of it is below ten steps, whatever the budget.
    world = seeded(WORLDS["SGD with momentum"])
    result = swept(world)
    refined = finder(world).refine(result, world.loader, schedule="cosine", total_steps=100, budget=3.0)
    if refined.trials is None:
        assert "too few for three trials of ten" not in refined.advice.reasons[0]
        assert "larger budget" not in refined.advice.reasons[0]


# --- the same batches -------------------------------------------------------------------------------------------------


class Recorded:
    """A finder that writes down which samples each batch holds that was trained or measured on."""

    def __init__(self, world: World, **options: Any) -> None:
        self.trained: list[tuple[float, ...]] = []
        self.measured: list[tuple[float, ...]] = []

        def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
            inputs, target = batch
            (self.trained if model.training else self.measured).append(tuple(inputs[:, 0].tolist()))
            loss: torch.Tensor = world.criterion(model(inputs), target)
            return loss

        self.finder = LRFinder(world.model, world.optimizer, loss_fn=loss_fn, **options)

    def by_trial(self, result: RangeTestResult, per_step: int = 1) -> list[list[tuple[float, ...]]]:
        """Batches trained on in each trial."""
        assert result.trials is not None
        following = iter(self.trained)
        parts = [list(itertools.islice(following, per_step * trial.steps)) for trial in result.trials.trials]
        assert not list(following)
        return parts


LOADERS: dict[str, Callable[[], Any]] = {
    "a list": lambda: list(DataLoader(points(), batch_size=8)),
    "in order": lambda: DataLoader(points(), batch_size=8),
    "shuffled from the global state": loader,
    "shuffled from its own generator": lambda: loader(generator=torch.Generator().manual_seed(3)),
    "workers": lambda: loader(num_workers=1, multiprocessing_context="fork"),
    "persistent workers": lambda: loader(num_workers=1, persistent_workers=True, multiprocessing_context="fork"),
    "augmented from the global states": lambda: loader(Augmented()),
}


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("model", [mlp, lambda: mlp(nn.Dropout(0.5))], ids=["plain", "dropout"])
def test_every_trial_trains_on_the_same_batches_in_the_same_order(
    make: Callable[[], Any], model: Callable[[], nn.Module]
) -> None:
    world = seeded(lambda: World(built := model(), sgd(built), make()))
    result = swept(world, 0.02)
    recorded = Recorded(world)
    refined = recorded.finder.refine(result, world.loader, **LONG)
    batches = recorded.by_trial(refined)
    assert len(batches) >= 5
    longest = max(batches, key=len)
    assert len(longest) > 2 * 6, "more than two passes"
    assert all(trial == longest[: len(trial)] for trial in batches)


def test_a_shuffled_loader_is_shuffled_anew_in_the_second_pass() -> None:
    world = seeded(WORLDS["SGD with momentum"])
    recorded = Recorded(world)
    refined = recorded.finder.refine(swept(world, 0.02), world.loader, loader(), **LONG)
    longest = max(recorded.by_trial(refined), key=len)
    assert longest[:6] != longest[6:12]


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_held_out_batches_are_not_trained_on_in_the_first_pass(make: Callable[[], Any]) -> None:
    world = seeded(lambda: World(built := mlp(), sgd(built), make()))
    result = swept(world, 0.02)
    recorded = Recorded(world)
    refined = recorded.finder.refine(result, world.loader, **SHORT)
    assert refined.trials is not None and refined.trials.measured == "held-out"
    held_out = set(recorded.measured)
    assert len(held_out) == 1, "a fifth of six batches"
    samples = {sample for batch in held_out for sample in batch}
    for trial in recorded.by_trial(refined):
        first_pass = {sample for batch in trial[:5] for sample in batch}
        assert len(first_pass) == 40
        assert not samples & first_pass


@pytest.mark.parametrize(("count", "kept"), [(2, 1), (5, 1), (10, 2), (79, 15), (80, 16), (200, 16)])
def test_a_fifth_of_the_loader_is_held_out_16_batches_at_most(count: int, kept: int) -> None:
    world = seeded(lambda: World(built := mlp(), sgd(built), DataLoader(points(4 * count), batch_size=4)))
    result = swept(world, 0.02)
    recorded = Recorded(world)
    recorded.finder.refine(result, world.loader, **SHORT)
    assert len(set(recorded.measured)) == kept


class Stream(IterableDataset[Any]):
    """Samples without a known number."""

    def __init__(self, samples: int = 48) -> None:
        self.points = points(samples)

    def __iter__(self) -> Iterator[Any]:
        return (self.points[i] for i in range(len(self.points)))


class Unsized:
    """An iterable of batches without a length."""

    def __init__(self, count: int = 6) -> None:
        self.batches = list(DataLoader(points(8 * count), batch_size=8))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


@pytest.mark.parametrize("make", [lambda: DataLoader(Stream(), batch_size=8), Unsized], ids=["stream", "unsized"])
@pytest.mark.parametrize("validated", [False, True], ids=["held-out", "validation"])
def test_a_loader_of_unknown_length_serves_for_trials(make: Callable[[], Any], validated: bool) -> None:
    world = seeded(lambda: World(built := mlp(), sgd(built), make()))
    result = swept(world, 0.02)
    recorded = Recorded(world)
    refined = recorded.finder.refine(result, world.loader, make() if validated else None, **SHORT)
    assert refined.trials is not None and len(refined.trials.trials) >= 3
    if not validated:
        assert not set(recorded.measured) & {batch for trial in recorded.by_trial(refined) for batch in trial[:3]}


@pytest.mark.parametrize("count", [1, 2, 6])
def test_batches_of_unknown_number_are_never_all_held_out(count: int) -> None:
    world = seeded(lambda: World(built := mlp(), sgd(built), Unsized(count)))
    result = swept(world, 0.02)
    recorded = Recorded(world)
    try:
        recorded.finder.refine(result, world.loader, **SHORT)
    except SetupError as error:
        assert count == 1 and "val_loader" in str(error)
    else:
        assert count > 1 and len(set(recorded.measured)) < count


def test_with_a_validation_loader_nothing_is_held_out() -> None:
    world = seeded(WORLDS["SGD with momentum"])
    result = swept(world, 0.02)
    validation = DataLoader(points(20), batch_size=10)
    recorded = Recorded(world)
    refined = recorded.finder.refine(result, world.loader, validation, **SHORT)
    assert refined.trials is not None and refined.trials.measured == "validation"
    assert set(recorded.measured) == {tuple(inputs[:, 0].tolist()) for inputs, _ in validation}
    # Before the first trial and after each.
    assert len(recorded.measured) == 2 * (1 + len(refined.trials.trials))
    assert all(len({sample for batch in trial[:6] for sample in batch}) == 48 for trial in recorded.by_trial(refined))


@pytest.mark.parametrize("val_batches", [1, 3])
def test_val_batches_keeps_the_first_ones_as_a_fixed_probe(val_batches: int) -> None:
    world = seeded(WORLDS["SGD with momentum"])
    recorded = Recorded(world)
    refined = recorded.finder.refine(swept(world, 0.02), world.loader, loader(), val_batches=val_batches, **SHORT)
    assert refined.trials is not None
    assert len(set(recorded.measured)) == val_batches
    assert len(recorded.measured) == val_batches * (1 + len(refined.trials.trials))


# --- known truth ------------------------------------------------------------------------------------------------------


class Bowl(nn.Module):
    """The quadratic sum(h_i w_i**2) / 2; gradient descent on it is stable below 2 / max(h)."""

    def __init__(self, h: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(20))
        self.register_buffer("curvatures", h / torch.arange(1, 21))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.curvatures * self.weight**2).sum() / 2


def bowl_search(h: float, centre: float, **options: Any) -> tuple[RangeTestResult, RangeTestResult]:
    """Trial search for a constant LR from a given initial one: the result before and after."""
    torch.manual_seed(0)
    model = Bowl(h)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    batches = [torch.zeros(1)] * 50  # eight passes make 400 steps, and more would lower the LR
    lr_finder = LRFinder(model, optimizer, loss_fn=lambda model, batch: model(batch))
    result = lr_finder.range_test(batches)
    result = dataclasses.replace(result, advice=advice(centre / FITTED.peak_factor("constant"), ceiling=None))
    given = {"schedule": "constant", "total_steps": 400, "budget": 0.25, "warmup_steps": 0, **options}
    return result, lr_finder.refine(result, batches, **given)


@pytest.mark.parametrize("h", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("budget", [0.25, 1.0])
@pytest.mark.parametrize("too_low", [8.0, 20.0])
def test_advice_far_too_low_moves_up_and_stays_below_the_stability_limit(
    h: float, budget: float, too_low: float
) -> None:
    limit = 2 / h
    result, refined = bowl_search(h, limit / too_low, budget=budget)
    assert refined.trials is not None
    assert result.lr_for("constant") < refined.lr_for("constant") < limit
    assert max(trial.lr for trial in refined.trials.trials if trial.loss is not None) <= limit * (1 + 1e-9)


@pytest.mark.parametrize("h", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("budget", [0.25, 1.0])
def test_advice_far_too_high_moves_below_the_stability_limit(h: float, budget: float) -> None:
    limit = 2 / h
    result, refined = bowl_search(h, 6 * limit, budget=budget)
    assert refined.lr_for("constant") < limit < result.lr_for("constant")


@pytest.mark.parametrize("steps", [800, 1600])
def test_a_trial_that_diverges_ends_early_and_does_not_decide(steps: int) -> None:
    limit = 2.0
    _, refined = bowl_search(1.0, limit / 2.5, total_steps=steps)
    assert refined.trials is not None
    planned = max(trial.steps for trial in refined.trials.trials)
    high = [trial for trial in refined.trials.trials if trial.lr > 1.5 * limit]
    low = [trial for trial in refined.trials.trials if trial.lr < 0.75 * limit]
    assert high and low
    assert all(trial.loss is None and trial.steps < planned for trial in high)
    assert all(trial.loss is not None and math.isfinite(trial.loss) and trial.steps == planned for trial in low)
    assert (best_trial_lr(refined.trials) or limit) < limit


NEW_HEAD = ModelFacts(pretrained=True, trained=(0.0,), frozen_trained=1.0)


@pytest.mark.parametrize("facts", [ModelFacts(), NEW_HEAD], ids=["a network", "a new head"])
def test_only_trials_of_a_new_head_exceed_the_ceiling(facts: ModelFacts) -> None:
    world = seeded(WORLDS["SGD with momentum"])
    curve = dataclasses.replace(finder(world).range_test(world.loader).curve, facts=facts)
    result = RangeTestResult(curve=curve, advice=advice(0.02, ceiling=0.03, edge_lr=0.06))
    refined = finder(world).refine(result, world.loader, **LONG)
    assert refined.trials is not None
    assert refined.trials.min_improvement == 0, "the sweep saw learning, or its edge would be no limit"
    assert (max(trial.lr for trial in refined.trials.trials) <= 0.03 * (1 + 1e-6)) == (facts is not NEW_HEAD)


@pytest.mark.parametrize("schedule", KINDS)
def test_no_schedule_exceeds_the_ceiling_or_the_best_trial(schedule: str) -> None:
    world = seeded(WORLDS["SGD with momentum"])
    result = swept(world)
    result = dataclasses.replace(result, advice=advice(0.2, ceiling=0.25, edge_lr=0.5))
    refined = finder(world).refine(result, world.loader, **{**SHORT, "schedule": schedule})
    assert refined.trials is not None and best_trial_lr(refined.trials) is not None
    highest = max(refined.lr_for(kind) for kind in KINDS)
    assert highest <= 1.05 * max(0.25, best_trial_lr(refined.trials))


# --- the refined advice -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", KINDS)
@lengths
def test_the_advice_for_the_schedule_lies_between_range_test_and_trials(schedule: str, length: dict[str, Any]) -> None:
    world = seeded(WORLDS["SGD with momentum"])
    result = swept(world, 0.02)
    refined = finder(world).refine(result, world.loader, **{**length, "schedule": schedule})
    record = refined.trials
    assert record is not None and best_trial_lr(record) is not None
    ends = sorted((best_trial_lr(record), record.initial_lr))
    assert ends[0] * 0.9 <= refined.lr_for(schedule) <= ends[1] * 1.1
    assert refined.lr_for(schedule) == float(f"{refined.lr_for(schedule):.2g}")
    low, high = refined.advice.interval or (math.inf, 0.0)
    assert low < refined.lr_for(schedule) / FITTED.peak_factor(schedule) < high
    assert refined.advice.grade in ("high", "medium")
    assert refined.curve == result.curve


@lengths
def test_the_reasons_name_the_cost_and_every_trial(length: dict[str, Any]) -> None:
    world = seeded(WORLDS["SGD with momentum"])
    refined = finder(world).refine(swept(world, 0.02), world.loader, **length)
    record = refined.trials
    assert record is not None
    reasons = " ".join(refined.advice.reasons)
    assert refined.advice.reasons[0].startswith("Trial search: ")
    assert f"{record.spent} optimizer steps" in reasons and "cosine" in reasons and "Held-out losses" in reasons
    assert "interrupted" not in reasons
    assert all(f"{float(f'{trial.lr:.2g}'):g}" in reasons for trial in record.trials)
    assert ("confirmation" in reasons) == bool(record.in_stage("confirmation"))


@lengths
def test_a_refined_result_comes_back_equal_from_its_file_and_is_printed(length: dict[str, Any], tmp_path: Path) -> None:
    world = seeded(WORLDS["SGD with momentum"])
    refined = finder(world).refine(swept(world, 0.3), world.loader, **length)
    back = RangeTestResult.load(refined.save(tmp_path / "lr.json"))
    assert back == refined
    assert back.trials == refined.trials is not None
    assert str(back) == str(refined)
    assert "\n\nLearning-rate range test with SGD\n" in str(refined)
    assert "Trial search:" in str(refined)
    assert all(len(line) <= 80 for line in str(refined).splitlines())


def test_a_refined_result_can_be_refined_again() -> None:
    world = seeded(WORLDS["SGD with momentum"])
    once = finder(world).refine(swept(world, 0.02), world.loader, **SHORT)
    twice = finder(world).refine(once, world.loader, **SHORT)
    assert once.trials is not None and twice.trials is not None
    assert twice.trials.initial_lr == once.lr_for("cosine")


def test_trials_without_improvement_leave_the_old_advice_and_a_reason() -> None:
    world = seeded(WORLDS["SGD with momentum"])
    result = swept(world, 1e30)
    refined = finder(world).refine(result, world.loader, **SHORT)
    assert refined.trials is not None and best_trial_lr(refined.trials) is None
    assert [refined.lr_for(kind) for kind in KINDS] == [result.lr_for(kind) for kind in KINDS]
    assert "no trial lowered the held-out loss" in refined.advice.reasons[0]
    assert refined.advice.reasons[-len(result.advice.reasons) :] == result.advice.reasons


def test_the_options_of_the_schedule_reach_the_trials() -> None:
    def started_at(warmup_factor: float) -> float:
        world = seeded(WORLDS["plain SGD"])
        lrs: list[float] = []
        handle = world.optimizer.register_step_pre_hook(
            lambda optimizer, arguments, options: lrs.append(float(optimizer.param_groups[0]["lr"]))
        )
        result = swept(world, 0.02)
        lrs.clear()
        finder(world).refine(
            result, world.loader, warmup_steps=100, warmup_factor=warmup_factor, **{**LONG, "total_steps": 400}
        )
        handle.remove()
        return lrs[0]

    assert started_at(0.5) == pytest.approx(0.01)
    assert started_at(0.1) == pytest.approx(0.002)


# --- what is refused, each beside the nearest that is accepted --------------------------------------------------------


def refine(result: RangeTestResult | None = None, train: Any = None, validation: Any = None, **options: Any) -> Any:
    """A trial search on a small world in which everything can be replaced."""
    world = with_sgd(mlp())
    result = result or swept(world, 0.02)
    return finder(world).refine(result, world.loader if train is None else train, validation, **{**SHORT, **options})


@pytest.mark.parametrize(
    ("name", "bad", "nearest", "words"),
    [
        ("budget", 0, 1e-12, "budget must be"),
        ("budget", -1, 1, "budget must be"),
        ("budget", math.nan, 0.3, "budget must be"),
        ("budget", math.inf, 2.0, "budget must be"),
        ("budget", True, 1, "budget must be"),
        ("budget", "0.25", 0.25, "budget must be"),
        ("total_steps", 0, 1, "total_steps must be a whole number of at least 1"),
        ("total_steps", 160.5, 160, "total_steps must be a whole number"),
        ("total_steps", True, 1, "total_steps must be a whole number"),
        ("schedule", "Cosine", "cosine", "Did you mean 'cosine'"),
        ("schedule", "", "linear", "schedule must be one of"),
        ("val_batches", 0, 1, "val_batches must be a whole number of at least 1"),
        ("val_batches", 1.5, 2, "val_batches must be a whole number"),
        ("snapshot", "memory", "cpu", "snapshot must be one of"),
        ("warmup_steps", -1, 0, "warmup_steps must be a whole number of at least 0"),
        ("warmup_steps", SHORT["total_steps"], 16, "warmup_steps must be less than the"),
    ],
)
def test_a_bad_value_is_refused_before_anything_runs(
    name: str, bad: Any, nearest: Any, words: str
) -> None:
    validation = loader() if name == "val_batches" else None
    with counted_steps() as made, pytest.raises(ConfigError, match=words):
        world = with_sgd(mlp())
        result = swept(world, 0.02)
        made.clear()
        finder(world).refine(result, world.loader, validation, **{**SHORT, name: bad})
    assert not made
    assert isinstance(refine(validation=validation, **{name: nearest}), RangeTestResult)


def test_an_option_unknown_to_the_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match="cosine has no option 'eta'.*Did you mean 'eta_min'"):
        refine(eta=1e-5)
    assert refine(eta_min=1e-5).trials is not None


@pytest.mark.parametrize("make", [iter, lambda batches: (batch for batch in batches)], ids=["iterator", "generator"])
def test_a_train_loader_that_is_an_iterator_is_refused(
    make: Callable[[Any], Any],
) -> None:
    batches = list(loader())
    with pytest.raises(SetupError, match="train_loader is an iterator.*Pass a DataLoader or a list"):
        refine(train=make(batches))
    assert refine(train=batches).trials is not None


class OneIterator:
    """A loader that gives the same iterator each time."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches = iter(batches)

    def __iter__(self) -> Iterator[Any]:
        return self._batches


class NoLength(list[Any]):
    """A loader whose length cannot be told."""

    def __len__(self) -> int:
        raise NotImplementedError


def test_a_loader_that_ends_for_good_is_refused() -> None:
    batches = list(loader())
    with pytest.raises(SetupError, match="returns one that ends for good"):
        refine(train=OneIterator(batches), validation=batches)
    assert refine(train=NoLength(batches)).trials is not None


def test_what_is_no_result_and_a_peak_are_refused_by_name() -> None:
    world = with_sgd(mlp())
    with pytest.raises(ConfigError, match="result must be what range_test returned; got a LossCurve"):
        finder(world).refine(swept(world).curve, world.loader, **SHORT)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Leave peak_lr out"):
        refine(peak_lr=0.1)


def test_a_val_loader_that_is_an_iterator_needs_val_batches() -> None:
    with pytest.raises(SetupError, match="val_loader is an iterator"):
        refine(validation=iter(list(loader())))
    assert refine(validation=iter(list(loader())), val_batches=2).trials is not None


def test_a_curve_without_advice_cannot_be_refined() -> None:
    world = with_sgd(mlp())
    result = swept(world, 0.02)
    with pytest.raises(NoAdviceError, match="Nothing to see"):
        refine(dataclasses.replace(result, advice=NO_ADVICE))
    assert refine(result).trials is not None


def test_a_single_batch_is_refused_without_a_val_loader() -> None:
    single = list(loader())[:1]
    with pytest.raises(SetupError, match="too few batches.*Pass val_loader: other batches, or the training batches"):
        refine(train=single)
    assert refine(train=single, validation=list(loader())).trials is not None
    assert refine(train=list(loader())[:2]).trials is not None


@pytest.mark.parametrize("validated", [False, True])
def test_an_empty_train_loader_is_refused(validated: bool) -> None:
    with pytest.raises(SetupError):
        refine(train=[], validation=list(loader()) if validated else None)


def test_an_empty_val_loader_is_refused() -> None:
    with pytest.raises(SetupError, match="val_loader gave no batch at all"):
        refine(validation=[])


@pytest.mark.parametrize("bad", [{"total_steps": 0}, {"schedule": "cosin"}, {"budget": 0}, {"eta": 1.0}], ids=str)
def test_what_is_refused_leaves_no_trace(bad: dict[str, Any]) -> None:
    world = seeded(WORLDS["Adam"], 2)
    result = swept(world)
    before = world.state()
    with pytest.raises(ConfigError):
        finder(world).refine(result, world.loader, **{**SHORT, **bad})
    assert world.state() == before


def test_options_valid_for_the_whole_training_are_valid_for_trials() -> None:
    # Valid for 1000 steps; rounded to the length of a trial, the last drop and the end of the warm-up fall on its end.
    assert refine(schedule="multistep", total_steps=1000, budget=0.6, milestones=[500, 999]).trials is not None
    assert refine(schedule="cosine", total_steps=1000, budget=0.6, warmup_steps=999).trials is not None


@pytest.mark.parametrize("progress", [True, False])
def test_nothing_is_printed_into_a_pipe(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    refine(progress=progress)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_loss_overwritten_by_the_next_step_counts_as_it_was() -> None:
    """Loss like that of a CUDA graph: three losses far above the limit, and one below it in the same memory."""
    monitor = DivergenceMonitor(40, 1.0)
    loss = torch.tensor(0.0)
    ended = []
    for step in range(1, 9):
        loss.fill_(0.5 if step % 4 == 0 else 9.0)
        ended.append(monitor.diverged(loss))
    assert ended == [False] * 7 + [True]


# --- what tells whether it overfits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation_steps", [1, 3])
def test_the_record_tells_how_often_the_training_sees_its_data(accumulation_steps: int) -> None:
    world, unsized = seeded(lambda: with_sgd(mlp())), Unsized(6)
    tested, result = finder(world, accumulation_steps=accumulation_steps), swept(world)
    often = SHORT["total_steps"] * accumulation_steps / 6
    for batches, passes in ((unsized.batches, often), (unsized, None)):
        trials = tested.refine(result, batches, unsized.batches, **SHORT).trials
        assert trials is not None and trials.passes == passes


def test_a_trial_has_its_training_loss_beside_its_validation_loss() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tested = LRFinder(model, optimizer, loss_fn=lambda net, batch: 0 * net(batch).mean() + 1 + int(net.training))
    batches = [torch.randn(4, 2) for _ in range(8)]
    result = dataclasses.replace(swept(seeded(lambda: with_sgd(mlp()))), advice=advice(0.01))
    trials = tested.refine(result, batches, batches, **SHORT).trials
    assert trials is not None
    assert {(trial.train_loss, trial.loss) for trial in trials.trials} == {(2.0, 1.0)}
