"""Optimizers with ``maximize=True``: the loss is to rise, and everything reads it with its sign turned."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from curves import breaks, curve_of
from torch import Tensor, nn

from lrfinder import LRFinder
from lrfinder.advice.advise import advise
from lrfinder.analysis.regimes import read_curve
from lrfinder.param_groups import maximizes
from lrfinder.record.curve import LossCurve, StopReason
from lrfinder.record.facts import ModelFacts
from lrfinder.record.sweep import Sweep
from lrfinder.result import RangeTestResult

ENTROPY = nn.CrossEntropyLoss()
OPTIMIZERS: dict[str, dict[str, Any]] = {"SGD": {"lr": 0.1, "momentum": 0.9}, "Adam": {}, "RMSprop": {}, "Adagrad": {}}


def finder(name: str, sign: float) -> tuple[LRFinder, list[tuple[Tensor, Tensor]]]:
    """Finder of a training that minimises (sign 1) or maximises (sign -1) the same loss."""
    torch.manual_seed(0)
    inputs, answer = torch.randn(16, 32, 16), torch.randn(16, 10)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = getattr(torch.optim, name)(model.parameters(), maximize=sign < 0, **OPTIMIZERS[name])
    loader = [(part, (part @ answer).argmax(1)) for part in inputs]
    return LRFinder(model, optimizer, loss_fn=lambda model, batch: sign * ENTROPY(model(batch[0]), batch[1])), loader


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_maximising_the_negative_loss_gives_the_advice_of_minimising(name: str) -> None:
    results = []
    for sign in (1.0, -1.0):
        test, loader = finder(name, sign)
        results.append(test.range_test(loader, progress=False))
    plain, turned = (result.advice for result in results)
    assert (turned.base_lr, turned.interval, turned.grade) == (plain.base_lr, plain.interval, plain.grade)
    assert results[1].curve.losses == tuple(-loss for loss in results[0].curve.losses)
    assert "maximize=True" in " ".join(turned.reasons) and "maximize=True" not in " ".join(plain.reasons)


def test_trials_of_a_maximising_optimizer_are_compared_sign_turned() -> None:
    best = []
    for sign in (1.0, -1.0):
        test, loader = finder("SGD", sign)
        result = test.range_test(loader, progress=False)
        best.append(test.refine(result, loader, schedule="cosine", total_steps=200, progress=False).advice.base_lr)
    assert best[0] == best[1]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_plateau_keeps_the_lr_while_the_training_improves(sign: float) -> None:
    curve = curve_of(breaks, start=1e-4, end=1.0, count=60, facts=ModelFacts(maximize=sign < 0, device="cpu"))
    curve = dataclasses.replace(curve, losses=tuple(sign * loss for loss in curve.losses))
    made = RangeTestResult(curve=curve).recipe("plateau", peak_lr=0.1, epochs=40, patience=3)
    built, pasted = (torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=1.0, maximize=sign < 0) for _ in range(2))
    names: dict[str, Any] = {"optimizer": pasted}
    exec(made.code().split("\n\nfor epoch")[0], names)
    for scheduler in (made.build(built), names["scheduler"]):
        lrs = []
        for loss in (*range(20, 0, -1), 1, 1, 1, 1):
            scheduler.step(30 + sign * loss)
            lrs.append(scheduler.get_last_lr()[0])
        assert lrs == pytest.approx([*[0.1] * 23, 0.02])


def test_a_sweep_that_raises_its_loss_stops_where_its_mirror_image_stops() -> None:
    losses = [2.0 - i / 10 for i in range(12)] + [3.0, 9.0, 27.0, 81.0, 243.0]
    config = curve_of(breaks).config
    plain, turned = (Sweep(dataclasses.replace(config, early_stop=True)) for _ in range(2))
    turned.maximize = True
    for loss in losses:
        if not plain.done:
            plain.record(loss)
            turned.record(-loss)
    assert plain.stop is turned.stop is StopReason.DIVERGED
    assert turned.losses == [-loss for loss in plain.losses]


def test_a_blow_up_is_not_taken_for_learning() -> None:
    # Without its sign turned, this curve falls without end.
    curve = curve_of(lambda x: -breaks(x), optimizer="SGD", facts=ModelFacts(maximize=True))
    assert read_curve(curve).edge_lr == read_curve(curve_of(breaks, optimizer="SGD")).edge_lr


def test_the_direction_survives_a_file_and_is_minimising_in_older_ones() -> None:
    curve = curve_of(lambda x: -breaks(x), facts=ModelFacts(maximize=True))
    assert advise(LossCurve.from_dict(curve.to_dict())) == advise(curve)
    assert not ModelFacts.from_dict({"trainable": 3}).maximize


def test_an_optimizer_maximises_where_every_group_does() -> None:
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": [parameter], "maximize": True} for parameter in parameters]
    assert maximizes(torch.optim.SGD(groups, lr=0.1))
    assert not maximizes(torch.optim.SGD([groups[0], {"params": [parameters[1]]}], lr=0.1))
