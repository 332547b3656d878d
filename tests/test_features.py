"""How much the inputs of a head vary, as the first forward pass of a range test has them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from curves import curve_of
from torch import nn

from lrfinder import LRFinder
from lrfinder.advice.advice import Advice
from lrfinder.advice.advise import advise
from lrfinder.record.facts import ModelFacts
from lrfinder.tables.heads import HEAD

LINEAR: dict[str, Any] = {"depth": 1, "trainable_depth": 1}
HEAD_ALONE: dict[str, Any] = {"pretrained": True, "trained": (0.0,), "frozen_trained": 1.0, "trainable_depth": 1}


def loader(features: torch.Tensor, size: int = 16) -> list[tuple[torch.Tensor, torch.Tensor]]:
    targets = torch.arange(len(features)) % 3
    return list(zip(features.split(size), targets.split(size), strict=True))


def seen(model: nn.Module, batches: Any, **options: Any) -> float | None:
    """The share that a range test sees; every parameter with gradients is trained."""
    trained = [each for each in model.parameters() if each.requires_grad]
    finder = LRFinder(model, torch.optim.Adam(trained, lr=1e-3), nn.CrossEntropyLoss(), **options)
    facts = finder.range_test(batches, start_lr=1e-4, end_lr=1e-3, num_iter=3, progress=False).curve.facts
    assert facts is not None
    return facts.feature_variation


@pytest.mark.parametrize(("mean", "expected"), [(0.0, 1.0), (1.0, 0.5), (3.0, 0.1), (30.0, 1 / 901)])
def test_the_share_is_what_is_left_of_the_mean(mean: float, expected: float) -> None:
    torch.manual_seed(0)
    features = mean + torch.randn(4096, 32)
    assert seen(nn.Linear(32, 3), loader(features, 1024)) == pytest.approx(expected, rel=0.05)
    scaled = seen(nn.Linear(32, 3), loader(1000 * features, 1024))
    assert scaled == pytest.approx(expected, rel=0.05)


def test_small_batches_give_the_share_without_bias() -> None:
    torch.manual_seed(0)
    shares = [seen(nn.Linear(64, 3), loader(1 + torch.randn(8, 64), 2)) or 0.0 for _ in range(60)]
    assert sum(shares) / len(shares) == pytest.approx(0.5, abs=0.03)
    assert seen(nn.Linear(64, 3), loader(torch.randn(8, 64), 1)) is None


def frozen(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers).requires_grad_(False)


def head(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(frozen(nn.Linear(8, 8), nn.ReLU()), *layers)


MODELS = {
    "head": (lambda: head(nn.Linear(8, 3)), True),
    "head of two layers": (lambda: head(nn.Linear(8, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3)), True),
    "one layer": (lambda: nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 3)), True),
    "two layers": (lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), False),
    "deep on frozen": (lambda: head(*[nn.Linear(8, 8) for _ in range(3)], nn.Linear(8, 3)), False),
    "convolution": (lambda: head(nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 1, 6), nn.Flatten()), False),
}


@pytest.mark.parametrize("name", MODELS)
def test_few_linear_layers_alone_are_looked_at(name: str) -> None:
    make, expected = MODELS[name]
    assert (seen(make(), loader(torch.randn(48, 8))) is not None) is expected


def test_the_first_layer_that_is_trained_is_looked_at() -> None:
    torch.manual_seed(0)
    shift = nn.Linear(8, 8).requires_grad_(False)
    nn.init.eye_(shift.weight)
    nn.init.constant_(shift.bias, 3.0)
    model = nn.Sequential(shift, nn.Linear(8, 8), nn.Linear(8, 3))
    assert seen(model, loader(torch.randn(1024, 8), 512)) == pytest.approx(0.1, rel=0.2)


def test_a_group_without_a_learning_rate_is_frozen() -> None:
    def share(*groups: dict[str, Any]) -> float | None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv1d(1, 1, 1), nn.Linear(8, 3))
        made = [{**each, "params": model[each["params"]].parameters()} for each in groups]
        finder = LRFinder(model, torch.optim.Adam(made), loss_fn=lambda model, batch: model(batch).square().mean())
        facts = finder.range_test([torch.randn(16, 1, 8) for _ in range(4)], progress=False).curve.facts
        return None if facts is None else facts.feature_variation

    known = share({"params": 1, "lr": 0.1})
    assert known is not None and share({"params": 0, "lr": 0.0}, {"params": 1, "lr": 0.1}) == known


def test_sparse_inputs_are_left_alone() -> None:
    features = torch.eye(48)[:, :8]
    batches = [(part.to_sparse(), targets) for part, targets in loader(features)]
    assert seen(nn.Linear(8, 3), batches) is None


def test_a_step_of_ones_own_shows_them_too() -> None:
    model = nn.Linear(8, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(batch: Any) -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    curve = LRFinder(model, optimizer, step_fn=step).range_test(loader(torch.randn(96, 8)), progress=False).curve
    assert curve.facts is not None and curve.facts.feature_variation == pytest.approx(1.0, abs=0.3)


def test_no_hook_is_left_and_none_is_set_on_compiled_models() -> None:
    model = head(nn.Linear(8, 3))
    seen(model, loader(torch.randn(48, 8)))
    assert not any(each._forward_pre_hooks for each in model.modules())
    with pytest.raises(ZeroDivisionError):
        LRFinder(model, torch.optim.Adam(model[1].parameters()), lambda *_: 1 / 0).range_test(loader(torch.ones(6, 8)))
    assert not any(each._forward_pre_hooks for each in model.modules())
    compiled = torch.compile(model, backend="eager")
    assert isinstance(compiled, nn.Module) and seen(compiled, loader(torch.randn(48, 8))) is None


def advised(share: float | None, momentum: float = 0.9, optimizer: str = "AdamW", **facts: Any) -> Advice:
    known = ModelFacts(feature_variation=share, **facts)

    def bowl(x: float) -> float:
        return 2.0 - 1.0 / (1 + 10 ** (-2 * (x + 3))) + 3 * max(0.0, x + 1)

    return advise(curve_of(bowl, start=1e-6, end=100.0, optimizer=optimizer, momentum=momentum, facts=known))


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
@pytest.mark.parametrize(("share", "counts_as"), [(1.0, 1.0), (0.25, 0.25), (0.13, 0.13), (0.001, 0.125)])
def test_a_head_gets_the_more_the_less_its_features_vary(optimizer: str, share: float, counts_as: float) -> None:
    factor = counts_as ** (-0.25 if optimizer == "SGD" else -0.5)
    usual, known = (advised(each, optimizer=optimizer, **HEAD_ALONE) for each in (None, share))
    assert usual.base_lr is not None and known.base_lr is not None
    assert known.base_lr / usual.base_lr == pytest.approx(factor, rel=0.06)
    said = f"{share:.0%} varies between samples"
    assert (said in " ".join(known.reasons)) is (share < 1) and "varies" not in " ".join(usual.reasons)


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_one_linear_layer_gets_a_part_of_that(optimizer: str) -> None:
    usual, known = (advised(each, optimizer=optimizer, **LINEAR) for each in (1.0, 0.25))
    assert usual.base_lr is not None and known.base_lr is not None
    factor = HEAD.variation.factor(0.25, "proportional" if optimizer == "SGD" else "adaptive")
    assert known.base_lr / usual.base_lr == pytest.approx(factor**HEAD.linear_weight, rel=0.06)


def test_the_features_do_not_count_without_momentum_or_in_deeper_networks() -> None:
    assert advised(0.1, 0.0, "SGD", **HEAD_ALONE).base_lr == advised(None, 0.0, "SGD", **HEAD_ALONE).base_lr
    assert advised(0.1, depth=3, trainable_depth=3) == advised(None, depth=3, trainable_depth=3)


@pytest.mark.filterwarnings("error")
def test_complex_features_and_those_inside_transforms_are_left_alone() -> None:
    features = torch.randn(48, 4, 8)
    for transform, dtype in ((torch.vmap, torch.float32), (torch.func.jacrev, torch.float32), (None, torch.complex64)):
        model = nn.Linear(8, 3, dtype=dtype)
        call = transform(model) if transform is not None else model
        finder = LRFinder(
            model, torch.optim.Adam(model.parameters()), loss_fn=lambda _, batch, call=call: call(batch).abs().mean()
        )
        curve = finder.range_test(list(features.to(dtype).split(8)), progress=False).curve
        assert curve.facts is not None and curve.facts.feature_variation is None
