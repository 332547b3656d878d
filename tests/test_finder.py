"""``LRFinder`` on the objects of a user; ``test_no_trace.py`` tests that it leaves no trace."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from worlds import loader, mlp, points, sgd

from lrfinder import LRFinder, LRFinderError, RangeTestResult, StopReason

SWEEP = {"start_lr": 1e-4, "end_lr": 1.0, "num_iter": 12}


def finder(model: nn.Module | None = None, optimizer: Any = None, **options: Any) -> LRFinder:
    model = model if model is not None else mlp()
    return LRFinder(model, optimizer or sgd(model), options.pop("criterion", nn.CrossEntropyLoss()), **options)


# Known truth: gradient descent on a quadratic of curvature h is stable to 2/h, with momentum mu to 2 (1 + mu) / h.


class Bowl(nn.Module):
    """The quadratic sum(h_i w_i**2) / 2, with gradient noise from the batches."""

    def __init__(self, curvatures: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones_like(curvatures))
        self.register_buffer("curvatures", curvatures)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        return (self.curvatures * self.weight**2).sum() / 2 + (noise * self.weight).sum()


def bowl_test(
    h: float, size: int, noise: float, seed: int, scale: float = 1.0, shift: float = 0.0, **options: Any
) -> Any:
    torch.manual_seed(seed)
    model = Bowl(h / torch.arange(1, size + 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, **options)
    batches = [noise * h * torch.randn(size) for _ in range(300)]
    return LRFinder(model, optimizer, loss_fn=lambda model, batch: scale * model(batch) + shift).range_test(batches)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("size", [1, 10, 100])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("h", [1e-3, 1.0, 1e4])
def test_the_edge_of_a_noisy_quadratic_is_its_stability_limit(
    h: float, momentum: float, size: int, noise: float, seed: int
) -> None:
    result = bowl_test(h, size, noise, seed, momentum=momentum)
    limit = 2 * (1 + momentum) / h
    assert result.advice.edge_lr is not None
    assert 1 / 1.3 < result.advice.edge_lr / limit < 1.3
    assert result.advice.max_lr < limit and result.advice.base_lr < limit


def test_under_strong_noise_nine_edges_of_ten_are_the_stability_limit() -> None:
    # Near the limit such noise alone lifts the loss above where it started, and some sweeps end before they get there.
    close = {}
    for momentum, noise in itertools.product((0.0, 0.5, 0.9), (0.1, 0.3)):
        limit = 2 * (1 + momentum)
        edges = [
            bowl_test(1.0, size, noise, seed, momentum=momentum).advice.edge_lr
            for size in (1, 2, 10, 100)
            for seed in range(8)
        ]
        close[momentum, noise] = [edge is not None and 1 / 1.3 < edge / limit < 1.3 for edge in edges]
    assert sum(map(sum, close.values())) >= 0.9 * sum(map(len, close.values()))
    assert all(sum(each) >= 0.75 * len(each) for each in close.values())


@pytest.mark.parametrize("shift", [-50.0, 50.0])
def test_shifting_the_loss_leaves_curve_length_and_advice_unchanged(shift: float) -> None:
    plain = bowl_test(1.0, 10, 0.1, 0)
    shifted = bowl_test(1.0, 10, 0.1, 0, shift=shift)
    assert len(shifted.curve) == len(plain.curve) and shifted.curve.stop is plain.curve.stop
    for name in ("max_lr", "base_lr", "min_lr", "interval", "grade"):
        assert getattr(shifted.advice, name) == getattr(plain.advice, name)


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**10])
def test_scaling_the_loss_changes_nothing_for_an_optimizer_that_normalises(scale: float) -> None:
    def run(factor: float) -> Any:
        torch.manual_seed(0)
        model = mlp()
        optimizer = torch.optim.Adam(model.parameters(), eps=0.0)
        loss = nn.CrossEntropyLoss()
        return LRFinder(model, optimizer, lambda output, target: factor * loss(output, target)).range_test(loader())

    plain, scaled = run(1.0), run(scale)
    assert scaled.curve.lrs == pytest.approx(plain.curve.lrs)
    assert scaled.advice.max_lr == plain.advice.max_lr and scaled.advice.base_lr == plain.advice.base_lr


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_for_sgd_the_chosen_range_follows_the_scale_of_the_loss(scale: float) -> None:
    plain, scaled = bowl_test(1.0, 10, 0.1, 0), bowl_test(1.0, 10, 0.1, 0, scale=scale)
    assert scaled.advice.edge_lr * scale == pytest.approx(plain.advice.edge_lr, rel=0.3)


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "SGD with momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    **{
        name: lambda parameters, kind=getattr(torch.optim, name): kind(parameters)
        for name in ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "ASGD")
    },
}


@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_chosen_range_shows_where_the_loss_turns_for_every_optimizer(
    build: Callable[[Any], torch.optim.Optimizer],
) -> None:
    torch.manual_seed(0)
    model = mlp()
    result = finder(model, build(model.parameters())).range_test(loader(points(256)))
    assert result.advice.grade != "none"
    assert result.advice.edge_lr is not None
    config = result.curve.config
    assert config.start_lr < result.advice.max_lr <= result.advice.edge_lr < config.end_lr * 1.1


def test_the_chosen_range_has_12_iterations_per_decade() -> None:
    config = finder().range_test(loader()).curve.config
    assert (config.num_iter - 1) / math.log10(config.end_lr / config.start_lr) == pytest.approx(12)


def test_only_a_chosen_range_is_extended_while_the_curve_has_not_turned() -> None:
    # Only the first batch is steep, so the critical LR that it shows is far too low.
    batches = [torch.tensor(1000.0), *[torch.tensor(1.0)] * 400]
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)

    def run(**numbers: Any) -> Any:
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        steepness = lambda model, h: h * model.weight.square().sum() / 2  # noqa: E731
        return LRFinder(model, optimizer, loss_fn=steepness).range_test(batches, **numbers).curve

    chosen = run()
    assert chosen.config.num_iter > 81
    given = run(start_lr=1e-6, end_lr=1e-2)
    assert given.stop is StopReason.COMPLETED
    assert given.lrs[0] == pytest.approx(1e-6) and given.lrs[-1] == pytest.approx(1e-2)
    assert run(num_iter=30).config.num_iter == 30


@pytest.mark.parametrize("mode", ["exp", "linear"])
def test_given_numbers_are_obeyed(mode: str) -> None:
    curve = finder().range_test(loader(), **SWEEP, mode=mode, early_stop=False).curve
    assert (curve.lrs[0], curve.lrs[-1], len(curve)) == (pytest.approx(1e-4), pytest.approx(1.0), 12)
    steps = [b - a if mode == "linear" else b / a for a, b in zip(curve.lrs, curve.lrs[1:], strict=False)]
    assert max(steps) == pytest.approx(min(steps))


def test_recorded_losses_are_those_of_the_plain_loop() -> None:
    torch.manual_seed(1)
    model, data = mlp(), loader(generator=torch.Generator().manual_seed(0))
    optimizer = sgd(model)
    curve = finder(model, optimizer).range_test(data, **SWEEP).curve
    losses = []
    batches = itertools.chain.from_iterable(itertools.repeat(data))
    for lr, (inputs, target) in zip(curve.lrs, batches, strict=False):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert list(curve.losses) == losses


def test_parameter_groups_keep_their_ratios_in_every_iteration() -> None:
    model, seen = mlp(), []
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters(), "lr": 1e-3}], lr=1e-3
    )
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 1e-5})

    def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
        seen.append([group["lr"] for group in optimizer.param_groups])
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    curve = LRFinder(model, optimizer, loss_fn=loss_fn).range_test(loader(), **SWEEP).curve
    assert curve.group_scales == pytest.approx((0.0, 1.0, 0.01))
    for lr, (frozen, reference, small) in zip(curve.lrs, seen, strict=True):
        assert (frozen, reference, small) == (0.0, pytest.approx(lr), pytest.approx(lr / 100))


def test_validation_measures_after_the_update_in_eval_mode() -> None:
    model = nn.Sequential(mlp(), nn.Dropout(0.9))
    modes: list[bool] = []
    model[1].register_forward_hook(lambda module, *_: modes.append(module.training))
    curve = finder(model).range_test(loader(), val_loader=loader(points(24)), val_batches=2, **SWEEP).curve
    assert curve.measured == "after"
    assert curve.pairs() == (curve.lrs, curve.losses)
    assert modes == [True, False, False] * 12


def test_validation_over_the_whole_loader_weights_batches_by_their_size() -> None:
    torch.manual_seed(0)
    model, data = mlp(), points(20)
    held_out = torch.utils.data.DataLoader(data, batch_size=8)  # 8, 8 and 4
    tiny = {"start_lr": 1e-12, "end_lr": 1e-11, "num_iter": 2}
    curve = finder(model).range_test(loader(), val_loader=held_out, **tiny).curve
    whole = nn.functional.cross_entropy(model(data.tensors[0]), data.tensors[1]).item()
    assert curve.losses == pytest.approx([whole, whole])


def test_frozen_batchnorm_stays_in_eval_and_a_model_in_eval_is_trained() -> None:
    model = mlp(nn.BatchNorm1d(16), nn.Dropout(0.1))
    model[1].eval()
    seen: set[tuple[bool, bool]] = set()
    model.register_forward_hook(lambda module, *_: seen.add((module[1].training, module[2].training)))
    finder(model).range_test(loader(), **SWEEP)
    assert seen == {(False, True)}
    seen.clear()
    model.eval()
    finder(model).range_test(loader(), **SWEEP)
    assert seen == {(True, True)}
    assert not model.training


class Endless(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(itertools.cycle([points()[i] for i in range(8)]))


@pytest.mark.parametrize(
    "batches",
    [
        [next(iter(loader()))],
        loader(),
        torch.utils.data.DataLoader(Endless(), batch_size=4),
        itertools.cycle(loader()),
    ],
    ids=["list of one batch", "DataLoader shorter than the sweep", "endless IterableDataset", "endless iterator"],
)
def test_any_iterable_of_batches_is_accepted(batches: Any) -> None:
    assert len(finder().range_test(batches, **SWEEP).curve) == 12


def test_an_iterator_that_runs_out_is_a_stop_reason_with_a_hint() -> None:
    curve = finder().range_test(iter(loader()), **SWEEP).curve
    assert curve.stop is StopReason.DATA_EXHAUSTED
    assert len(curve) == 6 and curve.batches == 6
    assert "iterated more than once" in curve.stop.hint


def test_the_curve_counts_the_batches_drawn() -> None:
    assert finder().range_test(loader(), **SWEEP).curve.batches == 12
    assert finder(accumulation_steps=3).range_test(loader(), **SWEEP).curve.batches == 36
    chosen = finder().range_test(loader()).curve
    assert chosen.batches == len(chosen)  # the batch that found the range is the first of the sweep


def test_the_curve_names_the_optimizer() -> None:
    model = mlp()
    curve = finder(model, torch.optim.AdamW(model.parameters(), betas=(0.8, 0.99))).range_test(loader(), **SWEEP).curve
    assert (curve.optimizer, curve.momentum) == ("AdamW", 0.8)


def test_skipped_float16_updates_repeat_their_learning_rate() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    model = mlp()
    result = finder(model, amp_dtype=torch.float16, grad_scaler=scaler).range_test(loader(), **SWEEP)
    assert result.curve.skipped > 0
    assert len(result.curve) == 12
    assert result.curve.batches == 12 + result.curve.skipped
    assert len(finder(amp_dtype=torch.float16).range_test(loader(), **SWEEP).curve) == 12


@pytest.mark.parametrize("amp_dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_range_is_found_under_autocast_too(amp_dtype: torch.dtype) -> None:
    result = finder(amp_dtype=amp_dtype).range_test(loader(points(256)))
    assert result.advice.edge_lr is not None


def test_a_short_sweep_is_no_error_but_gives_no_advice() -> None:
    result = finder().range_test(loader(), start_lr=1e-4, end_lr=1.0, num_iter=5)
    assert result.advice.grade == "none"
    assert result.advice.max_lr is None
    assert len(result.curve) == 5


def test_nan_at_once_is_a_stop_reason_not_an_error() -> None:
    result = LRFinder(
        model := mlp(), sgd(model), loss_fn=lambda model, batch: model(batch[0]).sum() * math.nan
    ).range_test(loader())
    assert result.curve.stop is StopReason.NONFINITE
    assert result.advice.grade == "none"


def test_progress_is_silent_outside_a_terminal(capfd: Any) -> None:
    finder().range_test(loader(), **SWEEP)
    assert capfd.readouterr() == ("", "")


def test_progress_shows_in_a_terminal_and_can_be_switched_off(monkeypatch: Any) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for progress in (True, False):
        monkeypatch.setattr("sys.stderr", terminal := Terminal())
        finder().range_test(loader(), **SWEEP, progress=progress)
        assert ("LR range test" in terminal.getvalue()) is progress


# Bad input: one sentence with the remedy, beside the nearest input that works.


def frozen(model: nn.Module) -> nn.Module:
    return model.requires_grad_(False)


@pytest.mark.parametrize(
    "build, remedy",
    [
        (lambda: LRFinder(mlp(), sgd(mlp()), nn.CrossEntropyLoss()), "another model"),
        (lambda: LRFinder(frozen(model := mlp()), sgd(model), nn.CrossEntropyLoss()), "Unfreeze"),
        (lambda: LRFinder(nn.Flatten(), sgd(mlp()), nn.CrossEntropyLoss()), "no trainable parameter"),
        (lambda: LRFinder(model := mlp(), sgd(model)), "either criterion or loss_fn; got neither"),
        (lambda: finder(loss_fn=lambda model, batch: 0), "got both"),
        (lambda: LRFinder(sgd(model := mlp()), model, nn.CrossEntropyLoss()), "torch.nn.Module"),
        (lambda: LRFinder(mlp(), nn.CrossEntropyLoss(), sgd(mlp())), "in this order"),
        (lambda: finder(device="cuda:99"), "cuda"),
        (lambda: finder(device="abacus"), "not a device"),
        (lambda: finder(device="meta"), "the model is on cpu"),
        (lambda: finder(amp_dtype=torch.float64), "bfloat16"),
        (lambda: finder(clip_grad_norm=0), "positive"),
        (lambda: finder(clip_grad_norm="1"), "clip_grad_norm must be a positive finite number"),
        (lambda: finder(clip_grad_norm=True), "clip_grad_norm must be a positive finite number"),
        (lambda: LRFinder(model := mlp(), sgd(model), nn.CrossEntropyLoss), "Make one of it: CrossEntropyLoss()"),
        (lambda: LRFinder(model := mlp(), sgd(model), loss_fn=nn.CrossEntropyLoss()), "Pass it as criterion"),
        (lambda: finder(grad_scaler=True), "grad_scaler must be a torch.amp.GradScaler, or None; got True"),
        (lambda: finder().range_test(TensorDataset(torch.ones(8, 2))), "TensorDataset, which gives single samples"),
        (lambda: finder(accumulation_steps=0), "at least 1"),
        (lambda: finder(accumulation_steps=2.0), "at least 1"),
        (lambda: finder(optimizer_with_frozen := mlp(), sgd(optimizer_with_frozen[0].requires_grad_(False))), "frozen"),
    ],
)
def test_objects_that_do_not_fit_together_are_refused_with_a_hint(build: Callable[[], Any], remedy: str) -> None:
    with pytest.raises(LRFinderError, match=remedy):
        build()


@pytest.mark.parametrize("options", [{"device": "cpu"}, {"clip_grad_norm": np.float32(1)}, {"accumulation_steps": 1}])
def test_their_nearest_neighbours_are_accepted(options: dict[str, Any], tmp_path: Path) -> None:
    result = finder(**options).range_test(loader(), **SWEEP)
    assert len(result.curve) == 12
    assert RangeTestResult.load(result.save(tmp_path / "lr.json")) == result


@pytest.mark.parametrize(
    "numbers, remedy",
    [
        ({"start_lr": 1.0, "end_lr": 0.1}, "Did you swap them"),
        ({"start_lr": 0.1, "end_lr": 0.1}, "greater than start_lr"),
        ({"start_lr": 0.0}, "positive finite"),
        ({"start_lr": -1e-3}, "positive finite"),
        ({"end_lr": math.nan}, "positive finite"),
        ({"end_lr": math.inf}, "positive finite"),
        ({"start_lr": "1e-3"}, "positive finite"),
        ({"num_iter": 1}, "at least 2"),
        ({"num_iter": 10.0}, "at least 2"),
        ({"mode": "cosine"}, "mode must be one of exp, linear"),
        ({"early_stop": "no"}, "early_stop must be True or False; got 'no'"),
        ({"snapshot": "cloud"}, "'auto', 'device', 'cpu', 'disk'"),
        ({"val_batches": 2}, "needs a val_loader"),
        ({"val_batches": 0, "val_loader": [1]}, "at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_touched(numbers: dict[str, Any], remedy: str) -> None:
    def untouchable(model: nn.Module, batch: Any) -> torch.Tensor:
        raise AssertionError("the model was run")

    model = mlp()
    with pytest.raises(ValueError, match=remedy):
        LRFinder(model, sgd(model), loss_fn=untouchable).range_test(loader(), **numbers)


def test_the_narrowest_range_and_the_fewest_iterations_are_accepted() -> None:
    curve = finder().range_test(loader(), start_lr=0.1, end_lr=0.1000001, num_iter=2).curve
    assert len(curve) == 2


@pytest.mark.parametrize(("num_iter", "advised"), [(9, False), (10, True)])
def test_ten_iterations_are_the_fewest_that_give_advice(num_iter: int, advised: bool) -> None:
    result = finder().range_test(loader(points(320)), start_lr=0.01, end_lr=100.0, num_iter=num_iter, early_stop=False)
    assert (result.advice.base_lr is not None) == advised


def test_a_narrow_range_has_as_many_iterations_as_advice_needs() -> None:
    result = finder().range_test(loader(points(320)), start_lr=1.0, end_lr=2.0)
    assert len(result.curve) == 10
    assert "too_few_points" not in [finding.code for finding in result.advice.findings]


def test_an_empty_loader_is_refused() -> None:
    with pytest.raises(ValueError, match="no batch at all"):
        finder().range_test([])
    with pytest.raises(ValueError, match="no batch at all"):
        finder().range_test([], **SWEEP)
    with pytest.raises(ValueError, match="cannot be iterated"):
        finder().range_test(3, **SWEEP)
