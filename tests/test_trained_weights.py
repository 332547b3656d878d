"""Trained weights are told from fresh ones, whatever the initialiser; what cannot be told is unknown."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torchvision import ops
from worlds import loader, mlp, sgd

from lrfinder import LRFinder
from lrfinder.errors import ConfigError, FileFormatError
from lrfinder.record.curve import LossCurve
from lrfinder.record.facts import ModelFacts
from lrfinder.training.model_facts import take_facts
from lrfinder.training.setup import TrainingSetup


def facts(model: nn.Module, optimizer: Any = None, **options: Any) -> ModelFacts:
    optimizer = optimizer if optimizer is not None else sgd(model)
    return take_facts(TrainingSetup(model, optimizer, nn.CrossEntropyLoss(), **options))


def verdict(model: nn.Module) -> bool | None:
    return facts(model).pretrained


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def convolutional(norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    blocks = [
        nn.Sequential(nn.Conv2d(size, 32, 3, padding=1, bias=False), norm(32), nn.ReLU()) for size in (1, 32, 32)
    ]
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *blocks, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(128, 10))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 64, batch_first=True), nn.Linear(64, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(inputs.reshape(-1, 8, 8))[0][:, -1])  # type: ignore[no-any-return]


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(8, 64), nn.Parameter(torch.randn(1, 8, 64) * 0.02)
        self.block = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.block(self.embed(inputs.reshape(-1, 8, 8)) + self.position)
        return self.head(hidden.mean(1))  # type: ignore[no-any-return]


NETS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": perceptron,
    "BatchNorm": convolutional,
    "GroupNorm": lambda: convolutional(lambda size: nn.GroupNorm(4, size)),
    "LSTM": Recurrent,
    "transformer": Transformer,
}


def gates(weight: torch.Tensor) -> None:
    """Blocks of rows of unequal scale, as of gates packed into one weight."""
    for scale, block in zip((0.3, 1.0, 0.1, 2.0), weight.chunk(4), strict=False):
        nn.init.uniform_(block, -scale, scale)


def scaled_by_row_count(weight: torch.Tensor) -> None:
    nn.init.normal_(weight, std=0.02 / math.sqrt(2 * len(weight)))


INITIALISERS: dict[str, Callable[[torch.Tensor], object]] = {
    "as in torch": lambda weight: weight,
    "normal": lambda weight: nn.init.normal_(weight, std=0.02),
    "large normal": lambda weight: nn.init.normal_(weight, std=30.0),
    "tiny normal": lambda weight: nn.init.normal_(weight, std=1e-12),
    "truncated normal": lambda weight: nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04),
    "Xavier uniform": nn.init.xavier_uniform_,
    "Xavier normal": nn.init.xavier_normal_,
    "Kaiming uniform": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "Kaiming normal": lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out"),
    "orthogonal": nn.init.orthogonal_,
    "zeros": nn.init.zeros_,
    "constant": lambda weight: nn.init.constant_(weight, 0.01),
    "sparse": lambda weight: nn.init.sparse_(weight.flatten(1) if weight.ndim > 2 else weight, 0.9),
    "diagonal": lambda weight: nn.init.dirac_(weight) if weight.ndim > 2 else nn.init.eye_(weight.flatten(1)),
    "scaled by depth": scaled_by_row_count,
    "gates of unequal scale": gates,
}


def initialise(model: nn.Module, how: Callable[[torch.Tensor], object]) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > max(parameter.shape):
                how(parameter.data)
    return model


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 100) -> nn.Module:
    inputs = torch.randn(256, 64)
    target = (inputs[:, :10] + inputs[:, 10:20]).argmax(1)
    for step in range(steps):
        batch = torch.arange(16 * step, 16 * step + 16) % 256
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[batch]), target[batch]).backward()
        optimizer.step()
    return model


# --- fresh ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", INITIALISERS.values(), ids=INITIALISERS)
@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
@pytest.mark.parametrize("seed", range(3))
def test_fresh_weights_are_not_trained(build: Callable[[], nn.Module], how: Any, seed: int) -> None:
    torch.manual_seed(seed)
    known = facts(initialise(build(), how))
    assert known.trained is not None and known.pretrained is not True
    assert known.trained[0] in (None, 0.0)


BIASES: dict[str, Callable[[torch.Tensor], object]] = {
    "zeros": nn.init.zeros_,
    "constant": lambda bias: nn.init.constant_(bias, -4.6),
    "normal": lambda bias: nn.init.normal_(bias, std=0.02),
    "normal and tiny": lambda bias: nn.init.normal_(bias, std=1e-6),
    "uniform": lambda bias: nn.init.uniform_(bias, -0.1, 0.1),
    "open forget gates": lambda bias: bias.zero_()[len(bias) // 4 : len(bias) // 2].fill_(1.0),
}


@pytest.mark.parametrize("how", BIASES.values(), ids=BIASES)
@pytest.mark.parametrize("build", [perceptron, Recurrent, Transformer])
def test_biases_as_drawn_are_no_sign(build: Callable[[], nn.Module], how: Callable[[torch.Tensor], object]) -> None:
    model = initialise(build(), INITIALISERS["normal"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name and "norm" not in name:
                how(parameter.data)
    assert verdict(model) is not True


def test_scales_drawn_around_1_with_constant_shifts_are_no_sign() -> None:
    model = convolutional()  # as in the training of DCGAN
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    assert verdict(model) is False


def test_a_loop_that_draws_every_parameter_is_no_sign() -> None:
    model = convolutional()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    assert verdict(model) is not True


def test_layer_scales_and_zero_residual_scales_are_no_sign() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.gamma = nn.Linear(64, 64), nn.Parameter(torch.full((64,), 1e-6))

    norm = nn.BatchNorm1d(64)
    nn.init.zeros_(norm.weight)
    assert verdict(nn.Sequential(Scaled(), Scaled(), norm)) is False


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_fresh_parametrised_weights_are_not_trained(wrap: Callable[[nn.Module], nn.Module]) -> None:
    assert verdict(nn.Sequential(wrap(nn.Linear(64, 64)), nn.ReLU(), wrap(nn.Linear(64, 64)))) is False


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_fresh_weights_of_other_dtypes_are_not_trained(build: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    assert verdict(build().to(dtype)) is False


def test_forward_passes_alone_are_no_training() -> None:
    model = convolutional()
    for _ in range(10):
        model(torch.randn(16, 64))
    assert verdict(model) is False


def test_tied_weights_count_once() -> None:
    model = nn.Sequential(nn.Embedding(100, 64), nn.Linear(64, 100, bias=False))
    model[1].weight = model[0].weight
    known = facts(model)
    assert (known.trainable, known.trained) == (6400, (0.0,))


# --- trained ----------------------------------------------------------------------------------------------------------


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_a_hundred_steps_show(build: Callable[[], nn.Module], optimizer: Any) -> None:
    torch.manual_seed(0)
    model = build()
    assert verdict(train(model, optimizer(model.parameters()))) is True


# Without normalisation, a hundred steps from a normal draw may not show: such a net counts as fresh or unknown.
@pytest.mark.parametrize("how", ["normal", "Xavier uniform", "orthogonal"])
@pytest.mark.parametrize("build", [convolutional, Transformer])
def test_a_hundred_steps_show_after_other_initialisers(build: Callable[[], nn.Module], how: str) -> None:
    torch.manual_seed(0)
    model = initialise(build(), INITIALISERS[how])
    assert verdict(train(model, OPTIMIZERS["SGD"](model.parameters()))) is True


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_trained_weights_of_other_dtypes_show(dtype: torch.dtype) -> None:
    model = convolutional()
    assert verdict(train(model, OPTIMIZERS["SGD"](model.parameters())).to(dtype)) is True


def test_a_hundred_steps_in_the_optimizers_state_are_a_training() -> None:
    model = initialise(perceptron(), nn.init.orthogonal_)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-9)
    train(model, optimizer)
    assert facts(model, optimizer).pretrained is True


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def body() -> nn.Sequential:
    torch.manual_seed(0)
    model = convolutional()
    train(model, OPTIMIZERS["SGD"](model.parameters()))
    return model


def test_a_trained_net_with_a_fresh_head_is_trained(body: nn.Sequential) -> None:
    body[-1] = nn.Linear(128, 10)
    known = facts(body)
    assert known.trained == (pytest.approx(1 - 1290 / known.trainable, abs=1e-3),)  # type: ignore[operator]
    assert (known.frozen_trained, known.pretrained) == (None, True)


def test_a_fresh_head_on_a_frozen_body_is_known_apart(body: nn.Sequential) -> None:
    body.requires_grad_(False)
    body[-1] = nn.Linear(128, 10)
    known = facts(body, sgd(body[-1]))
    assert (known.trained, known.frozen_trained, known.pretrained) == ((0.0,), 1.0, True)


def test_parameters_in_no_group_count_as_frozen(body: nn.Sequential) -> None:
    body[-1] = nn.Linear(128, 10)
    known = facts(body, sgd(body[-1]))
    assert (known.trained, known.frozen_trained) == ((0.0,), 1.0)


def test_each_parameter_group_has_its_share(body: nn.Sequential) -> None:
    body[-1] = nn.Linear(128, 10)
    groups: list[dict[str, Any]] = [{"params": body[:-1].parameters()}, {"params": body[-1].parameters(), "lr": 1.0}]
    assert facts(body, torch.optim.SGD(groups, lr=0.1)).trained == (1.0, 0.0)


def test_fresh_adapters_beside_a_frozen_body_are_fresh(body: nn.Sequential) -> None:
    class Adapter(nn.Module):
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__()
            self.linear, self.down = linear, nn.Linear(linear.in_features, 8, bias=False)
            self.up = nn.Linear(8, linear.out_features, bias=False)
            nn.init.zeros_(self.up.weight)

    body.requires_grad_(False)
    head = body[-1]
    assert isinstance(head, nn.Linear)
    body[-1] = adapter = Adapter(head)
    known = facts(body, torch.optim.AdamW([adapter.down.weight, adapter.up.weight]))
    assert (known.trained, known.frozen_trained, known.pretrained) == ((0.0,), 1.0, True)


def test_a_fresh_body_that_is_frozen_is_fresh() -> None:
    model = perceptron()
    model[0].requires_grad_(False)
    known = facts(model)
    assert (known.trained, known.frozen_trained, known.pretrained) == ((0.0,), 0.0, False)


@pytest.mark.parametrize(("width", "expected"), [(300, True), (1_000, False)])
def test_a_tenth_of_the_weights_makes_a_network_trained(width: int, expected: bool) -> None:
    # As of a backbone below larger new heads, which a learning rate for fresh weights destroys as well.
    torch.manual_seed(0)
    backbone = perceptron()
    train(backbone, OPTIMIZERS["SGD"](backbone.parameters()))
    known = facts(nn.Sequential(backbone, nn.Linear(10, width), nn.ReLU(), nn.Linear(width, 100)))
    assert known.trained is not None and known.trained[0] is not None
    assert 0.05 < known.trained[0] < 0.25 and known.pretrained is expected


# --- unknown ----------------------------------------------------------------------------------------------------------


class Wrapped(nn.Parameter):
    """A tensor of another class, like a sharded or quantised parameter."""


UNKNOWN: dict[str, Callable[[], nn.Module]] = {
    "on the meta device": lambda: nn.Linear(64, 64, device="meta"),
    "lazy": lambda: nn.Sequential(nn.LazyLinear(64), nn.Linear(2, 2)),
    "complex": lambda: nn.Linear(64, 64, dtype=torch.complex64),
    "of another class": lambda: nn.ParameterList([Wrapped(torch.randn(64, 64))]),
    "sparse": lambda: nn.ParameterList([nn.Parameter(torch.eye(64).to_sparse())]),
    "few": lambda: nn.Linear(3, 2),
    "of one element": lambda: nn.ParameterList([nn.Parameter(torch.ones(()))]),
    "empty": lambda: nn.Sequential(nn.Linear(0, 4), nn.Linear(3, 2)),
    "not a number": lambda: initialise(nn.Linear(64, 64, bias=False), lambda each: each.fill_(math.nan)),
    "scales that are not a number": lambda: nn.LayerNorm(64).apply(lambda norm: norm.weight.data.fill_(math.nan)),
    "infinite": lambda: initialise(nn.Linear(64, 64, bias=False), lambda each: each.flatten()[:9].fill_(math.inf)),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("build", UNKNOWN.values(), ids=UNKNOWN)
def test_what_cannot_be_examined_is_unknown(build: Callable[[], nn.Module]) -> None:
    model = build()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known = facts(model)
    assert (known.trained, known.frozen_trained, known.pretrained) == ((None,), None, None)


def test_quantised_layers_beside_float_ones_are_left_out() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randint(-8, 8, (8, 8), dtype=torch.int8), requires_grad=False)

    assert facts(nn.Sequential(Packed(), perceptron())).trained == (0.0,)


def test_frozen_batch_norms_count_by_their_buffers() -> None:
    blocks = [nn.Conv2d(8, 8, 3, bias=False), ops.FrozenBatchNorm2d(8)]
    model = nn.Sequential(*blocks)
    assert verdict(model) is None
    model[1].weight.copy_(torch.rand(8) + 0.5)
    model[1].bias.copy_(torch.randn(8))
    assert verdict(model) is True


# --- what the user says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [True, False])
def test_what_the_user_says_wins_over_what_is_seen(said: bool) -> None:
    known = facts(perceptron(), pretrained=said)
    assert (known.pretrained, known.trained) == (said, (0.0,))


@pytest.mark.parametrize("wrong", ["yes", 1, 0.5, "imagenet", []], ids=repr)
def test_anything_but_a_truth_value_is_refused(wrong: Any) -> None:
    model = mlp()
    with pytest.raises(ConfigError, match=r"^pretrained must be True, False, or None where it is not known; got "):
        LRFinder(model, sgd(model), nn.CrossEntropyLoss(), pretrained=wrong)


def test_the_curve_carries_what_was_said_and_seen() -> None:
    model = mlp()
    finder = LRFinder(model, sgd(model), nn.CrossEntropyLoss(), pretrained=True)
    curve = finder.range_test(loader(), start_lr=1e-4, end_lr=1.0, num_iter=12).curve
    assert curve.facts is not None and curve.facts.pretrained is True
    assert LossCurve.from_dict(copy.deepcopy(curve.to_dict())) == curve


@pytest.mark.parametrize("damage", [{"trained": [2.0]}, {"trained": 3}, {"frozen_trained": -1}, {"pretrained": "yes"}])
def test_damaged_shares_are_refused(damage: dict[str, Any]) -> None:
    model = mlp()
    curve = LRFinder(model, sgd(model), nn.CrossEntropyLoss()).range_test(loader(), num_iter=12).curve
    content = curve.to_dict()
    with pytest.raises(FileFormatError, match="the saved curve is damaged"):
        LossCurve.from_dict({**content, "facts": {**content["facts"], **damage}})


def test_facts_of_an_older_file_leave_it_unknown() -> None:
    known = ModelFacts.from_dict({"trainable": 10, "depth": 1})
    assert (known.trained, known.frozen_trained, known.pretrained) == (None, None, None)
