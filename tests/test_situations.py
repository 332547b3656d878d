"""What the advice makes of the situation: batch size, model size, length, clipping and trained weights."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from curves import curve_of
from torch import nn
from torchvision import models

from lrfinder import LRFinder, RangeTestResult
from lrfinder.advice.advice import Advice
from lrfinder.advice.advise import advise
from lrfinder.advice.laws import adjustments
from lrfinder.advice.situation import is_tuning
from lrfinder.advice.verdict import refined_advice
from lrfinder.analysis.finding import GRADES
from lrfinder.record.curve import LossCurve
from lrfinder.record.facts import ModelFacts
from lrfinder.record.trials import Trial, TrialRecord
from lrfinder.tables import situations
from lrfinder.tables.constants import FITTED
from lrfinder.tables.heads import HEAD
from lrfinder.tables.kinds import KINDS
from lrfinder.tables.recipes import reference_recipe, scaled_lr
from lrfinder.tables.situations import (
    BATCH_SIZE,
    CLIPPED,
    LAYER_NORM_SIZE,
    LENGTH,
    LOSS_SIZE,
    MODEL_SIZE,
    TRAINED,
    TUNING_LENGTH,
    Law,
)
from lrfinder.training.contents import same_target, target_count

LAWS = {"batch size": BATCH_SIZE, "model size": MODEL_SIZE, "trained weights": TRAINED, "length": LENGTH}
LAWS |= {"features of a head": HEAD.variation, "length of a head": HEAD.length}
LAWS |= {"size with layer normalisation": LAYER_NORM_SIZE, "length of a fine-tuning": TUNING_LENGTH}
RULES = ("proportional", "adaptive")
every_rule = pytest.mark.parametrize("rule", RULES)
every_law = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)


def bowl(x: float) -> float:
    """Falls from 2 to 1 around 1e-3, and rises from 0.1 on."""
    return 2.0 - 1.0 / (1 + 10 ** (-2 * (x + 3))) + 3 * max(0.0, x + 1)


def curve(optimizer: str = "AdamW", **facts: Any) -> LossCurve:
    """A curve with an edge far above its advice, and facts of its model."""
    momentum = 0.0 if optimizer == "SGD" else 0.9
    part = facts.pop("clipped_part", None)
    known = ModelFacts(**facts) if facts else None
    fields = {"optimizer": optimizer, "momentum": momentum, "clipped_part": part, "facts": known}
    return curve_of(bowl, start=1e-6, end=100.0, noise=0.01, **fields)


def advice(optimizer: str = "AdamW", **facts: Any) -> Advice:
    return advise(curve(optimizer, **facts))


def ratio(optimizer: str = "AdamW", **facts: Any) -> float:
    """The advised LR, as a part of that without facts."""
    known, unknown = advice(optimizer, **facts).base_lr, advice(optimizer).base_lr
    assert known is not None and unknown is not None
    return known / unknown


def words(optimizer: str = "AdamW", **facts: Any) -> str:
    return " ".join(advice(optimizer, **facts).reasons)


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_row_has_a_source() -> None:
    values = [HEAD, HEAD.length, HEAD.momentum, HEAD.variation, *vars(situations).values()]
    rows = [value for value in values if hasattr(value, "source") and not isinstance(value, type)]
    assert len(rows) == 15 and all(row.source for row in rows)


@every_law
@every_rule
def test_a_law_changes_nothing_at_its_reference(law: Law, rule: str) -> None:
    assert law.factor(law.reference, rule) == 1


@every_law
@every_rule
def test_a_law_is_monotonous_and_ends_at_the_largest_value_measured(law: Law, rule: str) -> None:
    values = [law.reference * 2.0**k for k in range(-8, 40)]
    factors = [law.factor(value, rule) for value in values]
    assert factors == sorted(factors, reverse=law is not BATCH_SIZE)
    assert law.factor(10 * law.highest, rule) == law.factor(law.highest, rule)


def test_small_batches_scale_linearly_for_sgd_and_by_the_root_for_adam() -> None:
    assert [BATCH_SIZE.factor(8, rule) for rule in RULES] == [0.25, 0.5]
    assert [BATCH_SIZE.factor(128, rule) for rule in RULES] == [2.0, 2.0]


def test_the_lr_falls_with_the_size_as_in_the_table_of_gpt_3() -> None:
    published = 6e-5 / 6e-4
    assert published < MODEL_SIZE.factor(175e9, "adaptive") / MODEL_SIZE.factor(125e6, "adaptive") < 3 * published


@pytest.mark.parametrize("model", ["vit_b_16", "vit_l_32", "swin_t", "swin_v2_b", "convnext_tiny", "maxvit_t"])
def test_large_networks_with_layer_norm_come_near_torchvisions_recipes(model: str) -> None:
    recipe = reference_recipe(model)
    assert recipe is not None and recipe.optimizer == "AdamW"
    size = models.get_model_weights(model)["IMAGENET1K_V1"].meta["num_params"]
    length = LENGTH.factor(300 * 1_281_167 / recipe.batch, "adaptive")
    ours, without = (
        FITTED.typical_lr["adam"] * law.factor(size, "adaptive") * length for law in (LAYER_NORM_SIZE, MODEL_SIZE)
    )
    assert 1 / 3 < ours / scaled_lr(recipe, 32) < 3
    assert without > 2 * ours


# --- the advice -------------------------------------------------------------------------------------------------------


def test_facts_within_the_calibration_runs_change_nothing() -> None:
    assert advice(trainable=60_000, batch_size=32).base_lr == advice().base_lr
    assert words(trainable=60_000, batch_size=32) == words()


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_a_constant_lr_is_that_of_a_decay_where_the_weights_are_averaged(optimizer: str) -> None:
    averaged, plain = advice(f"{optimizer}ScheduleFree"), advice(optimizer)
    assert averaged.lr_for("constant") == averaged.lr_for("constant", 10**6) == averaged.base_lr
    assert plain.base_lr is not None and plain.lr_for("constant") < plain.base_lr


@pytest.mark.parametrize(("optimizer", "expected"), [("SGD", 1 / 8), ("AdamW", 8**-0.5)])
def test_a_batch_of_four_gets_the_lr_of_its_law(optimizer: str, expected: float) -> None:
    assert ratio(optimizer, batch_size=4) == pytest.approx(expected, rel=0.06)
    assert "A batch has 4 samples" in words(optimizer, batch_size=4)


@pytest.mark.parametrize(
    ("name", "facts", "power"),
    [
        ("LayerNorm", {}, -0.4),
        ("LlamaRMSNorm", {}, -0.4),
        ("BatchNorm2d", {}, -0.2),
        ("LayerNorm", {"pretrained": True}, -0.4),  # of which half is for the trained weights, as with any other layer
        ("BatchNorm2d", {"pretrained": True}, -0.4),
    ],
)
def test_the_law_for_the_size_depends_on_the_normalisation(name: str, facts: dict[str, Any], power: float) -> None:
    found = ratio(trainable=6_500_000, norm_layers=((name, 12),), **facts)
    assert found == pytest.approx(100**power, rel=0.06)


@every_rule
def test_the_law_for_trained_weights_grows_with_their_share_up_to_half(rule: str) -> None:
    def factor(*shares: float, sizes: tuple[int, ...] = (6_500_000,)) -> float:
        facts = ModelFacts(pretrained=True, trainable=6_500_000, trained=shares, group_sizes=sizes)
        found = {each.name: each.factor for each in adjustments(facts, rule)}
        return found["trained weights"]

    whole = TRAINED.factor(6_500_000, rule)
    assert factor(1.0) == factor(0.5) == pytest.approx(whole)
    assert factor(0.25) == factor(0.5, 0.0, sizes=(50, 50)) == pytest.approx(whole**0.5)
    assert factor(0.1) == pytest.approx(whole**0.2)
    assert factor(0.0) == pytest.approx(whole)  # the user alone says so


def test_batches_that_are_accumulated_count_together() -> None:
    assert advice(batch_size=4, accumulation_steps=8).base_lr == advice(batch_size=32).base_lr


def test_tokens_make_up_for_a_small_batch_and_make_none_large() -> None:
    assert advice(batch_size=4, targets=256).base_lr == advice(batch_size=32).base_lr
    assert advice(batch_size=64, targets=4096).base_lr == advice(batch_size=64).base_lr


def test_tokens_of_accumulated_batches_make_none_large() -> None:
    found = advice(batch_size=4, targets=256, accumulation_steps=4)
    assert found.base_lr == advice(batch_size=16, targets=1024).base_lr
    assert not any("A batch has" in reason for reason in found.reasons)


@every_rule
def test_all_data_in_every_step_are_no_small_batch(rule: str) -> None:
    optimizer = "SGD" if rule == "proportional" else "AdamW"
    usual = advice(optimizer, batch_size=32).base_lr
    assert advice(optimizer, batch_size=4, full_batch=True).base_lr == usual
    assert advice(optimizer, batch_size=4).base_lr != usual
    assert advice(optimizer, batch_size=128, full_batch=True).base_lr == advice(optimizer, batch_size=128).base_lr


LARGE: dict[str, Any] = {"trainable": 4_000_000}


@pytest.mark.parametrize(("optimizer", "rule"), [("SGD", "proportional"), ("AdamW", "adaptive")])
def test_large_trained_networks_get_a_lower_lr_and_the_reason(optimizer: str, rule: str) -> None:
    fresh, trained = advice(optimizer, **LARGE), advice(optimizer, **LARGE, pretrained=True)
    assert fresh.base_lr is not None and trained.base_lr is not None and trained.base_lr < fresh.base_lr / 2
    [factor] = [each.part for each in trained.evidence if each.name == "trained weights"]
    assert factor == TRAINED.factor(LARGE["trainable"], rule)
    assert "trained before" in words(optimizer, **LARGE, pretrained=True)


def test_a_small_trained_network_is_like_those_of_the_calibration_runs() -> None:
    assert advice(pretrained=True, trainable=60_000).base_lr == advice().base_lr


@pytest.mark.parametrize("pretrained", [False, None])
def test_fresh_or_unknown_weights_change_nothing(pretrained: bool | None) -> None:
    assert advice(**LARGE, pretrained=pretrained).base_lr == advice(**LARGE).base_lr


@pytest.mark.parametrize("trained", [(0.99,), (None,), (0.99, 0.0), None])
def test_a_trained_body_that_is_trained_again_counts_as_trained(trained: tuple[float | None, ...] | None) -> None:
    known = {"pretrained": True, "trained": trained}
    assert advice(**LARGE, **known).base_lr == advice(**LARGE, pretrained=True).base_lr


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"pretrained": True, "trained": (0.0,)}, "taken as trained, as you specified, but the model shows no signs"),
        ({"pretrained": False, "trained": (0.99,)}, "taken as fresh, as you specified, but the model shows signs"),
        ({"pretrained": True, "trained": (0.0,), "frozen_trained": 1.0}, None),
        ({"pretrained": True, "trained": (None,)}, None),
        ({"pretrained": False, "trained": (0.0,)}, None),
        ({"trained": (0.99,)}, None),
    ],
)
def test_what_is_said_against_what_is_seen_is_obeyed_and_mentioned(facts: dict[str, Any], told: str | None) -> None:
    assert ("as you specified" in words(**LARGE, **facts)) == (told is not None)
    assert told is None or told in words(**LARGE, **facts)
    lowered = facts.get("pretrained") is True and "frozen_trained" not in facts
    assert ("trained before" in words(**LARGE, **facts)) == lowered


def test_far_from_the_calibration_runs_the_interval_is_wider() -> None:
    near, far = advice(), advice(**LARGE, pretrained=True)
    assert GRADES.index(far.grade) >= GRADES.index("medium")
    assert near.interval is not None and far.interval is not None
    assert far.interval[1] / far.interval[0] > near.interval[1] / near.interval[0]


def test_the_evidence_leads_to_the_advice() -> None:
    evidence = advice(batch_size=4, trainable=10**7, pretrained=True).evidence
    factors = [each for each in evidence if each.name in {*LAWS, "trained weights"}]
    assert [each.name for each in factors] == ["batch size", "model size", "trained weights"]
    assert factors[-1].lr == pytest.approx(advice(batch_size=4, trainable=10**7, pretrained=True).base_lr, rel=0.06)
    assert sum(each.weight for each in evidence) == pytest.approx(1)


def test_the_reasons_of_a_saved_advice_are_read_back() -> None:
    known = advice(batch_size=4, trainable=10**7, pretrained=True)
    assert Advice.from_dict(known.to_dict()) == known


def test_unknown_facts_give_no_adjustment() -> None:
    assert not list(adjustments(None, "adaptive")) and not list(adjustments(ModelFacts(), "adaptive"))


# --- a new head alone -------------------------------------------------------------------------------------------------

NEW_HEAD: dict[str, Any] = {"pretrained": True, "trainable": 770, "trained": (0.0,), "frozen_trained": 1.0}
LINEAR_HEAD = {**NEW_HEAD, "trainable_depth": 1}
every_optimizer = pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])


@every_optimizer
def test_a_head_alone_gets_a_part_of_edge_and_divergence(optimizer: str) -> None:
    known = advice(optimizer, **NEW_HEAD)
    assert known.edge_lr is not None and known.diverged_lr is not None and known.base_lr is not None
    part = HEAD.part / HEAD.usual_fall * (HEAD.momentum.factor(1.0, "proportional") if optimizer == "SGD" else 1)
    assert known.base_lr == pytest.approx(part * (known.edge_lr * known.diverged_lr) ** 0.5, rel=0.06)
    said = words(optimizer, **NEW_HEAD)  # which has to hold for prompts and for one adapter as well
    assert "Only a few new layers are trained" in said and "count as a new head" in said
    assert known.grade == "low" and Advice.from_dict(known.to_dict()) == known


@pytest.mark.parametrize(("fall", "held"), [(0.0, True), (1.0, False)])
def test_a_head_far_above_the_typical_lr_of_adam_needs_a_fall(fall: float, held: bool) -> None:
    """As of prefixes that change no output, whose loss breaks at 1e4 and shows nothing before."""

    def loss(x: float) -> float:
        return 4.0 - fall * max(0.0, min(x, 4.0)) / 4 + max(0.0, 10 * (x - 4))

    known = advise(curve_of(loss, start=1e-3, end=1e5, noise=0.05, optimizer="AdamW", facts=ModelFacts(**NEW_HEAD)))
    assert known.base_lr is not None and (known.base_lr < 1 if held else known.base_lr > 10)
    assert any("so far above the typical one" in each for each in known.reasons) == held


def linear_head(optimizer: str = "AdamW", *, fall: float, noise: float = 0.001, scale: float = 1.0) -> Advice:
    """Advice for a linear head whose loss fell by that part in the sweep."""
    fields: dict[str, Any] = {"optimizer": optimizer, "momentum": 0.9, "facts": ModelFacts(**LINEAR_HEAD)}

    def loss(x: float) -> float:
        return scale * (2.0 - 2 * fall * (2.0 - bowl(x)) if x < -1 else 2.0 - 2 * fall + 3 * (x + 1))

    return advise(curve_of(loss, start=1e-6, end=100.0, noise=scale * noise, **fields))


@every_optimizer
@pytest.mark.parametrize(("fall", "counts_as"), [(0.9, 0.9), (0.25, 0.25), (0.1, 0.1), (0.01, HEAD.least_fall)])
def test_a_linear_head_gets_the_more_the_less_the_loss_fell(optimizer: str, fall: float, counts_as: float) -> None:
    known = linear_head(optimizer, fall=fall)
    assert known.edge_lr is not None and known.diverged_lr is not None and known.base_lr is not None
    shown = HEAD.part / counts_as * (known.edge_lr * known.diverged_lr) ** 0.5
    assert known.ceiling is not None and known.base_lr == pytest.approx(min(shown, known.ceiling), rel=0.1)
    middle = HEAD.middle * known.base_lr  # above the advice, as are most of the best learning rates of heads
    ends = (middle / HEAD.spread, max(known.base_lr, min(middle * HEAD.spread, known.diverged_lr)))
    assert known.interval == pytest.approx(ends, rel=0.06)
    assert "the interval reaches further up than down" in " ".join(known.reasons)
    assert ("more than usual" in " ".join(known.reasons)) == (counts_as < HEAD.usual_fall)


@pytest.mark.parametrize("fall", [0.07, 0.25])
def test_the_noise_counts_as_a_fall_of_a_linear_head(fall: float) -> None:
    clear, noisy = (linear_head(fall=fall, noise=noise) for noise in (0.001, 0.5))
    assert clear.evidence[0].part / noisy.evidence[0].part > 1 + 0.5 * 0.25 / fall  # noise: a quarter of the level


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_a_loss_of_another_unit_changes_nothing_for_a_linear_head(scale: float) -> None:
    assert linear_head(fall=0.25, scale=scale).base_lr == linear_head(fall=0.25).base_lr


def test_a_head_whose_loss_may_be_negative_gets_the_usual_part() -> None:
    fields: dict[str, Any] = {"optimizer": "AdamW", "momentum": 0.9, "facts": ModelFacts(**LINEAR_HEAD)}
    known = advise(curve_of(lambda x: bowl(x) - 3.0, start=1e-6, end=100.0, noise=0.01, **fields))
    assert known.evidence[0].part == pytest.approx(HEAD.part / HEAD.usual_fall)


@every_optimizer
@pytest.mark.parametrize("facts", [{"batch_size": 4}, {"trainable": 4_000_000}])
def test_batch_and_size_of_a_head_change_nothing(optimizer: str, facts: dict[str, Any]) -> None:
    assert advice(optimizer, **{**NEW_HEAD, **facts}).base_lr == advice(optimizer, **NEW_HEAD).base_lr


@pytest.mark.parametrize("optimizer", ["Novel", "SGD"])
def test_a_head_alone_needs_no_typical_lr(optimizer: str) -> None:
    assert [each.name for each in advice(optimizer, **NEW_HEAD).evidence if each.weight] == ["head"]


def test_a_head_with_sgd_needs_the_more_the_less_momentum() -> None:
    def advised(momentum: float, optimizer: str = "SGD") -> Advice:
        known = ModelFacts(**LINEAR_HEAD)
        return advise(curve_of(bowl, start=1e-6, end=100.0, optimizer=optimizer, momentum=momentum, facts=known))

    usual, none, more = map(advised, (0.9, 0.0, 0.99))
    assert usual.base_lr is not None and none.base_lr is not None and more.base_lr is not None
    assert none.base_lr / usual.base_lr == pytest.approx(10**0.6, rel=0.15)
    assert usual.base_lr / more.base_lr == pytest.approx(10**0.6, rel=0.15)
    assert usual.ceiling is not None and none.ceiling == pytest.approx(min(usual.ceiling * 10**0.6, 2.5 * 0.1), rel=0.3)
    said = [" ".join(each.reasons) for each in (usual, none, more)]
    assert ["The momentum is" in each for each in said] == [False, True, True]
    assert "add up less than with 0.9" in said[1] and "add up more than with 0.9" in said[2]
    assert advised(0.0, "AdamW").base_lr == advised(0.9, "AdamW").base_lr


def test_the_momentum_of_a_head_without_an_edge_counts_once() -> None:
    fields: dict[str, Any] = {"optimizer": "SGD", "momentum": 0.0}
    head, other = (
        advise(curve_of(lambda x: bowl(min(x, -2)), start=1e-6, end=0.1, facts=ModelFacts(**facts), **fields))
        for facts in (LINEAR_HEAD, {})
    )
    assert head.edge_lr is None and head.base_lr == other.base_lr


@every_optimizer
def test_one_linear_layer_is_read_as_a_head_in_part(optimizer: str) -> None:
    linear = {"depth": 1, "trainable_depth": 1, "trainable": 770}
    head, deeper = advice(optimizer, **NEW_HEAD, trainable_depth=1), advice(optimizer, **linear | {"depth": 2})
    known = advice(optimizer, **linear)
    assert head.base_lr is not None and deeper.base_lr is not None
    mean = head.base_lr**HEAD.linear_weight * deeper.base_lr ** (1 - HEAD.linear_weight)
    assert known.base_lr == pytest.approx(mean, rel=0.06) and sum(each.weight for each in known.evidence) == 1
    assert "The model is one linear layer" in " ".join(known.reasons)
    assert not {"head", "momentum"} & {each.name for each in deeper.evidence}


def test_a_range_test_tells_a_linear_layer_from_a_deeper_network() -> None:
    torch.manual_seed(0)
    said = []
    for model in (nn.Linear(8, 3), nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))):
        inputs = torch.randn(60, 16, 8)
        loader = list(zip(inputs, inputs[:, :, :3].argmax(-1), strict=True))
        finder = LRFinder(model, torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss())
        said.append(" ".join(finder.range_test(loader, progress=False).advice.reasons))
    assert ["one linear layer" in each for each in said] == [True, False]


def test_a_head_in_a_longer_training_gets_a_lower_lr() -> None:
    known = advice(**NEW_HEAD)
    at = {steps: known.lr_for("cosine", total_steps=steps) for steps in (1, 125, 500, 2000, 32_000)}
    assert at[500] == known.base_lr == known.lr_for("cosine")
    assert at[2000] == pytest.approx(at[500] / 2, rel=0.06) and at[32_000] == pytest.approx(at[500] / 8, rel=0.06)
    assert at[125] == pytest.approx(2 * at[500], rel=0.06) and known.ceiling is not None
    assert at[500] < at[1] <= known.ceiling * 1.06


@pytest.mark.parametrize("frozen", [{"frozen_trained": 1.0}, {"frozen_trained": None}])
def test_a_head_too_small_to_be_examined_counts_as_new(frozen: dict[str, Any]) -> None:
    small = {**NEW_HEAD, **frozen, "trained": (None,)}
    assert advice(**small, frozen=770_000).base_lr == advice(**NEW_HEAD).base_lr
    assert "count as a new head" not in words(**small, frozen=770)


def test_adapters_are_neither_a_head_nor_fine_tuned() -> None:
    adapters = {**NEW_HEAD, "trainable_depth": 24}
    assert "count as a new head" not in words(**adapters) and "trained before" not in words(**adapters)
    assert "count as a new head" in words(**{**adapters, "trainable_depth": 3})


FRESH = {"pretrained": True, "trained": (0.0,), "frozen_trained": 1.0, "trainable": 500_000, "frozen": 10**6}


@every_optimizer
@pytest.mark.parametrize("facts", [{"trainable_depth": 9, "interleaved": False}, {"recurrent": True}])
def test_a_network_on_frozen_features_is_one_from_scratch(optimizer: str, facts: dict[str, Any]) -> None:
    alone = {"pretrained": False, "trained": (0.0,), "trainable": FRESH["trainable"]}
    assert advice(optimizer, **FRESH, **facts) == advice(optimizer, **alone, **facts)
    assert not is_tuning(ModelFacts(**FRESH, **facts))


@pytest.mark.parametrize("facts", [{"interleaved": True}, {}])
def test_adapters_are_tuned_and_get_a_probe(facts: dict[str, Any]) -> None:
    assert is_tuning(ModelFacts(**FRESH, trainable_depth=24, **facts))


def test_weights_that_are_trained_on_are_no_new_head() -> None:
    assert "count as a new head" not in words(**{**NEW_HEAD, "trained": (0.0, 0.9)}, frozen=10**6)


def test_a_head_whose_curve_has_no_edge_is_advised_like_a_network() -> None:
    fields = {"optimizer": "AdamW", "momentum": 0.9, "facts": ModelFacts(**NEW_HEAD)}
    known = advise(curve_of(bowl, start=1e-6, end=0.01, noise=0.01, **fields))
    assert known.edge_lr is None and "head" not in [each.name for each in known.evidence]


def test_the_range_test_of_a_real_model_finds_its_new_head() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64)).requires_grad_(False)
    head = nn.Linear(64, 3)
    finder = LRFinder(
        nn.Sequential(body, head),
        torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9),
        nn.CrossEntropyLoss(),
        pretrained=True,
    )
    known = finder.range_test([(torch.randn(32, 8), torch.randint(0, 3, (32,)))], progress=False).advice
    assert [each.name for each in known.evidence] == ["head", "features"]


# --- clipping ---------------------------------------------------------------------------------------------------------

CLIPPING = {"clip_grad_norm": 0.25, "weight_rms": (0.06,), "trainable": 60_000}


def test_sgd_that_is_mostly_clipped_gets_the_lr_of_its_update_length() -> None:
    [typical] = [each for each in advice("SGD", **CLIPPING, clipped_part=0.9).evidence if each.name == "typical"]
    assert typical.lr * 0.25 == pytest.approx(CLIPPED.movement * 0.06 * 60_000**0.5)
    assert "clipped" in words("SGD", **CLIPPING, clipped_part=0.9)


@pytest.mark.parametrize("part", [None, 0.0, CLIPPED.least_part - 0.01])
def test_sgd_that_is_hardly_clipped_is_plain_sgd(part: float | None) -> None:
    assert advice("SGD", **CLIPPING, clipped_part=part).base_lr == advice("SGD").base_lr


def test_sgd_that_is_clipped_is_plain_sgd_where_no_norm_is_known() -> None:
    assert advice("SGD", clip_grad_norm=0.25, trainable=60_000, clipped_part=0.9).base_lr == advice("SGD").base_lr


def test_clipping_changes_nothing_for_adam() -> None:
    assert advice(**CLIPPING, gradient_norm=8.0, clipped_part=0.9).base_lr == advice().base_lr


@pytest.mark.parametrize("norm", [0.25, 0.5, 2.0])
def test_a_clipped_update_is_as_long_as_one_of_the_first_gradient(norm: float) -> None:
    def typical(**facts: Any) -> float:
        return next(each.lr for each in advice("SGD", **facts).evidence if each.name == "typical")

    clipped, recurrent = (
        typical(**CLIPPING, gradient_norm=norm, recurrent=each, clipped_part=0.9) for each in (False, True)
    )
    assert clipped == pytest.approx(typical() * norm / 0.25)
    assert recurrent == typical(**CLIPPING, clipped_part=0.9)  # whose first gradients are short
    assert ("Gradients were clipped" in words("SGD", **CLIPPING, gradient_norm=norm, clipped_part=0.9)) == (norm > 0.25)


def test_where_all_is_clipped_the_size_of_the_loss_changes_little() -> None:
    def advised(unit: float) -> float:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3))
        optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), nn.CrossEntropyLoss()
        finder = LRFinder(model, optimizer, lambda out, target: unit * loss(out, target), clip_grad_norm=1e-3)
        inputs = torch.randn(512, 4)
        batches = list(zip(inputs.split(32), inputs[:, :3].argmax(1).split(32), strict=True))
        return finder.range_test(batches, progress=False).advice.base_lr or 0.0

    assert advised(100.0) == pytest.approx(advised(1.0), rel=0.5)


@pytest.mark.parametrize(("norm", "expected"), [(1e-6, 1.0), (1e9, 0.0), (None, None)])
def test_the_curve_has_the_part_of_the_steps_that_were_clipped(norm: float | None, expected: float | None) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    finder = LRFinder(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss(), clip_grad_norm=norm)
    result = finder.range_test([(torch.randn(8, 4), torch.randint(0, 3, (8,)))], progress=False)
    assert result.curve.clipped_part == expected
    assert RangeTestResult.from_dict(result.to_dict()) == result


# --- length -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_as_long_as_the_calibration_runs_changes_nothing(kind: str) -> None:
    known = advice()
    assert known.lr_for(kind) == known.lr_for(kind, total_steps=1) == known.lr_for(kind, total_steps=2000)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_of_32000_steps_gets_half_the_lr(kind: str) -> None:
    known = advice()
    assert known.lr_for(kind, total_steps=32_000) == pytest.approx(known.lr_for(kind) / 2, rel=0.06)


def test_a_fine_tuning_with_adam_falls_with_the_root_beyond_400_steps() -> None:
    tuned = advice(**LARGE, pretrained=True)
    at = {steps: tuned.lr_for("cosine", total_steps=steps) for steps in (1, 400, 1600, 6400)}
    assert at[1] == at[400] == tuned.base_lr
    assert at[1600] == pytest.approx(at[400] / 2, rel=0.06) and at[6400] == pytest.approx(at[400] / 4, rel=0.06)
    assert "up to 400 steps" in " ".join(tuned.reasons)


@pytest.mark.parametrize(("optimizer", "facts"), [("SGD", {"pretrained": True}), ("AdamW", {}), ("SGD", {})])
def test_other_trainings_of_1600_steps_keep_their_lr(optimizer: str, facts: dict[str, Any]) -> None:
    known = advice(optimizer, **LARGE, **facts)
    assert known.lr_for("cosine", total_steps=1600) == known.base_lr
    assert "up to 400 steps" not in " ".join(known.reasons)


def test_a_longer_fine_tuning_after_trials_falls_from_their_length() -> None:
    ran = tuple(Trial(lr=lr, steps=400, loss=loss, stage="screening") for lr, loss in ((1e-4, 1.2), (4e-4, 1.0)))
    steps: dict[str, Any] = {"schedule": "cosine", "total_steps": 1600, "budget_steps": 1600}
    tuned = advice(**LARGE, pretrained=True)
    refined = refined_advice(tuned, TrialRecord(**steps, initial_lr=4e-4, start_loss=2.0, trials=ran))
    refined = Advice.from_dict(json.loads(json.dumps(refined.to_dict())))
    found = refined.lr_for("cosine")
    assert refined.lr_for("cosine", total_steps=1600) == refined.lr_for("cosine", total_steps=400) == found
    assert refined.lr_for("cosine", total_steps=6400) == pytest.approx(found / 2, rel=0.06)
    assert "up to 400 steps" not in " ".join(refined.reasons)


def test_a_search_by_trials_keeps_its_lr_whatever_the_length() -> None:
    refined = dataclasses.replace(advice(), peaks=(("cosine", 0.005),))
    assert refined.lr_for("cosine", total_steps=10**6) == 0.005


# --- counting targets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ((torch.zeros(4, 9), torch.zeros(4).long()), None),
        ((torch.zeros(4, 9), torch.zeros(4, 1).long()), None),
        ((torch.zeros(4, 9), torch.zeros(4, 9)), None),
        ((torch.zeros(4, 9).long(), torch.zeros(4, 9).long()), 36),
        ((torch.zeros(4, 9).long(), torch.zeros(36).long()), 36),
        ((torch.zeros(9, 4, 5), torch.zeros(36).long()), 36),
        ((torch.zeros(4), torch.zeros(70).long(), torch.arange(4)), None),  # classes, words of all texts, their starts
        ((torch.zeros(4, 9).long(), torch.zeros(35).long()), None),
        ((torch.zeros(1, 4), torch.zeros(1).long()), None),
        ({"input_ids": torch.zeros(4, 9).long(), "labels": torch.zeros(4, 9).long()}, 36),
        ({"input_ids": torch.zeros(4, 9).long(), "labels": torch.zeros(4).long()}, None),
        (torch.zeros(4, 9).long(), None),
        ([], None),
    ],
)
def test_targets_count_where_a_sample_has_several(batch: Any, expected: int | None) -> None:
    assert target_count(batch) == expected


TOKENS = torch.arange(8 * 9).reshape(8, 9)
MASK = (torch.arange(9) < torch.arange(2, 10)[:, None]).long()  # sentences of 2 to 9 tokens


@pytest.mark.parametrize("beside", [(MASK,), (MASK.bool(),), (MASK, 0 * MASK), (0 * MASK, MASK)])
def test_an_attention_mask_is_no_target(beside: tuple[torch.Tensor, ...]) -> None:
    classes = torch.ones(8).long()
    assert target_count([TOKENS, *beside, classes]) is None and same_target([TOKENS, *beside, classes])
    assert target_count([TOKENS, *beside, TOKENS % 5]) == 72
    assert target_count([TOKENS, MASK]) == target_count([TOKENS, TOKENS % 2, classes]) == 72


def test_the_facts_have_the_targets_of_the_first_batch() -> None:
    model = nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 11))
    ids = torch.randint(0, 11, (4, 9), generator=torch.Generator().manual_seed(0))
    finder = LRFinder(
        model,
        torch.optim.Adam(model.parameters()),
        loss_fn=lambda model, batch: nn.functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten()),
    )
    facts = finder.range_test([(ids, ids)], progress=False).curve.facts
    assert facts is not None and (facts.batch_size, facts.targets) == (4, 36)


def advised_at(unit: float, scales: tuple[float, ...] = (1.0,), **fields: Any) -> Advice:
    """The advice from the bowl with all learning rates times a unit."""
    made = curve_of(lambda x: bowl(x - math.log10(unit)), start=unit * 1e-5, end=unit * 10, **fields)
    return advise(dataclasses.replace(made, group_scales=scales))


def swept_lr(hidden: int, make: Callable[[nn.Sequential], torch.optim.Optimizer]) -> float:
    """The base LR after a range test of a small network on what it can learn."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 3))
    inputs = torch.randn(60, 16, 8)
    loader = list(zip(inputs, inputs[:, :, :3].argmax(-1), strict=True))
    found = LRFinder(model, make(model), nn.CrossEntropyLoss()).range_test(loader, progress=False).advice.base_lr
    assert found is not None
    return found


# --- the size of the loss ---------------------------------------------------------------------------------------------


def sized(unit: float, added: float = 0.0, optimizer: str = "SGD", **facts: Any) -> Advice:
    """The advice from a bowl whose loss is in another unit, and with SGD its learning rates too."""
    move = math.log10(unit) - 0.7 if optimizer == "SGD" else 0.0  # its typical LR is in the middle of the bowl
    fields: dict[str, Any] = {"optimizer": optimizer, "momentum": 0.9, "facts": ModelFacts(**facts)}
    start, end = 10 ** (-5 - move), 10 ** (1 - move)
    return advise(curve_of(lambda x: unit * bowl(x + move) + added, start=start, end=end, noise=0.01 * unit, **fields))


@pytest.mark.parametrize("larger", [8.0, 64.0, 1024.0])
def test_with_sgd_a_loss_of_unusual_size_has_an_lr_in_proportion(larger: float) -> None:
    for lowest in (LOSS_SIZE.highest, LOSS_SIZE.lowest / larger / 8):  # the bowl falls from 2 to 1
        small, large = sized(lowest), sized(lowest * larger)
        assert small.base_lr is not None and large.base_lr is not None
        assert small.base_lr / large.base_lr == pytest.approx(larger, rel=0.06)


def test_with_sgd_the_size_of_the_loss_is_said_and_costs_the_best_grade() -> None:
    usual, large, small = sized(1.0), sized(16.0), sized(1 / 64)
    assert not any("so much" in " ".join(each.reasons) for each in (usual, sized(LOSS_SIZE.lowest / 6.01)))
    assert "so much larger than that of most classifiers" in " ".join(large.reasons)
    assert "so much smaller than that of most classifiers" in " ".join(small.reasons)
    assert usual.grade == "high" and large.grade == small.grade == "medium"


def test_the_small_loss_of_a_trained_network_does_not_raise_the_lr() -> None:
    fresh, trained = (sized(1 / 64, pretrained=pretrained) for pretrained in (False, True))
    assert fresh.base_lr is not None and trained.base_lr is not None and fresh.base_lr > 2 * trained.base_lr


@pytest.mark.parametrize("added", [1.0, math.log(50_000), 1e4])
def test_a_constant_added_to_the_loss_changes_no_lr(added: float) -> None:
    assert sized(1.0, added).base_lr == sized(1.0).base_lr


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_with_adam_the_size_of_the_loss_changes_nothing(unit: float) -> None:
    assert sized(unit, optimizer="AdamW") == sized(1.0, optimizer="AdamW")


# --- a large epsilon --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("clipped", [{}, {"clip_grad_norm": 1.0}, {"clip_grad_norm": 1.0, "gradient_norm": 8.0}])
@pytest.mark.parametrize("epsilon", [30.0, 1e3])
def test_rmsprop_with_a_large_epsilon_is_advised_as_sgd(
    momentum: float, clipped: dict[str, float], epsilon: float
) -> None:
    def advised(optimizer: str, unit: float, **more: float) -> Advice:
        known = ModelFacts(trainable=1_000_000, weight_rms=(0.02,), **clipped, **more)  # type: ignore[arg-type]
        return advised_at(unit, optimizer=optimizer, momentum=momentum, facts=known, clipped_part=0.9)

    sgd, rmsprop = advised("SGD", 1.0), advised("RMSprop", epsilon, epsilon=epsilon)
    assert sgd.base_lr is not None and rmsprop.base_lr == pytest.approx(epsilon * sgd.base_lr, rel=0.05)
    assert rmsprop.edge_lr == pytest.approx(epsilon * (sgd.edge_lr or 0.0)) and rmsprop.grade == sgd.grade
    assert any("those of SGD with lr / eps" in reason for reason in rmsprop.reasons)


def test_the_epsilon_of_the_defaults_changes_nothing() -> None:
    fields: dict[str, Any] = {"optimizer": "AdamW", "momentum": 0.9}
    plain, known = (advise(curve_of(bowl, **fields, facts=ModelFacts(epsilon=each))) for each in (None, 1e-8))
    assert plain == known


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_range_test_of_rmsprop_with_a_large_epsilon_gives_the_lr_of_sgd(momentum: float) -> None:
    sgd = swept_lr(16, lambda model: torch.optim.SGD(model.parameters(), lr=1.0, momentum=momentum))
    other = swept_lr(16, lambda model: torch.optim.RMSprop(model.parameters(), lr=1e4, momentum=momentum, eps=1e4))
    assert other == pytest.approx(1e4 * sgd, rel=0.05)


# --- parameter groups -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD", "RMSprop"])
@pytest.mark.parametrize("sizes", [(1_000_000, 5_000), (1_000, 1_000), (0, 1_000)], ids=["head", "equal", "frozen"])
@pytest.mark.parametrize("ratio", [0.1, 10.0, 100.0])
def test_which_parameter_group_comes_first_changes_no_training(
    optimizer: str, sizes: tuple[int, int], ratio: float
) -> None:
    def advised(first: int) -> Advice:
        unit = (1.0, ratio)[first]
        scales, ordered = (1.0, ratio if first == 0 else 1 / ratio), sizes if first == 0 else sizes[::-1]
        known = ModelFacts(trainable=sum(sizes), weight_rms=(0.05, 0.05), clip_grad_norm=1.0, group_sizes=ordered)
        return advised_at(unit, scales, optimizer=optimizer, momentum=0.9, facts=known, clipped_part=0.9)

    backbone, head = advised(0), advised(1)
    assert backbone.base_lr is not None and head.base_lr == pytest.approx(ratio * backbone.base_lr, rel=0.05)
    assert head.grade == backbone.grade


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD])
def test_a_range_test_advises_the_same_training_in_any_order_of_the_groups(make: Callable[..., Any]) -> None:
    def optimizer(model: nn.Sequential, order: int) -> torch.optim.Optimizer:
        groups = [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[2].parameters(), "lr": 0.1}]
        return make(groups[::order])

    backbone, head = (swept_lr(64, lambda model, order=order: optimizer(model, order)) for order in (1, -1))
    assert backbone == pytest.approx(head / 10.0, rel=0.05)


@pytest.mark.parametrize("head", ["AdamW", "SGD"])
def test_which_optimizer_comes_first_changes_no_training(head: str) -> None:
    def advised(names: tuple[str, str], sizes: tuple[int, int], ratio: float, unit: float) -> Advice:
        known = ModelFacts(optimizers=((names[0], 1), (names[1], 1)), group_sizes=sizes)
        return advised_at(unit, (1.0, ratio), optimizer=names[0], momentum=0.9, facts=known)

    muon = advised(("Muon", head), (80_000, 3_000), 0.02, 1.0)
    other = advised((head, "Muon"), (3_000, 80_000), 50.0, 0.02)
    assert muon.base_lr is not None and other.base_lr == pytest.approx(0.02 * muon.base_lr, rel=0.05)
    assert other.edge_lr == pytest.approx(0.02 * (muon.edge_lr or 0.0)) and other.grade == muon.grade
    assert not any(finding.code == "large_epsilon" for finding in other.findings)


def test_an_optimizer_of_frozen_parameters_has_no_say() -> None:
    def advised(optimizer: str, **facts: Any) -> Advice:
        made = curve_of(bowl, optimizer=optimizer, momentum=0.9, facts=ModelFacts(**facts))
        return advise(dataclasses.replace(made, group_scales=(1.0,) * len(facts["group_sizes"])))

    both = advised("Muon", optimizers=(("Muon", 1), ("AdamW", 1)), group_sizes=(0, 1000))
    assert both.base_lr == advised("AdamW", group_sizes=(1000,)).base_lr
