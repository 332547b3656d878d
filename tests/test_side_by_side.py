"""Heats side by side: the race that one heat after another gives, and a reason where they cannot be."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import LRFinder, RangeTestResult
from lrfinder.errors import SetupError
from lrfinder.race import RaceRecord
from test_refine import LONG, SHORT, Cut, Recorded, advice, counted_steps, finder, same, seeded
from worlds import WORLDS, Augmented, Counting, World, devices, loader, mlp, points, tied, with_sgd

Build = Callable[[], World]

SWEEP = {"start_lr": 1e-4, "end_lr": 10.0, "num_iter": 50}  # long enough to see learning: then three heats are certain

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.05),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, 0.9, weight_decay=0.01),
    "Nesterov": lambda p: torch.optim.SGD(p, 0.05, 0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, 1e-3, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1),
    "AdamW, foreach": lambda p: torch.optim.AdamW(p, 1e-3, foreach=True),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, 1e-3, fused=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.5, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 1e-2),
    "Adafactor": lambda p: torch.optim.Adafactor(p, 1e-2),
}


class Transformer(nn.Module):
    """One block over the six features as a sequence."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.inputs = nn.Linear(1, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=dropout, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.head(self.block(self.inputs(inputs[..., None])).mean(1))
        return output


def convolution() -> nn.Module:
    norm = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.1), nn.Flatten(), nn.Linear(24, 3))
    return nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 3, padding=1, bias=False), *norm)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "MLP": mlp,
    "convolution, BatchNorm and dropout": convolution,
    "transformer": Transformer,
    "tied weights": tied,
}


def world_of(model: nn.Module, optimizer: Callable[[Any], Any] = OPTIMIZERS["momentum"], **options: Any) -> World:
    return World(model, optimizer(model.parameters()), loader(), **options)


def raced(
    build: Build, side_by_side: bool | None, base_lr: float = 0.01, given: dict[str, Any] = SHORT, **options: Any
) -> RaceRecord:
    """The record of a race in a world built afresh."""
    world = seeded(build, 3)
    made = LRFinder(world.model, world.optimizer, world.criterion, **options)
    return race_of(made, world, side_by_side, base_lr, given)


@functools.cache
def sweep_result() -> RangeTestResult:
    world = seeded(lambda: with_sgd(mlp()))
    return finder(world).range_test(world.loader, **SWEEP)


@pytest.fixture(scope="module", autouse=True)
def at_hand() -> None:
    """Made beforehand: it seeds the random states, and a race starts from them as they are."""
    sweep_result()


def swept(base_lr: float = 0.01) -> RangeTestResult:
    """A sweep that saw learning, with advice made by hand that has no ceiling; it serves for all these worlds."""
    return dataclasses.replace(sweep_result(), advice=advice(base_lr))


def race_of(
    made: LRFinder,
    world: World,
    side_by_side: bool | None = True,
    base_lr: float = 0.01,
    given: dict[str, Any] = SHORT,
    validation: Any = None,
) -> RaceRecord:
    race = made.refine(swept(base_lr), world.loader, validation, side_by_side=side_by_side, **given).race
    assert race is not None
    return race


def assert_alike(ours: RaceRecord, twin: RaceRecord, rel: float = 1e-3) -> None:
    """The same heats, given up after the same steps, with losses equal up to rounding; the winner is then the same."""
    assert [(heat.stage, heat.steps) for heat in ours.heats] == [(heat.stage, heat.steps) for heat in twin.heats]
    assert [heat.lr for heat in ours.heats] == pytest.approx([heat.lr for heat in twin.heats])
    for mine, other in zip(ours.heats, twin.heats, strict=True):
        assert (mine.loss is None) == (other.loss is None)
        assert mine.loss is None or mine.loss == pytest.approx(other.loss, rel=rel)
    assert ours.start_loss == twin.start_loss
    assert (ours.winner or 0) == pytest.approx(twin.winner or 0, rel=0.05)


# --- the twin ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("model", [mlp, convolution], ids=["MLP", "convolution"])
def test_the_race_is_that_of_one_heat_after_another(
    model: Callable[[], nn.Module], optimizer: Callable[[Any], Any]
) -> None:
    def build() -> World:
        return world_of(model(), optimizer)

    assert_alike(raced(build, True), raced(build, False))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_race_is_that_of_one_heat_after_another_for_every_kind_of_model(model: Callable[[], nn.Module]) -> None:
    def build() -> World:
        return world_of(model())

    assert_alike(raced(build, True, given=LONG), raced(build, False, given=LONG))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_twins_differ_by_rounding_alone(model: Callable[[], nn.Module]) -> None:
    # Rounding grows while a model trains; in double precision there is next to none of it to begin with.
    def build() -> World:
        world = world_of(model().double(), OPTIMIZERS["Adam"])
        inputs, target = points()[:]
        world.loader = loader(TensorDataset(inputs.double(), target))
        return world

    assert_alike(raced(build, True, given=LONG), raced(build, False, given=LONG), rel=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "parameter groups",
        "LR held in a tensor",
        "scheduler attached before",
        "frozen BatchNorm",
        "own loader generator",
        "persistent workers",
        "numpy and python randomness",
    ],
)
def test_a_training_with_its_own_ways_is_raced_as_by_itself(name: str) -> None:
    assert_alike(raced(WORLDS[name], True), raced(WORLDS[name], False))


@pytest.mark.parametrize(
    "options",
    [{"clip_grad_norm": 0.05}, {"accumulation_steps": 3}, {"amp_dtype": torch.bfloat16}],
    ids=["clipping", "accumulation", "autocast"],
)
def test_a_finder_with_options_races_as_by_itself(options: dict[str, Any]) -> None:
    rel = 0.03 if "amp_dtype" in options else 1e-3  # bfloat16 keeps three digits
    both = [raced(lambda: world_of(mlp()), way, **options) for way in (True, False)]
    assert_alike(*both, rel=rel)


@pytest.mark.parametrize("make", [lambda: loader(Augmented()), lambda: loader(points(20))], ids=["random", "shuffled"])
def test_each_candidate_is_measured_on_the_validation_batches_that_it_would_have_by_itself(
    make: Callable[[], Any],
) -> None:
    both = []
    for way in (True, False):
        world = seeded(lambda: world_of(mlp(nn.BatchNorm1d(16))), 3)
        both.append(race_of(finder(world), world, way, validation=make()))
    assert_alike(*both)


class Marked(torch.optim.Optimizer):
    """As people write their own: settings on itself, a mark on a parameter, and a list of what it found out."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})
        self.factor, self.norms = 0.5, []
        self.param_groups[0]["params"][0].slow = True

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                factor = self.factor if getattr(parameter, "slow", False) else 1.0
                self.norms.append(parameter.grad.norm())
                parameter -= self.param_groups[0]["lr"] * factor * parameter.grad / (1 + self.norms[0])


def test_an_optimizer_of_ones_own_keeps_what_it_knows() -> None:
    def build() -> World:
        return world_of(mlp(), lambda p: Marked(p, 0.05))

    assert_alike(raced(build, True), raced(build, False))


def test_a_loss_that_reaches_into_the_model_gets_the_candidates_weights() -> None:
    def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
        hidden = model[0](batch[0])
        loss: torch.Tensor = nn.functional.cross_entropy(model[2](model[1](hidden)), batch[1])
        return loss + 0.01 * model[0].weight.square().sum()

    both = []
    for way in (True, False):
        world = seeded(lambda: world_of(mlp()))
        both.append(race_of(LRFinder(world.model, world.optimizer, loss_fn=loss_fn), world, way))
    assert_alike(*both)


@devices
@pytest.mark.parametrize("optimizer", ["momentum", "AdamW, fused"])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_twins_agree_on_the_device(model: Callable[[], nn.Module], optimizer: str, device: str) -> None:
    def build() -> World:
        built = model().to(device, torch.float32)
        return World(built, OPTIMIZERS[optimizer](built.parameters()), loader(), device=device)

    assert_alike(raced(build, True), raced(build, False), rel=0.02)


def passes(side_by_side: bool | None) -> tuple[RaceRecord, list[tuple[float, ...]]]:
    """A race on a small world, and the batches of every training pass it made."""
    world = seeded(lambda: world_of(mlp()))
    result = swept(1e-4)
    recorded = Recorded(world)
    race = recorded.finder.refine(result, world.loader, side_by_side=side_by_side, **SHORT).race
    assert race is not None
    return race, recorded.trained


def test_the_first_three_heats_see_each_batch_together_and_the_same_as_by_themselves() -> None:
    (_, together), (race, by_themselves) = passes(True), passes(False)
    assert [heat.steps for heat in race.heats] == [10] * 4
    # Together it is ten, with the first one made on the model as well, and ten for the fourth heat.
    assert len(by_themselves) == 40 and len(together) == 21
    assert together[0] == together[1]
    assert together[1:11] == together[11:] == by_themselves[:10]


# --- candidates that go bad, and the budget ---------------------------------------------------------------------------


@pytest.mark.parametrize("base_lr", [3.0, 1e3, 1e30], ids=["one", "two", "all"])
def test_a_candidate_that_goes_bad_is_given_up_where_it_would_be_and_the_others_go_on(base_lr: float) -> None:
    given = {"schedule": "cosine", "total_steps": 800, "budget": 0.3}
    ours, twin = (raced(lambda: world_of(mlp()), way, base_lr, given) for way in (True, False))
    assert any(heat.loss is None for heat in ours.heats[:3])
    assert [(heat.lr, heat.steps, heat.loss is None) for heat in ours.heats[:3]] == [
        (heat.lr, heat.steps, heat.loss is None) for heat in twin.heats[:3]
    ]


@pytest.mark.parametrize("base_lr", [0.01, 3.0, 1e30])
@pytest.mark.parametrize("budget", [0.1, 0.25, 1.0])
def test_no_more_steps_are_made_than_the_budget_has_and_each_is_counted(base_lr: float, budget: float) -> None:
    world = seeded(lambda: world_of(mlp()))
    result = swept(base_lr)
    with counted_steps() as steps:
        race = (
            finder(world)
            .refine(result, world.loader, schedule="cosine", total_steps=300, budget=budget, side_by_side=True)
            .race
        )
    assert race is not None
    assert len(steps) == race.spent <= race.budget_steps


def test_the_progress_bar_ticks_once_for_each_optimizer_step(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[int] = []

    class Bar:
        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def set_postfix_str(self, *_: object, **__: object) -> None:
            pass

        def update(self) -> None:
            ticks.append(1)

    world = seeded(lambda: world_of(mlp()))
    result = swept()
    monkeypatch.setattr("lrfinder.finder._progress_bar", lambda *_, **__: Bar())
    race = finder(world).refine(result, world.loader, side_by_side=True, **SHORT).race
    assert race is not None and len(ticks) == race.spent


# --- no trace ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", WORLDS.values(), ids=WORLDS)
def test_nothing_is_left_behind_whether_it_is_possible_or_not(build: Build) -> None:
    world = seeded(build, 2)
    options = {"grad_scaler": world.scaler, "amp_dtype": torch.float16} if world.scaler is not None else {}
    made = LRFinder(world.model, world.optimizer, world.criterion, **options)
    result = swept()
    before = world.state()
    try:
        made.refine(result, world.loader, side_by_side=True, **SHORT)
    except SetupError as error:
        assert "side by side" in str(error)
    assert world.state() == before


def test_two_races_in_a_row_are_the_same() -> None:
    world = seeded(lambda: world_of(convolution()))
    first, second = (race_of(finder(world), world) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("number", [5, 12, 20])
def test_ctrl_c_gives_back_the_heats_that_were_finished_and_leaves_no_trace(number: int) -> None:
    world = seeded(lambda: world_of(mlp()), 2)
    result = swept()
    before = world.state()
    refined = finder(world).refine(result, Cut(world.loader, number, "interrupt"), side_by_side=True, **SHORT)
    assert same(world, before)
    assert refined.race is not None and refined.race.interrupted
    assert len(refined.race.heats) == (3 if number == 20 else 0)


def test_an_exception_in_the_loader_comes_through_and_leaves_no_trace() -> None:
    world = seeded(lambda: world_of(mlp()), 2)
    result = swept()
    before = world.state()
    with pytest.raises(OSError, match="the disk is gone"):
        finder(world).refine(result, Cut(world.loader, 8, "exception"), side_by_side=True, **SHORT)
    assert same(world, before)


# --- what cannot be done, each beside the nearest that can ------------------------------------------------------------


class Wrapper:
    """As trainers wrap an optimizer."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.param_groups, self.state = optimizer.param_groups, optimizer.state

    def step(self) -> None:
        self.optimizer.step()

    def state_dict(self) -> Any:
        return self.optimizer.state_dict()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)


class Clamped(nn.Module):
    """Branches on the value of a tensor, or does the same without."""

    def __init__(self, branch: bool) -> None:
        super().__init__()
        self.body, self.branch = mlp(), branch

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.body(inputs)
        if self.branch:
            return output if output.abs().max() < 50 else output.clamp(-50, 50)
        return output.clamp(-50, 50)


class Reassigned(nn.Module):
    """Writes into a buffer in place, or puts another tensor there."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.body, self.in_place = mlp(), in_place
        self.register_buffer("running", torch.zeros(3))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.body(inputs)
        mean = output.detach().mean(0)
        if self.in_place:
            self.running.mul_(0.9).add_(mean)
        else:
            self.running = 0.9 * self.running + mean
        return output + 0.1 * self.running


class Learnt(nn.Module):
    """A criterion with a temperature that is trained along, or a number."""

    def __init__(self, trained: bool) -> None:
        super().__init__()
        temperature = torch.tensor(1.5)
        self.temperature = nn.Parameter(temperature) if trained else temperature

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(output / self.temperature, target)


def with_criterion(trained: bool) -> World:
    model, criterion = mlp(), Learnt(trained)
    return World(model, torch.optim.SGD([*model.parameters(), *criterion.parameters()], 0.05), loader(), criterion)


def hooked(step: bool = False, gradient: bool = False) -> World:
    world = world_of(mlp())
    if step:
        world.optimizer.register_step_post_hook(lambda optimizer, arguments, options: None)
    if gradient:
        world.model[0].weight.register_hook(lambda gradient: gradient * 0.5)
    return world


def in_a_loop(item: bool) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    seen: list[float] = []

    def criterion(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss = nn.functional.cross_entropy(output, target)
        seen.append(loss.item() if item else 1.0)
        return loss

    return criterion


def scaled() -> World:
    return WORLDS["GradScaler"]()


REFUSED: dict[str, tuple[Build, str, Build]] = {
    "closure": (WORLDS["L-BFGS"], "LBFGS runs the model itself", WORLDS["Adam"]),
    "GradScaler": (scaled, "a GradScaler is used", WORLDS["SGD with momentum"]),
    "compiled": (WORLDS["torch.compile"], "the model is compiled", WORLDS["SGD with momentum"]),
    "wrapped optimizer": (
        lambda: world_of(mlp(), lambda p: Wrapper(torch.optim.SGD(p, 0.05))),
        "Wrapper is no torch.optim.Optimizer",
        lambda: world_of(mlp(), OPTIMIZERS["SGD"]),
    ),
    "step hook": (lambda: hooked(step=True), "the optimizer has step hooks", hooked),
    "gradient hook": (lambda: hooked(gradient=True), "a parameter has a hook", hooked),
    "trained criterion": (
        lambda: with_criterion(True),
        "parameters that are not the model's",
        lambda: with_criterion(False),
    ),
    "item()": (
        lambda: with_sgd(mlp(), criterion=in_a_loop(True)),
        "vmap: .*item",
        lambda: with_sgd(mlp(), criterion=in_a_loop(False)),
    ),
    "branch": (
        lambda: with_sgd(Clamped(True)),
        "vmap: .*data-dependent control flow",
        lambda: with_sgd(Clamped(False)),
    ),
    "no batching rule": (lambda: with_sgd(mlp(nn.RReLU())), "aten::rrelu", lambda: with_sgd(mlp(nn.LeakyReLU()))),
    "another buffer": (
        lambda: with_sgd(Reassigned(False)),
        "not those of the model by itself",
        lambda: with_sgd(Reassigned(True)),
    ),
    "notes": (lambda: with_sgd(Counting()), "keeps notes about itself", lambda: with_sgd(Reassigned(True))),
    "cumulative BatchNorm": (
        lambda: with_sgd(mlp(nn.BatchNorm1d(16, momentum=None))),
        "vmap: .*item",
        lambda: with_sgd(mlp(nn.BatchNorm1d(16))),
    ),
    "dropout inside attention": (
        lambda: with_sgd(Transformer(dropout=0.1)),
        "not those of the model by itself",
        lambda: with_sgd(mlp(nn.Dropout(0.1), nn.AlphaDropout(0.1))),
    ),
    "LSTM": (
        lambda: with_sgd(nn.Sequential(nn.Unflatten(1, (2, 3)), nn.LSTM(3, 4), First(), nn.Flatten(), nn.Linear(8, 3))),
        "Batching rule not implemented for aten::lstm",
        lambda: with_sgd(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))),
    ),
}


class First(nn.Module):
    """The output of an LSTM without its state."""

    def forward(self, both: tuple[torch.Tensor, Any]) -> torch.Tensor:
        return both[0]


refused = pytest.mark.parametrize(("build", "reason", "nearest"), REFUSED.values(), ids=REFUSED)


@refused
def test_what_cannot_be_is_refused_with_the_reason_and_the_nearest_accepted(
    build: Build, reason: str, nearest: Build
) -> None:
    world = seeded(build)
    before = world.state()
    result = swept()
    with counted_steps() as steps, pytest.raises(SetupError, match=reason) as refusal:
        finder(world).refine(result, world.loader, side_by_side=True, **SHORT)
    assert str(refusal.value).startswith("the heats cannot be trained side by side: ")
    assert not steps and world.state() == before
    assert_alike(raced(nearest, True), raced(nearest, False))


@refused
def test_where_it_pays_what_cannot_be_is_raced_one_heat_after_another_and_said_in_one_line(
    build: Build, reason: str, nearest: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lrfinder.finder.PAYS_ON", {"cpu"})
    races = []
    for way in (None, False):
        world = seeded(build)
        with caplog.at_level(logging.INFO, logger="lrfinder"):
            races.append(race_of(finder(world), world, way))
    assert races[0] == races[1]
    lines = [record.getMessage() for record in caplog.records if "one after another" in record.getMessage()]
    assert len(lines) == 1 and "\n" not in lines[0]


@pytest.mark.gpu
def test_a_device_without_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> World:
        model = mlp().to("cuda")
        return World(model, OPTIMIZERS["AdamW"](model.parameters()), loader(), device="cuda")

    raced(build, True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 1))
    monkeypatch.setattr(torch.cuda, "memory_reserved", torch.cuda.memory_allocated)
    with pytest.raises(SetupError, match="has 0 MB free, and .* MB are needed"):
        raced(build, True)


def test_where_it_pays_nothing_is_said_of_what_can_be(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lrfinder.finder.PAYS_ON", {"cpu"})
    with caplog.at_level(logging.INFO, logger="lrfinder"):
        assert passes(None) == passes(True)
    assert not caplog.records


def test_unasked_for_it_is_done_only_where_it_has_been_shown_to_pay() -> None:
    assert passes(None) == passes(False) != passes(True)


def test_what_vmap_cannot_run_later_on_is_raced_again_one_heat_after_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lrfinder.finder.PAYS_ON", {"cpu"})

    def criterion(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss = nn.functional.cross_entropy(output, target)
        # The fifth batch of a pass is the short one.
        return loss if len(target) == 8 else loss * (1.0 if loss < 100 else 0.5)

    def build() -> World:
        world = with_sgd(mlp(), criterion=criterion)
        world.loader = DataLoader(points(36), batch_size=8)
        return world

    with caplog.at_level(logging.INFO, logger="lrfinder"):
        assert raced(build, None) == raced(build, False)
    assert ["data-dependent control flow" in record.getMessage() for record in caplog.records] == [True]


def test_nothing_is_warned_of_and_a_result_has_the_same_form() -> None:
    world = seeded(lambda: world_of(mlp()))
    result = swept()
    refined = finder(world).refine(result, world.loader, side_by_side=True, **LONG)
    assert isinstance(refined, RangeTestResult) and refined.race is not None
    assert refined.race.winner is not None and math.isfinite(refined.race.winner)
