"""Validation losses that trail behind the training: a fresh network with BatchNorm, and what a curve keeps of it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from curves import breaks, curve_of
from torch import nn

from lrfinder import LRFinder
from lrfinder.advice.advise import advise
from lrfinder.record.curve import LossCurve
from lrfinder.record.facts import ModelFacts
from lrfinder.result import RangeTestResult

OPTIMIZERS: dict[str, dict[str, Any]] = {"SGD": {"lr": 0.1, "momentum": 0.9}, "Adam": {}}


def batches(seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    patterns = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (16, 64), generator=generator)
    return [(0.5 * patterns[part] + torch.randn(64, 1, 8, 8, generator=generator), part) for part in labels]


def validated(norm: bool, name: str) -> RangeTestResult:
    torch.manual_seed(3)
    layers: list[nn.Module] = []
    for channels in (1, 16, 16):
        layers += [nn.Conv2d(channels, 16, 3, padding=1), *([nn.BatchNorm2d(16)] if norm else []), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    optimizer = getattr(torch.optim, name)(model.parameters(), **OPTIMIZERS[name])
    finder = LRFinder(model, optimizer, nn.CrossEntropyLoss())
    return finder.range_test(batches(0), val_loader=batches(1)[:2], progress=False)


def lags(curve: LossCurve) -> bool:
    return any(finding.code == "validation_lags" for finding in advise(curve).findings)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fresh_network_with_batchnorm_gets_no_better_grade_than_low(name: str) -> None:
    result = validated(norm=True, name=name)
    assert result.advice.grade in ("low", "none")
    assert "BatchNorm" in " ".join(result.advice.reasons)


def test_training_losses_are_recorded_beside_validation_losses() -> None:
    curve = validated(norm=False, name="Adam").curve
    assert len(curve.train_losses) == len(curve.losses)
    assert LossCurve.from_dict(curve.to_dict()) == curve
    assert not lags(curve)


def test_without_validation_a_curve_and_its_file_are_as_before() -> None:
    assert "train_losses" not in curve_of(breaks).to_dict()


@pytest.mark.parametrize(("part", "expected"), [(0.01, True), (0.1, True), (0.6, False), (1.0, False)])
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["minimised", "maximised"])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-8, 0.0), (1.0, 100.0), (1e200, 0.0)])
def test_a_fall_far_below_that_of_the_training_loss_is_found(
    part: float, expected: bool, sign: float, scale: float, shift: float
) -> None:
    facts = ModelFacts(maximize=sign < 0, norm_layers=(("BatchNorm2d", 3),))
    train = curve_of(lambda x: sign * scale * (breaks(x) + shift), end=0.5, optimizer="Adam").losses
    curve = curve_of(lambda x: sign * scale * (part * breaks(x) + shift), end=0.5, optimizer="Adam")
    curve = dataclasses.replace(curve, train_losses=train, facts=facts)
    assert lags(curve) is expected
    assert advise(curve).grade in ("low", "none") or not expected


def test_without_batchnorm_a_validation_loss_that_falls_less_is_no_fault() -> None:
    curve = curve_of(lambda x: 0.1 * breaks(x), end=0.5, optimizer="Adam")
    assert not lags(dataclasses.replace(curve, train_losses=curve_of(breaks, end=0.5).losses, facts=ModelFacts()))


def test_training_losses_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        dataclasses.replace(curve_of(breaks), train_losses=(1.0, math.nan))
