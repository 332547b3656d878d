"""torch's optimizers by name: which there are, how they are built, and which input is rejected."""

from __future__ import annotations

import pytest
import torch

from lrfinder.errors import ConfigError
from lrfinder.tasks.optimizers import build_optimizer, chosen_options, optimizer_names


def test_all_optimizers_for_dense_gradients_are_listed() -> None:
    assert {"SGD", "Adam", "AdamW", "Adafactor", "LBFGS", "NAdam", "RAdam", "RMSprop"} <= set(optimizer_names())
    assert not {"Optimizer", "SparseAdam"} & set(optimizer_names())


@pytest.mark.parametrize("name", optimizer_names())
def test_every_optimizer_is_built_from_its_name_in_any_case(name: str) -> None:
    weights = [torch.nn.Parameter(torch.zeros(3, 2))]
    assert type(build_optimizer(name.lower(), {}, weights)).__name__ == name


def test_options_reach_the_optimizer() -> None:
    weights = [torch.nn.Parameter(torch.zeros(3))]
    optimizer = build_optimizer("SGD", {"momentum": 0, "weight_decay": 1e-4}, weights)
    assert (optimizer.defaults["momentum"], optimizer.defaults["weight_decay"]) == (0, 1e-4)
    optimizer = build_optimizer("LBFGS", {"line_search_fn": "strong_wolfe"}, weights)
    assert optimizer.defaults["line_search_fn"] == "strong_wolfe"


@pytest.mark.parametrize(
    "name, options",
    [
        ("Adam", {"fused": True}),
        ("SGD", {"foreach": False}),
        ("AdamW", {"betas": [0.9, 0.99]}),
        ("Adafactor", {"eps": (None, 1e-3)}),
        ("Rprop", {"etas": (0.4, 1.3)}),
    ],
)
def test_options_that_torch_takes_are_taken(name: str, options: dict[str, object]) -> None:
    weights = [torch.nn.Parameter(torch.ones(3, 2))]
    assert type(build_optimizer(name, options, weights)).__name__ == name
    assert torch.equal(weights[0], torch.ones(3, 2))


def test_only_options_that_differ_from_torchs_defaults_are_reported() -> None:
    weights = [torch.nn.Parameter(torch.zeros(3))]
    optimizer = build_optimizer("SGD", {"momentum": 0, "weight_decay": 1e-4}, weights)
    assert chosen_options(optimizer) == {"weight_decay": 1e-4}


def test_sgd_has_momentum_unless_it_is_given() -> None:
    weights = [torch.nn.Parameter(torch.zeros(3))]
    assert chosen_options(build_optimizer("sgd", {}, weights)) == {"momentum": 0.9}


@pytest.mark.parametrize(
    "name, options, sentence",
    [
        ("SGD", {"speed": 1}, "SGD has no option 'speed'; its options are momentum, dampening"),
        ("SGD", {"lr": 0.1}, "lr is what the range test varies. .* `start_lr` and `end_lr`"),
        ("SGD", {"momentum": -1}, "SGD cannot be built with momentum=-1: Invalid momentum value"),
        ("Adam", {"capturable": True}, "Adam with capturable=True cannot make a step on cpu: If capturable=True"),
        ("NAdam", {"capturable": True}, "NAdam with capturable=True cannot make a step on cpu"),
        ("AdamW", {"differentiable": True}, "AdamW with differentiable=True cannot make a step on cpu"),
        ("Adam", {"fused": "yes"}, "the option fused of Adam must be True or False; got 'yes'"),
        ("SGD", {"nesterov": 5}, "the option nesterov of SGD must be True or False; got 5"),
        ("SGD", {"momentum": "high"}, "the option momentum of SGD must be a finite number; got 'high'"),
        ("SGD", {"weight_decay": 10**400}, "the option weight_decay of SGD must be a finite number"),
        ("Adam", {"betas": (0.9, "x")}, "the option betas of Adam must be 2 finite numbers"),
        ("LBFGS", {"line_search_fn": "wolf"}, "LBFGS with line_search_fn=wolf cannot make a step on cpu: only 'strong"),
        ("Muon", {}, "Muon cannot be built with its defaults: "),
    ],
)
def test_options_that_cannot_be_used_are_rejected(name: str, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_optimizer(name, options, [torch.nn.Parameter(torch.zeros(3))])


def test_a_misspelled_optimizer_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'RMSprop'?"):
        build_optimizer("RMSprp", {}, [])
