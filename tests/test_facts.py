"""Facts about a model before any step: what is counted, what stays unknown, and that a curve has them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from worlds import WORLDS, devices, finder, loader, mlp, seeded, sgd, training, with_sgd

from lrfinder import LossCurve, LRFinder, RangeTestResult, advise
from lrfinder.errors import FileFormatError
from lrfinder.record.facts import ModelFacts
from lrfinder.training.model_facts import take_facts
from lrfinder.training.setup import TrainingSetup

SWEEP: dict[str, Any] = {"start_lr": 1e-4, "end_lr": 1.0, "num_iter": 12}


def facts(model: nn.Module, optimizer: Any = None, **options: Any) -> ModelFacts:
    optimizer = optimizer if optimizer is not None else sgd(model)
    return take_facts(TrainingSetup(model, optimizer, nn.CrossEntropyLoss(), **options))


# --- what is counted --------------------------------------------------------------------------------------------------


def test_parameters_are_counted_by_whether_they_are_trained() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 3))
    model[0].requires_grad_(False)
    assert (facts(model).trainable, facts(model).frozen) == (16 * 3 + 3, 6 * 16 + 16)


def test_what_is_in_no_group_counts_as_frozen() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 3))
    head_alone = facts(model, torch.optim.SGD(model[1].parameters(), lr=0.1))
    model[0].requires_grad_(False)
    assert head_alone == facts(model, torch.optim.SGD(model[1].parameters(), lr=0.1))
    assert (head_alone.trainable, head_alone.frozen, head_alone.trainable_depth) == (16 * 3 + 3, 6 * 16 + 16, 1)


def test_an_optimizer_of_copies_does_not_show_what_is_trained() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 3))
    copies = [parameter.detach().clone().requires_grad_() for parameter in model[0].parameters()]
    optimizer = torch.optim.SGD([*copies, *model[1].parameters()], lr=0.1)
    assert facts(model, optimizer).trainable == sum(parameter.numel() for parameter in model.parameters())


def test_a_group_without_a_learning_rate_counts_as_frozen() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 3))
    groups = [{"params": each.parameters(), "lr": lr} for each, lr in zip(model, (0.0, 0.1), strict=True)]
    known, head_alone = facts(model, torch.optim.SGD(groups)), facts(model, sgd(model[1]))
    assert (known.group_sizes, known.weight_rms[:1], known.trained[:1]) == ((0, 16 * 3 + 3), (None,), (None,))
    for name in ("trainable", "frozen", "trainable_depth", "frozen_trained"):
        assert getattr(known, name) == getattr(head_alone, name)


class Adapter(nn.Module):
    """A frozen layer and two new ones beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, 8).requires_grad_(False)
        self.down, self.up = nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)


class Scaled(nn.Module):
    """A frozen layer and a factor for each of its outputs, as IA3 has it."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.factor = nn.Linear(8, 8).requires_grad_(False), nn.Parameter(torch.ones(8))


def frozen(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers).requires_grad_(False)


PLACES = {
    "all": (lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3)), False),
    "head": (lambda: nn.Sequential(frozen(nn.Linear(8, 8), nn.LayerNorm(8)), nn.Linear(8, 3)), False),
    "student": (lambda: nn.ModuleList([frozen(nn.Linear(8, 8)), nn.Sequential(nn.Linear(8, 3), nn.ReLU())]), False),
    "head in a wrapper": (
        lambda: nn.ModuleList([nn.Sequential(frozen(nn.Linear(8, 8)), nn.Linear(8, 3)), frozen(nn.Linear(8, 8))]),
        False,
    ),
    "adapters": (lambda: nn.Sequential(Adapter(), Adapter(), frozen(nn.Linear(8, 3))), True),
    "scales": (lambda: nn.Sequential(*[nn.Sequential(frozen(nn.Linear(8, 8)), nn.LayerNorm(8)) for _ in "12"]), True),
}


@pytest.mark.parametrize("name", PLACES)
def test_adapters_alternate_with_frozen_weights_and_heads_do_not(name: str) -> None:
    make, expected = PLACES[name]
    model = make()
    known = facts(model, torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1))
    assert known.interleaved is expected and ModelFacts.from_dict(dataclasses.asdict(known)) == known


@pytest.mark.parametrize(
    ("model", "depth"),
    [
        (lambda: nn.Sequential(Scaled(), Scaled(), Scaled(), nn.Linear(8, 3)), 4),
        (lambda: nn.Sequential(frozen(nn.Linear(8, 8)), nn.Linear(8, 8), nn.PReLU(8), nn.Linear(8, 3)), 2),
        (lambda: nn.Sequential(frozen(nn.Linear(8, 8)), nn.LayerNorm(8), nn.Linear(8, 3)), 1),
    ],
    ids=["factors", "head with factors", "head with a norm"],
)
def test_factors_within_a_frozen_network_count_as_weights(model: Callable[[], nn.Module], depth: int) -> None:
    made = model()
    known = facts(made, torch.optim.SGD([each for each in made.parameters() if each.requires_grad], lr=0.1))
    assert known.trainable_depth == depth


@pytest.mark.parametrize("layer", [nn.GRU(8, 4), nn.LSTM(8, 4), nn.RNNCell(8, 4), nn.Linear(8, 4), nn.Conv1d(8, 4, 3)])
def test_trained_recurrent_layers_are_seen(layer: nn.Module) -> None:
    model = nn.ModuleList([layer, nn.Linear(4, 2)])
    assert facts(model, sgd(model)).recurrent is not isinstance(layer, (nn.Linear, nn.Conv1d))
    assert facts(model, sgd(model[1])).recurrent is False


def test_splitting_a_group_changes_the_norm_of_the_weights_by_nothing() -> None:
    whole = ModelFacts(trainable=1100, weight_rms=(0.1,), group_sizes=(1100,))
    squares = (0.1**2 * 1100 - 0.5**2 * 40) / 1060
    split = ModelFacts(trainable=1100, weight_rms=(math.sqrt(squares), 0.5, None), group_sizes=(1060, 40, 0))
    assert split.weight_norm == pytest.approx(whole.weight_norm)


@pytest.mark.parametrize("sizes", [None, (900,), (1100, 0, 0)], ids=str)
def test_without_sizes_of_the_same_groups_every_group_counts_alike(sizes: tuple[int, ...] | None) -> None:
    facts = ModelFacts(trainable=100, weight_rms=(0.1, 0.7), group_sizes=sizes)
    assert facts.weight_norm == pytest.approx(math.sqrt(100 * (0.1**2 + 0.7**2) / 2))


def test_depth_and_fan_in_are_those_of_the_weights() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 10), nn.Linear(10, 2))
    known = facts(model)
    assert known.depth == 3
    assert known.fan_in == (10, 32, 75)


def test_a_shared_weight_counts_once() -> None:
    model = seeded(WORLDS["tied weights"]).model
    assert facts(model).depth == 2


def test_norm_layers_are_counted_by_kind() -> None:
    class Normalize(nn.Module):
        """A transform of the inputs."""

    class NormAndLinear(nn.Sequential):
        """A block, whose parts count by themselves."""

    block = NormAndLinear(nn.LayerNorm(4), nn.Linear(4, 4))
    model = nn.Sequential(Normalize(), nn.Linear(4, 4), nn.BatchNorm1d(4), block, nn.LayerNorm(4), nn.RMSNorm(4))
    assert facts(model).norm_layers == (("BatchNorm1d", 1), ("LayerNorm", 2), ("RMSNorm", 1))
    assert facts(mlp()).norm_layers == ()
    keras = type("LayerNormalization", (nn.Module,), {})()  # which has its parameters in a child
    keras.parameters_ = nn.ParameterDict({"gamma": nn.Parameter(torch.ones(8))})
    assert facts(nn.Sequential(mlp(), keras)).norm_layers == (("LayerNormalization", 1),)


@devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_the_rms_is_that_of_the_weights_of_each_group(device: str, dtype: torch.dtype) -> None:
    model = mlp(nn.BatchNorm1d(16)).to(device, dtype)
    optimizer = torch.optim.SGD([{"params": [m.weight]} for m in (model[0], model[1], model[3])], lr=0.1)
    first, last = (model[i].weight.detach().double().square().mean().sqrt().item() for i in (0, 3))
    found = facts(model, optimizer).weight_rms
    assert found == (pytest.approx(first, rel=1e-3), None, pytest.approx(last, rel=1e-3))


def test_the_rms_of_large_float16_weights_does_not_overflow() -> None:
    model = nn.Linear(200, 200).half()
    nn.init.constant_(model.weight, 2000.0)
    assert facts(model).weight_rms == (pytest.approx(2000.0, rel=1e-3),)


OPTIMIZERS: dict[str, tuple[Callable[[Any], torch.optim.Optimizer], int | None]] = {
    "plain SGD keeps no state": (lambda p: torch.optim.SGD(p, lr=0.1), 0),
    "SGD with momentum keeps no count": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), None),
    "Adam": (torch.optim.Adam, 3),
    "AdamW, fused": (lambda p: torch.optim.AdamW(p, fused=True), 3),
    "Adagrad": (torch.optim.Adagrad, 3),
}


@devices
@pytest.mark.parametrize(("build", "expected"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_steps_are_those_in_the_state_of_the_optimizer(
    build: Callable[[Any], torch.optim.Optimizer], expected: int | None, device: str
) -> None:
    model = mlp().to(device)
    optimizer = build(model.parameters())
    with torch.device("meta"):  # as a default
        assert facts(model, optimizer).optimizer_steps == 0
    for _ in range(3):
        model(torch.randn(8, 6, device=device)).sum().backward()
        optimizer.step()
    assert facts(model, optimizer).optimizer_steps == expected


def test_the_epsilon_is_the_smallest_of_the_groups() -> None:
    model = nn.Linear(6, 3)
    groups = [{"params": [model.weight], "eps": 0.03}, {"params": [model.bias], "eps": 0.1}]
    assert facts(model, torch.optim.RMSprop(groups)).epsilon == 0.03
    assert facts(model, torch.optim.AdamW(model.parameters())).epsilon == 1e-8
    for unknown in (torch.optim.SGD, torch.optim.Adafactor):  # that has two of them
        assert facts(model, unknown(model.parameters(), lr=0.1)).epsilon is None


def test_the_sizes_of_groups_are_those_of_what_is_trained() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 2))
    model[0].bias.requires_grad_(False)
    groups = [{"params": each.parameters()} for each in model]
    assert facts(model, torch.optim.SGD(groups, lr=0.1)).group_sizes == (18, 8)
    assert facts(nn.Linear(3, 3, device="meta")).group_sizes is None


# --- what is unknown --------------------------------------------------------------------------------------------------


class Wrapped(nn.Parameter):
    """A tensor of another class, like a sharded or quantised parameter."""


def with_parameter(parameter: nn.Parameter) -> nn.Module:
    return mlp(nn.ParameterList([parameter]))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "on the meta device": lambda: with_parameter(nn.Parameter(torch.zeros(3, 3, device="meta"))),
    "sparse": lambda: with_parameter(nn.Parameter(torch.eye(3).to_sparse())),
    "of another class": lambda: with_parameter(Wrapped(torch.zeros(3, 3))),
    "lazy": lambda: with_parameter(nn.parameter.UninitializedParameter()),
}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_sizes_and_rms_of_special_parameters_are_unknown(build: Callable[[], nn.Module]) -> None:
    known = facts(build())
    assert (known.trainable, known.frozen, known.depth, known.fan_in) == (None,) * 4
    assert known.weight_rms == (None,)
    assert known.norm_layers == ()


def test_a_model_on_the_meta_device_has_unknown_sizes_and_rms() -> None:
    known = facts(nn.Linear(3, 3, device="meta"))
    assert (known.trainable, known.weight_rms, known.optimizer_steps) == (None, (None,), 0)


def test_weights_that_are_not_finite_have_no_rms() -> None:
    model = nn.Linear(3, 3)
    nn.init.constant_(model.weight, math.nan)
    assert facts(model).weight_rms == (None,)


def test_an_optimizer_with_a_state_of_its_own_kind_has_unknown_steps() -> None:
    model = mlp()
    optimizer = sgd(model)
    optimizer.state = ["something else"]  # type: ignore[assignment]
    assert facts(model, optimizer).optimizer_steps is None


# --- on the curve -----------------------------------------------------------------------------------------------------


def test_the_curve_carries_the_facts_from_before_the_first_step() -> None:
    world = seeded(WORLDS["Adam"], 3)
    expected = take_facts(training(world, accumulation_steps=2, clip_grad_norm=0.5))
    curve = finder(world, accumulation_steps=2, clip_grad_norm=0.5).range_test(world.loader, **SWEEP).curve
    assert curve.facts is not None
    seen = {"batch_size": 8, "loader_batches": 6, "gradient_norm": curve.facts.gradient_norm}
    assert curve.facts == dataclasses.replace(expected, **seen)
    assert (expected.optimizer_steps, expected.accumulation_steps, expected.clip_grad_norm) == (3, 2, 0.5)
    assert expected.pretrained is None


@pytest.mark.parametrize("norm", [None, 1e-3, 1e3])
def test_where_gradients_are_clipped_the_norm_of_the_first_is_known(norm: float | None) -> None:
    world = with_sgd(mlp())
    curve = finder(world, clip_grad_norm=norm).range_test(world.loader, **SWEEP).curve
    inputs, target = next(iter(world.loader))
    gradients = torch.autograd.grad(world.criterion(world.model(inputs), target), list(world.model.parameters()))
    expected = torch.nn.utils.get_total_norm(gradients).item()
    assert curve.facts is not None
    assert curve.facts.gradient_norm == (None if norm is None else pytest.approx(expected, rel=1e-5))


def test_the_norm_of_gradients_that_overflowed_is_not_the_first() -> None:
    world = with_sgd(mlp())
    scaled = {"amp_dtype": torch.float16, "grad_scaler": torch.amp.GradScaler("cpu", init_scale=2.0**21)}
    curve = finder(world, clip_grad_norm=1.0, **scaled).range_test(world.loader, **SWEEP).curve
    assert curve.facts is not None and curve.facts.gradient_norm is not None and curve.facts.gradient_norm > 0


@pytest.mark.parametrize(("batches", "accumulated", "full"), [(1, 1, True), (2, 2, True), (2, 1, False), (4, 2, False)])
def test_a_step_on_all_batches_of_the_loader_is_seen(batches: int, accumulated: int, full: bool) -> None:
    world = with_sgd(mlp())
    loader = [next(iter(world.loader))] * batches
    curve = finder(world, accumulation_steps=accumulated).range_test(loader, **SWEEP).curve
    assert curve.facts is not None and curve.facts.full_batch is full


def test_a_loader_of_unknown_length_gives_no_full_batch() -> None:
    world = with_sgd(mlp())
    curve = finder(world).range_test(itertools.repeat(next(iter(world.loader))), **SWEEP).curve
    assert curve.facts is not None and curve.facts.full_batch is False


def test_groups_without_a_name_are_named_by_their_factor() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    for factors, names in (((0.2401, 1.0), ("lr_scale 0.24", "lr_scale 1")), (("auto", 1.0), ()), ((None, 1.0), ())):
        groups = [{"params": part.parameters(), "lr_scale": each} for part, each in zip(model, factors, strict=True)]
        assert facts(model, torch.optim.AdamW(groups)).group_names == names


def test_few_data_are_named_and_lower_the_grade() -> None:
    world = with_sgd(mlp())
    curve = finder(world).range_test(world.loader).curve
    known = curve.facts
    assert known is not None and known.loader_batches == len(world.loader)
    for loader_batches, named in ((3, False), (2, True), (None, False)):
        facts = dataclasses.replace(known, loader_batches=loader_batches)
        found = advise(dataclasses.replace(curve, batches=12, facts=facts)).findings
        expected = [("medium", (6.0,))] if named else []
        assert [(each.caps_grade, each.values) for each in found if each.code == "repeated"] == expected
    full = dataclasses.replace(known, loader_batches=1, full_batch=True)
    findings = advise(dataclasses.replace(curve, batches=12, facts=full)).findings
    assert "repeated" not in {each.code for each in findings}


def test_sorted_data_are_named_and_shuffled_ones_are_not() -> None:
    data = TensorDataset(torch.randn(96, 6, generator=torch.Generator().manual_seed(0)), torch.arange(96) // 32)
    sorted_data, shuffled = (DataLoader(data, 16, shuffle=shuffle) for shuffle in (False, True))
    results = [finder(with_sgd(mlp())).range_test(loader) for loader in (sorted_data, shuffled)]
    assert ["sorted" in [found.code for found in result.advice.findings] for result in results] == [True, False]
    assert [result.curve.facts.same_target for result in results if result.curve.facts] == [True, False]
    assert results[0].advice.grade in ("low", "none") and "shuffle=True" in str(results[0])


@pytest.mark.parametrize("build", WORLDS.values(), ids=WORLDS)
def test_taking_the_facts_changes_nothing(build: Callable[[], Any]) -> None:
    world = seeded(build, 2)
    before = world.state()
    take_facts(training(world))
    assert world.state() == before


def test_a_sweep_that_is_cut_off_has_its_facts_too() -> None:
    world = with_sgd(mlp())

    def failing(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        raise OSError("at once")

    lr_finder = LRFinder(world.model, world.optimizer, failing)
    with pytest.raises(OSError, match="at once"):
        lr_finder.range_test(loader(), **SWEEP)
    assert lr_finder.last_curve is not None and lr_finder.last_curve.facts is not None
    assert lr_finder.last_curve.facts.batch_size == 8


def test_facts_come_back_equal_from_a_file(tmp_path: Path) -> None:
    world = seeded(WORLDS["BatchNorm"])
    result = finder(world, clip_grad_norm=1.0).range_test(world.loader, **SWEEP)
    back = RangeTestResult.load(result.save(tmp_path / "lr.json"))
    assert back.curve.facts == result.curve.facts
    assert hash(back.curve) == hash(result.curve)


def test_a_curve_from_an_older_file_has_no_facts() -> None:
    world = with_sgd(mlp())
    curve = finder(world).range_test(world.loader, **SWEEP).curve
    content = json.loads(json.dumps(curve.to_dict()))
    del content["facts"]
    assert LossCurve.from_dict(content) == dataclasses.replace(curve, facts=None)


@pytest.mark.parametrize(
    "damage",
    [
        *({"facts": facts} for facts in (3, {"width": 3}, {"trainable": "many"}, {"fan_in": [1, 2]})),
        *({"facts": {"trained": share}} for share in ([1.1], [-0.1], ["half"], 0.5)),
        *({"facts": {name: 1.1}} for name in ("frozen_trained", "feature_variation")),
        *({"facts": {name: "no"}} for name in ("pretrained", "recurrent", "interleaved")),
        *({"facts": {name: -1e-9}} for name in ("epsilon", "gradient_norm")),
        *({"facts": {"clip_grad_norm": norm}} for norm in (0.0, math.inf)),
        *({"facts": {"accumulation_steps": count}} for count in (0, 1.5)),
        *({"facts": {name: "x'); import os"}} for name in ("amp_dtype", "device")),
    ],
    ids=str,
)
def test_damaged_facts_are_refused(damage: dict[str, Any]) -> None:
    world = with_sgd(mlp())
    curve = finder(world).range_test(world.loader, **SWEEP).curve
    with pytest.raises(FileFormatError, match="the saved curve is damaged"):
        LossCurve.from_dict({**curve.to_dict(), **damage})


class Strict(nn.Module):
    """Refuses names it does not know with another exception than an AttributeError."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return {}[name]

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        return self.layer(given[0]) if len(given) == 1 else nn.functional.cross_entropy(*given)


def test_attributes_that_raise_anything_are_not_asked_for() -> None:
    model = Strict()
    batches = [(torch.randn(8, 6), torch.arange(8) % 3)]
    curve = LRFinder(model, sgd(model), Strict()).range_test(batches, progress=False).curve
    assert curve.facts is not None and curve.facts.form == "plain"
