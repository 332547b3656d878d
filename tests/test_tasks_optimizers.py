"""torch's optimizers by name: which there are, how they are built, and which input is refused."""

from __future__ import annotations

import pytest
import torch

from lrfinder.errors import ConfigError
from lrfinder.tasks.optimizers import build_optimizer, chosen_options, optimizer_names


def test_all_of_torchs_optimizers_that_take_dense_gradients_are_there() -> None:
    assert {"SGD", "Adam", "AdamW", "Adafactor", "LBFGS", "NAdam", "RAdam", "RMSprop"} <= set(optimizer_names())
    assert not {"Optimizer", "SparseAdam"} & set(optimizer_names())


@pytest.mark.parametrize("name", optimizer_names())
def test_every_optimizer_is_built_from_its_name_in_any_case(name: str) -> None:
    weights = [torch.nn.Parameter(torch.zeros(3, 2))]
    assert type(build_optimizer(name.lower(), {}, weights)).__name__ == name


def test_options_reach_the_optimizer() -> None:
    weights = [torch.nn.Parameter(torch.zeros(3))]
    optimizer = build_optimizer("SGD", {"momentum": 0, "weight_decay": 1e-4}, weights)
    assert chosen_options(optimizer) == {"weight_decay": 1e-4}
    optimizer = build_optimizer("LBFGS", {"line_search_fn": "strong_wolfe"}, weights)
    assert optimizer.defaults["line_search_fn"] == "strong_wolfe"


def test_a_misspelled_optimizer_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean RMSprop?"):
        build_optimizer("RMSprp", {}, [])
