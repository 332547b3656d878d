"""The shared checks: each rejected value beside the nearest accepted one, and NumPy's numbers wherever Python's are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lrfinder import LRFinder, SweepConfig, recipe
from lrfinder.checks import check_choice, check_count, check_lr, check_number
from lrfinder.errors import ConfigError

REJECTED_NUMBERS = [None, "0.1", True, np.bool_(True), float("nan"), float("inf"), 10**400, 1j, torch.tensor(0.1), [1]]


@pytest.mark.parametrize("value", REJECTED_NUMBERS, ids=repr)
def test_what_is_no_finite_number_is_rejected(value: Any) -> None:
    with pytest.raises(ConfigError, match="^lr must be a positive finite number; got "):
        check_lr("lr", value)
    with pytest.raises(ConfigError, match="^part must be a finite number of at least 0; got "):
        check_number("part", value, 0.0)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.float64(0.5), np.int64(3), np.float16(0.5)], ids=repr)
def test_a_number_of_any_kind_comes_back_as_a_float(value: Any) -> None:
    assert type(check_lr("lr", value)) is float
    assert check_number("part", value, 0.0) == check_lr("lr", value) == float(value)


@pytest.mark.parametrize(
    ("value", "open_ends", "accepted"),
    [(0.0, False, True), (-1e-9, False, False), (1.0, False, True), (1.0, True, False), (0.0, True, False)],
)
def test_the_ends_of_a_range_are_in_it_unless_it_is_open(value: float, open_ends: bool, accepted: bool) -> None:
    if accepted:
        assert check_number("part", value, 0.0, 1.0, open_ends=open_ends) == value
    else:
        with pytest.raises(ConfigError, match="part must be a number from 0 to 1"):
            check_number("part", value, 0.0, 1.0, open_ends=open_ends)


@pytest.mark.parametrize("value", [2.0, "2", True, None, 1], ids=repr)
def test_a_count_that_is_no_whole_number_or_too_small_is_rejected(value: Any) -> None:
    with pytest.raises(ConfigError, match="^epochs must be a whole number of at least 2; got "):
        check_count("epochs", value, 2)


def test_a_count_that_no_file_or_tensor_can_hold_is_rejected() -> None:
    assert check_count("epochs", 2**63 - 1) == 2**63 - 1
    with pytest.raises(ConfigError, match="^epochs must be a whole number from 1 to 9223372036854775807; got 92"):
        check_count("epochs", 2**63)
    with pytest.raises(ConfigError, match="got a whole number of about 5000 digits"):
        check_count("epochs", 10**5000)


@pytest.mark.parametrize("value", [2, np.int64(2), np.uint8(2)], ids=repr)
def test_a_count_comes_back_as_an_int(value: Any) -> None:
    assert type(check_count("epochs", value, 2)) is int


def test_a_choice_that_is_unknown_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="mode must be one of exp, linear; got 'Linaer'. Did you mean 'linear'"):
        check_choice("mode", "Linaer", ("exp", "linear"))
    with pytest.raises(ConfigError, match="mode must be a spacing; got 7.$"):
        check_choice("mode", 7, ("exp", "linear"), listed="a spacing")
    with pytest.raises(ConfigError, match="must be one of cosine; got a SGD.$"):
        check_choice("kind", torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]), ("cosine",))
    assert check_choice("mode", "linear", ("exp", "linear")) == "linear"


def test_numpy_numbers_give_the_configuration_that_python_numbers_give() -> None:
    given = SweepConfig(start_lr=np.float64(0.1), end_lr=np.int64(2), num_iter=np.int64(5))
    assert given == SweepConfig(start_lr=0.1, end_lr=2.0, num_iter=5)
    assert json.loads(json.dumps(vars(given))) == vars(given)


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("cosine", {"total_steps": 50, "warmup_steps": 5, "eta_min": 0.001}),
        ("plateau", {"epochs": 5}),
        ("onecycle", {"epochs": 2, "steps_per_epoch": 10, "pct_start": 0.25}),
        ("multistep", {"total_steps": 50, "milestones": (20, 30), "gamma": 0.5}),
    ],
)
def test_numpy_numbers_give_the_recipe_that_python_numbers_give(
    kind: str, numbers: dict[str, Any], tmp_path: Path
) -> None:
    def numpy(value: Any) -> Any:
        return tuple(map(np.int64, value)) if isinstance(value, tuple) else np.asarray(value)[()]

    given = recipe(kind, peak_lr=np.float64(0.1), **{name: numpy(value) for name, value in numbers.items()})
    plain = recipe(kind, peak_lr=0.1, **numbers)
    assert given == plain
    assert given.save(tmp_path / "given.json").read_bytes() == plain.save(tmp_path / "plain.json").read_bytes()


def test_numpy_numbers_give_the_range_test_that_python_numbers_give(tmp_path: Path) -> None:
    found = []
    for whole, number in ((int, float), (np.int64, np.float64)):
        torch.manual_seed(0)
        batches = [(torch.randn(8, 4), torch.randint(0, 3, (8,))) for _ in range(8)]
        model = torch.nn.Linear(4, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        finder = LRFinder(
            model,
            optimizer,
            torch.nn.CrossEntropyLoss(),
            accumulation_steps=whole(2),
            clip_grad_norm=number(5.0),
        )
        result = finder.range_test(
            batches,
            val_loader=batches,
            val_batches=whole(2),
            start_lr=number(1e-3),
            end_lr=number(100.0),
            num_iter=whole(40),
            progress=False,
        )
        result = finder.refine(
            result, batches, schedule="cosine", total_steps=whole(200), budget=number(0.25), progress=False
        )
        found.append((result, result.save(tmp_path / f"{whole.__name__}.json").read_bytes()))
    assert found[0] == found[1]
