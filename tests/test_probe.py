"""The probe of trained weights: which range tests have one, what it measures, and what is read from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from curves import breaks, curve_of
from hypothesis import given
from hypothesis import strategies as st
from small import CLASSES, labelled, weights
from torch import Tensor, nn

from lrfinder import LRFinder
from lrfinder.advice.advise import advise
from lrfinder.advice.evidence import weighted_mean
from lrfinder.advice.verdict import trial_levels
from lrfinder.analysis.regimes import Reading, read_curve
from lrfinder.errors import ConfigError
from lrfinder.record.curve import LossCurve, StopReason
from lrfinder.record.facts import ModelFacts
from lrfinder.result import RangeTestResult
from lrfinder.tables.situations import PROBE
from lrfinder.training.range_search import SweepRequest, choose_range

SWEEP: dict[str, Any] = {"start_lr": 1e-5, "end_lr": 0.1, "num_iter": 12, "early_stop": False, "progress": False}
BATCH = 16
FIRST = PROBE.samples // BATCH  # batches of the probe
TRAINED = ModelFacts(pretrained=True, trainable=4_000_000, trained=(0.99,))


def network(width: int = 300) -> nn.Sequential:
    """Of 92,000 parameters, with layers whose evaluation differs from their training."""
    torch.manual_seed(0)
    trunk = (nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, width))
    return nn.Sequential(*trunk, nn.Tanh(), nn.Linear(width, CLASSES))


def batches(count: int = 30) -> list[tuple[Tensor, Tensor]]:
    return [labelled(seed, BATCH) for seed in range(count)]


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=0.1)


def finder(model: nn.Module | None = None, criterion: Any = None, **options: Any) -> LRFinder:
    model = model or network()
    criterion = criterion or nn.CrossEntropyLoss()
    return LRFinder(model, adamw(model), criterion, **{"pretrained": True, **options})


def swept(loader: Any = None, **options: Any) -> LossCurve:
    return finder(**options).range_test(loader or batches(), **SWEEP).curve


def frozen(model: nn.Sequential) -> nn.Sequential:
    model[:-1].requires_grad_(False)
    return model


def in_training_only(output: Tensor, target: Tensor) -> Tensor:
    """A loss that cannot be had in eval mode, as of torchvision's detection models."""
    if not output.requires_grad:
        raise ValueError("no targets in eval mode")
    return nn.functional.cross_entropy(output, target)


# --- which range tests have one ---------------------------------------------------------------------------------------


def test_trained_weights_have_a_probe_and_fresh_ones_none() -> None:
    assert len(swept().probe_losses) == SWEEP["num_iter"]
    assert swept(pretrained=False).probe_losses == swept(pretrained=None).probe_losses == ()


def test_sgd_has_none() -> None:
    model = network()
    test = LRFinder(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss(), pretrained=True)
    assert test.range_test(batches(), **SWEEP).curve.probe_losses == ()


def test_networks_as_small_as_those_of_the_calibration_have_none() -> None:
    small = network(100)
    assert sum(each.numel() for each in small.parameters()) < PROBE.larger_than
    assert swept(model=small).probe_losses == ()


def test_a_new_head_alone_has_none() -> None:
    assert swept(model=frozen(network())).probe_losses == ()


def test_a_validation_loss_takes_its_place() -> None:
    curve = finder().range_test(batches(), val_loader=batches(2), **SWEEP).curve
    assert curve.measured == "after" and curve.probe_losses == ()


def test_a_step_of_ones_own_has_one_where_a_loss_is_beside_it() -> None:
    def curve(**options: Any) -> LossCurve:
        model = network()
        optimizer = adamw(model)

        def step(batch: Any) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            return loss.detach()

        test = LRFinder(model, optimizer, step_fn=step, pretrained=True, **options)
        return test.range_test(batches(), **SWEEP).curve

    assert curve().probe_losses == ()
    assert curve(criterion=nn.CrossEntropyLoss()).probe_losses == swept().probe_losses


def test_a_loss_that_exists_in_training_mode_alone_has_none() -> None:
    curve = swept(criterion=in_training_only)
    assert curve.probe_losses == () and len(curve) == SWEEP["num_iter"]


def test_a_loss_that_is_nan_in_eval_mode_has_none() -> None:
    model = network()

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output, target) / model.training

    assert swept(model=model, criterion=criterion).probe_losses == ()


@pytest.mark.parametrize(("count", "held"), [(1, 1), (2, 1), (3, 1), (30, FIRST)])
def test_half_of_a_short_loader_is_left_to_train_on(count: int, held: int) -> None:
    curve = swept(batches(count))
    assert len(curve.probe_losses) == SWEEP["num_iter"]
    assert curve.batches == SWEEP["num_iter"] + held


def test_a_generator_with_too_few_batches_has_none() -> None:
    curve = swept(each for each in batches(FIRST - 1))
    assert curve.probe_losses == () and curve.stop is StopReason.DATA_EXHAUSTED


# --- what it measures -------------------------------------------------------------------------------------------------


def by_hand(lrs: tuple[float, ...]) -> list[float]:
    """Losses of the first samples after each update on the others, with BatchNorm as in training and no dropout."""
    model = network()
    optimizer, data = adamw(model), batches()
    probe, rest = data[:FIRST], data[FIRST:]
    losses = []
    for lr, (inputs, target) in zip(lrs, rest, strict=False):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), target).backward()
        optimizer.step()
        model[3].eval()
        with torch.no_grad():
            measured = [nn.functional.cross_entropy(model(x), y).item() for x, y in probe]
        model[3].train()
        losses.append(sum(measured) / len(measured))
    return losses


def test_it_is_the_loss_of_the_first_samples_after_each_update() -> None:
    curve = swept()
    torch.manual_seed(0)
    network()  # as many random numbers as the model of the range test took
    assert curve.probe_losses == pytest.approx(by_hand(curve.lrs), rel=1e-5)
    assert curve.batches == SWEEP["num_iter"] + FIRST


def test_its_samples_are_not_trained_on() -> None:
    model, trained, measured = network(), set(), set()

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        (trained if output.requires_grad else measured).add(float(target.double() @ torch.arange(BATCH).double() ** 3))
        return nn.functional.cross_entropy(output, target)

    swept(model=model, criterion=criterion)
    assert len(measured) == FIRST and not measured & trained


def test_the_training_losses_are_those_without_it() -> None:
    without = swept(batches()[FIRST:], pretrained=False)
    assert swept().losses == without.losses


def test_it_leaves_no_trace() -> None:
    def trained(test: Callable[[nn.Module], object]) -> tuple[list[float], Tensor, list[Tensor]]:
        model = network()
        test(model)
        optimizer, losses = adamw(model), []
        for inputs, target in batches(5):
            loss = nn.functional.cross_entropy(model(inputs), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert model.training and model[1].momentum == 0.1
        return losses, weights(model), list(model.buffers())

    without, after = trained(lambda model: None), trained(lambda model: swept(model=model))
    assert without[0] == after[0] and without[1].equal(after[1])
    assert all(mine.equal(other) for mine, other in zip(without[2], after[2], strict=True))


def test_a_norm_that_is_frozen_in_eval_mode_stays_in_it() -> None:
    class Frozen(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> nn.Module:
            return super().train(False)

    model = network()
    model[1] = Frozen(300)
    model.train()
    modes: list[bool] = []
    model[1].register_forward_hook(lambda norm, *_: modes.append(norm.training))
    swept(model=model)
    assert not any(modes)


def test_nothing_is_compiled_for_it() -> None:
    compiled: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(len(inputs))
        return graph.forward

    def graphs(pretrained: bool) -> int:
        torch._dynamo.reset()
        compiled.clear()
        model = network()
        whole = torch.compile(model, backend=backend)
        test = LRFinder(whole, adamw(model), nn.CrossEntropyLoss(), pretrained=pretrained)
        curve = test.range_test(batches(), **SWEEP).curve
        assert bool(curve.probe_losses) is pretrained
        return len(compiled)

    assert graphs(True) == graphs(False) > 0


def test_the_range_starts_a_decade_lower() -> None:
    usual, lower = (choose_range(0.1, SweepRequest(), rule="adaptive", lower=each)[0] for each in (False, True))
    assert lower.start_lr == pytest.approx(usual.start_lr / 10) and lower.end_lr == usual.end_lr
    assert choose_range(0.1, SweepRequest(start_lr=0.01), rule="adaptive", lower=True)[0].start_lr == 0.01


# --- what is read from it ---------------------------------------------------------------------------------------------


def with_probe(shape: Callable[[float], float] = breaks, *, spread: float = 0.05, **facts: Any) -> LossCurve:
    """A training loss that shows nothing but the spread of its batches, and a probe of that shape beside it."""
    shown = curve_of(shape)
    training = curve_of(lambda x: 2.3 + max(0.0, x) ** 2, noise=spread, measured="before")
    given = {"probe_losses": shown.losses, "optimizer": "AdamW", "momentum": 0.9, "facts": TRAINED, **facts}
    return dataclasses.replace(training, **given)


def reading(curve: LossCurve) -> Reading:
    found = read_curve(curve)
    assert found.probed
    return found


def test_it_is_read_as_a_curve_of_its_own() -> None:
    alone = curve_of(breaks, optimizer="AdamW", momentum=0.9, stop=StopReason.DIVERGED)
    found, expected = reading(with_probe()), read_curve(alone)
    assert found.low_region == expected.low_region and found.edge_lr == expected.edge_lr
    assert found.onset_lr == expected.onset_lr and found.lowest_lr == expected.lowest_lr


def test_what_comes_after_its_divergence_is_not_read() -> None:
    def comes_back(x: float) -> float:
        return breaks(x) if x < 0.5 else 0.1

    assert reading(with_probe(comes_back)).edge_lr == reading(with_probe()).edge_lr


@pytest.mark.parametrize(("part", "probed"), [(0.9, False), (1.1, True)], ids=["below", "above"])
def test_a_fall_of_half_the_spread_between_batches_counts(part: float, probed: bool) -> None:
    curve = with_probe()
    last = curve.lrs.index(reading(curve).lowest_lr) + 1
    before = dataclasses.replace(curve, lrs=curve.lrs[:last], losses=curve.losses[:last], probe_losses=())
    fall = reading(curve).total_drop
    shrunk = tuple(part * 0.5 * read_curve(before).noise_std / fall * loss for loss in curve.probe_losses)
    found = read_curve(dataclasses.replace(curve, probe_losses=shrunk))
    assert found.probed is probed
    if not probed:
        assert found == read_curve(dataclasses.replace(curve, probe_losses=()))


@pytest.mark.parametrize("count", [0, 8])
def test_too_few_of_its_losses_are_not_read(count: int) -> None:
    curve = with_probe()
    cut = dataclasses.replace(curve, probe_losses=curve.probe_losses[:count])
    assert read_curve(cut) == read_curve(dataclasses.replace(curve, probe_losses=()))


@given(st.sampled_from((1e-3, 0.5, 7.0, 1e4)), st.sampled_from((-50.0, 0.0, 3.0)))
def test_scaled_or_shifted_losses_give_the_same_advice(scale: float, shift: float) -> None:
    curve = with_probe()
    moved = {name: tuple(scale * x + shift for x in getattr(curve, name)) for name in ("losses", "probe_losses")}
    first, second = advise(curve), advise(dataclasses.replace(curve, **moved))
    assert (first.base_lr, first.interval, first.grade) == (second.base_lr, second.interval, second.grade)


def test_a_raised_loss_gives_the_advice_of_a_lowered_one() -> None:
    curve = with_probe()
    turned = {name: tuple(-x for x in getattr(curve, name)) for name in ("losses", "probe_losses")}
    raised = dataclasses.replace(curve, facts=dataclasses.replace(TRAINED, maximize=True), **turned)
    assert advise(raised).base_lr == advise(curve).base_lr


# --- the advice -------------------------------------------------------------------------------------------------------


def test_half_of_the_advice_is_from_parts_of_low_region_and_edge() -> None:
    curve = with_probe()
    found, advice = reading(curve), advise(curve)
    usual = advise(dataclasses.replace(curve, probe_losses=())).base_lr
    low, high = found.low_region or (math.nan, math.nan)
    assert found.edge_lr is not None and advice.base_lr is not None and usual is not None
    shown = math.sqrt(PROBE.low_region_part * math.sqrt(low * high) * PROBE.edge_part * found.edge_lr)
    assert advice.base_lr == pytest.approx(usual ** (1 - PROBE.weight) * shown**PROBE.weight, rel=0.1)
    assert advice.base_lr == pytest.approx(weighted_mean(advice.evidence), rel=0.05)
    assert sum(each.weight for each in advice.evidence) == pytest.approx(1)
    assert advice.edge_lr == found.edge_lr and advice.ceiling == found.edge_lr


def test_without_an_edge_the_low_region_is_all() -> None:
    falling = with_probe(lambda x: 2.0 - 0.1 * x, stop=StopReason.COMPLETED)
    advice = advise(dataclasses.replace(falling, losses=tuple(2.3 + 0.01 * (i % 3) for i in range(len(falling)))))
    assert [each.source for each in advice.evidence] == ["low region", "AdamW"] and advice.grade == "low"


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("facts", [TRAINED, dataclasses.replace(TRAINED, pretrained=False), None])
def test_tuning_with_sgd_is_graded_low_and_sent_to_refine(optimizer: str, facts: ModelFacts | None) -> None:
    advice = advise(curve_of(breaks, optimizer=optimizer, momentum=0.9, facts=facts))
    sent = "Refine it with a budget of 1.0" in " ".join(advice.reasons)
    assert sent == (optimizer == "SGD" and facts is TRAINED)
    assert advice.grade == "low" or not sent


def test_the_reasons_say_what_was_measured() -> None:
    reasons = " ".join(advise(with_probe()).reasons)
    assert "trained before" in reasons and "not trained on" in reasons and "training loss" in reasons
    assert "below the middle of that range" in reasons and "that loss rises for good" in reasons
    assert "number of trainable parameters" in reasons and "trained weights of this size" not in reasons


# --- its record -------------------------------------------------------------------------------------------------------


def test_a_curve_comes_back_from_its_dictionary() -> None:
    curve = with_probe()
    assert LossCurve.from_dict(curve.to_dict()) == curve
    assert "probe_losses" not in curve_of(breaks).to_dict()


@pytest.mark.parametrize("extra", [0, 1])
def test_no_more_of_them_than_losses_are_taken(extra: int) -> None:
    curve = with_probe()
    longer = (*curve.losses, *[1.0] * extra)
    if not extra:
        assert len(dataclasses.replace(curve, probe_losses=longer).probe_losses) == len(curve)
        return
    with pytest.raises(ConfigError, match="no more than losses"):
        dataclasses.replace(curve, probe_losses=longer)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_losses_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match="finite"):
        dataclasses.replace(with_probe(), probe_losses=(1.0, bad))


def endless() -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches()


def test_an_endless_loader_is_enough() -> None:
    assert len(swept(endless()).probe_losses) == SWEEP["num_iter"]


@pytest.mark.gpu
def test_a_gpu_measures_what_the_cpu_does() -> None:
    model = network()
    model[3].p = 0.0  # whose random numbers are others there
    expected = swept(model=model)
    model = network().cuda()
    model[3].p = 0.0
    curve = swept(model=model)
    assert curve.probe_losses == pytest.approx(expected.probe_losses, rel=1e-3)
    assert curve.losses == pytest.approx(expected.losses, rel=1e-3)


# --- trials after a probe ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0.25, 1.0])
def test_trials_after_a_probe_are_watched_by_the_training_loss(budget: float) -> None:
    lr_finder = finder()
    curve = lr_finder.range_test(batches(), **SWEEP).curve
    # A fall and a rise of a loss that is far below the training loss.
    probe = tuple(0.3 * abs(step - 8) / 8 for step in range(len(curve.losses)))
    result = RangeTestResult(curve=dataclasses.replace(curve, probe_losses=probe))
    refined = lr_finder.refine(result, batches(), schedule="constant", total_steps=200, budget=budget, progress=False)
    assert result.reading.probed and refined.trials is not None and refined.trials.probed
    # A long trial may show any improvement; a short one of trained weights often shows none.
    assert refined.trials.min_improvement == (trial_levels(curve, compressed=False)[1] if budget < 1 else 0)
    assert all(trial.loss is not None for trial in refined.trials.trials if trial.lr <= refined.trials.initial_lr)


@pytest.mark.parametrize("budget", [0.25, 1.0])
def test_refine_after_a_probe_leaves_no_trace_and_tells_its_steps(budget: float) -> None:
    lr_finder = finder()
    result = lr_finder.range_test(batches(), progress=False)
    before = weights(lr_finder.setup.model)
    refined = lr_finder.refine(result, batches(), schedule="linear", total_steps=160, budget=budget, progress=False)
    assert result.reading.probed and refined.trials is not None
    assert {trial.steps for trial in refined.trials.trials if trial.loss is not None} == {10 if budget < 1 else 40}
    assert f"trials of {10 if budget < 1 else 40} steps" in " ".join(refined.advice.reasons)
    assert torch.equal(weights(lr_finder.setup.model), before)
